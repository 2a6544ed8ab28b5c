/* A sorted array of tensors; see tensor_index.h. */
#include "tensor_index.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "model_config.h"

_Static_assert(sizeof(((seam_tensor_entry *)0)->name) == SEAM_NAME_BYTES, "one limit for names");

void seam_tensor_index_deinit(seam_tensor_index *index) {
    seam_mem_free(index->entries);
    *index = (seam_tensor_index){0};
}

seam_status seam_tensor_index_add(seam_tensor_index *index, const seam_tensor_entry *entry,
                                  seam_error *err) {
    if (index->count == SEAM_TENSORS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: more than %d tensors", entry->file,
                              SEAM_TENSORS_MAX);
    }
    if (index->count == index->capacity) {
        const size_t capacity = index->capacity == 0 ? 64 : 2 * index->capacity;
        seam_tensor_entry *entries =
            seam_mem_realloc(index->entries, capacity * sizeof(*index->entries));
        if (entries == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", entry->file);
        }
        index->entries = entries;
        index->capacity = capacity;
    }
    index->entries[index->count++] = *entry;
    return SEAM_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const seam_tensor_entry *)a)->name, ((const seam_tensor_entry *)b)->name);
}

seam_status seam_tensor_index_finish(seam_tensor_index *index, seam_error *err) {
    if (index->count > 1) {
        qsort(index->entries, index->count, sizeof(*index->entries), by_name);
    }
    for (size_t i = 1; i < index->count; i++) {
        if (by_name(&index->entries[i - 1], &index->entries[i]) == 0) {
            return seam_error_set(err, SEAM_E_FORMAT, "%s: tensor %s occurs twice",
                                  index->entries[i].file, index->entries[i].name);
        }
    }
    return SEAM_OK;
}

static int name_of(const void *key, const void *entry) {
    return strcmp(key, ((const seam_tensor_entry *)entry)->name);
}

const seam_tensor_entry *seam_tensor_index_find(const seam_tensor_index *index, const char *name) {
    if (index->count == 0) {
        return NULL;
    }
    return bsearch(name, index->entries, index->count, sizeof(*index->entries), name_of);
}

/* Reading a safetensors header; the rules stand in safetensors.h. */
#include "safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "json_read.h"
#include "try.h"

typedef struct dtype {
    const char *name;
    uint32_t bytes;
    seam_tensor_type type;
} dtype;

static const dtype DTYPES[] = {
    {"F32", 4, SEAM_TENSOR_F32},       {"F16", 2, SEAM_TENSOR_F16},
    {"BF16", 2, SEAM_TENSOR_BF16},     {"F64", 8, SEAM_TENSOR_OTHER},
    {"I64", 8, SEAM_TENSOR_OTHER},     {"U64", 8, SEAM_TENSOR_OTHER},
    {"I32", 4, SEAM_TENSOR_OTHER},     {"U32", 4, SEAM_TENSOR_OTHER},
    {"I16", 2, SEAM_TENSOR_OTHER},     {"U16", 2, SEAM_TENSOR_OTHER},
    {"I8", 1, SEAM_TENSOR_OTHER},      {"U8", 1, SEAM_TENSOR_OTHER},
    {"BOOL", 1, SEAM_TENSOR_OTHER},    {"F8_E4M3", 1, SEAM_TENSOR_OTHER},
    {"F8_E5M2", 1, SEAM_TENSOR_OTHER},
};

typedef struct span {
    uint64_t begin, end;
} span;

typedef struct parser {
    seam_tensor_index *index;
    const uint8_t *data;
    uint64_t data_bytes;
    const char *file;
    span *spans; /* one a tensor */
    size_t span_count;
    seam_error *err;
} parser;

static seam_status header_parse(json_t **ret_header, parser *p, const uint8_t *bytes, size_t count,
                                seam_error *err);
static seam_status tensor_parse(parser *p, const char *name, json_t *info);
static seam_status spans_check(const parser *p);

seam_status seam_safetensors_parse(seam_tensor_index *index, const uint8_t *bytes, size_t count,
                                   const char *file, seam_error *err) {
    parser p = {.index = index, .file = file, .err = err};
    json_t *header = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY(header_parse(&header, &p, bytes, count, err));
    p.spans = seam_mem_zalloc(json_object_size(header), sizeof(*p.spans));
    if (p.spans == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
        goto done;
    }
    const char *name;
    json_t *info;
    json_object_foreach(header, name, info) {
        if (strcmp(name, "__metadata__") != 0) {
            SEAM_TRY_GOTO(tensor_parse(&p, name, info), st, done);
        }
    }
    st = spans_check(&p);
done:
    seam_mem_free(p.spans);
    json_decref(header);
    return st;
}

static seam_status header_parse(json_t **ret_header, parser *p, const uint8_t *bytes, size_t count,
                                seam_error *err) {
    if (count < 8) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: %zu bytes hold no safetensors header",
                              p->file, count);
    }
    const uint64_t header_bytes = seam_get_u64(bytes);
    if (header_bytes > SEAM_SAFETENSORS_HEADER_MAX || header_bytes > count - 8) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "%s: header length %llu is over the limit or the file (%zu bytes)",
                              p->file, (unsigned long long)header_bytes, count);
    }
    if (header_bytes == 0 || bytes[8] != '{') {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: the header does not begin with '{'",
                              p->file);
    }
    SEAM_TRY(seam_json_parse(ret_header, bytes + 8, (size_t)header_bytes,
                             SEAM_SAFETENSORS_HEADER_MAX, p->file, err));
    p->data = bytes + 8 + header_bytes;
    p->data_bytes = count - 8 - header_bytes;
    return SEAM_OK;
}

static seam_status dtype_find(const dtype **ret_dtype, const parser *p, const char *name,
                              const json_t *value) {
    const char *text = json_string_value(value);
    if (text == NULL) {
        return seam_error_set(p->err, SEAM_E_FORMAT, "%s: %s: dtype is missing", p->file, name);
    }
    for (size_t i = 0; i < sizeof(DTYPES) / sizeof(DTYPES[0]); i++) {
        if (strcmp(DTYPES[i].name, text) == 0) {
            *ret_dtype = &DTYPES[i];
            return SEAM_OK;
        }
    }
    return seam_error_set(p->err, SEAM_E_UNIMPLEMENTED, "%s: %s: dtype %.32s is not supported",
                          p->file, name, text);
}

/* A JSON array of `count` (or any number of, count = 0) non-negative integers; item i. */
static bool item_get(uint64_t *ret, const json_t *array, size_t i) {
    const json_t *item = json_array_get(array, i);
    if (!json_is_integer(item) || json_integer_value(item) < 0) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(item);
    return true;
}

static seam_status shape_parse(seam_tensor_entry *entry, const parser *p, const json_t *shape) {
    const size_t dims = json_array_size(shape); /* 0 for what is no array */
    bool ok = json_is_array(shape) && dims <= 8;
    entry->rows = 1;
    entry->cols = 1;
    for (size_t i = 0; ok && i < dims; i++) {
        uint64_t dim = 0;
        size_t rows = entry->rows;
        ok = item_get(&dim, shape, i) && seam_mul_bytes(&rows, entry->rows, entry->cols);
        entry->rows = rows;
        entry->cols = dim;
    }
    if (!ok) {
        return seam_error_set(p->err, SEAM_E_FORMAT, "%s: %s: bad shape", p->file, entry->name);
    }
    return SEAM_OK;
}

static seam_status tensor_parse(parser *p, const char *name, json_t *info) {
    seam_tensor_entry entry = {.file = p->file};
    if (name[0] == '\0' || strlen(name) >= sizeof(entry.name)) {
        return seam_error_set(p->err, SEAM_E_FORMAT, "%s: a tensor's name is empty or too long",
                              p->file);
    }
    memcpy(entry.name, name, strlen(name) + 1);
    if (!json_is_object(info)) {
        return seam_error_set(p->err, SEAM_E_FORMAT, "%s: %s is not an object", p->file, name);
    }
    const dtype *type = NULL;
    SEAM_TRY(dtype_find(&type, p, name, json_object_get(info, "dtype")));
    SEAM_ASSERT(type != NULL);
    entry.type = type->type;
    memcpy(entry.type_name, type->name, strlen(type->name) + 1);
    SEAM_TRY(shape_parse(&entry, p, json_object_get(info, "shape")));

    const json_t *offsets = json_object_get(info, "data_offsets");
    span at;
    size_t bytes;
    if (json_array_size(offsets) != 2 || !item_get(&at.begin, offsets, 0) ||
        !item_get(&at.end, offsets, 1) || at.begin > at.end || at.end > p->data_bytes) {
        return seam_error_set(p->err, SEAM_E_FORMAT,
                              "%s: %s: data_offsets are not inside the file's %llu data bytes",
                              p->file, name, (unsigned long long)p->data_bytes);
    }
    if (!seam_mul3_bytes(&bytes, entry.rows, entry.cols, type->bytes) ||
        bytes != at.end - at.begin) {
        return seam_error_set(p->err, SEAM_E_FORMAT,
                              "%s: %s: data_offsets hold %llu bytes, not what dtype and shape need",
                              p->file, name, (unsigned long long)(at.end - at.begin));
    }
    entry.bytes = p->data + at.begin;
    p->spans[p->span_count++] = at;
    return seam_tensor_index_add(p->index, &entry, p->err);
}

static int by_begin(const void *a, const void *b) {
    const span *x = a;
    const span *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

static seam_status spans_check(const parser *p) {
    uint64_t at = 0;
    if (p->span_count > 1) {
        qsort(p->spans, p->span_count, sizeof(*p->spans), by_begin);
    }
    for (size_t i = 0; i < p->span_count; i++) {
        if (p->spans[i].begin != at) {
            return seam_error_set(p->err, SEAM_E_FORMAT, "%s: tensors %s at data byte %llu",
                                  p->file, p->spans[i].begin < at ? "overlap" : "leave a gap",
                                  (unsigned long long)at);
        }
        at = p->spans[i].end;
    }
    if (at != p->data_bytes) {
        return seam_error_set(p->err, SEAM_E_FORMAT, "%s: tensors end at data byte %llu of %llu",
                              p->file, (unsigned long long)at, (unsigned long long)p->data_bytes);
    }
    return SEAM_OK;
}

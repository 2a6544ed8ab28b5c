/* The shards of a merged model: written, flushed, read back, then named.  See merge.h.
 *
 * A file keeps its temporary name until all of them are proved; the index comes before the config,
 * without which the folder is no model. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "file_write.h"
#include "json_text.h"
#include "merge_internal.h"
#include "peft.h"
#include "safetensors.h"
#include "try.h"

#define PATH_BYTES  4096
#define BLOCK_BYTES ((size_t)1 << 20)
#define F16_MAX     65504.0f

typedef struct paths {
    char name[64]; /* in the folder, as the index says it */
    char final[PATH_BYTES], temporary[PATH_BYTES];
} paths;

static paths paths_of(const seam_merge_job *job, uint32_t shard) {
    paths p;
    if (job->shard_count == 1) {
        (void)snprintf(p.name, sizeof p.name, "model.safetensors");
    } else {
        (void)snprintf(p.name, sizeof p.name, "model-%05u-of-%05u.safetensors", shard + 1,
                       job->shard_count);
    }
    (void)snprintf(p.final, sizeof p.final, "%.3900s/%s", job->args->out, p.name);
    (void)snprintf(p.temporary, sizeof p.temporary, "%.3900s/.%s.part", job->args->out, p.name);
    return p;
}

static seam_status failed(seam_error *err, const char *path) {
    char reason[128] = "";
    const char *text = strerror_r(errno, reason, sizeof reason);
    return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, text);
}

/* ---- Header ---- */

static json_t *header_of(const seam_merge_job *job, uint32_t shard) {
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    uint64_t at = 0;
    for (size_t i = 0; root != NULL && i < job->item_count; i++) {
        const seam_merge_item *item = &job->items[i];
        if (item->shard != shard) {
            continue;
        }
        const uint64_t begin = at;
        at += item->bytes;
        json_t *info = json_pack("{s:s, s:O, s:[I, I]}", "dtype", item->base->type_name, "shape",
                                 item->shape, "data_offsets", (json_int_t)begin, (json_int_t)at);
        if (json_object_set_new(root, item->base->name, info) != 0) {
            json_decref(root);
            return NULL;
        }
    }
    return root;
}

/* Length, JSON, spaces up to a multiple of 8. */
static seam_status header_write(FILE *file, const seam_merge_job *job, uint32_t shard,
                                const char *path, seam_error *err) {
    json_t *root = header_of(job, shard);
    size_t count = 0;
    char *text = seam_json_text(&count, root, JSON_COMPACT);
    json_decref(root);
    if (text == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
    }
    const size_t padded = (count + 7) & ~(size_t)7;
    uint8_t length[8];
    seam_put_u64(length, padded);
    const bool ok = fwrite(length, 1, sizeof length, file) == sizeof length &&
                    fwrite(text, 1, count, file) == count &&
                    fwrite("       ", 1, padded - count, file) == padded - count;
    seam_mem_free(text);
    return ok ? SEAM_OK : failed(err, path);
}

/* ---- Tensors ---- */

static seam_status bytes_write(FILE *file, seam_merge_item *item, const uint8_t *bytes,
                               size_t count, const char *path, seam_error *err) {
    item->hash = seam_hash64(item->hash, bytes, count);
    return fwrite(bytes, 1, count, file) == count ? SEAM_OK : failed(err, path);
}

/* To the nearest, ties to even; infinite beyond the range. */
static uint16_t f16_nearest(float value) {
    const uint16_t down = seam_fp16_from_f32_down(value), up = seam_fp16_from_f32_up(value);
    if (fabsf(value) > F16_MAX) { /* half a step beyond is infinite */
        const uint16_t sign = value < 0 ? 0x8000 : 0;
        return (uint16_t)(sign | (fabsf(value) < F16_MAX + 16.0f ? 0x7bff : 0x7c00));
    }
    const float below = value - seam_fp16_to_f32(down), above = seam_fp16_to_f32(up) - value;
    if (below != above) {
        return below < above ? down : up;
    }
    return (down & 1) == 0 ? down : up;
}

/* values as `type` in ret; false: one is not finite there. */
static bool row_encode(uint8_t *ret, const float *values, size_t count, seam_tensor_type type) {
    bool finite = true;
    for (size_t i = 0; i < count; i++) {
        if (type == SEAM_TENSOR_F32) {
            finite = finite && isfinite(values[i]);
            seam_put_f32(ret + 4 * i, values[i]);
        } else {
            const bool half = type == SEAM_TENSOR_F16;
            const uint16_t bits = half ? f16_nearest(values[i]) : seam_bf16_from_f32(values[i]);
            const float back = half ? seam_fp16_to_f32(bits) : seam_bf16_to_f32(bits);
            finite = finite && isfinite(back);
            seam_put_u16(ret + 2 * i, bits);
        }
    }
    return finite;
}

/* A, a row of B and a row of W as f32; the row's bytes. */
typedef struct room {
    float *a, *b, *w;
    uint8_t *bytes;
} room;

static seam_status rows_merge(FILE *file, seam_merge_item *item, const seam_lora_config *lora,
                              const room *r, const char *path, seam_error *err) {
    const seam_tensor_entry *base = item->base;
    const size_t C = (size_t)base->cols, R = lora->rank;
    const size_t row_bytes = C * seam_tensor_block_bytes(base->type);
    const size_t b_bytes = R * seam_tensor_block_bytes(item->b->type);
    const float scale = seam_lora_scale(lora);
    seam_dequantize(r->a, item->a->type, item->a->bytes, R * C);
    for (size_t n = 0; n < base->rows; n++) {
        seam_dequantize(r->w, base->type, base->bytes + n * row_bytes, C);
        seam_dequantize(r->b, item->b->type, item->b->bytes + n * b_bytes, R);
        for (size_t k = 0; k < R; k++) {
            const float factor = scale * r->b[k];
            for (size_t c = 0; c < C; c++) {
                r->w[c] += factor * r->a[k * C + c];
            }
        }
        if (!row_encode(r->bytes, r->w, C, base->type)) {
            return seam_error_set(err, SEAM_E_NONFINITE, "%s: row %zu is not finite when merged",
                                  base->name, n);
        }
        SEAM_TRY(bytes_write(file, item, r->bytes, row_bytes, path, err));
    }
    return SEAM_OK;
}

/* The trained tensor in the base's type. */
static seam_status rows_replace(FILE *file, seam_merge_item *item, const room *r, const char *path,
                                seam_error *err) {
    const seam_tensor_entry *base = item->base;
    const size_t C = (size_t)base->cols;
    const size_t row_bytes = C * seam_tensor_block_bytes(base->type);
    const size_t whole_bytes = C * seam_tensor_block_bytes(item->whole->type);
    for (size_t n = 0; n < base->rows; n++) {
        seam_dequantize(r->w, item->whole->type, item->whole->bytes + n * whole_bytes, C);
        if (!row_encode(r->bytes, r->w, C, base->type)) {
            return seam_error_set(err, SEAM_E_NONFINITE, "%s: row %zu is not finite in %s",
                                  base->name, n, base->type_name);
        }
        SEAM_TRY(bytes_write(file, item, r->bytes, row_bytes, path, err));
    }
    return SEAM_OK;
}

static seam_status item_write(FILE *file, seam_merge_item *item, const seam_lora_config *lora,
                              const char *path, seam_error *err) {
    item->hash = SEAM_HASH64_INIT;
    if (item->a == NULL && item->whole == NULL) {
        for (uint64_t at = 0; at < item->bytes; at += BLOCK_BYTES) {
            const uint64_t left = item->bytes - at;
            SEAM_TRY(bytes_write(file, item, item->base->bytes + at,
                                 left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES, path, err));
        }
        return SEAM_OK;
    }
    const size_t C = (size_t)item->base->cols;
    const size_t rank = lora->rank > 0 ? lora->rank : 1; /* trained layers have none */
    const room r = {.a = seam_mem_zalloc(rank * C, sizeof(float)),
                    .b = seam_mem_zalloc(rank, sizeof(float)),
                    .w = seam_mem_zalloc(C, sizeof(float)),
                    .bytes = seam_mem_zalloc(C, sizeof(float))};
    const bool there = r.a != NULL && r.b != NULL && r.w != NULL && r.bytes != NULL;
    const seam_status st = !there ? seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory")
                           : item->whole != NULL ? rows_replace(file, item, &r, path, err)
                                                 : rows_merge(file, item, lora, &r, path, err);
    seam_mem_free(r.bytes);
    seam_mem_free(r.w);
    seam_mem_free(r.b);
    seam_mem_free(r.a);
    return st;
}

static seam_status shard_write(seam_merge_job *job, uint32_t shard, seam_error *err) {
    const paths p = paths_of(job, shard);
    FILE *file = fopen(p.temporary, "wbe");
    if (file == NULL) {
        return failed(err, p.temporary);
    }
    seam_status st = header_write(file, job, shard, p.temporary, err);
    for (size_t i = 0; i < job->item_count && st == SEAM_OK; i++) {
        if (job->items[i].shard == shard) {
            st = item_write(file, &job->items[i], &job->lora, p.temporary, err);
        }
    }
    if (st == SEAM_OK && (fflush(file) != 0 || fsync(fileno(file)) != 0)) {
        st = failed(err, p.temporary);
    }
    if (fclose(file) != 0 && st == SEAM_OK) {
        st = failed(err, p.temporary);
    }
    return st;
}

/* ---- Reading back ---- */

static seam_status shard_compare(const seam_merge_job *job, uint32_t shard,
                                 const seam_tensor_index *index, const char *path,
                                 seam_error *err) {
    size_t count = 0;
    for (size_t i = 0; i < job->item_count; i++) {
        const seam_merge_item *item = &job->items[i];
        if (item->shard != shard) {
            continue;
        }
        const seam_tensor_entry *entry = seam_tensor_index_find(index, item->base->name);
        if (entry == NULL || entry->rows != item->base->rows || entry->cols != item->base->cols ||
            strcmp(entry->type_name, item->base->type_name) != 0 ||
            seam_hash64(SEAM_HASH64_INIT, entry->bytes, (size_t)item->bytes) != item->hash) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s is not what was written", path,
                                  item->base->name);
        }
        count++;
    }
    SEAM_ASSERT(count > 0);
    return count == index->count
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "%.400s: holds %zu tensors, not %zu", path,
                                index->count, count);
}

static seam_status shard_verify(const seam_merge_job *job, uint32_t shard, seam_error *err) {
    const paths p = paths_of(job, shard);
    seam_file_map map = {0};
    seam_tensor_index index = {0};
    seam_status st = SEAM_OK;
    SEAM_TRY(seam_file_map_open(&map, p.temporary, err));
    SEAM_TRY_GOTO(seam_safetensors_parse(&index, map.bytes, map.count, p.temporary, err), st, end);
    SEAM_TRY_GOTO(seam_tensor_index_finish(&index, err), st, end);
    st = shard_compare(job, shard, &index, p.temporary, err);
end:
    seam_tensor_index_deinit(&index);
    seam_file_map_close(&map);
    return st;
}

/* ---- Names ---- */

static seam_status index_write(const seam_merge_job *job, seam_error *err) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%.3900s/model.safetensors.index.json", job->args->out);
    json_t *map = json_object();
    for (size_t i = 0; i < job->item_count; i++) {
        const paths p = paths_of(job, job->items[i].shard);
        (void)json_object_set_new(map, job->items[i].base->name, json_string(p.name));
    }
    const bool whole = json_object_size(map) == job->item_count;
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)job->bytes,
                             "weight_map", map);
    size_t count = 0;
    char *text = whole ? seam_json_text(&count, root, JSON_INDENT(2)) : NULL;
    const seam_status st = text != NULL
                               ? seam_file_write_atomic(path, text, count, err)
                               : seam_error_set(err, SEAM_E_MEMORY, "merge: out of memory");
    seam_mem_free(text);
    json_decref(root);
    return st;
}

static seam_status shards_name(const seam_merge_job *job, seam_error *err) {
    for (uint32_t s = 0; s < job->shard_count; s++) {
        const paths p = paths_of(job, s);
        if (rename(p.temporary, p.final) != 0) {
            return failed(err, p.final);
        }
    }
    return job->shard_count > 1 ? index_write(job, err) : SEAM_OK;
}

seam_status seam_merge_write(seam_merge_job *job, seam_error *err) {
    if (strlen(job->args->out) > 3900) {
        return seam_error_set(err, SEAM_E_ARG, "out: the path is too long");
    }
    seam_status st = SEAM_OK;
    for (uint32_t s = 0; s < job->shard_count && st == SEAM_OK; s++) {
        st = shard_write(job, s, err);
    }
    for (uint32_t s = 0; s < job->shard_count && st == SEAM_OK; s++) {
        st = shard_verify(job, s, err);
    }
    if (st == SEAM_OK) {
        st = shards_name(job, err);
    }
    for (uint32_t s = 0; s < job->shard_count && st != SEAM_OK; s++) {
        (void)unlink(paths_of(job, s).temporary);
    }
    return st;
}

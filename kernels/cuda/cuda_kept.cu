/* What a stream keeps on the device of the host's small arrays: positions and slots of the rows,
 * and the tiles that attention cuts the sequences into.  Every layer of a micro-batch gives the
 * same ones, so a call compares and finds them there; only a changed array is copied. */
#include <string.h>

#include "cuda_ops.cuh"

static seam_status room(seam_cuda_kept *kept, size_t key_bytes, size_t bytes);

void seam_cuda_kept_deinit(seam_cuda_kept *kept) {
    seam_mem_free(kept->key);
    seam_mem_free(kept->host);
    (void)seam_cuda_status(cudaFree(kept->device));
    *kept = {};
}

/* Whether it was made of this array; if not, there is room for it and for `bytes` made of it. */
static seam_status kept_check(bool *ret_same, seam_stream *stream, seam_cuda_use use,
                              const void *key, size_t key_bytes, size_t bytes) {
    seam_cuda_recording *recording = seam_cuda_recording_of(stream);
    seam_cuda_kept *kept = seam_cuda_kept_of(stream, use);
    const bool same = kept->key_bytes == key_bytes && memcmp(kept->key, key, key_bytes) == 0;
    recording->uses |= 1u << use;
    if (!same) {
        if (recording->on) {
            return SEAM_E_STATE;
        }
        kept->key_bytes = 0; /* nothing, until the copy is queued */
        SEAM_TRY(room(kept, key_bytes, bytes));
        memcpy(kept->key, key, key_bytes);
    }
    *ret_same = same;
    return SEAM_OK;
}

static seam_status room(seam_cuda_kept *kept, size_t key_bytes, size_t bytes) {
    if (key_bytes > kept->key_room_bytes || bytes > kept->room_bytes) {
        seam_cuda_kept_deinit(kept); /* after the kernels that use it */
        kept->key = seam_mem_alloc(key_bytes);
        kept->host = seam_mem_alloc(bytes);
        if (kept->key == NULL || kept->host == NULL) {
            seam_cuda_kept_deinit(kept);
            return SEAM_E_MEMORY;
        }
        SEAM_CUDA_TRY(cudaMalloc(&kept->device, bytes));
        kept->key_room_bytes = key_bytes;
        kept->room_bytes = bytes;
    }
    return SEAM_OK;
}

static seam_status kept_upload(seam_cuda_kept *kept, seam_stream *stream, size_t key_bytes,
                               size_t bytes) {
    SEAM_CUDA_TRY(cudaMemcpyAsync(kept->device, kept->host, bytes, cudaMemcpyHostToDevice,
                                  seam_cuda_queue(stream)));
    kept->key_bytes = key_bytes;
    return SEAM_OK;
}

seam_status seam_cuda_array(const uint32_t **ret_device, seam_stream *stream, seam_cuda_use use,
                            const uint32_t *host, uint32_t T) {
    seam_cuda_kept *kept = seam_cuda_kept_of(stream, use);
    const size_t bytes = T * sizeof *host;
    bool same = false;
    SEAM_TRY(kept_check(&same, stream, use, host, bytes, bytes));
    if (!same) {
        memcpy(kept->host, host, bytes);
        SEAM_TRY(kept_upload(kept, stream, bytes, bytes));
    }
    *ret_device = (const uint32_t *)kept->device;
    return SEAM_OK;
}

/* Tile number `n` of each sequence that has it, for falling n. */
static uint32_t spans_fill(seam_cuda_span *ret, const uint32_t *seq_begin, uint32_t S,
                           uint32_t rows) {
    uint32_t longest = 0, count = 0;
    for (uint32_t s = 0; s < S; s++) {
        const uint32_t length = seq_begin[s + 1] - seq_begin[s];
        longest = length > longest ? length : longest;
    }
    for (uint32_t n = (longest + rows - 1) / rows; n-- > 0;) {
        for (uint32_t s = 0; s < S; s++) {
            if (seq_begin[s] + n * rows < seq_begin[s + 1]) {
                ret[count++] = {seq_begin[s], seq_begin[s + 1], seq_begin[s] + n * rows};
            }
        }
    }
    return count;
}

uint32_t seam_cuda_span_count(const uint32_t *seq_begin, uint32_t S, uint32_t rows) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < S; s++) {
        count += (seq_begin[s + 1] - seq_begin[s] + rows - 1) / rows;
    }
    return count;
}

seam_status seam_cuda_spans_of(seam_cuda_spans *ret_spans, seam_stream *stream,
                               const uint32_t *seq_begin, uint32_t S, uint32_t rows) {
    const seam_cuda_use use = rows == 32 ? SEAM_CUDA_SPANS_32 : SEAM_CUDA_SPANS_64;
    seam_cuda_kept *kept = seam_cuda_kept_of(stream, use);
    const size_t key_bytes = (S + 1) * sizeof *seq_begin;
    const size_t count_max = seq_begin[S] / rows + S;
    bool same = false;
    SEAM_ASSERT(rows == 32 || rows == 64);
    SEAM_TRY(
        kept_check(&same, stream, use, seq_begin, key_bytes, count_max * sizeof(seam_cuda_span)));
    if (!same) {
        kept->count = spans_fill((seam_cuda_span *)kept->host, seq_begin, S, rows);
        SEAM_ASSERT(kept->count <= count_max);
        SEAM_TRY(kept_upload(kept, stream, key_bytes, kept->count * sizeof(seam_cuda_span)));
    }
    *ret_spans = {(const seam_cuda_span *)kept->device, kept->count};
    return SEAM_OK;
}

/* Matrices: one bf16 (or f32) copy a matrix, written in pieces as files have them or, of a matrix
 * that is trained, cast from its master after every step; and from a frozen one
 * it the copies in FP8 of a backend that has them (cuda_linear_fp8.cu).
 *
 * A piece of the matrix's own type goes straight to its place; another type goes over as it is and
 * is cast by the device, so that the link carries the file's bytes and nothing else. Grid of the
 * cast: one thread a value, 256 a block; bound by the link. */
#include <cuda_fp16.h>

#include "cuda_device.cuh"

#define THREADS 256u
/* Values that weight_create sends at a time. */
#define PIECE_COUNT ((size_t)1 << 24)

/* ---- kernels ---- */
template <typename D>
static __global__ void half_cast_kernel(D *dst, const __half *src, size_t count) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) {
        store_f32(dst + i, __half2float(src[i]));
    }
}

/* ---- launchers ---- */
void seam_cuda_weight_destroy(seam_weight *gift_weight) {
    if (gift_weight != NULL) {
        seam_cuda_fp8_destroy(gift_weight);
        gift_weight->backend->ops.mem_free(gift_weight->backend, gift_weight->rows);
        seam_mem_free(gift_weight);
    }
}

static size_t rows_bytes(const seam_weight *weight) {
    return ((size_t)weight->N + weight->pad) * (weight->C + weight->pad) *
           seam_dtype_bytes(weight->backend->ops.act);
}

size_t seam_cuda_weight_bytes(const seam_weight *weight) {
    return rows_bytes(weight) + seam_cuda_fp8_bytes(weight);
}

seam_status seam_cuda_weight_begin(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                   uint32_t C, bool forward, bool backward, uint32_t lora_pad) {
    seam_weight *weight = (seam_weight *)seam_mem_zalloc(1, sizeof *weight);
    if (weight == NULL) {
        return SEAM_E_MEMORY;
    }
    weight->backend = backend;
    weight->N = N;
    weight->C = C;
    weight->pad = lora_pad;
    /* act has one copy for both; with a pad, forward is in act with LoRA in its sum */
    weight->fp8[0].wanted = forward && backend->ops.fp8 && lora_pad == 0;
    weight->fp8[1].wanted = backward && backend->ops.fp8;
    const seam_status st = backend->ops.mem_alloc(&weight->rows, backend, rows_bytes(weight));
    if (st != SEAM_OK) {
        seam_cuda_weight_destroy(weight);
        return st;
    }
    *ret_weight = weight;
    return SEAM_OK;
}

/* Raw values that stand on the device already, as act. */
static seam_status raw_cast(seam_stream *stream, void *dst, const void *src, seam_raw_type type,
                            size_t count) {
    const seam_dtype act = seam_cuda_act(stream);
    if (type != SEAM_RAW_F16) {
        return seam_cuda_cast(stream, dst, act, src, type == SEAM_RAW_BF16 ? SEAM_BF16 : SEAM_F32,
                              count);
    }
    cudaStream_t queue = seam_cuda_queue(stream);
    const unsigned blocks = (unsigned)((count + THREADS - 1) / THREADS);
    SEAM_CUDA_BY_ACT(stream, (half_cast_kernel<<<blocks, THREADS, 0, queue>>>(
                                 (act *)dst, (const __half *)src, count)));
    return SEAM_CUDA_LAUNCHED();
}

/* Values [first, first + count) of the matrix, dense at src, to their rows: the rest of a row,
 * whole rows, and the beginning of one. */
static seam_status rows_copy(seam_stream *stream, const seam_weight *weight, size_t first,
                             size_t count, const void *src, cudaMemcpyKind kind) {
    const size_t act_bytes = seam_dtype_bytes(seam_cuda_act(stream)), C = weight->C;
    const size_t ld = C + weight->pad;
    const char *from = (const char *)src;
    while (count > 0) {
        const size_t row = first / C, col = first % C;
        const size_t rows = col == 0 ? count / C : 0;
        const size_t rest = count < C - col ? count : C - col, values = rows > 0 ? rows * C : rest;
        char *to = (char *)weight->rows + (row * ld + col) * act_bytes;
        const size_t width = (rows > 0 ? C : rest) * act_bytes;
        SEAM_CUDA_TRY(cudaMemcpy2DAsync(to, ld * act_bytes, from, C * act_bytes, width,
                                        rows > 0 ? rows : 1, kind, seam_cuda_queue(stream)));
        from += values * act_bytes;
        first += values;
        count -= values;
    }
    return SEAM_OK;
}

seam_status seam_cuda_weight_write(seam_stream *stream, seam_weight *weight,
                                   const seam_weight_piece *piece) {
    const seam_dtype act = seam_cuda_act(stream);
    const size_t bytes = piece->count * seam_raw_bytes(piece->type);
    const size_t room = seam_cuda_round(bytes), act_bytes = seam_dtype_bytes(act);
    char *dst = (char *)weight->rows + piece->first * act_bytes;
    const bool same = piece->type == (act == SEAM_BF16 ? SEAM_RAW_BF16 : SEAM_RAW_F32);
    const bool dense = weight->pad == 0;
    void *scratch = NULL;
    if (piece->count == 0) {
        return SEAM_OK;
    }
    if (same && !dense) {
        return rows_copy(stream, weight, piece->first, piece->count, piece->bytes,
                         cudaMemcpyHostToDevice);
    }
    if (!same) {
        SEAM_TRY(
            seam_cuda_scratch(&scratch, stream, room + (dense ? 0 : piece->count * act_bytes)));
    }
    SEAM_CUDA_TRY(cudaMemcpyAsync(same ? dst : scratch, piece->bytes, bytes, cudaMemcpyHostToDevice,
                                  seam_cuda_queue(stream)));
    if (same) {
        return SEAM_OK;
    }
    void *values = dense ? dst : (char *)scratch + room;
    SEAM_TRY(raw_cast(stream, values, scratch, piece->type, piece->count));
    return dense ? SEAM_OK
                 : rows_copy(stream, weight, piece->first, piece->count, values,
                             cudaMemcpyDeviceToDevice);
}

seam_status seam_cuda_weight_end(seam_weight *weight, seam_backend *backend) {
    seam_cuda_weight_plan(weight);
    return backend->ops.fp8 ? seam_cuda_fp8_create(weight) : SEAM_OK;
}

seam_status seam_cuda_weight_create(seam_weight **ret_weight, seam_backend *backend,
                                    const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                    bool backward, uint32_t lora_pad) {
    const size_t count = (size_t)N * C;
    seam_weight *weight = NULL;
    seam_stream *stream = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY(seam_cuda_weight_begin(&weight, backend, N, C, forward, backward, lora_pad));
    SEAM_TRY_GOTO(backend->ops.stream_create(&stream, backend), st, end);
    for (size_t i = 0; i < count; i += PIECE_COUNT) {
        seam_weight_piece piece = {};
        piece.bytes = host_rows + i;
        piece.type = SEAM_RAW_F32;
        piece.first = i;
        piece.count = count - i < PIECE_COUNT ? count - i : PIECE_COUNT;
        SEAM_TRY_GOTO(seam_cuda_weight_write(stream, weight, &piece), st, end);
    }
    SEAM_TRY_GOTO(backend->ops.stream_sync(stream), st, end);
    st = seam_cuda_weight_end(weight, backend);
end:
    backend->ops.stream_destroy(stream);
    if (st == SEAM_OK) {
        *ret_weight = weight;
    } else {
        seam_cuda_weight_destroy(weight);
    }
    return st;
}

/* ---- trained ---- */
#define READ_ROWS 1024u

seam_status seam_cuda_weight_own(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                 uint32_t C) {
    seam_weight *weight = (seam_weight *)seam_mem_zalloc(1, sizeof *weight);
    if (weight == NULL) {
        return SEAM_E_MEMORY;
    }
    weight->backend = backend;
    weight->N = N;
    weight->C = C; /* no pad, nothing in FP8: LoRA and frozen products have those */
    const seam_status st = backend->ops.mem_alloc(&weight->rows, backend, rows_bytes(weight));
    if (st != SEAM_OK) {
        seam_cuda_weight_destroy(weight);
        return st;
    }
    seam_cuda_weight_plan(weight);
    seam_cuda_gradient_plan(weight);
    *ret_weight = weight;
    return SEAM_OK;
}

size_t seam_cuda_weight_own_bytes(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    *ret_host_bytes = sizeof(seam_weight);
    return (size_t)N * C * seam_dtype_bytes(act);
}

seam_status seam_cuda_weight_set(seam_stream *stream, seam_weight *weight, const void *rows) {
    SEAM_ASSERT(weight->pad == 0 && seam_cuda_fp8_bytes(weight) == 0);
    return seam_cuda_cast(stream, weight->rows, seam_cuda_act(stream), rows, SEAM_F32,
                          (size_t)weight->N * weight->C);
}

/* Rows with a pad go through the scratch, a stripe at a time. */
seam_status seam_cuda_weight_get(seam_stream *stream, void *rows, const seam_weight *weight) {
    const seam_dtype act = seam_cuda_act(stream);
    const size_t act_bytes = seam_dtype_bytes(act), C = weight->C, ld = C + weight->pad;
    void *dense = NULL;
    if (weight->pad == 0) {
        return seam_cuda_cast(stream, rows, SEAM_F32, weight->rows, act, weight->N * C);
    }
    SEAM_TRY(seam_cuda_scratch(&dense, stream, READ_ROWS * C * act_bytes));
    for (uint32_t row = 0; row < weight->N; row += READ_ROWS) {
        const uint32_t count = weight->N - row < READ_ROWS ? weight->N - row : READ_ROWS;
        SEAM_CUDA_TRY(cudaMemcpy2DAsync(
            dense, C * act_bytes, (const char *)weight->rows + row * ld * act_bytes, ld * act_bytes,
            C * act_bytes, count, cudaMemcpyDeviceToDevice, seam_cuda_queue(stream)));
        SEAM_TRY(seam_cuda_cast(stream, (float *)rows + row * C, SEAM_F32, dense, act, count * C));
    }
    return SEAM_OK;
}

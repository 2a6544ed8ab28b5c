/* Creation, memory and casts of the reference backend, and its op table. */
#include "ref.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"

static const seam_ops ref_ops;

static void ref_destroy(seam_backend *gift_backend) {
    seam_mem_free(gift_backend);
}

seam_status seam_ref_create(seam_backend **ret_backend, const seam_backend_options *options,
                            seam_error *err) {
    if (options->act != 0 && options->act != SEAM_F64) {
        return seam_error_set(err, SEAM_E_ARG, "device ref: act is f64 only");
    }
    seam_backend *backend = seam_mem_zalloc(1, sizeof *backend);
    if (backend == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "device ref: out of memory");
    }
    backend->ops = ref_ops;
    backend->ops.fp8 = options->fp8;
    backend->destroy = ref_destroy;
    (void)snprintf(backend->describe, sizeof backend->describe, "reference f64, 1 thread");
    *ret_backend = backend;
    return SEAM_OK;
}

double seam_ref_dot(const double *x, const double *y, uint32_t D) {
    double sum = 0.0;
    for (uint32_t d = 0; d < D; d++) {
        sum += x[d] * y[d];
    }
    return sum;
}

static seam_status ref_mem_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    (void)backend;
    void *ptr = seam_mem_alloc_aligned(bytes);
    if (ptr == NULL) {
        return SEAM_E_MEMORY;
    }
    *ret_ptr = ptr;
    return SEAM_OK;
}

static void ref_mem_free(seam_backend *backend, void *gift_ptr) {
    (void)backend;
    seam_mem_free(gift_ptr);
}

static seam_status ref_host_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    return ref_mem_alloc(ret_ptr, backend, bytes);
}

static uint64_t ref_mem_room(seam_backend *backend) {
    (void)backend;
    return SEAM_MEM_ROOM_HOST;
}

static seam_status ref_copy(seam_stream *stream, void *dst, const void *src, size_t bytes) {
    (void)stream;
    memcpy(dst, src, bytes);
    return SEAM_OK;
}

static seam_status ref_zero(seam_stream *stream, void *device, size_t bytes) {
    (void)stream;
    memset(device, 0, bytes);
    return SEAM_OK;
}

static double load(const void *src, seam_dtype type, size_t i) {
    switch (type) {
    case SEAM_F64:
        return ((const double *)src)[i];
    case SEAM_F32:
        return (double)((const float *)src)[i];
    case SEAM_BF16:
        return (double)seam_bf16_to_f32(((const uint16_t *)src)[i]);
    }
    SEAM_ASSERT(!"a dtype of the enum");
    return 0.0;
}

static seam_status ref_cast(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                            seam_dtype src_type, size_t count) {
    (void)stream;
    for (size_t i = 0; i < count; i++) {
        const double value = load(src, src_type, i);
        switch (dst_type) {
        case SEAM_F64:
            ((double *)dst)[i] = value;
            break;
        case SEAM_F32:
            ((float *)dst)[i] = (float)value;
            break;
        case SEAM_BF16:
            ((uint16_t *)dst)[i] = seam_bf16_from_f32((float)value);
            break;
        }
    }
    return SEAM_OK;
}

static seam_status ref_stream_create(seam_stream **ret_stream, seam_backend *backend) {
    seam_stream *stream = seam_mem_zalloc(1, sizeof *stream);
    if (stream == NULL) {
        return SEAM_E_MEMORY;
    }
    stream->backend = backend;
    *ret_stream = stream;
    return SEAM_OK;
}

static seam_status ref_stream_sync(seam_stream *stream) {
    (void)stream;
    return SEAM_OK;
}

static void ref_stream_destroy(seam_stream *gift_stream) {
    seam_mem_free(gift_stream);
}

static void ref_weight_destroy(seam_weight *gift_weight) {
    if (gift_weight != NULL) {
        seam_mem_free(gift_weight->fp8[0]);
        seam_mem_free(gift_weight->fp8[1]);
        seam_mem_free(gift_weight->rows);
        seam_mem_free(gift_weight);
    }
}

static seam_status ref_weight_begin(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                    uint32_t C, bool forward, bool backward, uint32_t lora_pad) {
    (void)lora_pad;
    SEAM_ASSERT(N > 0 && C > 0);
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, N, C, sizeof(double))) {
        return SEAM_E_MEMORY;
    }
    seam_weight *weight = seam_mem_zalloc(1, sizeof *weight);
    if (weight == NULL) {
        return SEAM_E_MEMORY;
    }
    *weight = (seam_weight){.N = N, .C = C, .forward = forward, .backward = backward};
    weight->rows = seam_mem_alloc(bytes);
    for (int i = 0; backend->ops.fp8 && i < 2; i++) {
        weight->fp8[i] = seam_mem_alloc(bytes);
    }
    if (weight->rows == NULL ||
        (backend->ops.fp8 && (weight->fp8[0] == NULL || weight->fp8[1] == NULL))) {
        ref_weight_destroy(weight);
        return SEAM_E_MEMORY;
    }
    *ret_weight = weight;
    return SEAM_OK;
}

static double load_raw(const seam_weight_piece *piece, size_t i) {
    switch (piece->type) {
    case SEAM_RAW_F32:
        return (double)((const float *)piece->bytes)[i];
    case SEAM_RAW_F16:
        return (double)seam_fp16_to_f32(((const uint16_t *)piece->bytes)[i]);
    case SEAM_RAW_BF16:
        return (double)seam_bf16_to_f32(((const uint16_t *)piece->bytes)[i]);
    }
    SEAM_ASSERT(!"a type of the enum");
    return 0.0;
}

static seam_status ref_weight_write(seam_stream *stream, seam_weight *weight,
                                    const seam_weight_piece *piece) {
    (void)stream;
    for (size_t i = 0; i < piece->count; i++) {
        weight->rows[piece->first + i] = load_raw(piece, i);
    }
    return SEAM_OK;
}

static seam_status ref_weight_end(seam_weight *weight, seam_backend *backend) {
    if (backend->ops.fp8) {
        seam_ref_fp8_weight(weight);
    }
    return SEAM_OK;
}

static seam_status ref_weight_create(seam_weight **ret_weight, seam_backend *backend,
                                     const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                     bool backward, uint32_t lora_pad) {
    seam_weight *weight = NULL;
    SEAM_TRY(ref_weight_begin(&weight, backend, N, C, forward, backward, lora_pad));
    const seam_weight_piece all = {
        .bytes = host_rows, .type = SEAM_RAW_F32, .count = (size_t)N * C};
    SEAM_TRY(ref_weight_write(NULL, weight, &all));
    SEAM_TRY(ref_weight_end(weight, backend));
    *ret_weight = weight;
    return SEAM_OK;
}

/* It rounds inside the product, in double. */
static bool ref_linear_takes_fp8(const seam_weight *w, bool backward) {
    (void)w;
    (void)backward;
    return false;
}

static size_t ref_weight_bytes(const seam_weight *weight) {
    return (size_t)weight->N * weight->C * sizeof(double);
}

static const seam_ops ref_ops = {
    .name = "ref",
    .act = SEAM_F64,
    .acc = SEAM_F64,
    .head_rows = 128,
    .qkv = SEAM_F64,
    .mem_alloc = ref_mem_alloc,
    .mem_free = ref_mem_free,
    .mem_room = ref_mem_room,
    .host_alloc = ref_host_alloc,
    .host_free = ref_mem_free,
    .copy_in = ref_copy,
    .copy_out = ref_copy,
    .zero = ref_zero,
    .cast = ref_cast,
    .stream_create = ref_stream_create,
    .stream_sync = ref_stream_sync,
    .stream_destroy = ref_stream_destroy,
    .weight_create = ref_weight_create,
    .weight_begin = ref_weight_begin,
    .weight_write = ref_weight_write,
    .weight_end = ref_weight_end,
    .weight_destroy = ref_weight_destroy,
    .weight_bytes = ref_weight_bytes,
    .weight_own = seam_ref_weight_own,
    .weight_own_bytes = seam_ref_weight_own_bytes,
    .weight_set = seam_ref_weight_set,
    .weight_get = seam_ref_weight_get,
    .weight_gradient = seam_ref_weight_gradient,
    .column_sums = seam_ref_column_sums,
    .linear_takes_fp8 = ref_linear_takes_fp8,
    .linear_forward = seam_ref_linear_forward,
    .linear_backward = seam_ref_linear_backward,
    .rmsnorm_forward = seam_ref_rmsnorm_forward,
    .rmsnorm_backward = seam_ref_rmsnorm_backward,
    .rope = seam_ref_rope,
    .attention_forward = seam_ref_attention_forward,
    .attention_backward = seam_ref_attention_backward,
    .cache_store = seam_ref_cache_store,
    .attention_cached = seam_ref_attention_cached,
    .prefix_forward = seam_ref_prefix_forward,
    .prefix_backward = seam_ref_prefix_backward,
    .swiglu_forward = seam_ref_swiglu_forward,
    .swiglu_backward = seam_ref_swiglu_backward,
    .embedding_forward = seam_ref_embedding_forward,
    .cross_entropy = seam_ref_cross_entropy,
    .adamw = seam_ref_adamw,
    .sum_squares = seam_ref_sum_squares,
    .hash = seam_ref_hash,
};

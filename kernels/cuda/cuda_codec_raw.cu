/* The codecs f32 and bf16: rows gathered or scattered, values converted and looked at.
 *
 * Grid (channels / 1024, rows), block 256: a thread takes four neighbouring values of a row.
 * Bytes: the tensor once in and once out; bound by memory. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define THREADS 256u

/* ---- kernels ---- */
static __device__ inline bool is_special(float x) {
    return (__float_as_uint(x) & 0x7f800000u) == 0x7f800000u;
}

/* dst row i (or list[i]) from src row i (or list[i]); one of the lists at most.  With src == dst a
 * row that others are made from is written with its own values: whoever reads it reads the same. */
template <typename D, typename S, bool VECTOR>
static __global__ void __launch_bounds__(THREADS)
    raw_kernel(D *dst, const uint32_t *dst_list, const S *src, const uint32_t *src_list, uint32_t C,
               uint32_t *status) {
    const uint32_t c = (blockIdx.y * THREADS + threadIdx.x) * LANE_QUAD, row = blockIdx.x;
    const uint32_t to = dst_list != NULL ? dst_list[row] : row;
    const uint32_t from = src_list != NULL ? src_list[row] : row;
    if (c >= C) {
        return;
    }
    float x[4];
    quad<S> values;
    values.template load<VECTOR>(src + (size_t)from * C, c, C);
    values.get(x);
    bool special = false;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        special |= is_special(x[i]);
        if constexpr (sizeof(D) == 2) { /* the largest values round to infinity */
            special |= is_special(__bfloat162float(__float2bfloat16_rn(x[i])));
        }
    }
    if (special && status != NULL) {
        atomicOr(status, 1u);
    }
    if (to != SEAM_DEVICE_ROW_NONE) {
        quad_store<VECTOR>(dst + (size_t)to * C, x, c, C);
    }
}

/* ---- launchers ---- */
typedef struct raw_args {
    void *dst;
    const uint32_t *dst_list;
    const void *src;
    const uint32_t *src_list;
    uint32_t rows, C;
    uint32_t *status; /* NULL: values are finite */
    bool vector;
} raw_args;

template <typename D, typename S> static void raw_launch(cudaStream_t queue, const raw_args &a) {
    const uint32_t columns = THREADS * LANE_QUAD;
    const dim3 grid(a.rows, (a.C + columns - 1) / columns);
    const auto kernel = a.vector ? raw_kernel<D, S, true> : raw_kernel<D, S, false>;
    kernel<<<grid, THREADS, 0, queue>>>((D *)a.dst, a.dst_list, (const S *)a.src, a.src_list, a.C,
                                        a.status);
}

static seam_status raw_run(seam_stream *stream, raw_args a, seam_dtype to, seam_dtype from) {
    cudaStream_t queue = seam_cuda_queue(stream);
    if (a.status != NULL) {
        SEAM_CUDA_TRY(cudaMemsetAsync(a.status, 0, sizeof *a.status, queue));
    }
    a.vector = quads_aligned(a.dst, to, a.C) && quads_aligned(a.src, from, a.C);
    if (to == SEAM_BF16) {
        if (from == SEAM_BF16) {
            raw_launch<__nv_bfloat16, __nv_bfloat16>(queue, a);
        } else {
            raw_launch<__nv_bfloat16, float>(queue, a);
        }
    } else if (from == SEAM_BF16) {
        raw_launch<float, __nv_bfloat16>(queue, a);
    } else {
        raw_launch<float, float>(queue, a);
    }
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_codec_raw_encode(seam_stream *stream, const seam_device_work *work,
                                       const seam_device_rows *rows, void *codes,
                                       seam_dtype code_type) {
    const raw_args args = {.dst = codes,
                           .src = rows->x,
                           .src_list = rows->list,
                           .rows = rows->rows,
                           .C = rows->C,
                           .status = codec_work_at(work->bytes, rows->C).status};
    return raw_run(stream, args, code_type, rows->type);
}

seam_status seam_cuda_codec_raw_decode(seam_stream *stream, const seam_device_rows *rows,
                                       const void *codes, seam_dtype code_type) {
    const raw_args args = {
        .dst = rows->x, .dst_list = rows->list, .src = codes, .rows = rows->rows, .C = rows->C};
    return raw_run(stream, args, rows->type, code_type);
}

seam_status seam_cuda_codec_rows_gather(seam_stream *stream, float *ret,
                                        const seam_device_rows *rows) {
    const raw_args args = {
        .dst = ret, .src = rows->x, .src_list = rows->list, .rows = rows->rows, .C = rows->C};
    return raw_run(stream, args, SEAM_F32, rows->type);
}

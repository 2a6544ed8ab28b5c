/* Conversions between f64, f32 and bf16.  f32 to and from act is what a step does often. */
#include "bytes.h"
#include "cpu_ops.h"

#define GRAIN 16384u

typedef struct cast_job {
    void *dst;
    const void *src;
    seam_dtype dst_type, src_type;
} cast_job;

static double load(const cast_job *job, size_t i) {
    switch (job->src_type) {
    case SEAM_F64:
        return ((const double *)job->src)[i];
    case SEAM_F32:
        return (double)((const float *)job->src)[i];
    case SEAM_BF16:
        return (double)seam_bf16_to_f32(((const uint16_t *)job->src)[i]);
    }
    SEAM_ASSERT(!"a dtype of the enum");
    return 0.0;
}

static void store(const cast_job *job, size_t i, double value) {
    switch (job->dst_type) {
    case SEAM_F64:
        ((double *)job->dst)[i] = value;
        break;
    case SEAM_F32:
        ((float *)job->dst)[i] = (float)value;
        break;
    case SEAM_BF16:
        ((uint16_t *)job->dst)[i] = seam_bf16_from_f32((float)value);
        break;
    }
}

static void cast_range(const void *context, size_t begin, size_t end) {
    const cast_job *job = context;
    const bool to_act = job->dst_type == ACT_DTYPE && job->src_type == SEAM_F32;
    const bool from_act = job->src_type == ACT_DTYPE && job->dst_type == SEAM_F32;
    size_t i = begin;
    for (; to_act && i + VL <= end; i += VL) {
        act_store((act *)job->dst + i, vf_load((const float *)job->src + i));
    }
    for (; from_act && i + VL <= end; i += VL) {
        vf_store((float *)job->dst + i, act_load((const act *)job->src + i));
    }
    for (; i < end; i++) {
        store(job, i, load(job, i));
    }
}

seam_status CPU_FN(cast)(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                         seam_dtype src_type, size_t count) {
    const cast_job job = {.dst = dst, .src = src, .dst_type = dst_type, .src_type = src_type};
    seam_cpu_ranges(stream, count, GRAIN, cast_range, &job);
    return SEAM_OK;
}

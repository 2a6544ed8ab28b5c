/* The device's codec table (../include/device_codec.h), its work block, and transfers that run
 * beside the host: copies that return at once, events.  The kernels are in
 * cuda_codec_measure.cu, _encode.cu, _decode.cu, _raw.cu and _gates.cu. */
#include "cuda_codec.cuh"

#define PLANES_MAX 16u /* of a channel */

struct seam_event {
    seam_backend *backend; /* borrowed */
    cudaEvent_t event;
};

static size_t work_bytes(uint32_t channels) {
    uint32_t *const begin = NULL;
    const codec_work work = codec_work_at(begin, channels);
    return (size_t)((uintptr_t)work.tail - (uintptr_t)begin) +
           (size_t)channels * PLANES_MAX * sizeof(uint32_t);
}

static size_t head_offset(uint32_t channels) {
    uint32_t *const begin = NULL;
    return (size_t)((uintptr_t)codec_work_at(begin, channels).status - (uintptr_t)begin);
}

/* ---- transfers ---- */
static seam_status codec_copy_out_begin(seam_stream *stream, void *host, const void *device,
                                        size_t bytes) {
    return seam_cuda_status(
        cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, seam_cuda_queue(stream)));
}

static void codec_event_destroy(seam_event *gift_event) {
    if (gift_event != NULL) {
        (void)seam_cuda_device_set(gift_event->backend);
        if (gift_event->event != NULL) {
            (void)seam_cuda_status(cudaEventDestroy(gift_event->event));
        }
        seam_mem_free(gift_event);
    }
}

static seam_status codec_event_create(seam_event **ret_event, seam_backend *backend) {
    seam_event *event = (seam_event *)seam_mem_zalloc(1, sizeof *event);
    if (event == NULL) {
        return SEAM_E_MEMORY;
    }
    event->backend = backend;
    (void)seam_cuda_device_set(backend);
    const seam_status st = seam_cuda_status(
        cudaEventCreateWithFlags(&event->event, cudaEventDisableTiming | cudaEventBlockingSync));
    if (st != SEAM_OK) {
        codec_event_destroy(event);
        return st;
    }
    *ret_event = event;
    return SEAM_OK;
}

static seam_status codec_event_record(seam_event *event, seam_stream *stream) {
    return seam_cuda_status(cudaEventRecord(event->event, seam_cuda_queue(stream)));
}

static seam_status codec_event_follow(seam_stream *stream, seam_event *event) {
    return seam_cuda_status(cudaStreamWaitEvent(seam_cuda_queue(stream), event->event, 0));
}

static seam_status codec_event_wait(seam_event *event) {
    return seam_cuda_status(cudaEventSynchronize(event->event));
}

const seam_device_codec seam_cuda_codec = {
    .work_bytes = work_bytes,
    .head_offset = head_offset,
    .encode = seam_cuda_codec_encode,
    .decode = seam_cuda_codec_decode,
    .raw_encode = seam_cuda_codec_raw_encode,
    .raw_decode = seam_cuda_codec_raw_decode,
    .rows_gather = seam_cuda_codec_rows_gather,
    .gate_squares = seam_cuda_codec_gate_squares,
    .gate_errors = seam_cuda_codec_gate_errors,
    .copy_out_begin = codec_copy_out_begin,
    .event_create = codec_event_create,
    .event_destroy = codec_event_destroy,
    .event_record = codec_event_record,
    .event_follow = codec_event_follow,
    .event_wait = codec_event_wait,
};

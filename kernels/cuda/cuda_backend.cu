/* Creation of the CUDA backend, memory, streams, and the op table.
 *
 * One cuBLASLt handle a backend (it may be used from any thread); one queue and one growing scratch
 * a stream.  Once its shapes were seen no op allocates or waits for the whole device (a scratch
 * that grows does both, by cudaFree); none uses the default stream. */
#include <atomic>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_codec.cuh"

typedef struct cuda_backend {
    seam_backend base;
    int index;
    uint32_t processors, major, minor;
    cublasLtHandle_t blas;
    seam_cuda_algo_use algos;
    cudaStream_t memory_queue; /* zeroes what mem_alloc gives */
} cuda_backend;

typedef struct cuda_stream {
    seam_stream base;
    cudaStream_t queue;
    void *scratch;
    size_t scratch_bytes;
    seam_cuda_kept kept[SEAM_CUDA_USES];
    seam_cuda_recording recording;
} cuda_stream;

/* ---- What went wrong ---- */
/* The one global: CUDA's sticky error is the process's as well, whatever backend sees it.  `state`
 * goes from NONE over WRITING to KEPT once; the text is read when it is KEPT. */
enum { NONE, WRITING, KEPT };
static struct {
    std::atomic<int> state;
    char text[SEAM_ERROR_TEXT_BYTES];
} fault;

static void fault_keep(const char *file, int line, const char *name, const char *text) {
    int none = NONE;
    if (fault.state.compare_exchange_strong(none, WRITING)) {
        const char *inside = strstr(file, "kernels/");
        (void)snprintf(fault.text, sizeof fault.text, "%s:%d: %s (%s)",
                       inside != NULL ? inside : file, line, text, name);
        fault.state.store(KEPT);
    }
}

/* Whether this thread's calls go into a recording, of which cuBLASLt says no more than that it
 * failed. */
static thread_local bool is_recording;

static bool is_of_recording(cudaError_t result) {
    return result >= cudaErrorStreamCaptureUnsupported &&
           result <= cudaErrorStreamCaptureWrongThread;
}

static const char *cuda_fault(void) {
    return fault.state.load() == KEPT ? fault.text : "";
}

seam_status seam_cuda_status_at(cudaError_t result, const char *file, int line) {
    if (result == cudaSuccess) {
        return SEAM_OK;
    }
    (void)cudaGetLastError();
    if (result == cudaErrorMemoryAllocation) {
        return SEAM_E_MEMORY;
    }
    if (is_recording && is_of_recording(result)) {
        return SEAM_E_STATE;
    }
    fault_keep(file, line, cudaGetErrorName(result), cudaGetErrorString(result));
    return SEAM_E_DEVICE_LOST;
}

seam_status seam_cublas_status_at(cublasStatus_t result, const char *file, int line) {
    if (result == CUBLAS_STATUS_SUCCESS) {
        return SEAM_OK;
    }
    if (is_recording) {
        return SEAM_E_STATE;
    }
    fault_keep(file, line, cublasLtGetStatusName(result), cublasLtGetStatusString(result));
    return SEAM_E_DEVICE_LOST;
}

size_t seam_cuda_round(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

static const cuda_backend *backend_of(const seam_stream *stream) {
    return (const cuda_backend *)stream->backend;
}

cudaError_t seam_cuda_device_set(const seam_backend *backend) {
    return cudaSetDevice(((const cuda_backend *)backend)->index);
}

cudaStream_t seam_cuda_queue(const seam_stream *stream) {
    (void)cudaSetDevice(backend_of(stream)->index); /* a lost device shows at the launch */
    return ((const cuda_stream *)stream)->queue;
}

uint32_t seam_cuda_processors(const seam_stream *stream) {
    return backend_of(stream)->processors;
}

uint32_t seam_cuda_major(const seam_stream *stream) {
    return backend_of(stream)->major;
}

seam_dtype seam_cuda_act(const seam_stream *stream) {
    return stream->backend->ops.act;
}

seam_cuda_kept *seam_cuda_kept_of(seam_stream *stream, seam_cuda_use use) {
    return &((cuda_stream *)stream)->kept[use];
}

seam_cuda_recording *seam_cuda_recording_of(seam_stream *stream) {
    return &((cuda_stream *)stream)->recording;
}

void seam_cuda_recording_set(seam_stream *stream, bool on) {
    seam_cuda_recording *recording = seam_cuda_recording_of(stream);
    recording->on = is_recording = on;
    recording->uses = on ? 0 : recording->uses;
}

cublasLtHandle_t seam_cuda_blas(const seam_backend *backend) {
    return ((const cuda_backend *)backend)->blas;
}

uint32_t seam_cuda_backend_compute(const seam_backend *backend) {
    const cuda_backend *b = (const cuda_backend *)backend;
    return 10 * b->major + b->minor;
}

seam_cuda_algo_use *seam_cuda_algo_use_of(const seam_backend *backend) {
    return &((cuda_backend *)backend)->algos;
}

seam_status seam_cuda_scratch(void **ret_ptr, seam_stream *stream, size_t bytes) {
    cuda_stream *s = (cuda_stream *)stream;
    if (bytes > s->scratch_bytes) {
        if (s->recording.on) {
            return SEAM_E_STATE;
        }
        (void)seam_cuda_queue(stream);
        void *old = s->scratch;
        s->scratch = NULL;
        s->scratch_bytes = 0;
        SEAM_CUDA_TRY(cudaFree(old)); /* after the kernels that use it */
        SEAM_CUDA_TRY(cudaMalloc(&s->scratch, bytes));
        s->scratch_bytes = bytes;
    }
    *ret_ptr = s->scratch;
    return SEAM_OK;
}

void *seam_cuda_scratch_at(const seam_stream *stream, size_t *ret_bytes) {
    const cuda_stream *s = (const cuda_stream *)stream;
    *ret_bytes = s->scratch_bytes;
    return s->scratch;
}

/* ---- Memory ---- */
static seam_status cuda_mem_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    const cuda_backend *b = (const cuda_backend *)backend;
    void *ptr = NULL;
    bytes = bytes == 0 ? 1 : bytes;
    SEAM_CUDA_TRY(cudaSetDevice(b->index));
    SEAM_CUDA_TRY(cudaMalloc(&ptr, bytes));
    cudaError_t zeroed = cudaMemsetAsync(ptr, 0, bytes, b->memory_queue);
    zeroed = zeroed == cudaSuccess ? cudaStreamSynchronize(b->memory_queue) : zeroed;
    if (zeroed != cudaSuccess) {
        (void)cudaFree(ptr);
        return seam_cuda_status(zeroed);
    }
    *ret_ptr = ptr;
    return SEAM_OK;
}

static void cuda_mem_free(seam_backend *backend, void *gift_ptr) {
    (void)cudaSetDevice(((const cuda_backend *)backend)->index);
    (void)seam_cuda_status(cudaFree(gift_ptr));
}

static uint64_t cuda_mem_room(seam_backend *backend) {
    size_t room = 0, total = 0;
    (void)cudaSetDevice(((const cuda_backend *)backend)->index);
    return seam_cuda_status(cudaMemGetInfo(&room, &total)) == SEAM_OK ? room : 0;
}

/* Our own huge pages, registered: 12 threads that take 4 MiB each wait 6 ms for it, and 28 ms for
 * cudaHostAlloc (H100 host). */
static seam_status cuda_host_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    SEAM_CUDA_TRY(cudaSetDevice(((const cuda_backend *)backend)->index));
    void *ptr = seam_mem_alloc_huge(bytes);
    if (ptr == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st =
        seam_cuda_status(cudaHostRegister(ptr, bytes == 0 ? 1 : bytes, cudaHostRegisterDefault));
    if (st != SEAM_OK) {
        seam_mem_free(ptr);
        return st;
    }
    *ret_ptr = ptr;
    return SEAM_OK;
}

static void cuda_host_free(seam_backend *backend, void *gift_ptr) {
    if (gift_ptr != NULL) {
        (void)cudaSetDevice(((const cuda_backend *)backend)->index);
        (void)seam_cuda_status(cudaHostUnregister(gift_ptr));
        seam_mem_free(gift_ptr);
    }
}

static seam_status cuda_copy_in(seam_stream *stream, void *device, const void *host, size_t bytes) {
    return seam_cuda_status(
        cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, seam_cuda_queue(stream)));
}

static seam_status cuda_copy_out(seam_stream *stream, void *host, const void *device,
                                 size_t bytes) {
    cudaStream_t queue = seam_cuda_queue(stream);
    SEAM_CUDA_TRY(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, queue));
    return seam_cuda_status(cudaStreamSynchronize(queue)); /* callers read at once */
}

static seam_status cuda_zero(seam_stream *stream, void *device, size_t bytes) {
    return seam_cuda_status(cudaMemsetAsync(device, 0, bytes, seam_cuda_queue(stream)));
}

/* ---- Streams ---- */
static void cuda_stream_destroy(seam_stream *gift_stream) {
    if (gift_stream != NULL) {
        cuda_stream *stream = (cuda_stream *)gift_stream;
        (void)seam_cuda_queue(gift_stream);
        (void)seam_cuda_status(cudaFree(stream->scratch));
        for (int use = 0; use < SEAM_CUDA_USES; use++) {
            seam_cuda_kept_deinit(&stream->kept[use]);
        }
        if (stream->queue != NULL) {
            (void)seam_cuda_status(cudaStreamDestroy(stream->queue));
        }
        seam_mem_free(stream);
    }
}

static seam_status cuda_stream_create(seam_stream **ret_stream, seam_backend *backend) {
    cuda_stream *stream = (cuda_stream *)seam_mem_zalloc(1, sizeof *stream);
    if (stream == NULL) {
        return SEAM_E_MEMORY;
    }
    stream->base.backend = backend;
    (void)seam_cuda_queue(&stream->base);
    const seam_status st =
        seam_cuda_status(cudaStreamCreateWithFlags(&stream->queue, cudaStreamNonBlocking));
    if (st != SEAM_OK) {
        cuda_stream_destroy(&stream->base);
        return st;
    }
    *ret_stream = &stream->base;
    return SEAM_OK;
}

static seam_status cuda_stream_sync(seam_stream *stream) {
    return seam_cuda_status(cudaStreamSynchronize(seam_cuda_queue(stream)));
}

/* ---- Creation ---- */
/* "cuda" is device 0. */
static bool device_index(int *ret_index, const char *device) {
    char *end = NULL;
    if (strcmp(device, "cuda") == 0) {
        *ret_index = 0;
        return true;
    }
    if (strncmp(device, "cuda:", 5) != 0 || device[5] < '0' || device[5] > '9') {
        return false;
    }
    const long index = strtol(device + 5, &end, 10);
    *ret_index = (int)index;
    return *end == '\0' && index < 1024;
}

static void cuda_destroy(seam_backend *gift_backend) {
    cuda_backend *backend = (cuda_backend *)gift_backend;
    if (backend->blas != NULL) {
        (void)cublasLtDestroy(backend->blas);
    }
    if (backend->memory_queue != NULL) {
        (void)seam_cuda_status(cudaStreamDestroy(backend->memory_queue));
    }
    seam_mem_free(backend);
}

static void table_fill(seam_ops *ops, seam_dtype act) {
    ops->name = "cuda";
    ops->act = act;
    ops->acc = SEAM_F32;
    ops->qkv = act;
    ops->remake = true;
    ops->head_rows = 512;
    ops->mem_alloc = cuda_mem_alloc;
    ops->mem_free = cuda_mem_free;
    ops->mem_room = cuda_mem_room;
    ops->host_alloc = cuda_host_alloc;
    ops->host_free = cuda_host_free;
    ops->copy_in = cuda_copy_in;
    ops->copy_out = cuda_copy_out;
    ops->zero = cuda_zero;
    ops->cast = seam_cuda_cast;
    ops->stream_create = cuda_stream_create;
    ops->stream_sync = cuda_stream_sync;
    ops->stream_destroy = cuda_stream_destroy;
    ops->weight_create = seam_cuda_weight_create;
    ops->weight_begin = seam_cuda_weight_begin;
    ops->weight_write = seam_cuda_weight_write;
    ops->weight_end = seam_cuda_weight_end;
    ops->weight_destroy = seam_cuda_weight_destroy;
    ops->weight_bytes = seam_cuda_weight_bytes;
    ops->weight_own = seam_cuda_weight_own;
    ops->weight_own_bytes = seam_cuda_weight_own_bytes;
    ops->weight_set = seam_cuda_weight_set;
    ops->weight_get = seam_cuda_weight_get;
    ops->weight_gradient = seam_cuda_weight_gradient;
    ops->column_sums = seam_cuda_column_sums;
    ops->linear_takes_fp8 = seam_cuda_linear_takes_fp8;
    ops->linear_forward = seam_cuda_linear_forward;
    ops->linear_backward = seam_cuda_linear_backward;
    ops->rmsnorm_forward = seam_cuda_rmsnorm_forward;
    ops->rmsnorm_backward = seam_cuda_rmsnorm_backward;
    ops->rope = seam_cuda_rope;
    ops->attention_forward = seam_cuda_attention_forward;
    ops->attention_backward = seam_cuda_attention_backward;
    ops->cache_store = seam_cuda_cache_store;
    ops->attention_cached = seam_cuda_attention_cached;
    ops->prefix_forward = seam_cuda_prefix_forward;
    ops->prefix_backward = seam_cuda_prefix_backward;
    ops->swiglu_forward = seam_cuda_swiglu_forward;
    ops->swiglu_backward = seam_cuda_swiglu_backward;
    ops->embedding_forward = seam_cuda_embedding_forward;
    ops->cross_entropy = seam_cuda_cross_entropy;
    ops->adamw = seam_cuda_adamw;
    ops->sum_squares = seam_cuda_sum_squares;
    ops->hash = seam_cuda_hash;
    ops->repeat = seam_cuda_repeat;
    ops->repeats_destroy = seam_cuda_repeats_destroy;
    ops->codec = &seam_cuda_codec;
}

static void ranks_set(seam_ops *ops, const seam_backend_options *options) {
    const uint32_t rank = options->join_rank == 0 ? SEAM_JOIN_RANK : options->join_rank;
    ops->join_rank = ops->act == SEAM_BF16 ? rank : 0;
    ops->join_mlp_rank = ops->act == SEAM_BF16 && !ops->fp8 ? options->join_mlp_rank : 0;
}

/* Ranks other than a server's own default round a session's products otherwise. */
static void joins_describe(char *ret_text, size_t text_bytes, const seam_ops *ops) {
    if ((ops->join_rank != 0 && ops->join_rank != SEAM_JOIN_RANK) || ops->join_mlp_rank != 0) {
        (void)snprintf(ret_text, text_bytes, ", LoRA joined to rank %u and %u", ops->join_rank,
                       ops->join_mlp_rank);
    }
}

/* Opens the device; `backend` is destroyed by the caller when it fails. */
static seam_status device_open(cuda_backend *backend, const char *device, seam_error *err) {
    cudaDeviceProp properties;
    cudaError_t result = cudaSetDevice(backend->index);
    if (result == cudaSuccess) {
        result = cudaGetDeviceProperties(&properties, backend->index);
    }
    if (result == cudaSuccess) {
        result = cudaStreamCreateWithFlags(&backend->memory_queue, cudaStreamNonBlocking);
    }
    if (result != cudaSuccess) {
        return seam_error_set(err, seam_cuda_status(result), "device %s: %s", device,
                              cudaGetErrorString(result));
    }
    if (properties.major < 8) {
        return seam_error_set(err, SEAM_E_ARG, "device %s (%s): compute %d.%d, at least 8.0",
                              device, properties.name, properties.major, properties.minor);
    }
    backend->processors = (uint32_t)properties.multiProcessorCount;
    backend->major = (uint32_t)properties.major;
    backend->minor = (uint32_t)properties.minor;
    if (seam_cublas_status(cublasLtCreate(&backend->blas)) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_DEVICE_LOST, "device %s: cuBLASLt does not start: %s",
                              device, cuda_fault());
    }
    const bool fp8 = backend->base.ops.fp8;
    if (fp8 && !seam_cuda_fp8_serves(&backend->base)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "device %s (%s, compute %d.%d, cuBLASLt %zu): no FP8 products with a "
                              "scale a row",
                              device, properties.name, properties.major, properties.minor,
                              cublasLtGetVersion());
    }
    const int end =
        snprintf(backend->base.describe, sizeof backend->base.describe,
                 "%.48s, compute %d.%d, cuBLASLt %zu, %s%s", properties.name, properties.major,
                 properties.minor, cublasLtGetVersion(),
                 backend->base.ops.act == SEAM_BF16 ? "bf16" : "f32", fp8 ? " and fp8" : "");
    joins_describe(backend->base.describe + end, sizeof backend->base.describe - (size_t)end,
                   &backend->base.ops);
    return SEAM_OK;
}

/* Is there a driver, is it new enough, does it show this device? */
static seam_status device_find(int index, const char *device, seam_error *err) {
    int count = 0, driver = 0;
    const cudaError_t counted = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (counted == cudaErrorInsufficientDriver) {
        (void)cudaDriverGetVersion(&driver);
        if (driver != 0) {
            return seam_error_set(
                err, SEAM_E_UNIMPLEMENTED,
                "device %s: the driver is for CUDA %d.%d, this build needs %d.%d; "
                "update it, or use cpu",
                device, driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                CUDART_VERSION % 1000 / 10);
        }
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "device %s: no NVIDIA driver on this machine; use cpu", device);
    }
    if (counted != cudaSuccess || index >= count) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "device %s: no such CUDA device (%d found; %s); use cpu", device,
                              counted == cudaSuccess ? count : 0, cudaGetErrorString(counted));
    }
    return SEAM_OK;
}

extern "C" seam_status seam_cuda_create(seam_backend **ret_backend,
                                        const seam_backend_options *options, seam_error *err) {
    const char *device = options->device;
    int index = 0;
    if (!device_index(&index, device)) {
        return seam_error_set(err, SEAM_E_ARG, "device %s: cuda:N with a number N", device);
    }
    if (options->act != 0 && options->act != SEAM_F32 && options->act != SEAM_BF16) {
        return seam_error_set(err, SEAM_E_ARG, "device %s: act must be f32 or bf16", device);
    }
    if (options->fp8 && options->act == SEAM_F32) {
        return seam_error_set(err, SEAM_E_ARG, "device %s: fp8 stands beside bf16, not f32",
                              device);
    }
    SEAM_TRY(device_find(index, device, err));
    cuda_backend *backend = (cuda_backend *)seam_mem_zalloc(1, sizeof *backend);
    if (backend == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "device %s: out of memory", device);
    }
    backend->index = index;
    backend->base.destroy = cuda_destroy;
    backend->base.fault = cuda_fault;
    backend->base.products = seam_cuda_algo_use_print;
    backend->algos.rows = seam_cuda_algo_rows(&backend->algos.row_count);
    table_fill(&backend->base.ops, options->act == 0 ? SEAM_BF16 : options->act);
    backend->base.ops.fp8 = options->fp8;
    ranks_set(&backend->base.ops, options);
    const seam_status st = device_open(backend, device, err);
    if (st != SEAM_OK) {
        cuda_destroy(&backend->base);
        return st;
    }
    *ret_backend = &backend->base;
    return SEAM_OK;
}

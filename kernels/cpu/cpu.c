/* Creation of the CPU backend: which variant this machine runs, memory, streams.
 *
 * bf16 is offered only with AMX: without it bf16 products are slower than f32 ones (measured on
 * the machine of tests/bench/RESULTS.md), and f32 is the better number. */
#include "cpu.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

typedef struct cpu_backend {
    seam_backend base;
    seam_pool *pool;
} cpu_backend;

typedef struct cpu_stream {
    seam_stream base;
    void *scratch;
    size_t scratch_bytes;
} cpu_stream;

static const seam_ops shared_ops;

#if defined(__x86_64__)
static bool avx512_usable(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/* AMX with bf16, and the system's permission to use its 8 KiB of registers. */
static bool amx_usable(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    if (!avx512_usable()) {
        return false;
    }
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & amx_bf16) == 0 || (d & amx_tile) == 0) {
        return false;
    }
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a & (1u << 5)) == 0) { /* AVX512_BF16 */
        return false;
    }
    const long req_xcomp_perm = 0x1023, xtiledata = 18; /* arch_prctl, Linux >= 5.16 */
    return syscall(SYS_arch_prctl, req_xcomp_perm, xtiledata) == 0;
}

static bool avx2_usable(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

typedef struct cpu_variant {
    const char *name; /* as in "cpu:avx2" */
    seam_dtype act;
    bool (*usable)(void);
    void (*fill)(seam_ops *ops);
} cpu_variant;

static bool always_usable(void) {
    return true;
}

/* The best first. */
static const cpu_variant variants[] = {
#if defined(__x86_64__)
    {"amx", SEAM_BF16, amx_usable, seam_cpu_amx_fill},
    {"avx512", SEAM_F32, avx512_usable, seam_cpu_avx512_fill},
    {"avx2", SEAM_F32, avx2_usable, seam_cpu_avx2_fill},
#endif
    {"base", SEAM_F32, always_usable, seam_cpu_base_fill},
};
#define VARIANT_COUNT (sizeof variants / sizeof variants[0])

/* The best variant of that act type (0: any) and name (NULL: any). */
static seam_status variant_pick(const cpu_variant **ret_variant, seam_dtype act, const char *name,
                                seam_error *err) {
    bool known = name == NULL;
    for (size_t i = 0; i < VARIANT_COUNT; i++) {
        const cpu_variant *v = &variants[i];
        const bool named = name == NULL || strcmp(name, v->name) == 0;
        known = known || named;
        if (named && (act == 0 || act == v->act) && v->usable()) {
            *ret_variant = v;
            return SEAM_OK;
        }
    }
    if (!known) {
        return seam_error_set(err, SEAM_E_ARG, "device cpu:%s: unknown (amx, avx512, avx2, base)",
                              name);
    }
    if (name != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "device cpu:%s: not on this CPU or with this type",
                              name);
    }
    return seam_error_set(err, SEAM_E_ARG, "device cpu: bf16 needs AMX; use f32");
}

static void cpu_destroy(seam_backend *gift_backend) {
    seam_pool_destroy(((cpu_backend *)gift_backend)->pool);
    seam_mem_free(gift_backend);
}

seam_status seam_cpu_create(seam_backend **ret_backend, const seam_backend_options *options,
                            seam_error *err) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads = options->threads;
    if (options->act != 0 && options->act != SEAM_F32 && options->act != SEAM_BF16) {
        return seam_error_set(err, SEAM_E_ARG, "device cpu: act must be f32 or bf16");
    }
    if (options->fp8) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "device cpu: no FP8 products");
    }
    if (threads > SEAM_POOL_THREADS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "device cpu: %u threads, at most %u", threads,
                              SEAM_POOL_THREADS_MAX);
    }
    if (threads == 0) {
        threads = online < 1 ? 1u : (uint32_t)online;
        threads = threads > SEAM_POOL_THREADS_MAX ? SEAM_POOL_THREADS_MAX : threads;
    }
    const cpu_variant *variant = NULL;
    const char *name = options->device[3] == ':' ? options->device + 4 : NULL;
    SEAM_TRY(variant_pick(&variant, options->act, name, err));
    cpu_backend *backend = seam_mem_zalloc(1, sizeof *backend);
    if (backend == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "device cpu: out of memory");
    }
    backend->base.ops = shared_ops;
    variant->fill(&backend->base.ops);
    backend->base.destroy = cpu_destroy;
    (void)snprintf(backend->base.describe, sizeof backend->base.describe,
                   "own kernels, %s %s, %u threads", variant->name,
                   variant->act == SEAM_BF16 ? "bf16" : "f32", threads);
    if (seam_pool_create(&backend->pool, threads) != SEAM_OK) {
        cpu_destroy(&backend->base);
        return seam_error_set(err, SEAM_E_MEMORY, "device cpu: cannot start %u threads", threads);
    }
    *ret_backend = &backend->base;
    return SEAM_OK;
}

seam_pool *seam_cpu_backend_pool(const seam_backend *backend) {
    return ((const cpu_backend *)backend)->pool;
}

seam_pool *seam_cpu_pool(const seam_stream *stream) {
    return seam_cpu_backend_pool(stream->backend);
}

seam_status seam_cpu_scratch(void **ret_ptr, seam_stream *stream, size_t bytes) {
    cpu_stream *s = (cpu_stream *)stream;
    if (bytes > s->scratch_bytes) {
        seam_mem_free(s->scratch);
        s->scratch_bytes = 0;
        s->scratch = seam_mem_alloc_aligned(bytes);
        if (s->scratch == NULL) {
            return SEAM_E_MEMORY;
        }
        s->scratch_bytes = bytes;
    }
    *ret_ptr = s->scratch;
    return SEAM_OK;
}

typedef struct ranges_job {
    size_t count, grain;
    seam_cpu_range_fn fn;
    const void *context;
} ranges_job;

static void ranges_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    (void)thread_idx;
    const ranges_job *job = context;
    const size_t begin = task_idx * job->grain;
    const size_t end = begin + job->grain < job->count ? begin + job->grain : job->count;
    job->fn(job->context, begin, end);
}

void seam_cpu_ranges(seam_stream *stream, size_t count, size_t grain, seam_cpu_range_fn fn,
                     const void *context) {
    ranges_job job = {.count = count, .grain = grain, .fn = fn, .context = context};
    const size_t task_count = (count + grain - 1) / grain;
    SEAM_ASSERT(task_count < UINT32_MAX);
    seam_pool_run(seam_cpu_pool(stream), (uint32_t)task_count, ranges_task, &job);
}

static seam_status cpu_mem_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    (void)backend;
    void *ptr = seam_mem_alloc_aligned(bytes);
    if (ptr == NULL) {
        return SEAM_E_MEMORY;
    }
    *ret_ptr = ptr;
    return SEAM_OK;
}

static void cpu_mem_free(seam_backend *backend, void *gift_ptr) {
    (void)backend;
    seam_mem_free(gift_ptr);
}

static seam_status cpu_host_alloc(void **ret_ptr, seam_backend *backend, size_t bytes) {
    (void)backend;
    void *ptr = seam_mem_alloc(bytes);
    if (ptr == NULL) {
        return SEAM_E_MEMORY;
    }
    *ret_ptr = ptr;
    return SEAM_OK;
}

static uint64_t cpu_mem_room(seam_backend *backend) {
    (void)backend;
    return SEAM_MEM_ROOM_HOST;
}

static seam_status cpu_copy(seam_stream *stream, void *dst, const void *src, size_t bytes) {
    (void)stream;
    memcpy(dst, src, bytes);
    return SEAM_OK;
}

static seam_status cpu_zero(seam_stream *stream, void *device, size_t bytes) {
    (void)stream;
    memset(device, 0, bytes);
    return SEAM_OK;
}

static seam_status cpu_stream_create(seam_stream **ret_stream, seam_backend *backend) {
    cpu_stream *stream = seam_mem_zalloc(1, sizeof *stream);
    if (stream == NULL) {
        return SEAM_E_MEMORY;
    }
    stream->base.backend = backend;
    *ret_stream = &stream->base;
    return SEAM_OK;
}

static seam_status cpu_stream_sync(seam_stream *stream) {
    (void)stream; /* every op has finished when it returns */
    return SEAM_OK;
}

static void cpu_stream_destroy(seam_stream *gift_stream) {
    if (gift_stream != NULL) {
        seam_mem_free(((cpu_stream *)gift_stream)->scratch);
        seam_mem_free(gift_stream);
    }
}

static void cpu_weight_destroy(seam_weight *gift_weight) {
    if (gift_weight != NULL) {
        seam_mem_free(gift_weight->rows);
        seam_mem_free(gift_weight->forward);
        seam_mem_free(gift_weight->backward);
        seam_mem_free(gift_weight);
    }
}

static bool cpu_linear_takes_fp8(const seam_weight *w, bool backward) {
    (void)w;
    (void)backward;
    return false;
}

static size_t cpu_weight_bytes(const seam_weight *weight) {
    return weight->bytes;
}

static const seam_ops shared_ops = {
    .name = "cpu",
    .acc = SEAM_F32,
    .head_rows = 128,
    .qkv = SEAM_F32,
    .mem_alloc = cpu_mem_alloc,
    .mem_free = cpu_mem_free,
    .mem_room = cpu_mem_room,
    .host_alloc = cpu_host_alloc,
    .host_free = cpu_mem_free,
    .copy_in = cpu_copy,
    .copy_out = cpu_copy,
    .zero = cpu_zero,
    .stream_create = cpu_stream_create,
    .stream_sync = cpu_stream_sync,
    .stream_destroy = cpu_stream_destroy,
    .weight_destroy = cpu_weight_destroy,
    .weight_bytes = cpu_weight_bytes,
    .linear_takes_fp8 = cpu_linear_takes_fp8,
};

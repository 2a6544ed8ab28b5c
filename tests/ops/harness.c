/* See harness.h. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"

_Noreturn void check_failed(const char *condition, const char *file, int line) {
    (void)fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
    exit(1);
}

void run_open(run *r, seam_backend *backend) {
    *r = (run){.ops = seam_backend_ops(backend), .backend = backend};
    CHECK(r->ops->stream_create(&r->stream, backend) == SEAM_OK);
}

void run_close(run *r) {
    for (uint32_t i = 0; i < r->buffer_count; i++) {
        r->ops->mem_free(r->backend, r->buffer[i]);
    }
    for (uint32_t i = 0; i < r->out_count; i++) {
        seam_mem_free(r->out[i].x);
    }
    r->ops->stream_destroy(r->stream);
}

/* splitmix64 of (seed, idx), as a number in [-1, 1). */
static double unit(uint64_t seed, uint64_t idx) {
    uint64_t z = (seed << 40) + idx + 1;
    z *= UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1.0;
}

double input_value(uint32_t seed, size_t idx, double scale) {
    /* The sum of three uniforms: bell-shaped, standard deviation 1. */
    const uint64_t s = (uint64_t)seed * 3;
    const double x = unit(s, idx) + unit(s + 1, idx) + unit(s + 2, idx);
    return (double)seam_bf16_to_f32(seam_bf16_from_f32((float)(scale * x)));
}

double direction_value(uint32_t seed, size_t idx) {
    return unit((uint64_t)seed + 100000, idx);
}

static seam_dtype dtype_of(const run *r, kind type) {
    return type == ACT ? r->ops->act : type == ACC ? r->ops->acc : r->ops->qkv;
}

static void *upload(run *r, kind type, const double *host, size_t count) {
    void *f64 = NULL, *device = NULL;
    CHECK(r->buffer_count < BUFFERS_MAX);
    CHECK(r->ops->mem_alloc(&f64, r->backend, count * 8 + 8) == SEAM_OK);
    CHECK(r->ops->mem_alloc(&device, r->backend, count * 8 + 8) == SEAM_OK);
    CHECK(r->ops->copy_in(r->stream, f64, host, count * 8) == SEAM_OK);
    CHECK(r->ops->cast(r->stream, device, dtype_of(r, type), f64, SEAM_F64, count) == SEAM_OK);
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    r->ops->mem_free(r->backend, f64);
    r->buffer[r->buffer_count++] = device;
    return device;
}

void *run_input(run *r, uint32_t seed, kind type, size_t row0, size_t rows, size_t cols,
                double scale) {
    double *host = seam_mem_alloc(rows * cols * sizeof *host + 8);
    CHECK(host != NULL);
    for (size_t i = 0; i < rows * cols; i++) {
        const size_t idx = row0 * cols + i;
        host[i] = input_value(seed, idx, scale);
        if (r->nudge_seed == seed) {
            host[i] += r->nudge * direction_value(seed, idx);
        }
    }
    void *device = upload(r, type, host, rows * cols);
    seam_mem_free(host);
    return device;
}

void *run_const(run *r, kind type, size_t count, double constant) {
    double *host = seam_mem_alloc(count * sizeof *host + 8);
    CHECK(host != NULL);
    for (size_t i = 0; i < count; i++) {
        host[i] = constant;
    }
    void *device = upload(r, type, host, count);
    seam_mem_free(host);
    return device;
}

void run_output(run *r, const char *name, kind type, const void *device, size_t rows, size_t cols,
                size_t ld, uint32_t dy_seed, uint32_t grad_seed) {
    void *f64 = NULL;
    const size_t count = (rows - 1) * ld + cols;
    CHECK(r->out_count < OUTPUTS_MAX);
    CHECK(r->ops->mem_alloc(&f64, r->backend, count * 8) == SEAM_OK);
    CHECK(r->ops->cast(r->stream, f64, SEAM_F64, device, dtype_of(r, type), count) == SEAM_OK);
    double *host = seam_mem_alloc(count * sizeof *host);
    CHECK(host != NULL);
    CHECK(r->ops->copy_out(r->stream, host, f64, count * 8) == SEAM_OK);
    CHECK(r->ops->stream_sync(r->stream) == SEAM_OK);
    r->ops->mem_free(r->backend, f64);
    for (size_t i = 0; i < rows; i++) {
        memmove(host + i * cols, host + i * ld, cols * sizeof *host);
    }
    r->out[r->out_count++] = (output){.name = name,
                                      .x = host,
                                      .rows = rows,
                                      .cols = cols,
                                      .ld = ld,
                                      .dy_seed = dy_seed,
                                      .grad_seed = grad_seed};
}

double relative_error(const double *got, const double *want, size_t count) {
    double diff = 0.0, norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(want[i]) || isnan(got[i])) {
            if (!(isnan(want[i]) && isnan(got[i]))) {
                return INFINITY;
            }
            continue;
        }
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (diff == 0.0) {
        return 0.0;
    }
    return norm > 0.0 ? sqrt(diff / norm) : INFINITY;
}

/* Goal: a sticky error of a CUDA device is SEAM_E_DEVICE_LOST from the op that sees it on, and the
 * first one is kept with CUDA's text, file and line.
 * Method: a cast to an address that is nobody's, in a process of its own, as nothing works on the
 * device afterwards.  Between two types, so that a kernel does it: a plain copy to such an address
 * is refused before it reaches the device.  77 without a device. */
#include <stdio.h>
#include <string.h>

#include "ops.h"
#include "synthetic_model.h"
#include "try.h"

/* An address that the device has not given out. */
#define NOWHERE ((void *)(uintptr_t)4096)

int main(void) {
    seam_backend *backend = NULL;
    seam_stream *stream = NULL;
    void *memory = NULL;
    seam_error err = {0};
    const seam_backend_options options = {.device = "cuda:0", .act = SEAM_F32};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED) {
        (void)printf("skipped: %s\n", err.text);
        return 77;
    }
    seam_test_check(st, "backend", &err);
    const seam_ops *ops = seam_backend_ops(backend);
    seam_test_check(ops->stream_create(&stream, backend), "stream", NULL);
    seam_test_check(ops->mem_alloc(&memory, backend, 4096), "memory", NULL);
    seam_test_check(ops->cast(stream, memory, SEAM_F32, memory, SEAM_F32, 1024), "cast", NULL);
    seam_test_check(ops->stream_sync(stream), "sync", NULL);
    SEAM_ASSERT(strcmp(seam_backend_fault(backend), "") == 0);

    (void)ops->cast(stream, NOWHERE, SEAM_BF16, memory, SEAM_F32, 1024);
    SEAM_ASSERT(ops->stream_sync(stream) == SEAM_E_DEVICE_LOST);
    const char *fault = seam_backend_fault(backend);
    (void)printf("%s\n", fault);
    char first[SEAM_ERROR_TEXT_BYTES];
    (void)snprintf(first, sizeof first, "%s", fault);
    SEAM_ASSERT(strstr(fault, "kernels/cuda/cuda_backend.cu:") != NULL);
    SEAM_ASSERT(strstr(fault, "illegal memory access") != NULL);
    SEAM_ASSERT(strstr(fault, "cudaErrorIllegalAddress") != NULL);

    SEAM_ASSERT(ops->zero(stream, memory, 16) == SEAM_E_DEVICE_LOST);
    SEAM_ASSERT(ops->mem_alloc(&memory, backend, 16) == SEAM_E_DEVICE_LOST);
    SEAM_ASSERT(strcmp(seam_backend_fault(backend), first) == 0); /* the first, for ever */
    ops->stream_destroy(stream);
    seam_backend_destroy(backend);
    return 0;
}

/* Device discovery through the CUDA runtime.  cuBLASLt is created once so that a build links and
 * loads the library that the op table will use.  Read next: ../backend.c. */
#include "device_cuda.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

/* "cuda" is device 0. */
static int device_index(int *ret_index, const char *device) {
    char *end = NULL;
    if (strcmp(device, "cuda") == 0) {
        *ret_index = 0;
        return 1;
    }
    if (strncmp(device, "cuda:", 5) != 0 || device[5] < '0' || device[5] > '9') {
        return 0;
    }
    const long index = strtol(device + 5, &end, 10);
    *ret_index = (int)index;
    return *end == '\0' && index < 1024;
}

extern "C" seam_status seam_cuda_probe(const char *device, seam_error *err) {
    int index = 0;
    int count = 0;
    if (!device_index(&index, device)) {
        return seam_error_set(err, SEAM_E_ARG, "device %s: cuda:N with a number N", device);
    }
    const cudaError_t counted = cudaGetDeviceCount(&count);
    if (counted != cudaSuccess || index >= count) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "device %s: no such CUDA device (%d found; %s); use cpu", device,
                              counted == cudaSuccess ? count : 0, cudaGetErrorString(counted));
    }
    cudaDeviceProp properties;
    cublasLtHandle_t handle = NULL;
    const cudaError_t described = cudaGetDeviceProperties(&properties, index);
    const cublasStatus_t created = cublasLtCreate(&handle);
    if (created == CUBLAS_STATUS_SUCCESS) {
        cublasLtDestroy(handle);
    }
    return seam_error_set(
        err, SEAM_E_UNIMPLEMENTED,
        "device %s (%s, compute %d.%d, cuBLASLt %zu): this version has no CUDA op table; use cpu",
        device, described == cudaSuccess ? properties.name : cudaGetErrorString(described),
        described == cudaSuccess ? properties.major : 0,
        described == cudaSuccess ? properties.minor : 0,
        created == CUBLAS_STATUS_SUCCESS ? cublasLtGetVersion() : 0);
}

/* The backend picker and what is the same for all backends. */
#include "backend.h"

#include <string.h>

#include "products.h"
#include "try.h"

size_t seam_dtype_bytes(seam_dtype dtype) {
    switch (dtype) {
    case SEAM_F64:
        return 8;
    case SEAM_F32:
        return 4;
    case SEAM_BF16:
        return 2;
    }
    SEAM_ASSERT(!"a dtype of the enum");
    return 0;
}

size_t seam_raw_bytes(seam_raw_type type) {
    return type == SEAM_RAW_F32 ? 4 : 2;
}

static seam_status auto_create(seam_backend **ret_backend, const seam_backend_options *options,
                               seam_error *err) {
    seam_backend_options with = *options;
    with.device = "cuda:0";
    const seam_status st = seam_backend_create(ret_backend, &with, err);
    with.device = "cpu";
    return st == SEAM_E_UNIMPLEMENTED ? seam_cpu_create(ret_backend, &with, err) : st;
}

seam_status seam_backend_create(seam_backend **ret_backend, const seam_backend_options *options,
                                seam_error *err) {
    SEAM_ASSERT(ret_backend != NULL);
    SEAM_ASSERT(options != NULL);
    const char *device = options->device;
    if (device == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "device: none named (auto, cpu, cuda, ref)");
    }
    if (strcmp(device, "auto") == 0) {
        return auto_create(ret_backend, options, err);
    }
    if (strcmp(device, "ref") == 0) {
        return seam_ref_create(ret_backend, options, err);
    }
    if (strcmp(device, "cpu") == 0 || strncmp(device, "cpu:", 4) == 0) {
        return seam_cpu_create(ret_backend, options, err);
    }
    if (strcmp(device, "cuda") == 0 || strncmp(device, "cuda:", 5) == 0) {
#ifdef SEAM_CUDA
        return seam_cuda_create(ret_backend, options, err);
#else
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "device %s: this build has no CUDA",
                              device);
#endif
    }
    return seam_error_set(err, SEAM_E_ARG, "device %s: unknown (auto, cpu, cuda, ref)", device);
}

void seam_backend_destroy(seam_backend *gift_backend) {
    if (gift_backend != NULL) {
        gift_backend->destroy(gift_backend);
    }
}

const seam_ops *seam_backend_ops(const seam_backend *backend) {
    return &backend->ops;
}

const char *seam_backend_fault(const seam_backend *backend) {
    return backend->fault != NULL ? backend->fault() : "";
}

bool seam_backend_products(char *ret_text, size_t text_bytes, const seam_backend *backend) {
    if (backend->products != NULL) {
        backend->products(ret_text, text_bytes, backend);
    }
    return backend->products != NULL;
}

const char *seam_backend_describe(const seam_backend *backend) {
    return backend->describe;
}

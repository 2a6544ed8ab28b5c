/* What every backend shares: the head of its objects. Internal to kernels/.
 *
 * A backend embeds `seam_backend` (and its stream `seam_stream`) as the first member of its own
 * struct, so that a pointer to one is a pointer to the other. Read next: backend.c, the picker. */
#ifndef SEAM_BACKEND_H
#define SEAM_BACKEND_H

#include "ops.h"

#define SEAM_DESCRIBE_BYTES 128

struct seam_backend {
    seam_ops ops;
    char describe[SEAM_DESCRIBE_BYTES];
    void (*destroy)(seam_backend *gift_backend);
    const char *(*fault)(void); /* NULL: a device that does not fail */
    /* NULL: a device whose products have no algorithms to choose from */
    void (*products)(char *ret_text, size_t text_bytes, const seam_backend *backend);
};

struct seam_stream {
    seam_backend *backend; /* borrowed */
};

/* One a backend folder; called by the picker, which has checked the device's name.
 * SEAM_E_ARG for an act type or thread count that it cannot do, SEAM_E_MEMORY. */
seam_status seam_ref_create(seam_backend **ret_backend, const seam_backend_options *options,
                            seam_error *err);
seam_status seam_cpu_create(seam_backend **ret_backend, const seam_backend_options *options,
                            seam_error *err);
/* Of builds with CUDA.  Also SEAM_E_UNIMPLEMENTED: no such device on this machine. */
seam_status seam_cuda_create(seam_backend **ret_backend, const seam_backend_options *options,
                             seam_error *err);

#endif

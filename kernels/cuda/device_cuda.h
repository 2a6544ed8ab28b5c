/* What the picker (kernels/backend.c) asks of CUDA: is there a device?  The CUDA op table itself is
 * not part of this version; a build with SEAM_CUDA proves the toolchain and names the device. */
#ifndef SEAM_DEVICE_CUDA_H
#define SEAM_DEVICE_CUDA_H

#include "seam_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `device` is "cuda" or "cuda:N".  Always fails, and says which of these it was:
 * SEAM_E_ARG: N is no number.  SEAM_E_UNIMPLEMENTED: no such device on this machine, or it is there
 * and this version has no op table for it.  Any thread. */
seam_status seam_cuda_probe(const char *device, seam_error *err);

#ifdef __cplusplus
}
#endif
#endif

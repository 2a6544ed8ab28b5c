/* The largest stream message: one chunk and its wrapping.  gRPC answers RESOURCE_EXHAUSTED above
 * it. */
#ifndef SEAM_MESSAGE_LIMITS_H
#define SEAM_MESSAGE_LIMITS_H

#include "frame.h"

#define SEAM_MESSAGE_BYTES_MAX SEAM_REQUEST_BYTES_MAX

#endif

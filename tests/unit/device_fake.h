/* A codec table (device_codec.h) on a backend whose memory is the host's: kernels/codec's own
 * functions at once, so that what drives a device's codec is tested without a device. */
#ifndef SEAM_TEST_DEVICE_FAKE_H
#define SEAM_TEST_DEVICE_FAKE_H

#include "device_codec.h"

/* The backend has the table from now on (NULL: none again). */
void device_fake_put(seam_backend *backend, const seam_device_codec *codec);
extern const seam_device_codec device_fake;

#endif

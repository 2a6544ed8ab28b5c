/* What a device's matrix products run by, where its library has algorithms to choose from; apart
 * from the op table (ops.h), since only a log asks. */
#ifndef SEAM_PRODUCTS_H
#define SEAM_PRODUCTS_H

#include "ops.h"

/* Which algorithms the matrices made so far run by, as one line without quotes; false, and nothing
 * written: the device has none to choose from.  Any thread. */
bool seam_backend_products(char *ret_text, size_t text_bytes, const seam_backend *backend);

#endif

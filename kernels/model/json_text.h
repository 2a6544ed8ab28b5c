/* A JSON value as text in our own memory. */
#ifndef SEAM_JSON_TEXT_H
#define SEAM_JSON_TEXT_H

#include <jansson.h>

/* By jansson's `flags`, without a zero at the end; freed with seam_mem_free.  NULL, and *ret_bytes
 * 0: no memory, also where there is no root because there was none for it. */
char *seam_json_text(size_t *ret_bytes, const json_t *root, size_t flags);

#endif

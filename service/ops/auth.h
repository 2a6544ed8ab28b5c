/* Static bearer keys.  The file holds SHA-256 digests, never the keys: one a line in 64 hex
 * digits, blanks and # comments allowed.  Make one with
 *   printf %s "$KEY" | sha256sum */
#ifndef SEAM_AUTH_H
#define SEAM_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_AUTH_KEYS_MAX 1024

typedef struct seam_auth seam_auth;

/* path empty: everyone may call.  SEAM_E_IO, SEAM_E_FORMAT (file:line), SEAM_E_MEMORY. */
seam_status seam_auth_create(seam_auth **ret_auth, const char *path, seam_error *err);
void seam_auth_destroy(seam_auth *gift_auth);
/* value: of the "authorization" header, or NULL.  Constant time in the key.  Any thread.
 * SEAM_E_UNAUTHENTICATED. */
seam_status seam_auth_check(const seam_auth *auth, const void *value, size_t count,
                            seam_error *err);

/* Random bytes for secrets and ids (OpenSSL RAND).  SEAM_E_INTERNAL. */
seam_status seam_auth_random(uint8_t *ret, size_t count);
/* Constant-time comparison. */
bool seam_auth_equal(const uint8_t *a, const uint8_t *b, size_t count);

#endif

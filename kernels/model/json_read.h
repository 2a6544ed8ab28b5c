/* JSON of untrusted files, by jansson, with the caps that jansson does not have.
 *
 * Bytes over the cap, nesting deeper than SEAM_JSON_DEPTH_MAX, duplicate keys, NUL in strings
 * and text that is not UTF-8 are refused before or while parsing. */
#ifndef SEAM_JSON_READ_H
#define SEAM_JSON_READ_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_JSON_DEPTH_MAX 64

/* `name` is the file's name for the error text.  json_decref the result.
 * SEAM_E_FORMAT, SEAM_E_LIMIT (bytes_max). */
seam_status seam_json_parse(json_t **ret_json, const void *bytes, size_t count, size_t bytes_max,
                            const char *name, seam_error *err);
/* The same for a whole file that must hold one JSON object; also SEAM_E_NOT_FOUND, SEAM_E_IO. */
seam_status seam_json_read_file(json_t **ret_json, const char *path, size_t bytes_max,
                                seam_error *err);

#endif

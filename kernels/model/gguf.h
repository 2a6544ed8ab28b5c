/* The GGUF container, versions 2 and 3, little-endian: metadata and tensor directory.
 *
 * Parsing walks the whole header once and checks every count, length, type and offset against
 * the file, so that later access needs no checks.  Everything borrows the mapped bytes. */
#ifndef SEAM_GGUF_H
#define SEAM_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dequantize.h"
#include "seam_status.h"

#define SEAM_GGUF_KEYS_MAX 65536

typedef struct seam_gguf seam_gguf;

/* A string of the file: not zero-terminated. */
typedef struct seam_gguf_string {
    const char *text;
    uint64_t bytes;
} seam_gguf_string;

/* Values of the container's own type numbers. */
typedef enum seam_gguf_kind {
    SEAM_GGUF_U8 = 0,
    SEAM_GGUF_I8 = 1,
    SEAM_GGUF_U16 = 2,
    SEAM_GGUF_I16 = 3,
    SEAM_GGUF_U32 = 4,
    SEAM_GGUF_I32 = 5,
    SEAM_GGUF_F32 = 6,
    SEAM_GGUF_BOOL = 7,
    SEAM_GGUF_STRING = 8,
    SEAM_GGUF_ARRAY = 9,
    SEAM_GGUF_U64 = 10,
    SEAM_GGUF_I64 = 11,
    SEAM_GGUF_F64 = 12,
} seam_gguf_kind;

/* An array of scalars or strings; for strings, walk with seam_gguf_array_next. */
typedef struct seam_gguf_array {
    seam_gguf_kind kind; /* of the items */
    uint64_t count;
    const uint8_t *bytes; /* the next item */
} seam_gguf_array;

typedef struct seam_gguf_tensor {
    seam_gguf_string name;
    uint32_t dim_count; /* 1..4 */
    uint64_t dims[4];   /* fastest first: dims[0] = columns */
    uint32_t type_id;   /* as stored */
    seam_tensor_type type;
    const uint8_t *bytes; /* for OTHER types only the beginning is checked */
} seam_gguf_tensor;

/* SEAM_E_FORMAT, SEAM_E_LIMIT, SEAM_E_UNIMPLEMENTED (version, big-endian), SEAM_E_MEMORY.
 * `bytes` and `file` are borrowed until destroy. */
seam_status seam_gguf_create(seam_gguf **ret_gguf, const uint8_t *bytes, size_t count,
                             const char *file, seam_error *err);
void seam_gguf_destroy(seam_gguf *gift_gguf);
const char *seam_gguf_file(const seam_gguf *gguf);

/* Metadata by key.  SEAM_E_NOT_FOUND (absent) and SEAM_E_FORMAT (another type), both with text;
 * integers of every width are widened, a negative one is SEAM_E_FORMAT. */
bool seam_gguf_has(const seam_gguf *gguf, const char *key);
seam_status seam_gguf_get_u64(uint64_t *ret, const seam_gguf *gguf, const char *key,
                              seam_error *err);
seam_status seam_gguf_get_f64(double *ret, const seam_gguf *gguf, const char *key, seam_error *err);
seam_status seam_gguf_get_bool(bool *ret, const seam_gguf *gguf, const char *key, seam_error *err);
seam_status seam_gguf_get_string(seam_gguf_string *ret, const seam_gguf *gguf, const char *key,
                                 seam_error *err);
/* An array of exactly this kind of items. */
seam_status seam_gguf_get_array(seam_gguf_array *ret, const seam_gguf *gguf, const char *key,
                                seam_gguf_kind kind, seam_error *err);
/* Takes the next string of a string array; the caller counts to `count`. */
seam_gguf_string seam_gguf_array_next(seam_gguf_array *array);
/* Takes the next item of an array of 32-bit integers. */
uint32_t seam_gguf_array_u32(seam_gguf_array *array);
bool seam_gguf_string_is(seam_gguf_string string, const char *text);

size_t seam_gguf_tensor_count(const seam_gguf *gguf);
const seam_gguf_tensor *seam_gguf_tensor_at(const seam_gguf *gguf, size_t tensor_idx);

#endif

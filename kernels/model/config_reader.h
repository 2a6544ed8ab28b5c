/* Fields of a config.json, each error with the file's and the field's name; config_json.c and the
 * families read through it. */
#ifndef SEAM_CONFIG_READER_H
#define SEAM_CONFIG_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model_config.h"

typedef struct seam_config_reader {
    const json_t *root;
    const char *file;
    seam_error *err;
} seam_config_reader;

/* NULL for an absent field and for null. */
const json_t *seam_config_field(const seam_config_reader *r, const char *field);
/* SEAM_E_UNIMPLEMENTED; SEAM_E_FORMAT, "must be <want>". */
seam_status seam_config_refuse(const seam_config_reader *r, const char *field, const char *why);
seam_status seam_config_malformed(const seam_config_reader *r, const char *field, const char *want);

/* A positive integer; fallback 0: the field is required.  count: from 0, absent is the fallback. */
seam_status seam_config_u32(uint32_t *ret, const seam_config_reader *r, const char *field,
                            uint32_t fallback);
seam_status seam_config_count(uint32_t *ret, const seam_config_reader *r, const char *field,
                              uint32_t fallback);
seam_status seam_config_bool(bool *ret, const seam_config_reader *r, const char *field,
                             bool fallback);

/* Fields that must be absent, null, or equal to this JSON value, since the blocks compute nothing
 * else. */
typedef enum seam_config_value {
    SEAM_NEUTRAL_FALSE,
    SEAM_NEUTRAL_ONE,
    SEAM_NEUTRAL_ZERO,
    SEAM_NEUTRAL_SILU,
    SEAM_NEUTRAL_NULL,
} seam_config_value;
typedef struct seam_config_neutral {
    const char *field;
    seam_config_value value;
} seam_config_neutral;
bool seam_config_is_neutral(const json_t *value, seam_config_value neutral);
seam_status seam_config_check_neutral(const seam_config_reader *r, const seam_config_neutral *table,
                                      size_t count);
/* layer_types, where it is stated, must be what config's window and window_layers say. */
seam_status seam_config_check_layer_types(const seam_config_reader *r,
                                          const seam_model_config *config);

#endif

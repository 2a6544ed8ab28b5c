/* See config_reader.h. */
#include "config_reader.h"

#include <string.h>

#include "try.h"

const json_t *seam_config_field(const seam_config_reader *r, const char *field) {
    const json_t *value = json_object_get(r->root, field);
    return json_is_null(value) ? NULL : value;
}

seam_status seam_config_refuse(const seam_config_reader *r, const char *field, const char *why) {
    return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED, "%s: %s: %s", r->file, field, why);
}

seam_status seam_config_malformed(const seam_config_reader *r, const char *field,
                                  const char *want) {
    return seam_error_set(r->err, SEAM_E_FORMAT, "%s: %s: must be %s", r->file, field, want);
}

static bool is_u32(const json_t *value, json_int_t least) {
    return json_is_integer(value) && json_integer_value(value) >= least &&
           json_integer_value(value) <= UINT32_MAX;
}

seam_status seam_config_u32(uint32_t *ret, const seam_config_reader *r, const char *field,
                            uint32_t fallback) {
    const json_t *value = seam_config_field(r, field);
    if (value == NULL && fallback > 0) {
        *ret = fallback;
        return SEAM_OK;
    }
    if (!is_u32(value, 1)) {
        return seam_config_malformed(r, field, "a positive integer");
    }
    *ret = (uint32_t)json_integer_value(value);
    return SEAM_OK;
}

seam_status seam_config_count(uint32_t *ret, const seam_config_reader *r, const char *field,
                              uint32_t fallback) {
    const json_t *value = seam_config_field(r, field);
    if (value != NULL && !is_u32(value, 0)) {
        return seam_config_malformed(r, field, "an integer from 0");
    }
    *ret = value == NULL ? fallback : (uint32_t)json_integer_value(value);
    return SEAM_OK;
}

seam_status seam_config_bool(bool *ret, const seam_config_reader *r, const char *field,
                             bool fallback) {
    const json_t *value = seam_config_field(r, field);
    if (value != NULL && !json_is_boolean(value)) {
        return seam_config_malformed(r, field, "true or false");
    }
    *ret = value == NULL ? fallback : json_is_true(value);
    return SEAM_OK;
}

bool seam_config_is_neutral(const json_t *value, seam_config_value neutral) {
    switch (neutral) {
    case SEAM_NEUTRAL_FALSE:
        return json_is_false(value);
    case SEAM_NEUTRAL_ONE:
        return json_is_number(value) && json_number_value(value) == 1.0;
    case SEAM_NEUTRAL_ZERO:
        return json_is_number(value) && json_number_value(value) == 0.0;
    case SEAM_NEUTRAL_SILU:
        return json_is_string(value) && (strcmp(json_string_value(value), "silu") == 0 ||
                                         strcmp(json_string_value(value), "swish") == 0);
    case SEAM_NEUTRAL_NULL:
    default:
        return json_is_null(value);
    }
}

seam_status seam_config_check_neutral(const seam_config_reader *r, const seam_config_neutral *table,
                                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        const json_t *value = seam_config_field(r, table[i].field);
        if (value != NULL && !seam_config_is_neutral(value, table[i].value)) {
            return seam_config_refuse(r, table[i].field,
                                      "this value changes the math and is not supported");
        }
    }
    return SEAM_OK;
}

seam_status seam_config_check_layer_types(const seam_config_reader *r,
                                          const seam_model_config *config) {
    const json_t *types = seam_config_field(r, "layer_types");
    if (types != NULL && (!json_is_array(types) || json_array_size(types) != config->layers)) {
        return seam_config_malformed(r, "layer_types", "a list of one name a layer");
    }
    for (uint32_t i = 0; types != NULL && i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        const bool window = seam_model_config_window(config, i) != 0;
        if (type == NULL || strcmp(type, window ? "sliding_attention" : "full_attention") != 0) {
            return seam_config_refuse(
                r, "layer_types",
                "only full_attention is supported, and sliding_attention where "
                "use_sliding_window, sliding_window and max_window_layers say so");
        }
    }
    return SEAM_OK;
}

/* The forms of RoPE of transformers' modeling_rope_utils, as factors of the frequencies; see
 * config_rope.h.
 *
 *   linear    factor_i = factor                         Chen et al. 2023, arXiv:2306.15595
 *   llama3    by wavelength w_i = 2 pi theta^(2i/D) against the pretraining context L:
 *             1 where w_i < L/high, factor where w_i > L/low, and between them
 *             1 / ((1-s)/factor + s),  s = (L/w_i - low) / (high - low)
 *   longrope  short_factor_i, and long_factor_i for sequences that are longer than L; cosines and
 *             sines times attention_factor, by default sqrt(1 + ln(factor)/ln(L)), factor =
 * context/L
 *
 * An object of any form may also repeat rope_theta.  A key that its form does not have is refused.
 */
#include "config_rope.h"

#include <math.h>
#include <string.h>

#include "try.h"

/* The object that states the form, and what its errors name. */
typedef struct form {
    const seam_config_reader *r;
    const char *field; /* "rope_scaling" */
    const json_t *object;
    const seam_family *family;
} form;

static seam_status malformed(const form *f, const char *key, const char *want) {
    return seam_error_set(f->r->err, SEAM_E_FORMAT, "%s: %s.%s: must be %s", f->r->file, f->field,
                          key, want);
}

static const json_t *get(const form *f, const char *key) {
    const json_t *value = json_object_get(f->object, key);
    return json_is_null(value) ? NULL : value;
}

/* A number above 0; fallback 0: required. */
static seam_status number_read(double *ret, const form *f, const char *key, double fallback) {
    const json_t *value = get(f, key);
    if (value == NULL && fallback > 0.0) {
        *ret = fallback;
        return SEAM_OK;
    }
    if (!json_is_number(value) || !(json_number_value(value) > 0.0)) {
        return malformed(f, key, "a number above 0");
    }
    *ret = json_number_value(value);
    return SEAM_OK;
}

/* Every key but those of all forms must be of `keys` ("a b c"). */
static seam_status keys_check(const form *f, const char *const *keys, size_t count) {
    static const char *const common[] = {"rope_type", "type", "rope_theta",
                                         "partial_rotary_factor"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)f->object, key, value) {
        bool known = json_is_null(value);
        for (size_t i = 0; i < sizeof common / sizeof common[0]; i++) {
            known = known || strcmp(key, common[i]) == 0;
        }
        for (size_t i = 0; i < count; i++) {
            known = known || strcmp(key, keys[i]) == 0;
        }
        if (!known) {
            return seam_error_set(f->r->err, SEAM_E_UNIMPLEMENTED,
                                  "%s: %s.%.64s: this form of RoPE does not have it", f->r->file,
                                  f->field, key);
        }
    }
    const json_t *partial = get(f, "partial_rotary_factor");
    if (partial != NULL && !seam_config_is_neutral(partial, SEAM_NEUTRAL_ONE)) {
        return seam_error_set(f->r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: %s.partial_rotary_factor: rotating a part of each head is not "
                              "supported",
                              f->r->file, f->field);
    }
    return SEAM_OK;
}

/* The pretraining context.  A family that has it outside of the object goes by that one, as
 * transformers does, so that another one inside would be ignored there: refused here. */
static seam_status original_read(uint32_t *ret, const form *f, const seam_model_config *config) {
    static const char key[] = "original_max_position_embeddings";
    const json_t *inner = get(f, key);
    uint32_t outer = 0;
    const bool stated = f->family->original_context != 0 || seam_config_field(f->r, key) != NULL;
    if (stated) {
        SEAM_TRY(seam_config_u32(&outer, f->r, key, f->family->original_context));
    }
    if (inner != NULL && (!json_is_integer(inner) || json_integer_value(inner) < 2 ||
                          json_integer_value(inner) > UINT32_MAX)) {
        return malformed(f, key, "an integer above 1");
    }
    if (inner != NULL && stated && json_integer_value(inner) != outer) {
        return malformed(f, key, "in agreement with original_max_position_embeddings outside");
    }
    *ret = stated          ? outer
           : inner != NULL ? (uint32_t)json_integer_value(inner)
                           : config->context_max;
    return *ret > 1 ? SEAM_OK : malformed(f, key, "above 1");
}

static seam_status linear_read(seam_model_config *config, const form *f) {
    static const char *const keys[] = {"factor"};
    double factor = 1.0;
    SEAM_TRY(keys_check(f, keys, 1));
    SEAM_TRY(number_read(&factor, f, "factor", 0.0));
    config->rope.on = factor != 1.0;
    config->rope.attention_factor = 1.0;
    for (uint32_t i = 0; i < config->head_dim / 2; i++) {
        config->rope.factor[i] = factor;
    }
    return SEAM_OK;
}

static seam_status llama3_read(seam_model_config *config, const form *f) {
    static const char *const keys[] = {"factor", "low_freq_factor", "high_freq_factor",
                                       "original_max_position_embeddings"};
    double factor = 1.0, low = 1.0, high = 1.0;
    uint32_t original = 0;
    SEAM_TRY(keys_check(f, keys, sizeof keys / sizeof keys[0]));
    SEAM_TRY(number_read(&factor, f, "factor", 0.0));
    SEAM_TRY(number_read(&low, f, "low_freq_factor", 0.0));
    SEAM_TRY(number_read(&high, f, "high_freq_factor", 0.0));
    SEAM_TRY(original_read(&original, f, config));
    if (high <= low) {
        return malformed(f, "high_freq_factor", "above low_freq_factor");
    }
    config->rope.on = true;
    config->rope.attention_factor = 1.0;
    for (uint32_t i = 0; i < config->head_dim / 2; i++) {
        const double wavelength =
            2.0 * acos(-1.0) * pow(config->rope_theta, 2.0 * i / config->head_dim);
        const double smooth = (original / wavelength - low) / (high - low);
        config->rope.factor[i] = wavelength < original / high ? 1.0
                                 : wavelength > original / low
                                     ? factor
                                     : 1.0 / ((1.0 - smooth) / factor + smooth);
    }
    return SEAM_OK;
}

static seam_status list_read(double *ret, const form *f, const char *key, uint32_t count) {
    const json_t *list = get(f, key);
    bool good = json_is_array(list) && json_array_size(list) == count;
    for (uint32_t i = 0; good && i < count; i++) {
        const json_t *value = json_array_get(list, i);
        good = json_is_number(value) && json_number_value(value) > 0.0;
        ret[i] = json_number_value(value);
    }
    return good ? SEAM_OK : malformed(f, key, "a list of numbers above 0, one a pair of a head");
}

static seam_status longrope_read(seam_model_config *config, const form *f) {
    static const char *const keys[] = {"factor", "attention_factor", "short_factor", "long_factor",
                                       "original_max_position_embeddings"};
    const uint32_t pairs = config->head_dim / 2;
    seam_rope_scaling *rope = &config->rope;
    uint32_t original = 0;
    double factor = 1.0;
    SEAM_TRY(keys_check(f, keys, sizeof keys / sizeof keys[0]));
    SEAM_TRY(original_read(&original, f, config));
    SEAM_TRY(list_read(rope->factor, f, "short_factor", pairs));
    SEAM_TRY(list_read(rope->long_factor, f, "long_factor", pairs));
    SEAM_TRY(number_read(&factor, f, "factor", (double)config->context_max / original));
    const double usual = factor <= 1.0 ? 1.0 : sqrt(1.0 + log(factor) / log((double)original));
    SEAM_TRY(number_read(&rope->attention_factor, f, "attention_factor", usual));
    rope->on = true;
    rope->long_from = original < config->context_max ? original : 0;
    return SEAM_OK;
}

static seam_status default_read(seam_model_config *config, const form *f) {
    static const char *const keys[] = {"factor", "original_max_position_embeddings"};
    const json_t *factor = get(f, "factor");
    (void)config;
    SEAM_TRY(keys_check(f, keys, sizeof keys / sizeof keys[0]));
    if (factor != NULL && !seam_config_is_neutral(factor, SEAM_NEUTRAL_ONE)) {
        return seam_config_refuse(f->r, f->field, "a factor, but no rope_type");
    }
    return SEAM_OK;
}

static seam_status form_read(seam_model_config *config, const form *f) {
    static const struct {
        const char *name;
        uint32_t bit; /* of family.h; 0: every family has it */
        seam_status (*read)(seam_model_config *config, const form *f);
    } forms[] = {
        {"default", 0, default_read},
        {"none", 0, default_read},
        {"linear", SEAM_ROPE_LINEAR, linear_read},
        {"llama3", SEAM_ROPE_LLAMA3, llama3_read},
        {"longrope", SEAM_ROPE_LONGROPE, longrope_read},
        {"su", SEAM_ROPE_LONGROPE, longrope_read}, /* its first name */
    };
    const json_t *type = get(f, "rope_type") != NULL ? get(f, "rope_type") : get(f, "type");
    const char *name = type == NULL ? "default" : json_string_value(type);
    for (size_t i = 0; name != NULL && i < sizeof forms / sizeof forms[0]; i++) {
        if (strcmp(name, forms[i].name) == 0 &&
            (forms[i].bit == 0 || (f->family->rope_forms & forms[i].bit) != 0)) {
            return forms[i].read(config, f);
        }
    }
    return seam_error_set(f->r->err, SEAM_E_UNIMPLEMENTED,
                          "%s: %s.rope_type: %.32s is not supported in %s models", f->r->file,
                          f->field, name != NULL ? name : "(not a string)", f->family->name);
}

static seam_status theta_read(seam_model_config *config, const seam_config_reader *r,
                              const form *f) {
    const json_t *outer = seam_config_field(r, "rope_theta");
    const json_t *inner = f->object != NULL ? get(f, "rope_theta") : NULL;
    if (inner != NULL && !json_is_number(inner)) {
        return malformed(f, "rope_theta", "a number");
    }
    if (outer != NULL && !json_is_number(outer)) {
        return seam_config_malformed(r, "rope_theta", "a number");
    }
    if (inner != NULL && outer != NULL && json_number_value(inner) != json_number_value(outer)) {
        return malformed(f, "rope_theta", "in agreement with rope_theta outside");
    }
    const json_t *theta = inner != NULL ? inner : outer;
    config->rope_theta = theta == NULL ? 10000.0 : json_number_value(theta);
    return SEAM_OK;
}

seam_status seam_config_read_rope(seam_model_config *config, const seam_config_reader *r,
                                  const seam_family *family) {
    SEAM_ASSERT(config->head_dim <= SEAM_HEAD_DIM_MAX); /* config_json.c has looked */
    const json_t *scaling = seam_config_field(r, "rope_scaling");
    const json_t *parameters = seam_config_field(r, "rope_parameters");
    const form f = {.r = r,
                    .field = scaling != NULL ? "rope_scaling" : "rope_parameters",
                    .object = scaling != NULL ? scaling : parameters,
                    .family = family};
    if (scaling != NULL && parameters != NULL && !json_equal(scaling, parameters)) {
        return seam_config_malformed(r, "rope_parameters", "equal to rope_scaling, or absent");
    }
    if (f.object != NULL && !json_is_object(f.object)) {
        return seam_config_malformed(r, f.field, "an object");
    }
    SEAM_TRY(theta_read(config, r, &f));
    return f.object == NULL ? SEAM_OK : form_read(config, &f);
}

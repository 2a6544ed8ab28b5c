/* See gguf_rope.h.  llama.cpp's converter writes
 *
 *   linear    <arch>.rope.scaling.type = "linear" and .factor
 *   llama3    rope_freqs.weight (D/2), the factors themselves; no key
 *   longrope  rope_factors_short.weight, rope_factors_long.weight (D/2 each),
 *             <arch>.rope.scaling.original_context_length and .attn_factor */
#include "gguf_rope.h"

#include <stdio.h>
#include <string.h>

#include "try.h"

#define KEY_BYTES 96

static const char *const tensors[] = {"rope_freqs.weight", "rope_factors_short.weight",
                                      "rope_factors_long.weight"};

typedef struct reader {
    const seam_gguf *gguf;
    const seam_family *family;
    seam_error *err;
} reader;

bool seam_gguf_is_rope_tensor(const seam_gguf_tensor *tensor) {
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        if (seam_gguf_string_is(tensor->name, tensors[i])) {
            return true;
        }
    }
    return false;
}

static void key_make(char ret[KEY_BYTES], const reader *r, const char *rest) {
    (void)snprintf(ret, KEY_BYTES, "%s.rope.%s", r->family->name, rest);
}

static seam_status number_read(double *ret, const reader *r, const char *rest, double fallback) {
    char key[KEY_BYTES];
    key_make(key, r, rest);
    *ret = fallback;
    return seam_gguf_has(r->gguf, key) ? seam_gguf_get_f64(ret, r->gguf, key, r->err) : SEAM_OK;
}

static seam_status refuse(const reader *r, const char *rest) {
    char key[KEY_BYTES];
    key_make(key, r, rest);
    return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                          "%s: key %s: this value changes the math and is not supported",
                          seam_gguf_file(r->gguf), key);
}

/* *ret_found: the tensor is there; its `count` values are in ret then. */
static seam_status factors_read(bool *ret_found, double *ret, const reader *r, const char *name,
                                uint32_t count) {
    const seam_gguf_tensor *t = NULL;
    float values[SEAM_ROPE_PAIRS_MAX];
    for (size_t i = 0; t == NULL && i < seam_gguf_tensor_count(r->gguf); i++) {
        const seam_gguf_tensor *at = seam_gguf_tensor_at(r->gguf, i);
        t = seam_gguf_string_is(at->name, name) ? at : NULL;
    }
    *ret_found = t != NULL;
    if (t == NULL) {
        return SEAM_OK;
    }
    if (t->type != SEAM_TENSOR_F32 || t->dims[0] != count || t->dims[1] != 1 || t->dims[2] != 1 ||
        t->dims[3] != 1) {
        return seam_error_set(r->err, SEAM_E_FORMAT,
                              "%s: tensor %s must be F32, one value a pair of a head",
                              seam_gguf_file(r->gguf), name);
    }
    seam_dequantize(values, t->type, t->bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        ret[i] = (double)values[i];
    }
    return SEAM_OK;
}

/* The key's form: none or linear; those of the tensors have no key, or "longrope". */
static seam_status type_read(bool *ret_linear, const reader *r, bool longrope) {
    char key[KEY_BYTES];
    seam_gguf_string type;
    key_make(key, r, "scaling.type");
    *ret_linear = false;
    if (!seam_gguf_has(r->gguf, key)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_gguf_get_string(&type, r->gguf, key, r->err));
    *ret_linear = seam_gguf_string_is(type, "linear");
    const bool known = seam_gguf_string_is(type, "none") ||
                       (*ret_linear && (r->family->rope_forms & SEAM_ROPE_LINEAR) != 0) ||
                       (longrope && seam_gguf_string_is(type, "longrope"));
    return known ? SEAM_OK : refuse(r, "scaling.type");
}

static seam_status longrope_read(seam_model_config *config, const reader *r) {
    double original = 0.0;
    SEAM_TRY(number_read(&config->rope.attention_factor, r, "scaling.attn_factor", 1.0));
    char key[KEY_BYTES];
    uint64_t stated = 0;
    key_make(key, r, "scaling.original_context_length");
    SEAM_TRY(seam_gguf_get_u64(&stated, r->gguf, key, r->err));
    original = (double)stated;
    if (original < 2.0 || original > (double)UINT32_MAX) {
        return seam_error_set(r->err, SEAM_E_ARG, "%s: key %s is out of range",
                              seam_gguf_file(r->gguf), key);
    }
    config->rope.long_from = original < config->context_max ? (uint32_t)stated : 0;
    return SEAM_OK;
}

seam_status seam_gguf_read_rope(seam_model_config *config, const seam_gguf *gguf,
                                const seam_family *family, seam_error *err) {
    const reader r = {.gguf = gguf, .family = family, .err = err};
    const uint32_t pairs = config->head_dim / 2;
    seam_rope_scaling *rope = &config->rope;
    bool freqs = false, shorts = false, longs = false, linear = false;
    double factor = 1.0, older = 1.0;
    SEAM_ASSERT(config->head_dim <= SEAM_HEAD_DIM_MAX);
    SEAM_TRY(number_read(&config->rope_theta, &r, "freq_base", 10000.0));
    SEAM_TRY(factors_read(&shorts, rope->factor, &r, tensors[1], pairs));
    SEAM_TRY(factors_read(&longs, rope->long_factor, &r, tensors[2], pairs));
    SEAM_TRY(factors_read(&freqs, rope->factor, &r, tensors[0], pairs));
    SEAM_TRY(type_read(&linear, &r, shorts));
    SEAM_TRY(number_read(&factor, &r, "scaling.factor", 1.0));
    SEAM_TRY(number_read(&older, &r, "scale_linear", 1.0));
    const uint32_t form = freqs ? SEAM_ROPE_LLAMA3 : shorts || longs ? SEAM_ROPE_LONGROPE : 0;
    if (shorts != longs || (freqs && shorts) || (family->rope_forms & form) != form) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "%s: tensors rope_freqs, rope_factors_short, rope_factors_long: not "
                              "those of a %s model",
                              seam_gguf_file(gguf), family->name);
    }
    if (older != 1.0 || (factor != 1.0 && (!linear || form != 0))) {
        return refuse(&r, older != 1.0 ? "scale_linear" : "scaling.factor");
    }
    rope->on = form != 0 || factor != 1.0;
    rope->attention_factor = rope->on ? 1.0 : 0.0;
    for (uint32_t i = 0; form == 0 && rope->on && i < pairs; i++) {
        rope->factor[i] = factor;
    }
    return shorts ? longrope_read(config, &r) : SEAM_OK;
}

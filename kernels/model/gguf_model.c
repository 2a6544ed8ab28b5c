/* Names and keys of llama.cpp's architectures -> Hugging Face; see gguf_model.h.
 *
 * Rows of q and k: in the llama architecture llama.cpp's converter stores them so that RoPE pairs
 * adjacent elements. Row 2j + p of a head there is row j + p D/2 in Hugging Face order (j < D/2, p
 * in 0..1); the index entry carries D and weights.c reads the rows through that map. */
#include "gguf_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "family.h"
#include "gguf_rope.h"
#include "try.h"

#define KEY_BYTES 96

typedef struct reader {
    const seam_gguf *gguf;
    const seam_family *family;
    seam_error *err;
} reader;

/* fallback 0: the key is required.  A key is without the architecture before it. */
static seam_status u32_get(uint32_t *ret, const reader *r, const char *rest, uint32_t fallback) {
    char key[KEY_BYTES];
    (void)snprintf(key, sizeof key, "%s.%s", r->family->name, rest);
    uint64_t value = fallback;
    if (fallback == 0 || seam_gguf_has(r->gguf, key)) {
        SEAM_TRY(seam_gguf_get_u64(&value, r->gguf, key, r->err));
    }
    if (value > UINT32_MAX) {
        return seam_error_set(r->err, SEAM_E_ARG, "%s: key %s is too large",
                              seam_gguf_file(r->gguf), key);
    }
    *ret = (uint32_t)value;
    return SEAM_OK;
}

static seam_status unsupported(const seam_gguf *gguf, const char *key, seam_error *err) {
    return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                          "%s: key %s: this value changes the math and is not supported",
                          seam_gguf_file(gguf), key);
}

seam_status seam_gguf_check_zero(const seam_gguf *gguf, const char *key, seam_error *err) {
    uint64_t found = 0;
    if (seam_gguf_has(gguf, key)) {
        SEAM_TRY(seam_gguf_get_u64(&found, gguf, key, err));
    }
    return found == 0 ? SEAM_OK : unsupported(gguf, key, err);
}

/* Keys that only have neutral values in every family. */
static seam_status neutral_check(const reader *r) {
    static const char *const ONE[] = {"embedding_scale", "residual_scale", "logit_scale",
                                      "attention.scale"};
    char key[KEY_BYTES];
    (void)snprintf(key, sizeof key, "%s.expert_count", r->family->name);
    SEAM_TRY(seam_gguf_check_zero(r->gguf, key, r->err));
    for (size_t i = 0; i < sizeof ONE / sizeof ONE[0]; i++) {
        double found = 1.0;
        (void)snprintf(key, sizeof key, "%s.%s", r->family->name, ONE[i]);
        if (seam_gguf_has(r->gguf, key)) {
            SEAM_TRY(seam_gguf_get_f64(&found, r->gguf, key, r->err));
        }
        if (found != 1.0) {
            return unsupported(r->gguf, key, r->err);
        }
    }
    uint64_t splits = 1;
    if (seam_gguf_has(r->gguf, "split.count")) {
        SEAM_TRY(seam_gguf_get_u64(&splits, r->gguf, "split.count", r->err));
    }
    return splits > 1 ? unsupported(r->gguf, "split.count", r->err) : SEAM_OK;
}

/* An optional token id of the tokenizer section; -1 when absent. */
static seam_status id_get(int64_t *ret, const reader *r, const char *key) {
    *ret = -1;
    if (seam_gguf_has(r->gguf, key)) {
        uint64_t id = 0;
        SEAM_TRY(seam_gguf_get_u64(&id, r->gguf, key, r->err));
        if (id > UINT32_MAX) {
            return seam_error_set(r->err, SEAM_E_ARG, "%s: key %s is too large",
                                  seam_gguf_file(r->gguf), key);
        }
        *ret = (int64_t)id;
    }
    return SEAM_OK;
}

static seam_status head_dim_read(seam_model_config *c, const reader *r) {
    uint32_t rope = 0;
    uint32_t value = 0;
    uint32_t stated = 0;
    SEAM_TRY(u32_get(&stated, r, "attention.key_length", UINT32_MAX));
    if (c->heads == 0 || (stated == UINT32_MAX && c->hidden % c->heads != 0)) {
        return seam_error_set(r->err, SEAM_E_ARG, "%s: %s.attention.head_count is invalid",
                              seam_gguf_file(r->gguf), r->family->name);
    }
    c->head_dim = stated != UINT32_MAX ? stated : c->hidden >= c->heads ? c->hidden / c->heads : 1;
    const uint32_t head_dim = c->head_dim > 0 ? c->head_dim : 1;
    SEAM_TRY(u32_get(&value, r, "attention.value_length", head_dim));
    SEAM_TRY(u32_get(&rope, r, "rope.dimension_count", head_dim));
    if (value != c->head_dim || rope != c->head_dim) {
        return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: key %s.%s: heads of another size, or rotated in part, are not "
                              "supported",
                              seam_gguf_file(r->gguf), r->family->name,
                              value != c->head_dim ? "attention.value_length"
                                                   : "rope.dimension_count");
    }
    if (c->head_dim > SEAM_HEAD_DIM_MAX) {
        return seam_error_set(r->err, SEAM_E_ARG, "%s: heads of %u are above %d",
                              seam_gguf_file(r->gguf), c->head_dim, SEAM_HEAD_DIM_MAX);
    }
    return SEAM_OK;
}

static seam_status vocab_read(seam_model_config *c, const seam_gguf *gguf, seam_error *err) {
    for (size_t i = 0; i < seam_gguf_tensor_count(gguf); i++) {
        const seam_gguf_tensor *t = seam_gguf_tensor_at(gguf, i);
        if (seam_gguf_string_is(t->name, seam_family_globals[SEAM_GLOBAL_EMBEDDING].gguf) &&
            t->dims[1] <= UINT32_MAX) {
            c->vocab_count = (uint32_t)t->dims[1];
        }
        if (seam_gguf_string_is(t->name, seam_family_globals[SEAM_GLOBAL_HEAD].gguf)) {
            c->tied = false;
        }
    }
    if (c->vocab_count == 0) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%s: tensor %s is missing",
                              seam_gguf_file(gguf),
                              seam_family_globals[SEAM_GLOBAL_EMBEDDING].gguf);
    }
    return SEAM_OK;
}

static seam_status family_read(const seam_family **ret_family, const seam_gguf *gguf,
                               seam_error *err) {
    seam_gguf_string text;
    char name[65];
    SEAM_TRY(seam_gguf_get_string(&text, gguf, "general.architecture", err));
    (void)snprintf(name, sizeof name, "%.*s", (int)(text.bytes < 64 ? text.bytes : 64), text.text);
    *ret_family = seam_family_find(name);
    if (*ret_family == NULL) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "%s: architecture %s is not supported",
                              seam_gguf_file(gguf), name);
    }
    return SEAM_OK;
}

static seam_status config_read(seam_model_config *c, const reader *r) {
    const seam_gguf *gguf = r->gguf;
    char eps_key[KEY_BYTES];
    double eps = 0.0;
    (void)strncpy(c->architecture, r->family->name, sizeof c->architecture - 1);
    SEAM_TRY(neutral_check(r));
    SEAM_TRY(u32_get(&c->layers, r, "block_count", 0));
    SEAM_TRY(u32_get(&c->context_max, r, "context_length", 0));
    SEAM_TRY(u32_get(&c->hidden, r, "embedding_length", 0));
    SEAM_TRY(u32_get(&c->intermediate, r, "feed_forward_length", 0));
    SEAM_TRY(u32_get(&c->heads, r, "attention.head_count", 0));
    SEAM_TRY(u32_get(&c->kv_heads, r, "attention.head_count_kv", c->heads > 0 ? c->heads : 1));
    SEAM_TRY(head_dim_read(c, r));
    (void)snprintf(eps_key, sizeof eps_key, "%s.attention.layer_norm_rms_epsilon", r->family->name);
    SEAM_TRY(seam_gguf_get_f64(&eps, gguf, eps_key, r->err));
    c->rms_eps = (float)eps;
    SEAM_TRY(seam_gguf_read_rope(c, gguf, r->family, r->err));
    SEAM_TRY(r->family->read_gguf(c, gguf, r->err));
    SEAM_TRY(vocab_read(c, gguf, r->err));
    SEAM_TRY(id_get(&c->bos_id, r, "tokenizer.ggml.bos_token_id"));
    SEAM_TRY(id_get(&c->eos_id, r, "tokenizer.ggml.eos_token_id"));
    if (c->eos_id >= 0) {
        c->eos_count = 1;
        c->eos_ids[0] = (uint32_t)c->eos_id;
    }
    const seam_status st = seam_model_config_check(c, r->err);
    return st == SEAM_OK ? st : seam_error_prefix(r->err, st, "%s", seam_gguf_file(gguf));
}

/* "blk.<layer>.<rest>": the layer number in plain decimal, and the rest; false if it is not. */
static bool layer_split(unsigned *ret_layer, const char **ret_rest, const char *name) {
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9') {
        return false;
    }
    char *end;
    const unsigned long layer = strtoul(name + 4, &end, 10);
    if (layer >= SEAM_LAYERS_MAX || *end != '.' || (name[4] == '0' && end != name + 5)) {
        return false;
    }
    *ret_layer = (unsigned)layer;
    *ret_rest = end + 1;
    return true;
}

/* Writes the Hugging Face name; false for a name that the architecture does not have. */
static bool name_map(seam_tensor_entry *entry, const char *name, const seam_model_config *config,
                     const seam_family *family) {
    for (size_t i = 0; i < seam_family_global_count; i++) {
        if (strcmp(name, seam_family_globals[i].gguf) == 0) {
            (void)snprintf(entry->name, sizeof(entry->name), "%s", seam_family_globals[i].hf);
            return true;
        }
    }
    unsigned layer;
    const char *rest;
    if (!layer_split(&layer, &rest, name)) {
        return false;
    }
    for (size_t i = 0; i < family->layer_count; i++) {
        if (strcmp(rest, family->layer[i].gguf) == 0) {
            (void)snprintf(entry->name, sizeof(entry->name), "model.layers.%u.%s", layer,
                           family->layer[i].hf);
            entry->unpermute_head_dim = family->layer[i].gguf_permuted ? config->head_dim : 0;
            return true;
        }
    }
    return false;
}

static seam_status tensor_add(seam_tensor_index *index, const seam_gguf_tensor *t,
                              const seam_model_config *config, const reader *r) {
    char name[SEAM_NAME_BYTES];
    const char *file = seam_gguf_file(r->gguf);
    seam_tensor_entry entry = {.file = file, .type = t->type, .bytes = t->bytes};
    (void)snprintf(name, sizeof(name), "%.*s", (int)t->name.bytes, t->name.text);
    if (!name_map(&entry, name, config, r->family)) {
        return seam_error_set(r->err, SEAM_E_UNIMPLEMENTED,
                              "%s: tensor %s is not part of the plain %s architecture", file, name,
                              r->family->name);
    }
    (void)snprintf(entry.type_name, sizeof(entry.type_name), "type %u", t->type_id);
    if (t->dim_count > 2 && (t->dims[2] != 1 || t->dims[3] != 1)) {
        return seam_error_set(r->err, SEAM_E_FORMAT, "%s: tensor %s has more than two dimensions",
                              file, name);
    }
    entry.rows = t->dims[1];
    entry.cols = t->dims[0];
    return seam_tensor_index_add(index, &entry, r->err);
}

seam_status seam_gguf_model_read(seam_model_config *ret_config, seam_tensor_index *index,
                                 const seam_gguf *gguf, seam_error *err) {
    seam_model_config config = {.tied = true, .bos_id = -1, .eos_id = -1};
    reader r = {.gguf = gguf, .err = err};
    SEAM_TRY(family_read(&r.family, gguf, err));
    SEAM_TRY(config_read(&config, &r));
    for (size_t i = 0; i < seam_gguf_tensor_count(gguf); i++) {
        const seam_gguf_tensor *t = seam_gguf_tensor_at(gguf, i);
        if (!seam_gguf_is_rope_tensor(t)) {
            SEAM_TRY(tensor_add(index, t, &config, &r));
        }
    }
    *ret_config = config;
    return SEAM_OK;
}

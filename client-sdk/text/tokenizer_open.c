/* Which files hold a tokenizer, and what stands beside them; see seam_tokenizer_open. */
#include <jansson.h>
#include <string.h>

#include "arena.h"
#include "file_map.h"
#include "gguf.h"
#include "json_read.h"
#include "tokenizer_build.h"
#include "tokenizer_files.h"
#include "try.h"

#define CONFIG_JSON_MAX (16 << 20)

static seam_status no_memory(const char *path, seam_error *err) {
    return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
}

static seam_status gguf_file_open(seam_tokenizer **ret, const char *path, seam_error *err) {
    seam_file_map map;
    seam_gguf *gguf = NULL;
    SEAM_TRY(seam_file_map_open(&map, path, err));
    seam_status st = seam_gguf_create(&gguf, map.bytes, map.count, path, err);
    if (st == SEAM_OK) {
        st = seam_tokenizer_from_gguf(ret, gguf, err);
    }
    seam_gguf_destroy(gguf);
    seam_file_map_close(&map);
    return st;
}

static seam_status json_file_open(seam_tokenizer **ret, const char *path, seam_error *err) {
    seam_file_map map;
    SEAM_TRY(seam_file_map_open(&map, path, err));
    const seam_status st = seam_tokenizer_from_json(ret, map.bytes, map.count, path, err);
    seam_file_map_close(&map);
    return st;
}

/* JSON object of `name` in `dir`; *ret_json stays NULL when there is no such file. */
static seam_status optional_json(json_t **ret_json, const char *dir, const char *name,
                                 seam_error *err) {
    char *path = seam_path_join(dir, name);
    if (path == NULL) {
        return no_memory(dir, err);
    }
    const seam_status st = seam_path_is_file(path)
                               ? seam_json_read_file(ret_json, path, CONFIG_JSON_MAX, err)
                               : SEAM_OK;
    seam_mem_free(path);
    return st;
}

/* The id of a token that a config names, as text or as {"content": text}. */
static int64_t named_token(const seam_tokenizer *t, const json_t *value) {
    const char *text = json_is_object(value) ? json_string_value(json_object_get(value, "content"))
                                             : json_string_value(value);
    uint32_t id = SEAM_NO_TOKEN;
    if (text != NULL && !seam_tokenizer_find_added(&id, t, text)) {
        id = seam_bpe_find(&t->bpe, text, strlen(text));
    }
    return id == SEAM_NO_TOKEN ? -1 : (int64_t)id;
}

/* An id, or the first of a list. */
static int64_t stated_id(const seam_tokenizer *t, const json_t *value) {
    const json_t *id = json_is_array(value) ? json_array_get(value, 0) : value;
    const bool ok = json_is_integer(id) && json_integer_value(id) >= 0 &&
                    (size_t)json_integer_value(id) < t->bpe.token_count;
    return ok ? json_integer_value(id) : -1;
}

/* A string, or the entry "default" of a list of {name, template}. */
static const char *template_text(const json_t *value) {
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, "default") == 0) {
            return json_string_value(json_object_get(item, "template"));
        }
    }
    return json_string_value(value);
}

static seam_status template_file_read(seam_tokenizer *t, const char *dir, seam_error *err) {
    char *path = seam_path_join(dir, "chat_template.jinja");
    seam_file_map map;
    if (path == NULL) {
        return no_memory(dir, err);
    }
    seam_status st = SEAM_OK;
    if (seam_path_is_file(path)) {
        st = seam_file_map_open(&map, path, err);
        if (st == SEAM_OK) {
            if (map.count > 0 && seam_tokenizer_set_chat_template(t, (const char *)map.bytes,
                                                                  map.count) != SEAM_OK) {
                st = no_memory(path, err);
            }
            seam_file_map_close(&map);
        }
    }
    seam_mem_free(path);
    return st;
}

/* End and begin tokens and the template, from the files beside the vocabulary. */
static seam_status settings_read(seam_tokenizer *t, const char *dir, seam_error *err) {
    json_t *settings = NULL;
    json_t *model = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(optional_json(&settings, dir, "tokenizer_config.json", err), st, done);
    SEAM_TRY_GOTO(optional_json(&model, dir, "config.json", err), st, done);
    const int64_t eos = named_token(t, json_object_get(settings, "eos_token"));
    const int64_t bos = named_token(t, json_object_get(settings, "bos_token"));
    const int64_t model_eos = stated_id(t, json_object_get(model, "eos_token_id"));
    const int64_t model_bos = stated_id(t, json_object_get(model, "bos_token_id"));
    t->eos_id = eos >= 0 ? eos : model_eos >= 0 ? model_eos : t->eos_id;
    t->bos_id = bos >= 0 ? bos : model_bos >= 0 ? model_bos : t->bos_id;
    const char *text = template_text(json_object_get(settings, "chat_template"));
    if (text != NULL && seam_tokenizer_set_chat_template(t, text, strlen(text)) != SEAM_OK) {
        st = no_memory(dir, err);
        goto done;
    }
    st = template_file_read(t, dir, err);
done:
    json_decref(settings);
    json_decref(model);
    return st;
}

typedef struct paths {
    char *json, *vocab, *merges;
} paths;

static seam_status directory_read(seam_tokenizer **ret, const paths *p, const char *dir,
                                  seam_error *err) {
    seam_tokenizer *t = NULL;
    if (p->json == NULL || p->vocab == NULL || p->merges == NULL) {
        return no_memory(dir, err);
    }
    if (seam_path_is_file(p->json)) {
        SEAM_TRY(json_file_open(&t, p->json, err));
    } else if (seam_path_is_file(p->vocab)) {
        SEAM_TRY(seam_tokenizer_from_vocab(&t, p->vocab, p->merges, err));
    } else {
        char *gguf = NULL;
        const seam_status found = seam_only_file(&gguf, dir, ".gguf", err);
        if (found != SEAM_OK) {
            return seam_error_prefix(err, found, "no tokenizer.json, no vocab.json");
        }
        const seam_status st = gguf_file_open(ret, gguf, err);
        seam_mem_free(gguf);
        return st;
    }
    const seam_status st = settings_read(t, dir, err);
    if (st != SEAM_OK) {
        seam_tokenizer_close(t);
        return st;
    }
    *ret = t;
    return SEAM_OK;
}

seam_status seam_tokenizer_open(seam_tokenizer **ret_tokenizer, const char *path, seam_error *err) {
    if (seam_path_is_dir(path)) {
        const paths p = {seam_path_join(path, "tokenizer.json"), seam_path_join(path, "vocab.json"),
                         seam_path_join(path, "merges.txt")};
        const seam_status st = directory_read(ret_tokenizer, &p, path, err);
        seam_mem_free(p.json);
        seam_mem_free(p.vocab);
        seam_mem_free(p.merges);
        return st;
    }
    const size_t count = strlen(path);
    if (count > 5 && strcmp(path + count - 5, ".gguf") == 0) {
        return gguf_file_open(ret_tokenizer, path, err);
    }
    const seam_status st = json_file_open(ret_tokenizer, path, err);
    return st == SEAM_E_FORMAT
               ? seam_error_prefix(err, st, "no folder, no .gguf, no tokenizer.json")
               : st;
}

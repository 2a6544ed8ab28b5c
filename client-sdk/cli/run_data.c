/* See run_data.h. */
#include "run_data.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "file_map.h"
#include "run_files.h"
#include "try.h"

#define FILE_NAME "data.json"

seam_status seam_run_tokens_limit(uint32_t *ret_limit, const seam_model_config *model,
                                  uint32_t prefix_tokens, seam_error *err) {
    const char *field = NULL;
    const uint32_t room = seam_model_config_prefix_room(&field, model);
    if (prefix_tokens != 0 && prefix_tokens >= room) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--prefix-tokens: %u leave none of the model's %s, %u", prefix_tokens,
                              field, room);
    }
    const uint32_t positions = seam_model_config_positions(model, prefix_tokens);
    *ret_limit = positions < model->context_max ? positions + 1 : model->context_max;
    return SEAM_OK;
}

seam_data_options seam_run_data_options(const seam_train_options *options, uint32_t tokens_limit,
                                        uint32_t rows_max) {
    const uint32_t stated = options->tokens_max;
    return (seam_data_options){.tokens_max =
                                   stated != 0 && stated < tokens_limit ? stated : tokens_limit,
                               .truncates = options->truncate,
                               .rows_max = rows_max,
                               .eos_id = -1};
}

seam_status seam_run_rows_open(seam_data **ret_data, seam_batcher **ret_batcher,
                               const seam_train_options *options, const seam_tokenizer *tokenizer,
                               uint32_t tokens_limit, seam_error *err) {
    const seam_train_options *const o = options;
    const seam_data_options reading = seam_run_data_options(o, tokens_limit, o->train_rows);
    SEAM_TRY(seam_data_load(ret_data, o->data, tokenizer, &reading, err));
    if (o->batch > (uint64_t)o->rows_max * SEAM_RUN_MICROS_MAX) { /* before room is taken for it */
        return seam_error_set(
            err, SEAM_E_LIMIT,
            "--batch %u: %u micro-batches of --rows-max %u hold no more than %llu "
            "rows",
            o->batch, SEAM_RUN_MICROS_MAX, o->rows_max,
            (unsigned long long)o->rows_max * SEAM_RUN_MICROS_MAX);
    }
    const seam_batcher_options batching = {
        .samples_per_step = o->batch, .rows_max = o->rows_max, .in_order = false, .seed = o->seed};
    SEAM_TRY(seam_batcher_create(ret_batcher, *ret_data, &batching, err));
    const uint32_t micros = seam_batcher_micros_max(*ret_batcher);
    if (micros > SEAM_RUN_MICROS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "--batch %u needs %u micro-batches of --rows-max %u, at most %u",
                              o->batch, micros, o->rows_max, SEAM_RUN_MICROS_MAX);
    }
    return SEAM_OK;
}

void seam_run_rows_limit(seam_session_options *session, const seam_train_options *options,
                         uint32_t tokens_longest, uint32_t micros_max) {
    const uint64_t rows_needed = (uint64_t)tokens_longest * (uint64_t)options->batch;
    session->rows_per_micro_max =
        rows_needed < options->rows_max ? (uint32_t)rows_needed : options->rows_max;
    session->sequences_per_micro_max = /* each has a row at least */
        options->batch < session->rows_per_micro_max ? options->batch : session->rows_per_micro_max;
    session->micros_per_step_max = micros_max;
}

/* Tokens and labels of every row, in order: what the batcher is given. */
static uint64_t rows_digest(const seam_data *data) {
    uint64_t hash = SEAM_HASH64_INIT;
    for (uint32_t i = 0; i < seam_data_count(data); i++) {
        seam_sample sample;
        uint8_t word[4];
        seam_data_get(&sample, data, i);
        seam_put_u32(word, sample.token_count);
        hash = seam_hash64(hash, word, sizeof word);
        for (uint32_t t = 0; t < sample.token_count; t++) {
            seam_put_u32(word, sample.ids[t]);
            hash = seam_hash64(hash, word, sizeof word);
        }
        hash = seam_hash64(hash, sample.in_loss, sample.token_count);
    }
    return hash;
}

/* Keys of a file's rows: those of --data, and those of --eval-data where a run has such rows. */
typedef struct row_keys {
    const char *option, *rows, *tokens, *rows_hash, *file_hash;
} row_keys;
static const row_keys train_keys = {"--data", "rows", "tokens", "rows_hash", "file_hash"};
static const row_keys eval_keys = {"--eval-data", "eval_rows", "eval_tokens", "eval_rows_hash",
                                   "eval_file_hash"};

static seam_status rows_add(json_t *value, const row_keys *keys, const char *path,
                            const seam_data *data, seam_error *err) {
    seam_file_map map;
    char rows[17], file[17];
    SEAM_TRY(seam_file_map_open(&map, path, err));
    const uint64_t file_hash = seam_hash64(SEAM_HASH64_INIT, map.bytes, map.count);
    seam_file_map_close(&map);
    (void)snprintf(file, sizeof file, "%016llx", (unsigned long long)file_hash);
    (void)snprintf(rows, sizeof rows, "%016llx", (unsigned long long)rows_digest(data));
    json_object_set_new(value, keys->rows, json_integer((json_int_t)seam_data_count(data)));
    json_object_set_new(value, keys->tokens,
                        json_integer((json_int_t)seam_data_tokens_total(data)));
    json_object_set_new(value, keys->rows_hash, json_string(rows));
    json_object_set_new(value, keys->file_hash, json_string(file));
    return SEAM_OK;
}

static seam_status value_make(json_t **ret_value, const seam_train_options *o,
                              const seam_run_data_rows *data, seam_error *err) {
    char seed[24];
    (void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    json_t *const value = json_object();
    seam_status st = value != NULL ? rows_add(value, &train_keys, o->data, data->train, err)
                                   : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    if (st == SEAM_OK && data->eval != NULL) {
        st = rows_add(value, &eval_keys, o->eval_data, data->eval, err);
    }
    if (st != SEAM_OK) {
        json_decref(value);
        return st;
    }
    json_object_set_new(value, "batch", json_integer(o->batch));
    json_object_set_new(value, "rows_max", json_integer(o->rows_max));
    json_object_set_new(value, "seed", json_string(seed));
    *ret_value = value;
    return SEAM_OK;
}

static seam_status value_write(const seam_train_options *o, const json_t *value, seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    SEAM_TRY(seam_run_path(path, o->out, FILE_NAME, err));
    return seam_run_write_json(path, value, 0644, err);
}

seam_status seam_run_data_write(const seam_train_options *options, const seam_run_data_rows *data,
                                seam_error *err) {
    json_t *value = NULL;
    SEAM_TRY(value_make(&value, options, data, err));
    const seam_status st = value_write(options, value, err);
    json_decref(value);
    return st;
}

static bool is_same(const json_t *a, const json_t *b, const char *name) {
    return json_equal(json_object_get(a, name), json_object_get(b, name)) != 0;
}

static long long count_of(const json_t *value, const char *name) {
    return (long long)json_integer_value(json_object_get(value, name));
}

/* The rows of the same file are other tokens: a tokenizer or a template has changed. */
static seam_status rows_differ(const seam_train_options *o, const row_keys *keys,
                               const json_t *then, const json_t *now, seam_error *err) {
    const bool file = !is_same(then, now, keys->file_hash);
    const char *const path = keys == &train_keys ? o->data : o->eval_data;
    return seam_error_set(
        err, SEAM_E_ARG,
        "--resume: %s %.150s: %s%s than the run was begun with (%lld rows of %lld tokens now, %lld "
        "of %lld then); put back what it had, or remove %.150s/" FILE_NAME " to go on with this",
        file ? keys->option : "--model", file ? path : o->model,
        file ? "other rows" : "its tokenizer or chat template makes other tokens of ",
        file ? "" : keys->option, count_of(now, keys->rows), count_of(now, keys->tokens),
        count_of(then, keys->rows), count_of(then, keys->tokens), o->out);
}

static seam_status compare(const seam_train_options *o, const json_t *then, const json_t *now,
                           seam_error *err) {
    static const struct {
        const char *name, *option;
    } orders[] = {{"batch", "--batch"}, {"rows_max", "--rows-max"}, {"seed", "--seed"}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        if (!is_same(then, now, orders[i].name)) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "--resume: %s is not that of the run (%.300s/" FILE_NAME ")",
                                  orders[i].option, o->out);
        }
    }
    if (!is_same(then, now, train_keys.rows_hash)) {
        return rows_differ(o, &train_keys, then, now, err);
    }
    /* An earlier release noted none of these. */
    const bool noted = json_object_get(then, eval_keys.rows_hash) != NULL;
    return !noted || is_same(then, now, eval_keys.rows_hash)
               ? SEAM_OK
               : rows_differ(o, &eval_keys, then, now, err);
}

seam_status seam_run_data_check(const seam_train_options *options, const seam_run_data_rows *data,
                                seam_error *err) {
    char path[SEAM_RUN_PATH_BYTES];
    json_error_t why;
    json_t *now = NULL;
    SEAM_TRY(seam_run_path(path, options->out, FILE_NAME, err));
    SEAM_TRY(value_make(&now, options, data, err));
    seam_status st = SEAM_OK;
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        st = value_write(options, now, err);
    } else {
        json_t *const then = json_load_file(path, 0, &why);
        st = json_is_object(then)
                 ? compare(options, then, now, err)
                 : seam_error_set(err, SEAM_E_FORMAT, "--resume: %.300s: %.150s", path, why.text);
        json_decref(then);
    }
    json_decref(now);
    return st;
}

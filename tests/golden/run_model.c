/* A program for oracles in Python: trains or generates with a model file, no network.
 *
 *   run_model train MODEL TYPE TEXT.safetensors OUT_DIR
 *   run_model generate MODEL TYPE FIRST_ID STEPS
 *
 * TYPE: ref, f32 or bf16.  TEXT has float arrays: lora (rank, alpha, targets, rslora,
 * dropout, tokens of a prefix), optimizer (lr,
 * beta1, beta2, eps, weight_decay, clip_norm), lengths and prompts (steps, sequences), and
 * ids.<step>.  The adapter starts by formula (support/synthetic_model.h).  train prints "loss
 * norm" a step and writes to OUT_DIR: grad.safetensors, every LoRA gradient of step 0; PEFT's two
 * files, after training; logits.f32, the logits of the first sequence, after training.  generate
 * prints the greedy ids, through the key/value cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "file_map.h"
#include "file_write.h"
#include "layers_files.h"
#include "safetensors.h"
#include "safetensors_write.h"
#include "synthetic_model.h"
#include "try.h"

#define SEQS_MAX 64

static seam_tensor_index text_index;

static size_t text_count(const char *name) {
    const seam_tensor_entry *entry = seam_tensor_index_find(&text_index, name);
    return entry != NULL ? entry->rows * entry->cols : 0;
}

static float text_at(const char *name, size_t idx) {
    const seam_tensor_entry *entry = seam_tensor_index_find(&text_index, name);
    if (entry == NULL || idx >= entry->rows * entry->cols) {
        (void)fprintf(stderr, "%s[%zu]: not in the text\n", name, idx);
        exit(1);
    }
    return seam_get_f32(entry->bytes + 4 * idx);
}

/* One step's sequences as one micro-batch. */
typedef struct step_text {
    uint32_t *ids, *targets, *positions, begin[SEQS_MAX + 1];
    uint32_t labelled;
    seam_test_text text;
} step_text;

static void step_text_make(step_text *s, uint32_t step, uint32_t seqs) {
    char name[32];
    (void)snprintf(name, sizeof name, "ids.%u", step);
    const uint32_t rows = (uint32_t)text_count(name);
    memset(s, 0, sizeof *s);
    s->ids = seam_mem_zalloc(rows, sizeof *s->ids);
    s->targets = seam_mem_zalloc(rows, sizeof *s->targets);
    s->positions = seam_mem_zalloc(rows, sizeof *s->positions);
    SEAM_ASSERT(s->ids != NULL && s->targets != NULL && s->positions != NULL);
    uint32_t row = 0;
    for (uint32_t q = 0; q < seqs; q++) {
        const uint32_t count = (uint32_t)text_at("lengths", (size_t)step * seqs + q);
        const uint32_t prompt = (uint32_t)text_at("prompts", (size_t)step * seqs + q);
        for (uint32_t i = 0; i < count; i++, row++) {
            const bool labelled = i + 1 >= prompt && i + 1 < count;
            s->ids[row] = (uint32_t)text_at(name, row);
            s->positions[row] = i;
            s->targets[row] = labelled ? (uint32_t)text_at(name, row + 1) : UINT32_MAX;
            s->labelled += labelled ? 1 : 0;
        }
        s->begin[q + 1] = row;
    }
    SEAM_ASSERT(row == rows);
    s->text = (seam_test_text){.batch = {.rows = rows,
                                         .seq_count = seqs,
                                         .seq_begin = s->begin,
                                         .positions = s->positions},
                               .ids = s->ids,
                               .targets = s->targets};
}

static void step_text_free(step_text *s) {
    seam_mem_free(s->positions);
    seam_mem_free(s->targets);
    seam_mem_free(s->ids);
}

static void file_write(const char *folder, const char *name, const void *bytes, size_t count) {
    char path[512];
    seam_error err = {.status = SEAM_OK};
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    seam_test_check(seam_file_write_atomic(path, bytes, count, &err), path, &err);
}

static void gradients_write(const char *folder, const seam_adapter *adapter, seam_stream *stream) {
    const uint32_t count = seam_adapter_tensor_count(adapter);
    seam_adapter_tensor *tensors = seam_mem_zalloc(count, sizeof *tensors);
    seam_safetensors_entry *entries = seam_mem_zalloc(count, sizeof *entries);
    SEAM_ASSERT(tensors != NULL && entries != NULL);
    for (uint32_t i = 0; i < count; i++) {
        seam_adapter_describe(&tensors[i], adapter, i);
        entries[i] = (seam_safetensors_entry){
            tensors[i].name, tensors[i].is_vector ? 0 : tensors[i].rows, tensors[i].cols};
    }
    uint8_t *file = NULL;
    size_t file_bytes = 0;
    size_t at = 0;
    seam_test_check(seam_safetensors_layout(&file, &file_bytes, &at, entries, count), "layout",
                    NULL);
    for (uint32_t i = 0; i < count; i++) { /* the data begins at a multiple of 8 */
        seam_test_check(
            seam_adapter_read_gradient((float *)(void *)(file + at), adapter, stream, i),
            "gradient", NULL);
        at += (size_t)tensors[i].rows * tensors[i].cols * sizeof(float);
    }
    file_write(folder, "grad.safetensors", file, file_bytes);
    seam_mem_free(file);
    seam_mem_free(entries);
    seam_mem_free(tensors);
}

static void results_write(const char *folder, seam_test_engine *engine, seam_adapter *adapter,
                          const step_text *first) {
    seam_error err = {.status = SEAM_OK};
    seam_peft_files files;
    const seam_adapter_file_names names = seam_adapter_files_of(adapter);
    seam_test_check(seam_adapter_export(&files, adapter, engine->stream, "base", &err), "export",
                    &err);
    file_write(folder, names.weights, files.weights, files.weights_bytes);
    file_write(folder, names.config, files.config, files.config_bytes);
    seam_peft_files_deinit(&files);
    seam_test_text text = first->text;
    text.batch.seq_count = 1;
    text.batch.rows = first->begin[1];
    const size_t count = text.batch.rows * (size_t)seam_head_config(engine->head)->vocab_count;
    float *logits = seam_mem_zalloc(count, sizeof *logits);
    SEAM_ASSERT(logits != NULL);
    seam_test_logits(logits, engine, adapter, &text);
    file_write(folder, "logits.f32", logits, count * sizeof *logits);
    seam_mem_free(logits);
}

static uint32_t rows_of_longest_step(uint32_t steps) {
    size_t rows = 0;
    for (uint32_t step = 0; step < steps; step++) {
        char name[32];
        (void)snprintf(name, sizeof name, "ids.%u", step);
        rows = text_count(name) > rows ? text_count(name) : rows;
    }
    return (uint32_t)rows;
}

static void train(const seam_tensor_source *source, const seam_backend_options *options,
                  const char *folder) {
    uint32_t steps = 0;
    char name[32] = "ids.0";
    while (text_count(name) != 0) {
        (void)snprintf(name, sizeof name, "ids.%u", ++steps);
    }
    const uint32_t seqs = steps != 0 ? (uint32_t)text_count("lengths") / steps : 0;
    SEAM_ASSERT(seqs >= 1 && seqs <= SEQS_MAX);
    const uint32_t tokens = (uint32_t)text_at("lora", 5);
    const bool full = text_at("lora", 6) != 0;
    const seam_adapter_config lora = {.kind = full          ? SEAM_ADAPTER_FULL
                                              : tokens != 0 ? SEAM_ADAPTER_PREFIX
                                                            : SEAM_ADAPTER_LORA,
                                      .prefix = {.tokens = tokens},
                                      .lora = {.rank = (uint32_t)text_at("lora", 0),
                                               .alpha = text_at("lora", 1),
                                               .targets = (uint32_t)text_at("lora", 2),
                                               .rslora = text_at("lora", 3) != 0,
                                               .dropout = text_at("lora", 4)}};
    const seam_optimizer_config optimizer = {.lr = text_at("optimizer", 0),
                                             .beta1 = text_at("optimizer", 1),
                                             .beta2 = text_at("optimizer", 2),
                                             .eps = text_at("optimizer", 3),
                                             .weight_decay = text_at("optimizer", 4),
                                             .clip_norm = text_at("optimizer", 5),
                                             .schedule = SEAM_SCHEDULE_CONSTANT};
    seam_test_engine engine;
    if (!seam_test_engine_open(&engine, options, source, &lora, rows_of_longest_step(steps))) {
        exit(77);
    }
    /* Full fine-tuning starts with the model's own values. */
    seam_adapter *const adapter =
        full ? seam_test_adapter(&engine, &lora) : seam_test_adapter_synthetic(&engine, &lora);
    for (uint32_t step = 0; step < steps; step++) {
        step_text text;
        step_text_make(&text, step, seqs);
        const seam_draw draw = {.step = step};
        text.text.batch.draw = &draw;
        const double loss =
            seam_test_forward_backward(&engine, adapter, &text.text, 1.0f / (float)text.labelled);
        if (step == 0) {
            gradients_write(folder, adapter, engine.stream);
        }
        double norm = 0;
        uint64_t hash = 0;
        seam_test_check(seam_adapter_step(&norm, &hash, adapter, engine.stream, &optimizer, step),
                        "step", NULL);
        (void)printf("%.9g %.9g\n", loss / text.labelled, norm);
        (void)fflush(stdout);
        step_text_free(&text);
    }
    step_text first;
    step_text_make(&first, 0, seqs);
    results_write(folder, &engine, adapter, &first);
    step_text_free(&first);
    seam_adapter_destroy(adapter);
    seam_test_engine_close(&engine);
}

/* The rows [first, end) of the sequence; logits of the last. */
static void rows_run(float *ret_logits, const seam_test_engine *e, seam_kv_cache *cache,
                     const uint32_t *ids, uint32_t first, uint32_t end) {
    const uint32_t rows = end - first;
    const size_t row_bytes = seam_blocks_config(e->blocks)->hidden * seam_dtype_bytes(e->ops->acc);
    uint32_t *slots = seam_mem_zalloc(rows, sizeof *slots);
    uint32_t *positions = seam_mem_zalloc(rows, sizeof *positions);
    SEAM_ASSERT(slots != NULL && positions != NULL);
    for (uint32_t t = 0; t < rows; t++) {
        positions[t] = first + t;
    }
    seam_test_check(seam_head_embed(e->head, e->stream, e->x, ids + first, rows), "embed", NULL);
    seam_test_check(
        seam_blocks_forward_cached(e->blocks, NULL, cache, e->stream, e->x, rows, slots, positions),
        "cached", NULL);
    seam_test_check(seam_head_logits(ret_logits, e->head, e->stream,
                                     (const uint8_t *)e->x + (rows - 1) * row_bytes, 1),
                    "logits", NULL);
    seam_mem_free(positions);
    seam_mem_free(slots);
}

/* A row at a time; all of them again where LongRoPE's factors change. */
static void generate(const seam_tensor_source *source, const seam_backend_options *options,
                     uint32_t first_id, uint32_t steps) {
    seam_test_engine e;
    seam_kv_cache *cache = NULL;
    seam_error err = {.status = SEAM_OK};
    if (!seam_test_engine_open(&e, options, source, NULL, steps)) {
        exit(77);
    }
    const size_t V = source->config->vocab_count;
    float *logits = seam_mem_zalloc(V, sizeof *logits);
    uint32_t *ids = seam_mem_zalloc((size_t)steps + 1, sizeof *ids);
    SEAM_ASSERT(logits != NULL && ids != NULL);
    seam_test_check(seam_kv_cache_create(&cache, e.blocks, 1, steps, steps, &err), "cache", &err);
    ids[0] = first_id;
    for (uint32_t position = 0; position < steps; position++) {
        const bool goes_on = seam_kv_cache_takes(cache, 0, position, position + 1);
        rows_run(logits, &e, cache, ids, goes_on ? position : 0, position + 1);
        uint32_t id = 0;
        for (uint32_t v = 1; v < V; v++) {
            id = logits[v] > logits[id] ? v : id;
        }
        ids[position + 1] = id;
        (void)printf("%u\n", id);
    }
    seam_kv_cache_destroy(cache);
    seam_mem_free(ids);
    seam_mem_free(logits);
    seam_test_engine_close(&e);
}

int main(int argc, char **argv) {
    if (argc != 6 || (strcmp(argv[1], "train") != 0 && strcmp(argv[1], "generate") != 0)) {
        (void)fprintf(stderr, "usage: see the head of run_model.c\n");
        return 2;
    }
    const bool ref = strcmp(argv[3], "ref") == 0;
    const seam_backend_options options = {.device = ref ? "ref" : "cpu",
                                          .act = ref                            ? SEAM_F64
                                                 : strcmp(argv[3], "bf16") == 0 ? SEAM_BF16
                                                                                : SEAM_F32,
                                          .threads = 2};
    seam_error err = {.status = SEAM_OK};
    seam_weights *weights = NULL;
    seam_test_check(seam_weights_open(&weights, argv[2], &err), argv[2], &err);
    const seam_tensor_source source = seam_tensor_source_weights(weights);
    if (strcmp(argv[1], "generate") == 0) {
        generate(&source, &options, (uint32_t)strtoul(argv[4], NULL, 10),
                 (uint32_t)strtoul(argv[5], NULL, 10));
    } else {
        seam_file_map map;
        seam_test_check(seam_file_map_open(&map, argv[4], &err), argv[4], &err);
        seam_test_check(seam_safetensors_parse(&text_index, map.bytes, map.count, argv[4], &err),
                        argv[4], &err);
        seam_test_check(seam_tensor_index_finish(&text_index, &err), argv[4], &err);
        train(&source, &options, argv[5]);
        seam_tensor_index_deinit(&text_index);
        seam_file_map_close(&map);
    }
    seam_weights_close(weights);
    return 0;
}

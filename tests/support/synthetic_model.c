/* Models by formula and one step over them: see synthetic_model.h. */
#include "synthetic_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "try.h"

uint32_t seam_synthetic_word(const char *name, uint64_t idx) {
    uint64_t z = seam_hash64(SEAM_HASH64_INIT, name, strlen(name)) + idx;
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (uint32_t)(z >> 32);
}

void seam_synthetic_fill(float *ret, const char *name, size_t count, float scale) {
    for (size_t i = 0; i < count; i++) {
        const float u = (float)(seam_synthetic_word(name, i) >> 8) * 0x1p-24f;
        ret[i] = (2.0f * u - 1.0f) * scale;
    }
}

void seam_synthetic_tensor(float *ret, const char *name, size_t rows, size_t cols) {
    const size_t count = rows * cols;
    if (strstr(name, "lora_A") != NULL) {
        seam_synthetic_fill(ret, name, count, (float)(1.0 / sqrt((double)cols)));
        return;
    }
    if (strstr(name, "lora_B") != NULL) {
        seam_synthetic_fill(ret, name, count, 0.1f);
        return;
    }
    if (strstr(name, "prompt_embeddings") != NULL) {
        seam_synthetic_fill(ret, name, count, 1.0f);
        return;
    }
    if (strstr(name, "norm") != NULL) {
        seam_synthetic_fill(ret, name, count, 0.2f);
        for (size_t i = 0; i < count; i++) {
            ret[i] = 1.0f + ret[i];
        }
    } else if (strstr(name, "embed_tokens") != NULL) {
        seam_synthetic_fill(ret, name, count, 0.25f);
    } else if (strstr(name, ".bias") != NULL) {
        seam_synthetic_fill(ret, name, count, 0.5f);
    } else {
        seam_synthetic_fill(ret, name, count, (float)sqrt(3.0 / (double)cols));
    }
    for (size_t i = 0; i < count; i++) {
        ret[i] = seam_bf16_to_f32(seam_bf16_from_f32(ret[i]));
    }
}

static seam_status source_read(float *ret, const void *context, const char *name, uint64_t rows,
                               uint64_t cols, seam_error *err) {
    (void)context;
    (void)err;
    seam_synthetic_tensor(ret, name, rows, cols);
    return SEAM_OK;
}

seam_tensor_source seam_synthetic_source(const seam_model_config *config) {
    return (seam_tensor_source){.config = config, .read = source_read};
}

seam_status seam_synthetic_adapter(seam_adapter *adapter, seam_stream *stream) {
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        float *values = seam_mem_zalloc((size_t)tensor.rows * tensor.cols, sizeof *values);
        SEAM_ASSERT(values != NULL);
        seam_synthetic_tensor(values, tensor.name, tensor.rows, tensor.cols);
        const seam_status st = seam_adapter_write(adapter, stream, i, values);
        seam_mem_free(values);
        SEAM_TRY(st);
    }
    return SEAM_OK;
}

void seam_test_check(seam_status st, const char *what, const seam_error *err) {
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "%s: %s: %s\n", what, seam_status_name(st),
                      err != NULL ? err->text : "");
        abort();
    }
}

bool seam_test_engine_open(seam_test_engine *engine, const seam_backend_options *options,
                           const seam_tensor_source *source, const seam_adapter_config *lora,
                           uint32_t rows_max) {
    memset(engine, 0, sizeof *engine);
    seam_error err = {.status = SEAM_OK};
    seam_status st = seam_backend_create(&engine->backend, options, &err);
    if (st == SEAM_E_ARG || st == SEAM_E_UNIMPLEMENTED) {
        (void)fprintf(stderr, "%s\n", err.text);
        return false;
    }
    seam_test_check(st, "backend", &err);
    engine->ops = seam_backend_ops(engine->backend);
    engine->rows_max = rows_max;
    seam_test_check(engine->ops->stream_create(&engine->stream, engine->backend), "stream", NULL);
    st = seam_blocks_create_from(&engine->blocks, engine->backend, source, 0,
                                 source->config->layers, &err);
    seam_test_check(st, "blocks", &err);
    st = seam_head_create_from(&engine->head, engine->backend, source, &err);
    seam_test_check(st, "head", &err);
    const seam_activations_options acts = {
        .adapter = lora, .rows_max = rows_max, .seqs_max = rows_max};
    seam_test_engine_activations(engine, &acts);
    const size_t bytes =
        (size_t)rows_max * source->config->hidden * seam_dtype_bytes(engine->ops->acc);
    void **const buffers[] = {&engine->x, &engine->picked, &engine->d_picked};
    for (size_t i = 0; i < 3; i++) {
        seam_test_check(engine->ops->mem_alloc(buffers[i], engine->backend, bytes), "rows", NULL);
    }
    engine->host = seam_mem_alloc_aligned(bytes);
    SEAM_ASSERT(engine->host != NULL);
    return true;
}

void seam_test_engine_activations(seam_test_engine *engine,
                                  const seam_activations_options *options) {
    seam_error err = {.status = SEAM_OK};
    seam_activations_destroy(engine->acts);
    engine->acts = NULL;
    seam_test_check(seam_activations_create(&engine->acts, engine->blocks, options, &err),
                    "activations", &err);
}

seam_adapter *seam_test_adapter(const seam_test_engine *engine, const seam_adapter_config *config) {
    seam_adapter *adapter = NULL;
    seam_error err = {.status = SEAM_OK};
    seam_test_check(seam_adapter_create(&adapter, engine->blocks, config, &err), "adapter", &err);
    return adapter;
}

seam_adapter *seam_test_adapter_synthetic(const seam_test_engine *engine,
                                          const seam_adapter_config *config) {
    seam_adapter *const adapter = seam_test_adapter(engine, config);
    seam_test_check(seam_synthetic_adapter(adapter, engine->stream), "adapter", NULL);
    return adapter;
}

void seam_test_engine_close(seam_test_engine *engine) {
    if (engine->ops == NULL) {
        return;
    }
    seam_mem_free(engine->host);
    engine->ops->mem_free(engine->backend, engine->d_picked);
    engine->ops->mem_free(engine->backend, engine->picked);
    engine->ops->mem_free(engine->backend, engine->x);
    seam_activations_destroy(engine->acts);
    seam_head_destroy(engine->head);
    seam_blocks_destroy(engine->blocks);
    engine->ops->stream_destroy(engine->stream);
    seam_backend_destroy(engine->backend);
    memset(engine, 0, sizeof *engine);
}

static size_t row_bytes(const seam_test_engine *e) {
    return seam_blocks_config(e->blocks)->hidden * seam_dtype_bytes(e->ops->acc);
}

/* Embeds, runs the blocks and picks the labelled rows; returns their count and targets. */
static uint32_t run_forward(uint32_t *ret_targets, seam_test_engine *e, seam_adapter *adapter,
                            const seam_test_text *text) {
    const size_t row = row_bytes(e);
    const uint32_t rows = text->batch.rows;
    seam_test_check(seam_head_embed(e->head, e->stream, e->x, text->ids, rows), "embed", NULL);
    seam_test_check(seam_blocks_forward(e->blocks, adapter, e->acts, e->stream, e->x, &text->batch),
                    "forward", NULL);
    seam_test_check(e->ops->copy_out(e->stream, e->host, e->x, rows * row), "copy", NULL);
    seam_test_check(e->ops->stream_sync(e->stream), "sync", NULL);
    uint32_t count = 0;
    for (uint32_t t = 0; t < rows; t++) {
        if (text->targets[t] != UINT32_MAX) {
            memmove(e->host + count * row, e->host + t * row, row);
            ret_targets[count++] = text->targets[t];
        }
    }
    seam_test_check(e->ops->copy_in(e->stream, e->picked, e->host, count * row), "copy", NULL);
    return count;
}

double seam_test_forward(seam_test_engine *engine, seam_adapter *adapter,
                         const seam_test_text *text) {
    uint32_t *targets = seam_mem_zalloc(text->batch.rows, sizeof *targets);
    SEAM_ASSERT(targets != NULL);
    double loss = 0;
    const uint32_t count = run_forward(targets, engine, adapter, text);
    seam_test_check(seam_head_loss(&loss, NULL, NULL, engine->head, engine->stream, engine->picked,
                                   targets, count, 1.0f),
                    "loss", NULL);
    seam_mem_free(targets);
    return loss;
}

double seam_test_forward_backward(seam_test_engine *engine, seam_adapter *adapter,
                                  const seam_test_text *text, float grad_scale) {
    seam_test_engine *e = engine;
    const size_t row = row_bytes(e);
    const uint32_t rows = text->batch.rows;
    uint32_t *targets = seam_mem_zalloc(rows, sizeof *targets);
    SEAM_ASSERT(targets != NULL);
    double loss = 0;
    const uint32_t count = run_forward(targets, e, adapter, text);
    seam_test_check(seam_head_loss(&loss, e->d_picked, NULL, e->head, e->stream, e->picked, targets,
                                   count, grad_scale),
                    "loss", NULL);
    seam_mem_free(targets);
    seam_test_check(e->ops->copy_out(e->stream, e->host, e->d_picked, count * row), "copy", NULL);
    seam_test_check(e->ops->stream_sync(e->stream), "sync", NULL);
    uint32_t left = count;
    for (uint32_t t = rows; t-- > 0;) { /* from the end, so that a row moves before it is written */
        if (text->targets[t] != UINT32_MAX) {
            left--;
            memmove(e->host + t * row, e->host + left * row, row);
        } else {
            memset(e->host + t * row, 0, row);
        }
    }
    seam_test_check(e->ops->copy_in(e->stream, e->x, e->host, rows * row), "copy", NULL);
    seam_test_check(
        seam_blocks_backward(e->blocks, adapter, e->acts, e->stream, e->x, &text->batch, false),
        "backward", NULL);
    return loss;
}

uint64_t seam_test_step(seam_test_engine *engine, seam_adapter *adapter, const seam_test_text *text,
                        const seam_optimizer_config *optimizer, uint64_t step) {
    double norm = 0;
    uint64_t hash = 0;
    (void)seam_test_forward_backward(engine, adapter, text, 0.1f);
    seam_test_check(seam_adapter_step(&norm, &hash, adapter, engine->stream, optimizer, step),
                    "step", NULL);
    SEAM_ASSERT(norm > 0);
    return hash;
}

void seam_test_logits(float *ret_logits, seam_test_engine *engine, seam_adapter *adapter,
                      const seam_test_text *text) {
    seam_test_engine *e = engine;
    const uint32_t rows = text->batch.rows;
    const size_t V = seam_head_config(e->head)->vocab_count;
    seam_test_check(seam_head_embed(e->head, e->stream, e->x, text->ids, rows), "embed", NULL);
    seam_test_check(seam_blocks_forward(e->blocks, adapter, e->acts, e->stream, e->x, &text->batch),
                    "forward", NULL);
    for (uint32_t t = 0; t < rows; t += SEAM_HEAD_CHUNK_ROWS) {
        const uint32_t n = rows - t < SEAM_HEAD_CHUNK_ROWS ? rows - t : SEAM_HEAD_CHUNK_ROWS;
        seam_test_check(seam_head_logits(ret_logits + t * V, e->head, e->stream,
                                         (const uint8_t *)e->x + t * row_bytes(e), n),
                        "logits", NULL);
    }
}

void seam_test_words_fill(seam_test_words *ret, uint32_t vocab_count) {
    static const uint32_t seq_begin[] = {0, 9, 10, SEAM_TEST_ROWS};
    for (uint32_t s = 0; s < 3; s++) {
        for (uint32_t t = seq_begin[s]; t < seq_begin[s + 1]; t++) {
            ret->ids[t] = seam_synthetic_word("ids", t) % vocab_count;
            ret->targets[t] = seam_synthetic_word("mask", t) % 3 != 0
                                  ? seam_synthetic_word("ids", t + 1) % vocab_count
                                  : UINT32_MAX;
            ret->positions[t] = t - seq_begin[s] + 2 * s;
        }
    }
    ret->text = (seam_test_text){.batch = {.rows = SEAM_TEST_ROWS,
                                           .seq_count = 3,
                                           .seq_begin = seq_begin,
                                           .positions = ret->positions},
                                 .ids = ret->ids,
                                 .targets = ret->targets};
}

static size_t tensors_read(float *ret, const seam_adapter *adapter, seam_stream *stream,
                           seam_status (*read)(float *ret, const seam_adapter *adapter,
                                               seam_stream *stream, uint32_t idx)) {
    size_t count = 0;
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        if (ret != NULL) {
            seam_test_check(read(ret + count, adapter, stream, i), "read", NULL);
        }
        count += (size_t)tensor.rows * tensor.cols;
    }
    return count;
}

size_t seam_test_values(float *ret, const seam_adapter *adapter, seam_stream *stream) {
    return tensors_read(ret, adapter, stream, seam_adapter_read);
}

size_t seam_test_gradients(float *ret, const seam_adapter *adapter, seam_stream *stream) {
    return tensors_read(ret, adapter, stream, seam_adapter_read_gradient);
}

/* Models, adapters and text by formula, and one training step over them without any network.
 *
 * The same formula is in tests/oracle/synthetic_model.py, so that an oracle in Python has the
 * same weights to the bit and no weights need to be stored:
 *   word(name, i) = top 32 bits of splitmix64(fnv1a64(name) + i)
 *   value(name, i) = (2*(word >> 8)*2^-24 - 1) * scale, in f32 */
#ifndef SEAM_SYNTHETIC_MODEL_H
#define SEAM_SYNTHETIC_MODEL_H

#include "blocks.h"
#include "head.h"
#include "tensor_source.h"

uint32_t seam_synthetic_word(const char *name, uint64_t idx);
void seam_synthetic_fill(float *ret, const char *name, size_t count, float scale);
/* Scale of a tensor by its name and columns: norms 1 +- 0.2, embedding 0.25, biases 0.5, matrices
 * sqrt(3/cols), lora_A 1/sqrt(cols), lora_B 0.1.  Frozen tensors are rounded to bf16 values, as
 * those of published models are, so that bf16 runs differ by their arithmetic alone. */
void seam_synthetic_tensor(float *ret, const char *name, size_t rows, size_t cols);
seam_tensor_source seam_synthetic_source(const seam_model_config *config);
/* Every tensor of the adapter by its PEFT name, B as well. */
seam_status seam_synthetic_adapter(seam_adapter *adapter, seam_stream *stream);

/* Of a model_config: 4 heads of 16 over 2 of keys, rows of whole vectors at C = 64. */
#define SEAM_TEST_SMALL(C, F, layer_count)                                                         \
    {                                                                                              \
        .architecture = "llama", .vocab_count = 53, .hidden = (C), .intermediate = (F),            \
        .layers = (layer_count), .heads = 4, .kv_heads = 2, .head_dim = 16, .context_max = 128,    \
        .rms_eps = 1e-5f, .rope_theta = 10000.0, .bos_id = -1, .eos_id = -1                        \
    }
/* 3 query heads a key/value head, H*D unlike C, odd F and V. */
#define SEAM_TEST_ODD                                                                              \
    {                                                                                              \
        .architecture = "llama", .vocab_count = 53, .hidden = 26, .intermediate = 37, .layers = 3, \
        .heads = 6, .kv_heads = 2, .head_dim = 20, .context_max = 40, .rms_eps = 1e-5f,            \
        .rope_theta = 10000.0, .bos_id = -1, .eos_id = -1                                          \
    }
#define SEAM_TEST_OPTIMIZER                                                                        \
    {                                                                                              \
        .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f,                                 \
        .schedule = SEAM_SCHEDULE_CONSTANT                                                         \
    }

/* Blocks, head and the buffers of one micro-batch on one backend. */
typedef struct seam_test_engine {
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    seam_blocks *blocks;
    seam_head *head;
    seam_activations *acts;
    uint32_t rows_max;
    void *x, *picked, *d_picked; /* (rows_max, C) acc, device */
    uint8_t *host;               /* (rows_max, C) acc */
} seam_test_engine;

/* Prints the error and aborts when something fails: no test can go on without it.  False: the
 * device is not here, or cannot do this type (bf16 without AMX). */
bool seam_test_engine_open(seam_test_engine *engine, const seam_backend_options *options,
                           const seam_tensor_source *source, const seam_adapter_config *lora,
                           uint32_t rows_max);
void seam_test_engine_close(seam_test_engine *engine);
/* Activations as these options say, in place of those it has. */
void seam_test_engine_activations(seam_test_engine *engine,
                                  const seam_activations_options *options);
/* A new adapter on the engine's blocks: as it starts, and with every tensor by formula. */
seam_adapter *seam_test_adapter(const seam_test_engine *engine, const seam_adapter_config *config);
seam_adapter *seam_test_adapter_synthetic(const seam_test_engine *engine,
                                          const seam_adapter_config *config);

/* Text of one micro-batch: ids (rows), targets (rows; UINT32_MAX: no label). */
typedef struct seam_test_text {
    seam_batch batch;
    const uint32_t *ids, *targets;
} seam_test_text;

/* Three sequences of 9, 1 and 13 rows by formula, two thirds of them labelled; positions do not all
 * start at 0.  text points into the rest: not to be copied. */
#define SEAM_TEST_ROWS 23u
typedef struct seam_test_words {
    uint32_t ids[SEAM_TEST_ROWS], targets[SEAM_TEST_ROWS], positions[SEAM_TEST_ROWS];
    seam_test_text text;
} seam_test_words;
void seam_test_words_fill(seam_test_words *ret, uint32_t vocab_count);

/* Every value or gradient of the adapter, one tensor after the other; returns how many, which with
 * ret = NULL is all. */
size_t seam_test_values(float *ret, const seam_adapter *adapter, seam_stream *stream);
size_t seam_test_gradients(float *ret, const seam_adapter *adapter, seam_stream *stream);

/* Loss sum of the labelled rows; with backward also the adapter's gradients, scaled. */
double seam_test_forward(seam_test_engine *engine, seam_adapter *adapter,
                         const seam_test_text *text);
double seam_test_forward_backward(seam_test_engine *engine, seam_adapter *adapter,
                                  const seam_test_text *text, float grad_scale);
/* Forward, backward and the optimizer's step, whose gradient must not be zero; returns the hash of
 * what the adapter then is. */
uint64_t seam_test_step(seam_test_engine *engine, seam_adapter *adapter, const seam_test_text *text,
                        const seam_optimizer_config *optimizer, uint64_t step);
/* Logits (rows, V) of every row of the text. */
void seam_test_logits(float *ret_logits, seam_test_engine *engine, seam_adapter *adapter,
                      const seam_test_text *text);
/* Prints and aborts unless st is SEAM_OK. */
void seam_test_check(seam_status st, const char *what, const seam_error *err);

#endif

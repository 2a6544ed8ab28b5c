/* Frozen blocks: reads the tensors of a range of layers and packs them on the backend.
 *
 * Not here: the math (blocks_forward.c, blocks_backward.c) and the adapter (adapter.c).
 * q, k, v and gate, up are stacked, so that a block is four products, each reading its input
 * once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "blocks_internal.h"
#include "try.h"

static seam_status blocks_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err);
static seam_status layer_load(seam_blocks *b, const seam_tensor_source *source, uint32_t layer,
                              float *rows, seam_error *err);
static seam_status rotary_fill(seam_blocks *b, seam_error *err);

static seam_status read_weights(float *ret, const void *context, const char *name, uint64_t rows,
                                uint64_t cols, seam_error *err) {
    return seam_weights_read(ret, context, name, rows, cols, err);
}

seam_tensor_source seam_tensor_source_weights(const seam_weights *weights) {
    return (seam_tensor_source){
        .config = seam_weights_config(weights), .context = weights, .read = read_weights};
}

/* Llama files with attention or MLP biases exist; the math here has none, so they are refused. */
static seam_status refuse_biases(const seam_weights *weights, seam_error *err) {
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                        "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
                                        "mlp.down_proj"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[SEAM_NAME_BYTES];
        (void)snprintf(name, sizeof name, "model.layers.0.%s.bias", names[i]);
        if (seam_weights_has(weights, name)) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "%s: blocks with biases are not implemented", name);
        }
    }
    return SEAM_OK;
}

seam_status seam_blocks_create(seam_blocks **ret_blocks, seam_backend *backend,
                               const seam_weights *weights, uint32_t layer_begin,
                               uint32_t layer_end, seam_error *err) {
    SEAM_TRY(refuse_biases(weights, err));
    const seam_tensor_source source = seam_tensor_source_weights(weights);
    return seam_blocks_create_from(ret_blocks, backend, &source, layer_begin, layer_end, err);
}

seam_status seam_blocks_create_from(seam_blocks **ret_blocks, seam_backend *backend,
                                    const seam_tensor_source *source, uint32_t layer_begin,
                                    uint32_t layer_end, seam_error *err) {
    const seam_model_config *config = source->config;
    SEAM_TRY(seam_model_config_check(config, err));
    if (layer_begin >= layer_end || layer_end > config->layers) {
        return seam_error_set(err, SEAM_E_ARG, "layers %u..%u: the model has layers 0..%u",
                              layer_begin, layer_end, config->layers);
    }
    seam_blocks *b = seam_mem_zalloc(1, sizeof *b);
    if (b == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the blocks");
    }
    const seam_blocks_shape shape = {.config = config,
                                     .ops = seam_backend_ops(backend),
                                     .layer_begin = layer_begin,
                                     .layer_end = layer_end};
    seam_blocks_shape_init(b, &shape);
    b->backend = backend;
    seam_error inner = {.status = SEAM_OK};
    const seam_status st = blocks_load(b, source, &inner);
    if (st != SEAM_OK) {
        seam_blocks_destroy(b);
        return seam_error_set(err, st, "%s",
                              inner.text[0] != 0 ? inner.text : "the device took no more weights");
    }
    *ret_blocks = b;
    return SEAM_OK;
}

void seam_blocks_shape_init(seam_blocks *ret_blocks, const seam_blocks_shape *shape) {
    const seam_model_config *config = shape->config;
    *ret_blocks = (seam_blocks){.config = *config,
                                .ops = shape->ops,
                                .layer_begin = shape->layer_begin,
                                .layer_count = shape->layer_end - shape->layer_begin,
                                .q_cols = config->heads * config->head_dim,
                                .kv_cols = config->kv_heads * config->head_dim,
                                .attention_scale = (float)(1.0 / sqrt(config->head_dim))};
    ret_blocks->qkv_cols = ret_blocks->q_cols + 2 * ret_blocks->kv_cols;
}

void seam_blocks_destroy(seam_blocks *gift_blocks) {
    if (gift_blocks == NULL) {
        return;
    }
    const seam_ops *ops = gift_blocks->ops;
    for (uint32_t i = 0; gift_blocks->layers != NULL && i < gift_blocks->layer_count; i++) {
        const seam_block *layer = &gift_blocks->layers[i];
        seam_weight *const weights[] = {layer->down, layer->gate_up, layer->o, layer->qkv};
        for (size_t w = 0; w < 4; w++) {
            if (weights[w] != NULL) {
                ops->weight_destroy(weights[w]);
            }
        }
    }
    ops->mem_free(gift_blocks->backend, gift_blocks->cos_sin);
    ops->mem_free(gift_blocks->backend, gift_blocks->norms);
    seam_mem_free(gift_blocks->layers);
    seam_mem_free(gift_blocks);
}

const seam_model_config *seam_blocks_config(const seam_blocks *blocks) {
    return &blocks->config;
}

seam_backend *seam_blocks_backend(const seam_blocks *blocks) {
    return blocks->backend;
}

size_t seam_blocks_bytes(const seam_blocks *blocks) {
    size_t bytes = blocks->device_bytes;
    for (uint32_t i = 0; i < blocks->layer_count; i++) {
        const seam_block *layer = &blocks->layers[i];
        bytes += blocks->ops->weight_bytes(layer->qkv) + blocks->ops->weight_bytes(layer->o) +
                 blocks->ops->weight_bytes(layer->gate_up) + blocks->ops->weight_bytes(layer->down);
    }
    return bytes;
}

/* Takes the host rows of the largest stacked matrix once and reads every layer through them. */
static seam_status blocks_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err) {
    const seam_model_config *c = &b->config;
    const size_t acc_bytes = seam_dtype_bytes(b->ops->acc);
    const size_t wide =
        2 * (size_t)c->intermediate > b->qkv_cols ? 2 * (size_t)c->intermediate : b->qkv_cols;
    size_t staging_bytes = 0;
    size_t norm_bytes = 0;
    if (!seam_mul3_bytes(&staging_bytes, wide, c->hidden, sizeof(float)) ||
        !seam_mul3_bytes(&norm_bytes, 2 * (size_t)b->layer_count, c->hidden, acc_bytes)) {
        return seam_error_set(err, SEAM_E_LIMIT, "the model's layers are too large to address");
    }
    seam_status st = SEAM_OK;
    float *rows = seam_mem_alloc(staging_bytes);
    b->layers = seam_mem_zalloc(b->layer_count, sizeof *b->layers);
    if (rows == NULL || b->layers == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
        goto end;
    }
    SEAM_TRY_GOTO(b->ops->mem_alloc(&b->norms, b->backend, norm_bytes), st, end);
    b->device_bytes += norm_bytes;
    SEAM_TRY_GOTO(rotary_fill(b, err), st, end);
    for (uint32_t i = 0; i < b->layer_count; i++) {
        SEAM_TRY_GOTO(layer_load(b, source, i, rows, err), st, end);
    }
end:
    seam_mem_free(rows);
    return st;
}

typedef struct part {
    const char *module; /* "mlp.up_proj" */
    uint32_t rows;
} part;

/* Reads `count` tensors of a layer one under the other and packs the stack. */
static seam_status stack_load(seam_weight **ret_weight, seam_blocks *b,
                              const seam_tensor_source *source, uint32_t layer, float *rows,
                              const part *parts, uint32_t count, uint32_t cols, seam_error *err) {
    size_t row = 0;
    for (uint32_t i = 0; i < count; i++) {
        char name[SEAM_NAME_BYTES];
        (void)snprintf(name, sizeof name, "model.layers.%u.%s.weight", b->layer_begin + layer,
                       parts[i].module);
        SEAM_TRY(source->read(rows + row * cols, source->context, name, parts[i].rows, cols, err));
        row += parts[i].rows;
    }
    return b->ops->weight_create(ret_weight, b->backend, rows, (uint32_t)row, cols, true, true);
}

/* A vector of f32 on the host to acc on the device. */
static seam_status vector_put(seam_blocks *b, void *device, const float *host, size_t count) {
    const size_t acc_bytes = seam_dtype_bytes(b->ops->acc);
    seam_stream *stream = NULL;
    void *staging = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(b->ops->stream_create(&stream, b->backend), st, end);
    SEAM_TRY_GOTO(b->ops->mem_alloc(&staging, b->backend, count * acc_bytes), st, end);
    SEAM_TRY_GOTO(b->ops->copy_in(stream, staging, host, count * sizeof(float)), st, end);
    SEAM_TRY_GOTO(b->ops->cast(stream, device, b->ops->acc, staging, SEAM_F32, count), st, end);
    st = b->ops->stream_sync(stream);
end:
    b->ops->mem_free(b->backend, staging);
    if (stream != NULL) {
        b->ops->stream_destroy(stream);
    }
    return st;
}

static seam_status layer_load(seam_blocks *b, const seam_tensor_source *source, uint32_t layer,
                              float *rows, seam_error *err) {
    const seam_model_config *c = &b->config;
    const size_t norm_bytes = c->hidden * seam_dtype_bytes(b->ops->acc);
    seam_block *l = &b->layers[layer];
    l->attention_norm = (uint8_t *)b->norms + 2 * (size_t)layer * norm_bytes;
    l->mlp_norm = (uint8_t *)l->attention_norm + norm_bytes;
    static const char *const norm_names[] = {"input_layernorm", "post_attention_layernorm"};
    void *const norms[] = {l->attention_norm, l->mlp_norm};
    for (size_t i = 0; i < 2; i++) {
        char name[SEAM_NAME_BYTES];
        (void)snprintf(name, sizeof name, "model.layers.%u.%s.weight", b->layer_begin + layer,
                       norm_names[i]);
        SEAM_TRY(source->read(rows, source->context, name, 1, c->hidden, err));
        SEAM_TRY(vector_put(b, norms[i], rows, c->hidden));
    }
    const part qkv[] = {{"self_attn.q_proj", b->q_cols},
                        {"self_attn.k_proj", b->kv_cols},
                        {"self_attn.v_proj", b->kv_cols}};
    const part o[] = {{"self_attn.o_proj", c->hidden}};
    const part gate_up[] = {{"mlp.gate_proj", c->intermediate}, {"mlp.up_proj", c->intermediate}};
    const part down[] = {{"mlp.down_proj", c->hidden}};
    SEAM_TRY(stack_load(&l->qkv, b, source, layer, rows, qkv, 3, c->hidden, err));
    SEAM_TRY(stack_load(&l->o, b, source, layer, rows, o, 1, b->q_cols, err));
    SEAM_TRY(stack_load(&l->gate_up, b, source, layer, rows, gate_up, 2, c->hidden, err));
    return stack_load(&l->down, b, source, layer, rows, down, 1, c->intermediate, err);
}

/* Row p: cos(p * theta^(-2i/D)) for i < D/2, then the sines.  Angles in double: at position
 * 8192 an f32 angle is already off by 2^-11. */
static seam_status rotary_fill(seam_blocks *b, seam_error *err) {
    const seam_model_config *c = &b->config;
    const uint32_t half = c->head_dim / 2;
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, c->context_max, c->head_dim, seam_dtype_bytes(b->ops->acc))) {
        return seam_error_set(err, SEAM_E_LIMIT, "context_max %u is too large", c->context_max);
    }
    const size_t count = (size_t)c->context_max * c->head_dim;
    SEAM_TRY(b->ops->mem_alloc(&b->cos_sin, b->backend, bytes));
    b->device_bytes += bytes;
    float *table = seam_mem_alloc(count * sizeof(float));
    if (table == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the rotary table");
    }
    for (uint32_t i = 0; i < half; i++) {
        const double rate = pow(c->rope_theta, -2.0 * i / c->head_dim);
        for (uint32_t p = 0; p < c->context_max; p++) {
            float *row = table + (size_t)p * c->head_dim;
            row[i] = (float)cos(p * rate);
            row[half + i] = (float)sin(p * rate);
        }
    }
    const seam_status st = vector_put(b, b->cos_sin, table, count);
    seam_mem_free(table);
    return st;
}

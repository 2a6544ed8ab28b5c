/* Frozen blocks: reads the tensors of a range of layers and packs them on the backend.
 *
 * Not here: the math (blocks_forward.c, blocks_backward.c) and the adapter (adapter.c).
 * q, k, v and gate, up are stacked, so that a block is four products, each reading its input
 * once.  Matrices that files hold as plain values go to the device by weight_load.c; others, and
 * the small vectors, are read here as f32. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "blocks_internal.h"
#include "memory_plan.h"
#include "try.h"
#include "weight_load.h"

static seam_status blocks_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err);
static seam_status norms_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err);
static seam_status biases_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err);
static seam_status rotary_fill(seam_blocks *b, seam_error *err);

static seam_status read_weights(float *ret, const void *context, const char *name, uint64_t rows,
                                uint64_t cols, seam_error *err) {
    return seam_weights_read(ret, context, name, rows, cols, err);
}

static bool find_weights(seam_tensor_place *ret, const void *context, const char *name,
                         uint64_t rows, uint64_t cols) {
    static const seam_raw_type types[] = {[SEAM_TENSOR_F32] = SEAM_RAW_F32,
                                          [SEAM_TENSOR_F16] = SEAM_RAW_F16,
                                          [SEAM_TENSOR_BF16] = SEAM_RAW_BF16};
    seam_weights_place place;
    if (!seam_weights_find(&place, context, name, rows, cols)) {
        return false;
    }
    *ret = (seam_tensor_place){
        .file = place.file, .fd = place.fd, .offset = place.offset, .type = types[place.type]};
    return true;
}

seam_tensor_source seam_tensor_source_weights(const seam_weights *weights) {
    return (seam_tensor_source){.config = seam_weights_config(weights),
                                .context = weights,
                                .read = read_weights,
                                .find = find_weights};
}

seam_status seam_blocks_create(seam_blocks **ret_blocks, seam_backend *backend,
                               const seam_weights *weights, uint32_t layer_begin,
                               uint32_t layer_end, seam_error *err) {
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

seam_status seam_blocks_view_create(seam_blocks **ret_view, const seam_blocks *blocks,
                                    uint32_t layer_begin, uint32_t layer_end) {
    SEAM_ASSERT(layer_begin >= blocks->layer_begin);
    SEAM_ASSERT(layer_begin < layer_end);
    SEAM_ASSERT(layer_end <= blocks->layer_begin + blocks->layer_count);
    seam_blocks *const view = seam_mem_zalloc(1, sizeof *view);
    if (view == NULL) {
        return SEAM_E_MEMORY;
    }
    *view = *blocks;
    view->layers = blocks->layers + (layer_begin - blocks->layer_begin);
    view->layer_begin = layer_begin;
    view->layer_count = layer_end - layer_begin;
    view->device_bytes = 0;
    view->is_view = true;
    *ret_view = view;
    return SEAM_OK;
}

void seam_blocks_shape_init(seam_blocks *ret_blocks, const seam_blocks_shape *shape) {
    const seam_model_config *config = shape->config;
    *ret_blocks = (seam_blocks){.config = *config,
                                .family = seam_family_find(config->architecture),
                                .ops = shape->ops,
                                .layer_begin = shape->layer_begin,
                                .layer_count = shape->layer_end - shape->layer_begin,
                                .q_cols = config->heads * config->head_dim,
                                .kv_cols = config->kv_heads * config->head_dim,
                                .attention_scale = (float)(1.0 / sqrt(config->head_dim))};
    ret_blocks->qkv_cols = ret_blocks->q_cols + 2 * ret_blocks->kv_cols;
    SEAM_ASSERT(ret_blocks->family != NULL); /* the config has been checked */
    const seam_family *family = ret_blocks->family;
    const uint32_t qkv_pairs = family->qkv[1] == NULL ? 1 : 3; /* fused: one */
    const uint32_t wide_pairs = family->gate_up[1] == NULL ? 1 : 2;
    ret_blocks->qkv_pad = seam_lora_pad(shape->ops->join_rank, qkv_pairs, family->qkv_bias,
                                        ret_blocks->qkv_cols, config->hidden);
    ret_blocks->gate_up_pad = seam_lora_pad(shape->ops->join_mlp_rank, wide_pairs, false,
                                            2 * config->intermediate, config->hidden);
}

void seam_blocks_destroy(seam_blocks *gift_blocks) {
    if (gift_blocks == NULL) {
        return;
    }
    if (gift_blocks->is_view) {
        seam_mem_free(gift_blocks);
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
    ops->mem_free(gift_blocks->backend, gift_blocks->biases);
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

uint32_t seam_blocks_layer_count(const seam_blocks *blocks) {
    return blocks->layer_count;
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

/* Modules one under the other; one for all the rows where the family has them fused. */
static seam_block_stack stack_of(seam_weight **weight, uint32_t cols, const char *const *modules,
                                 const uint32_t *rows, uint32_t count) {
    seam_block_stack s = {.weight = weight, .cols = cols};
    for (uint32_t i = 0; i < count; i++) {
        if (modules[i] != NULL) {
            s.parts[s.count++].module = modules[i];
        }
        s.parts[s.count - 1].rows += rows[i];
        s.rows += rows[i];
    }
    return s;
}

void seam_block_stacks(seam_block_stack ret_stacks[SEAM_BLOCK_STACKS], const seam_blocks *blocks,
                       seam_block *layer) {
    static const char *const o = "self_attn.o_proj", *const down = "mlp.down_proj";
    const seam_blocks *b = blocks;
    const seam_model_config *c = &b->config;
    const uint32_t qkv_rows[] = {b->q_cols, b->kv_cols, b->kv_cols};
    const uint32_t wide_rows[] = {c->intermediate, c->intermediate};
    ret_stacks[SEAM_STACK_QKV] = stack_of(&layer->qkv, c->hidden, b->family->qkv, qkv_rows, 3);
    ret_stacks[SEAM_STACK_QKV].lora_pad = b->qkv_pad;
    ret_stacks[SEAM_STACK_O] = stack_of(&layer->o, b->q_cols, &o, &c->hidden, 1);
    ret_stacks[SEAM_STACK_GATE_UP] =
        stack_of(&layer->gate_up, c->hidden, b->family->gate_up, wide_rows, 2);
    ret_stacks[SEAM_STACK_GATE_UP].lora_pad = b->gate_up_pad;
    ret_stacks[SEAM_STACK_DOWN] = stack_of(&layer->down, c->intermediate, &down, &c->hidden, 1);
}

static void part_name(char ret_name[SEAM_NAME_BYTES], const seam_blocks *b, uint32_t layer,
                      const char *module, const char *kind) {
    (void)snprintf(ret_name, SEAM_NAME_BYTES, "model.layers.%u.%s.%s", b->layer_begin + layer,
                   module, kind);
}

/* All tensors of the stack are plain values in files. */
static bool stack_find(seam_load_matrix *ret, const seam_blocks *b,
                       const seam_tensor_source *source, uint32_t layer,
                       const seam_block_stack *s) {
    *ret = (seam_load_matrix){
        .ret_weight = s->weight, .C = s->cols, .lora_pad = s->lora_pad, .part_count = s->count};
    for (uint32_t i = 0; i < s->count; i++) {
        char name[SEAM_NAME_BYTES];
        seam_tensor_place place;
        part_name(name, b, layer, s->parts[i].module, "weight");
        if (source->find == NULL ||
            !source->find(&place, source->context, name, s->parts[i].rows, s->cols)) {
            return false;
        }
        ret->parts[i] = (seam_load_part){.file = place.file,
                                         .fd = place.fd,
                                         .offset = place.offset,
                                         .type = place.type,
                                         .rows = s->parts[i].rows};
    }
    return true;
}

/* The other way: reads the tensors one under the other as f32, and packs the stack. */
static seam_status stack_read(seam_blocks *b, const seam_tensor_source *source, uint32_t layer,
                              const seam_block_stack *s, seam_error *err) {
    size_t values = 0, row = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        values += (size_t)s->parts[i].rows * s->cols;
    }
    seam_status st = SEAM_OK;
    float *rows = seam_mem_zalloc(values, sizeof *rows);
    if (rows == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
    }
    for (uint32_t i = 0; i < s->count && st == SEAM_OK; i++) {
        char name[SEAM_NAME_BYTES];
        part_name(name, b, layer, s->parts[i].module, "weight");
        st = source->read(rows + row * s->cols, source->context, name, s->parts[i].rows, s->cols,
                          err);
        row += s->parts[i].rows;
    }
    if (st == SEAM_OK) {
        st = b->ops->weight_create(s->weight, b->backend, rows, (uint32_t)row, s->cols, true, true,
                                   s->lora_pad);
    }
    seam_mem_free(rows);
    return st;
}

/* Matrices in files are collected and loaded together; what must be read is, at once. */
static seam_status stacks_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err) {
    const seam_load_options options = {0};
    uint32_t count = 0;
    seam_status st = SEAM_OK;
    seam_load_matrix *matrices =
        seam_mem_zalloc((size_t)SEAM_BLOCK_STACKS * b->layer_count, sizeof *matrices);
    if (matrices == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
    }
    for (uint32_t layer = 0; layer < b->layer_count && st == SEAM_OK; layer++) {
        seam_block_stack stacks[SEAM_BLOCK_STACKS];
        seam_block_stacks(stacks, b, &b->layers[layer]);
        for (uint32_t i = 0; i < SEAM_BLOCK_STACKS && st == SEAM_OK; i++) {
            if (stack_find(&matrices[count], b, source, layer, &stacks[i])) {
                count++;
            } else {
                st = stack_read(b, source, layer, &stacks[i], err);
            }
        }
    }
    if (st == SEAM_OK && count > 0) {
        st = seam_weight_load(b->backend, matrices, count, &options, err);
    }
    seam_mem_free(matrices);
    return st;
}

/* What does not fit is refused before the first byte is read. */
static seam_status room_check(const seam_blocks *b, seam_error *err) {
    const seam_memory_blocks blocks = {.model = &b->config,
                                       .ops = b->ops,
                                       .layer_begin = b->layer_begin,
                                       .layer_end = b->layer_begin + b->layer_count};
    const uint64_t needed = seam_memory_plan_weights(&blocks, 1);
    const uint64_t room = b->ops->mem_room(b->backend);
    if (room == SEAM_MEM_ROOM_HOST || needed <= room) {
        return SEAM_OK;
    }
    char needed_text[SEAM_MEMORY_TEXT_BYTES], room_text[SEAM_MEMORY_TEXT_BYTES];
    seam_memory_bytes_text(needed_text, needed);
    seam_memory_bytes_text(room_text, room);
    return seam_error_set(err, SEAM_E_MEMORY, "weights need %s on the device, %s is free",
                          needed_text, room_text);
}

static seam_status blocks_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err) {
    SEAM_TRY(room_check(b, err));
    b->layers = seam_mem_zalloc(b->layer_count, sizeof *b->layers);
    if (b->layers == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
    }
    SEAM_TRY(norms_load(b, source, err));
    SEAM_TRY(biases_load(b, source, err));
    SEAM_TRY(rotary_fill(b, err));
    return stacks_load(b, source, err);
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

/* The norms of all layers, in one upload. */
static seam_status norms_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err) {
    static const char *const modules[] = {"input_layernorm", "post_attention_layernorm"};
    const uint32_t C = b->config.hidden;
    const size_t acc_bytes = seam_dtype_bytes(b->ops->acc);
    const size_t count = 2 * (size_t)b->layer_count * C;
    seam_status st = SEAM_OK;
    float *rows = seam_mem_zalloc(count, sizeof *rows);
    if (rows == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's norms");
    }
    SEAM_TRY_GOTO(b->ops->mem_alloc(&b->norms, b->backend, count * acc_bytes), st, end);
    b->device_bytes += count * acc_bytes;
    for (uint32_t i = 0; i < 2 * b->layer_count; i++) {
        char name[SEAM_NAME_BYTES];
        part_name(name, b, i / 2, modules[i % 2], "weight");
        SEAM_TRY_GOTO(source->read(rows + (size_t)i * C, source->context, name, 1, C, err), st,
                      end);
        uint8_t *norm = (uint8_t *)b->norms + i * C * acc_bytes;
        if (i % 2 == 0) {
            b->layers[i / 2].attention_norm = norm;
        } else {
            b->layers[i / 2].mlp_norm = norm;
        }
    }
    st = vector_put(b, b->norms, rows, count);
end:
    seam_mem_free(rows);
    return st;
}

/* The biases of q, k and v of all layers, in one upload. */
static seam_status biases_load(seam_blocks *b, const seam_tensor_source *source, seam_error *err) {
    const uint32_t cols[] = {b->q_cols, b->kv_cols, b->kv_cols};
    const size_t acc_bytes = seam_dtype_bytes(b->ops->acc);
    const size_t count = (size_t)b->layer_count * b->qkv_cols;
    seam_status st = SEAM_OK;
    if (!b->family->qkv_bias) {
        return SEAM_OK;
    }
    float *rows = seam_mem_zalloc(count, sizeof *rows);
    if (rows == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's biases");
    }
    SEAM_TRY_GOTO(b->ops->mem_alloc(&b->biases, b->backend, count * acc_bytes), st, end);
    b->device_bytes += count * acc_bytes;
    float *cursor = rows;
    for (uint32_t layer = 0; layer < b->layer_count; layer++) {
        b->layers[layer].qkv_bias = (uint8_t *)b->biases + layer * b->qkv_cols * acc_bytes;
        for (uint32_t i = 0; i < 3; i++) {
            char name[SEAM_NAME_BYTES];
            part_name(name, b, layer, b->family->qkv[i], "bias");
            SEAM_TRY_GOTO(source->read(cursor, source->context, name, 1, cols[i], err), st, end);
            cursor += cols[i];
        }
    }
    st = vector_put(b, b->biases, rows, count);
end:
    seam_mem_free(rows);
    return st;
}

static seam_status rotary_fill(seam_blocks *b, seam_error *err) {
    const seam_model_config *c = &b->config;
    const uint32_t rows = seam_rope_table_rows(c);
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, rows, c->head_dim, seam_dtype_bytes(b->ops->acc))) {
        return seam_error_set(err, SEAM_E_LIMIT, "context_max %u is too large", c->context_max);
    }
    const size_t count = (size_t)rows * c->head_dim;
    SEAM_TRY(b->ops->mem_alloc(&b->cos_sin, b->backend, bytes));
    b->device_bytes += bytes;
    float *table = seam_mem_alloc(count * sizeof(float));
    if (table == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the rotary table");
    }
    seam_rope_table_fill(table, c);
    const seam_status st = vector_put(b, b->cos_sin, table, count);
    seam_mem_free(table);
    return st;
}

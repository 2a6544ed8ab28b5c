/* Forward of the blocks: a layer, in the order of the math.
 *
 *   x += o_proj(attention(rope(qkv(rmsnorm(x)))))      x += down(swiglu(gate_up(rmsnorm(x))))
 *
 * The residual stream x stays in acc; what products read is act.  blocks_backward.c goes the
 * same way back; blocks_cached.c differs in the attention only.
 * Read next: kernels/include/ops.h, then kernels/cpu/cpu_linear.c, the product that takes the time.
 */
#include "blocks_internal.h"
#include "try.h"

static seam_status batch_check(const seam_activations *acts, const seam_batch *batch,
                               uint32_t prefix_tokens);
static const uint32_t *turns_of(const seam_activations *acts, const seam_adapter *adapter,
                                const seam_batch *batch);
static seam_status layers_forward(const void *context);

typedef struct forward {
    seam_pass pass;
    const seam_batch *batch;
} forward;

seam_status seam_blocks_forward(const seam_blocks *blocks, seam_adapter *adapter,
                                seam_activations *acts, seam_stream *stream, void *x,
                                const seam_batch *batch) {
    SEAM_ASSERT(acts->blocks == blocks);
    SEAM_ASSERT(adapter == NULL || adapter->blocks == blocks);
    SEAM_ASSERT(adapter == NULL || (adapter->config.lora.targets & ~acts->targets) == 0);
    SEAM_ASSERT(adapter == NULL || adapter->config.lora.rank <= acts->rank_max);
    SEAM_ASSERT(adapter == NULL || adapter->own == NULL || acts->full || !acts->keep);
    SEAM_TRY(batch_check(acts, batch, seam_prefix_tokens(adapter)));
    acts->forward_rows = 0;
    const forward f = {.pass = {.blocks = blocks,
                                .adapter = adapter,
                                .acts = acts,
                                .stream = stream,
                                .x = x,
                                .rows = batch->rows,
                                .turns = turns_of(acts, adapter, batch),
                                .draw = batch->draw},
                       .batch = batch};
    const seam_repeat_pass repeat = {.kind = SEAM_REPEAT_FORWARD,
                                     .adapter = adapter,
                                     .stream = stream,
                                     .x = x,
                                     .rows = batch->rows,
                                     .batch = batch,
                                     .turns = f.pass.turns,
                                     .run = layers_forward,
                                     .context = &f};
    SEAM_TRY(seam_blocks_repeat(acts, &repeat));
    acts->forward_rows = acts->keep ? batch->rows : 0;
    return SEAM_OK;
}

static seam_status layers_forward(const void *context) {
    const forward *f = context;
    const seam_layer_hook *hook = f->batch->hook;
    for (uint32_t layer = 0; layer < f->pass.blocks->layer_count; layer++) {
        SEAM_TRY(seam_layer_attention_begin(&f->pass, layer));
        SEAM_TRY(seam_layer_attention(&f->pass, layer, f->batch));
        SEAM_TRY(seam_layer_attention_end(&f->pass, layer));
        if (hook != NULL && layer + 1 < f->pass.blocks->layer_count) {
            SEAM_TRY(hook->forward(hook->context, layer, f->pass.stream, f->pass.x));
        }
    }
    return SEAM_OK;
}

/* A layout comes from a peer in the end: it is checked here and not asserted. */
static seam_status batch_check(const seam_activations *acts, const seam_batch *batch,
                               uint32_t prefix_tokens) {
    if (batch->rows == 0 || batch->rows > acts->rows_max || batch->seq_count == 0 ||
        batch->seq_count > acts->seqs_max || batch->seq_begin[0] != 0 ||
        batch->seq_begin[batch->seq_count] != batch->rows) {
        return SEAM_E_ARG;
    }
    const uint32_t text_max = seam_model_config_positions(&acts->blocks->config, prefix_tokens);
    for (uint32_t s = 0; s < batch->seq_count; s++) {
        if (batch->seq_begin[s] >= batch->seq_begin[s + 1]) {
            return SEAM_E_ARG;
        }
    }
    for (uint32_t t = 0; t < batch->rows; t++) {
        if (batch->positions[t] >= text_max) {
            return SEAM_E_ARG;
        }
    }
    return SEAM_OK;
}

const uint32_t *seam_positions_after(uint32_t *shifted, const seam_adapter *adapter,
                                     const uint32_t *positions, uint32_t rows) {
    const uint32_t tokens = seam_prefix_tokens(adapter);
    for (uint32_t t = 0; tokens != 0 && t < rows; t++) {
        shifted[t] = positions[t] + tokens;
    }
    return tokens != 0 ? shifted : positions;
}

/* Rows of the rotary table: LongRoPE has two a position, by how far the sequence reaches (with a
 * prefix never that far). */
static const uint32_t *turns_of(const seam_activations *acts, const seam_adapter *adapter,
                                const seam_batch *batch) {
    const seam_model_config *c = &acts->blocks->config;
    const uint32_t tokens = seam_prefix_tokens(adapter);
    if (acts->turns == NULL) {
        return seam_positions_after(acts->shifted, adapter, batch->positions, batch->rows);
    }
    for (uint32_t s = 0; s < batch->seq_count; s++) {
        bool is_long = false;
        for (uint32_t t = batch->seq_begin[s]; t < batch->seq_begin[s + 1]; t++) {
            is_long = is_long || batch->positions[t] >= c->rope.long_from;
        }
        for (uint32_t t = batch->seq_begin[s]; t < batch->seq_begin[s + 1]; t++) {
            acts->turns[t] = seam_rope_table_row(c, batch->positions[t] + tokens, is_long);
        }
    }
    return acts->turns;
}

/* Scales of the rows that a product reads, where they are in FP8. */
static void *input_scale(const seam_pass *pass, const seam_weight *w, uint32_t product) {
    return seam_product_reads_fp8(pass->acts, pass->adapter, w, product, false)
               ? pass->acts->x_scale
               : NULL;
}

/* Normalises the residual stream into h, whose scales may be NULL (act); so may rstd and x_act (not
 * kept). */
static seam_status norm(const seam_pass *pass, void *h, uint32_t h_ld, void *h_scale, void *rstd,
                        void *x_act, const void *w) {
    const seam_rmsnorm_forward_args args = {.y = h,
                                            .y_ld = h_ld,
                                            .y_scale = h_scale,
                                            .rstd = rstd,
                                            .x_act = x_act,
                                            .x = pass->x,
                                            .w = w,
                                            .eps = pass->blocks->config.rms_eps,
                                            .T = pass->rows,
                                            .C = pass->blocks->config.hidden};
    return pass->blocks->ops->rmsnorm_forward(pass->stream, &args);
}

seam_status seam_layer_attention_begin(const seam_pass *pass, uint32_t layer) {
    const seam_blocks *b = pass->blocks;
    const seam_block *weights = seam_block_of(b, pass->adapter, layer);
    const seam_layer_acts *l = seam_pass_layer(pass, layer);
    if (l->x_kept != NULL && !pass->again) {
        SEAM_TRY(b->ops->cast(pass->stream, l->x_kept, b->ops->acc, pass->x, b->ops->acc,
                              (size_t)pass->rows * b->config.hidden));
    }
    void *const h_scale = input_scale(pass, weights->qkv, SEAM_PRODUCT_QKV);
    const uint32_t h_ld = b->config.hidden + b->qkv_pad;
    SEAM_TRY(norm(pass, l->attention_h, h_ld, h_scale, l->attention_rstd, l->x_in,
                  weights->attention_norm));
    seam_lora_pair pairs[SEAM_LORA_PAIRS_MAX];
    const seam_linear_forward_args qkv = {
        .y = l->qkv,
        .y_ld = b->qkv_cols,
        .y_out = b->ops->qkv == b->ops->act ? SEAM_OUT_ACT : SEAM_OUT_ACC,
        .x = l->attention_h,
        .x_scale = h_scale,
        .x_ld = h_ld,
        .w = weights->qkv,
        .bias = weights->qkv_bias,
        .T = pass->rows,
        .lora = pairs,
        .lora_count =
            seam_adapter_pairs(pairs, pass->adapter, layer, SEAM_PRODUCT_QKV, l->u, pass->draw),
        .fp8 = seam_product_in_fp8(pass->acts, SEAM_PRODUCT_QKV, false)};
    SEAM_TRY(b->ops->linear_forward(pass->stream, &qkv));
    /* q and k stand side by side: one call rotates the heads of both. */
    const seam_rope_args rope = {.x = l->qkv,
                                 .ld = b->qkv_cols,
                                 .heads = b->config.heads + b->config.kv_heads,
                                 .cos_sin = b->cos_sin,
                                 .positions = pass->turns,
                                 .T = pass->rows,
                                 .D = b->config.head_dim};
    return b->ops->rope(pass->stream, &rope);
}

/* A window that no row of so many can reach is none, so that faster kernels serve: by rows_max,
 * which a session keeps, and not by the batch, so that a row's bits are the same in every batch. */
uint32_t seam_layer_window(const seam_blocks *blocks, uint32_t layer, uint32_t rows_max) {
    const uint32_t window = seam_model_config_window(&blocks->config, blocks->layer_begin + layer);
    return window < rows_max ? window : 0;
}

seam_status seam_layer_attention(const seam_pass *pass, uint32_t layer, const seam_batch *batch) {
    const seam_blocks *b = pass->blocks;
    const seam_layer_acts *l = seam_pass_layer(pass, layer);
    const size_t value_bytes = seam_dtype_bytes(b->ops->qkv);
    const uint8_t *qkv = l->qkv;
    const seam_attention_forward_args args = {.o = l->o,
                                              .lse = l->lse,
                                              .q = qkv,
                                              .k = qkv + b->q_cols * value_bytes,
                                              .v = qkv + (b->q_cols + b->kv_cols) * value_bytes,
                                              .q_ld = b->qkv_cols,
                                              .k_ld = b->qkv_cols,
                                              .v_ld = b->qkv_cols,
                                              .seq_begin = batch->seq_begin,
                                              .scale = b->attention_scale,
                                              .window =
                                                  seam_layer_window(b, layer, pass->acts->rows_max),
                                              .S = batch->seq_count,
                                              .T = batch->rows,
                                              .H = b->config.heads,
                                              .G = b->config.kv_heads,
                                              .D = b->config.head_dim};
    SEAM_TRY(b->ops->attention_forward(pass->stream, &args));
    const seam_prefix p = seam_adapter_prefix(pass->adapter, layer, batch->prefix);
    if (p.tokens == 0) {
        return SEAM_OK;
    }
    const seam_prefix_forward_args prefix = {.o = l->o,
                                             .lse = l->lse,
                                             .q = qkv,
                                             .k = p.k,
                                             .v = p.v,
                                             .q_ld = b->qkv_cols,
                                             .kv_ld = p.ld,
                                             .scale = b->attention_scale,
                                             .T = batch->rows,
                                             .P = p.tokens,
                                             .H = b->config.heads,
                                             .G = b->config.kv_heads,
                                             .D = b->config.head_dim};
    return b->ops->prefix_forward(pass->stream, &prefix);
}

seam_status seam_layer_attention_end(const seam_pass *pass, uint32_t layer) {
    const seam_blocks *b = pass->blocks;
    const uint32_t C = b->config.hidden;
    const uint32_t F = b->config.intermediate;
    const seam_block *weights = seam_block_of(b, pass->adapter, layer);
    const seam_layer_acts *l = seam_pass_layer(pass, layer);
    seam_lora_pair pairs[SEAM_LORA_PAIRS_MAX];
    const seam_linear_forward_args o = {
        .y = pass->x,
        .y_ld = C,
        .y_out = SEAM_OUT_ACC_ADD,
        .x = l->o,
        .x_ld = b->q_cols,
        .w = weights->o,
        .T = pass->rows,
        .lora = pairs,
        .lora_count =
            seam_adapter_pairs(pairs, pass->adapter, layer, SEAM_PRODUCT_O, l->u, pass->draw),
        .fp8 = seam_product_in_fp8(pass->acts, SEAM_PRODUCT_O, false)};
    SEAM_TRY(b->ops->linear_forward(pass->stream, &o));
    void *const h_scale = input_scale(pass, weights->gate_up, SEAM_PRODUCT_GATE_UP);
    const uint32_t h_ld = C + b->gate_up_pad;
    SEAM_TRY(norm(pass, l->mlp_h, h_ld, h_scale, l->mlp_rstd, l->x_mid, weights->mlp_norm));
    seam_lora_pair wide_pairs[SEAM_LORA_PAIRS_MAX];
    const seam_linear_forward_args gate_up = {
        .y = l->gate_up,
        .y_ld = 2 * F,
        .y_out = SEAM_OUT_ACT,
        .x = l->mlp_h,
        .x_scale = h_scale,
        .x_ld = h_ld,
        .w = weights->gate_up,
        .T = pass->rows,
        .lora = wide_pairs,
        .lora_count = seam_adapter_pairs(wide_pairs, pass->adapter, layer, SEAM_PRODUCT_GATE_UP,
                                         l->u, pass->draw),
        .fp8 = seam_product_in_fp8(pass->acts, SEAM_PRODUCT_GATE_UP, false)};
    SEAM_TRY(b->ops->linear_forward(pass->stream, &gate_up));
    void *const swiglu_scale = input_scale(pass, weights->down, SEAM_PRODUCT_DOWN);
    const seam_swiglu_forward_args swiglu = {
        .y = l->swiglu, .y_scale = swiglu_scale, .gate_up = l->gate_up, .T = pass->rows, .F = F};
    SEAM_TRY(b->ops->swiglu_forward(pass->stream, &swiglu));
    if (pass->again) {
        return SEAM_OK;
    }
    seam_lora_pair down_pairs[SEAM_LORA_PAIRS_MAX];
    const seam_linear_forward_args down = {
        .y = pass->x,
        .y_ld = C,
        .y_out = SEAM_OUT_ACC_ADD,
        .x = l->swiglu,
        .x_scale = swiglu_scale,
        .x_ld = F,
        .w = weights->down,
        .T = pass->rows,
        .lora = down_pairs,
        .lora_count = seam_adapter_pairs(down_pairs, pass->adapter, layer, SEAM_PRODUCT_DOWN, l->u,
                                         pass->draw),
        .fp8 = seam_product_in_fp8(pass->acts, SEAM_PRODUCT_DOWN, false)};
    return b->ops->linear_forward(pass->stream, &down);
}

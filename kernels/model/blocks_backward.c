/* Backward of the blocks: layers from the last to the first, each part of a layer in reverse.
 *
 * dx is the gradient of the residual stream (acc): each half of a layer reads it as act (d_x, left
 * by the half before), goes back through its branch, and adds the branch's gradient to it.  LoRA's
 * gradients are formed with the products; a matrix's own, a bias's and a norm's only where they are
 * trained (adapter_full.c).
 *
 * With recompute a layer's forward runs again before its backward, in its kept input x_kept: the
 * same ops on the same values, so the same bits.  The last layer's activations still stand there.
 */
#include "blocks_internal.h"
#include "try.h"

typedef struct backward {
    const seam_blocks *blocks;
    const seam_adapter *adapter; /* or NULL */
    const seam_activations *acts;
    seam_stream *stream;
    void *dx; /* (T, C) acc */
    const seam_batch *batch;
    const uint32_t *positions; /* (T), after a prefix */
    bool skip_input_gradient;
} backward;

static seam_status layers_backward(const void *context);
static const uint32_t *turns_of(const backward *pass);
static seam_status layer_again(const backward *pass, uint32_t layer);
static seam_status input_again(const backward *pass, uint32_t layer, uint32_t id);
static seam_status mlp_backward(const backward *pass, uint32_t layer);
static seam_status attention_backward(const backward *pass, uint32_t layer, bool skip_dx);

seam_status seam_blocks_backward(const seam_blocks *blocks, seam_adapter *adapter,
                                 seam_activations *acts, seam_stream *stream, void *dx,
                                 const seam_batch *batch, bool skip_input_gradient) {
    SEAM_ASSERT(acts->blocks == blocks && acts->keep);
    SEAM_ASSERT(acts->forward_rows == batch->rows); /* it follows its own forward */
    acts->forward_rows = 0;
    const backward pass = {
        .blocks = blocks,
        .adapter = adapter,
        .acts = acts,
        .stream = stream,
        .dx = dx,
        .batch = batch,
        .positions = seam_positions_after(acts->shifted, adapter, batch->positions, batch->rows),
        .skip_input_gradient = skip_input_gradient};
    const seam_repeat_pass repeat = {.kind = skip_input_gradient ? SEAM_REPEAT_BACKWARD_SKIP
                                                                 : SEAM_REPEAT_BACKWARD,
                                     .adapter = adapter,
                                     .stream = stream,
                                     .x = dx,
                                     .rows = batch->rows,
                                     .batch = batch,
                                     .turns = turns_of(&pass),
                                     .run = layers_backward,
                                     .context = &pass};
    return seam_blocks_repeat(acts, &repeat);
}

static seam_status layers_backward(const void *context) {
    const backward *pass = context;
    const seam_blocks *blocks = pass->blocks;
    const seam_ops *ops = blocks->ops;
    const seam_layer_hook *hook = pass->batch->hook;
    SEAM_TRY(ops->cast(pass->stream, pass->acts->d_x, ops->act, pass->dx, ops->acc,
                       (size_t)pass->batch->rows * blocks->config.hidden));
    for (uint32_t layer = blocks->layer_count; layer-- > 0;) {
        if (hook != NULL && layer + 1 < blocks->layer_count) {
            SEAM_TRY(hook->backward(hook->context, layer, pass->stream, pass->dx));
        }
        if (pass->acts->recompute && layer + 1 < blocks->layer_count) {
            SEAM_TRY(layer_again(pass, layer));
        }
        SEAM_TRY(mlp_backward(pass, layer));
        SEAM_TRY(attention_backward(pass, layer, layer == 0 && pass->skip_input_gradient));
    }
    return SEAM_OK;
}

/* Rows of the rotary table, as forward of the same batch has found them. */
static const uint32_t *turns_of(const backward *pass) {
    return pass->acts->turns != NULL ? pass->acts->turns : pass->positions;
}

/* The layer's activations, as its forward left them; u of down is kept and not formed again. */
static seam_status layer_again(const backward *pass, uint32_t layer) {
    const seam_layer_acts *l = &pass->acts->layers[layer];
    const seam_batch *batch = pass->batch;
    const seam_pass again = {.blocks = pass->blocks,
                             .adapter = pass->adapter,
                             .acts = pass->acts,
                             .stream = pass->stream,
                             .x = l->x_kept,
                             .rows = batch->rows,
                             .turns = turns_of(pass),
                             .draw = batch->draw,
                             .again = true};
    SEAM_TRY(seam_layer_attention_begin(&again, layer));
    SEAM_TRY(seam_layer_attention(&again, layer, batch));
    return seam_layer_attention_end(&again, layer);
}

/* Scales of the gradient that a product reads, where its rows are in FP8. */
static void *gradient_scale(const backward *pass, const seam_weight *w, uint32_t id) {
    return seam_product_reads_fp8(pass->acts, pass->adapter, w, id, true) ? pass->acts->d_scale
                                                                          : NULL;
}

/* A norm's kept input and rstd, its weights, and their gradient or NULL. */
typedef struct norm_input {
    const void *x, *w, *rstd;
    void *dw;
} norm_input;

/* The gradient of a norm's own weights, where it is trained. */
static seam_status gain_backward(const backward *pass, const norm_input *in) {
    const uint32_t C = pass->blocks->config.hidden;
    const seam_column_sums_args args = {.dw = in->dw,
                                        .dy = pass->acts->d_h,
                                        .x = in->x,
                                        .rstd = in->rstd,
                                        .dy_ld = C,
                                        .x_ld = C,
                                        .T = pass->batch->rows,
                                        .C = C};
    return in->dw == NULL ? SEAM_OK : pass->blocks->ops->column_sums(pass->stream, &args);
}

/* dx += gradient of a norm, whose output's gradient is acts.d_h; d_x is dx for the next product. */
static seam_status norm_backward(const backward *pass, const norm_input *in, void *d_x_scale) {
    SEAM_TRY(gain_backward(pass, in));
    const seam_rmsnorm_backward_args args = {.dx = pass->dx,
                                             .dx_act = pass->acts->d_x,
                                             .dx_act_scale = d_x_scale,
                                             .dx_add = true,
                                             .x_is_act = true,
                                             .dy = pass->acts->d_h,
                                             .x = in->x,
                                             .w = in->w,
                                             .rstd = in->rstd,
                                             .T = pass->batch->rows,
                                             .C = pass->blocks->config.hidden};
    return pass->blocks->ops->rmsnorm_backward(pass->stream, &args);
}

/* dx (T, C) of a product whose output's gradient is dy (T, N); all act, and dense but for room for
 * LoRA between the rows of dy and those of x. */
typedef struct product {
    uint32_t id; /* SEAM_PRODUCT_... */
    const seam_weight *w;
    void *dx;
    const void *dy, *dy_scale, *x; /* dy_scale: dy in FP8, or NULL */
    uint32_t C, N, dy_pad, x_pad;
    void *dw, *dbias; /* acc, of a matrix and bias that are trained; or NULL */
} product;

/* What a product's own matrix and bias get. */
static seam_status matrix_backward(const backward *pass, const product *p) {
    const seam_ops *ops = pass->blocks->ops;
    const uint32_t T = pass->batch->rows;
    const seam_weight_gradient_args matrix = {.dw = p->dw,
                                              .w = p->w,
                                              .dy = p->dy,
                                              .x = p->x,
                                              .dy_ld = p->N + p->dy_pad,
                                              .x_ld = p->C + p->x_pad,
                                              .T = T};
    const seam_column_sums_args bias = {
        .dw = p->dbias, .dy = p->dy, .dy_ld = p->N + p->dy_pad, .T = T, .C = p->N};
    SEAM_TRY(ops->weight_gradient(pass->stream, &matrix));
    return p->dbias == NULL ? SEAM_OK : ops->column_sums(pass->stream, &bias);
}

static seam_status product_backward(const backward *pass, uint32_t layer, const product *p) {
    const seam_layer_acts *l = &pass->acts->layers[layer];
    seam_lora_pair pairs[SEAM_LORA_PAIRS_MAX];
    const seam_linear_backward_args args = {
        .dx = p->dx,
        .dx_ld = p->C,
        .dx_out = SEAM_OUT_ACT,
        .dy = p->dy,
        .dy_scale = p->dy_scale,
        .dy_ld = p->N + p->dy_pad,
        .x = p->x,
        .x_ld = p->C + p->x_pad,
        .w = p->w,
        .T = pass->batch->rows,
        .lora = pairs,
        .lora_count =
            seam_adapter_pairs(pairs, pass->adapter, layer, p->id, l->u, pass->batch->draw),
        .fp8 = seam_product_in_fp8(pass->acts, p->id, true)};
    if (args.dx == NULL && args.lora_count == 0 && p->dw == NULL) {
        return SEAM_OK;
    }
    if (args.lora_count > 0 || p->dw != NULL) {
        SEAM_TRY(input_again(pass, layer, p->id));
    }
    if (p->dw != NULL) {
        SEAM_TRY(matrix_backward(pass, p));
    }
    return pass->blocks->ops->linear_backward(pass->stream, &args);
}

/* h = the norm of x (act), as forward made it but for x's rounding. */
static seam_status norm_again(const backward *pass, void *h, uint32_t h_ld, const void *x,
                              const void *w) {
    const seam_rmsnorm_forward_args args = {.y = h,
                                            .y_ld = h_ld,
                                            .x = x,
                                            .x_is_act = true,
                                            .w = w,
                                            .eps = pass->blocks->config.rms_eps,
                                            .T = pass->batch->rows,
                                            .C = pass->blocks->config.hidden};
    return pass->blocks->ops->rmsnorm_forward(pass->stream, &args);
}

/* The input of an adapted product, where it is not kept; o's always is.  With recompute as well, so
 * that both have the same bits. */
static seam_status input_again(const backward *pass, uint32_t layer, uint32_t id) {
    const seam_blocks *b = pass->blocks;
    const seam_block *weights = seam_block_of(b, pass->adapter, layer);
    const seam_layer_acts *l = &pass->acts->layers[layer];
    if (!b->ops->remake) {
        return SEAM_OK;
    }
    if (id == SEAM_PRODUCT_QKV) {
        return norm_again(pass, l->attention_h, b->config.hidden + b->qkv_pad, l->x_in,
                          weights->attention_norm);
    }
    if (id == SEAM_PRODUCT_GATE_UP) {
        return norm_again(pass, l->mlp_h, b->config.hidden + b->gate_up_pad, l->x_mid,
                          weights->mlp_norm);
    }
    if (id == SEAM_PRODUCT_DOWN) {
        const seam_swiglu_forward_args swiglu = {.y = l->swiglu,
                                                 .gate_up = l->gate_up,
                                                 .T = pass->batch->rows,
                                                 .F = b->config.intermediate};
        return b->ops->swiglu_forward(pass->stream, &swiglu);
    }
    return SEAM_OK;
}

/* What the norm of the layer above left in d_x for this layer's down product; the last layer's
 * gradient comes from outside, in act. */
static void *down_scale(const backward *pass, uint32_t layer) {
    const seam_blocks *b = pass->blocks;
    return layer + 1 < b->layer_count
               ? gradient_scale(pass, seam_block_of(b, pass->adapter, layer)->down,
                                SEAM_PRODUCT_DOWN)
               : NULL;
}

static seam_status mlp_backward(const backward *pass, uint32_t layer) {
    const seam_blocks *b = pass->blocks;
    const uint32_t C = b->config.hidden;
    const uint32_t F = b->config.intermediate;
    const seam_block *weights = seam_block_of(b, pass->adapter, layer);
    const seam_activations *acts = pass->acts;
    const seam_layer_acts *l = &acts->layers[layer];
    const seam_block_gradients grads = seam_adapter_block_gradients(pass->adapter, layer);
    const product down = {.id = SEAM_PRODUCT_DOWN,
                          .w = weights->down,
                          .dx = acts->d_narrow,
                          .dy = acts->d_x,
                          .dy_scale = down_scale(pass, layer),
                          .x = l->swiglu,
                          .C = F,
                          .N = C,
                          .dw = grads.stack[SEAM_STACK_DOWN]};
    SEAM_TRY(product_backward(pass, layer, &down));
    void *const gate_up_scale = gradient_scale(pass, weights->gate_up, SEAM_PRODUCT_GATE_UP);
    const seam_swiglu_backward_args swiglu = {.d_gate_up = l->gate_up,
                                              .d_gate_up_scale = gate_up_scale,
                                              .dy = acts->d_narrow,
                                              .gate_up = l->gate_up,
                                              .T = pass->batch->rows,
                                              .F = F};
    SEAM_TRY(b->ops->swiglu_backward(pass->stream, &swiglu));
    const product gate_up = {.id = SEAM_PRODUCT_GATE_UP,
                             .w = weights->gate_up,
                             .dx = acts->d_h,
                             .dy = l->gate_up,
                             .dy_scale = gate_up_scale,
                             .x = l->mlp_h,
                             .C = C,
                             .N = 2 * F,
                             .x_pad = b->gate_up_pad,
                             .dw = grads.stack[SEAM_STACK_GATE_UP]};
    SEAM_TRY(product_backward(pass, layer, &gate_up));
    const norm_input norm = {
        .x = l->x_mid, .w = weights->mlp_norm, .rstd = l->mlp_rstd, .dw = grads.mlp_norm};
    return norm_backward(pass, &norm, gradient_scale(pass, weights->o, SEAM_PRODUCT_O));
}

/* l.gate_up (T, qkv_cols), qkv_pad between the rows, = gradient of q|k|v before rotation, from
 * acts.d_narrow, that of o; what stood in gate_up has been used. */
static seam_status heads_backward(const backward *pass, uint32_t layer) {
    const seam_blocks *b = pass->blocks;
    const seam_layer_acts *l = &pass->acts->layers[layer];
    const size_t k_col = b->q_cols, v_col = b->q_cols + b->kv_cols;
    const size_t act_bytes = seam_dtype_bytes(b->ops->act);
    const size_t value_bytes = seam_dtype_bytes(b->ops->qkv);
    const uint32_t d_ld = b->qkv_cols + b->qkv_pad;
    const uint8_t *qkv = l->qkv;
    uint8_t *d_qkv = l->gate_up;
    const seam_attention_backward_args args = {
        .dq = d_qkv,
        .dk = d_qkv + k_col * act_bytes,
        .dv = d_qkv + v_col * act_bytes,
        .dq_ld = d_ld,
        .dk_ld = d_ld,
        .dv_ld = d_ld,
        .d_o = pass->acts->d_narrow,
        .o = l->o,
        .q = qkv,
        .k = qkv + k_col * value_bytes,
        .v = qkv + v_col * value_bytes,
        .lse = l->lse,
        .q_ld = b->qkv_cols,
        .k_ld = b->qkv_cols,
        .v_ld = b->qkv_cols,
        .cos_sin = b->cos_sin,
        .positions = turns_of(pass),
        .seq_begin = pass->batch->seq_begin,
        .scale = b->attention_scale,
        .window = seam_layer_window(b, layer, pass->acts->rows_max),
        .S = pass->batch->seq_count,
        .T = pass->batch->rows,
        .H = b->config.heads,
        .G = b->config.kv_heads,
        .D = b->config.head_dim};
    SEAM_TRY(b->ops->attention_backward(pass->stream, &args));
    const seam_prefix p = seam_adapter_prefix(pass->adapter, layer, pass->batch->prefix);
    if (p.tokens == 0) {
        return SEAM_OK;
    }
    const seam_prefix_backward_args prefix = {.dq = d_qkv,
                                              .dk = p.dk,
                                              .dv = p.dv,
                                              .dq_ld = d_ld,
                                              .d_o = pass->acts->d_narrow,
                                              .o = l->o,
                                              .q = qkv,
                                              .k = p.k,
                                              .v = p.v,
                                              .lse = l->lse,
                                              .q_ld = b->qkv_cols,
                                              .kv_ld = p.ld,
                                              .cos_sin = b->cos_sin,
                                              .positions = turns_of(pass),
                                              .scale = b->attention_scale,
                                              .T = pass->batch->rows,
                                              .P = p.tokens,
                                              .H = b->config.heads,
                                              .G = b->config.kv_heads,
                                              .D = b->config.head_dim};
    return b->ops->prefix_backward(pass->stream, &prefix);
}

static seam_status attention_backward(const backward *pass, uint32_t layer, bool skip_dx) {
    const seam_blocks *b = pass->blocks;
    const uint32_t C = b->config.hidden;
    const seam_block *weights = seam_block_of(b, pass->adapter, layer);
    const seam_activations *acts = pass->acts;
    const seam_layer_acts *l = &acts->layers[layer];
    const seam_block_gradients grads = seam_adapter_block_gradients(pass->adapter, layer);
    const product o = {.id = SEAM_PRODUCT_O,
                       .w = weights->o,
                       .dx = acts->d_narrow,
                       .dy = acts->d_x,
                       .dy_scale = gradient_scale(pass, weights->o, SEAM_PRODUCT_O),
                       .x = l->o,
                       .C = b->q_cols,
                       .N = C,
                       .dw = grads.stack[SEAM_STACK_O]};
    SEAM_TRY(product_backward(pass, layer, &o));
    SEAM_TRY(heads_backward(pass, layer));
    const product qkv = {.id = SEAM_PRODUCT_QKV,
                         .w = weights->qkv,
                         .dx = skip_dx && grads.attention_norm == NULL ? NULL : acts->d_h,
                         .dy = l->gate_up,
                         .x = l->attention_h,
                         .C = C,
                         .N = b->qkv_cols,
                         .dw = grads.stack[SEAM_STACK_QKV],
                         .dbias = grads.qkv_bias,
                         .dy_pad = b->qkv_pad,
                         .x_pad = b->qkv_pad};
    SEAM_TRY(product_backward(pass, layer, &qkv));
    const norm_input norm = {.x = l->x_in,
                             .w = weights->attention_norm,
                             .rstd = l->attention_rstd,
                             .dw = grads.attention_norm};
    return skip_dx ? gain_backward(pass, &norm)
                   : norm_backward(pass, &norm, layer > 0 ? down_scale(pass, layer - 1) : NULL);
}

/* Token embedding, final norm and LM head: see head.h.
 *
 * The head goes over its rows in chunks of the backend's head_rows: logits and their gradient of
 * one chunk are all that ever exists.  The scratch belongs to the head, so one head serves one
 * thread at a time. */
#include <stdio.h>

#include "arena.h"
#include "bytes.h"
#include "tensor_source.h"
#include "try.h"

#define CHUNK_ROWS_MAX 512

struct seam_head {
    seam_model_config config;
    seam_backend *backend;
    const seam_ops *ops;
    void *table; /* (V, C) of table_type, device */
    seam_dtype table_type;
    void *norm;      /* (C) acc, device */
    seam_weight *lm; /* (V, C) */
    size_t device_bytes;
    /* Scratch of one chunk, device. */
    void *h;        /* (chunk, C) act: normalised rows */
    void *d_h;      /* (chunk, C) acc: their gradient */
    void *rstd;     /* (chunk) acc */
    void *logits;   /* (chunk, V) acc */
    void *d_logits; /* (chunk, V) act */
    void *loss;     /* (chunk) acc */
};

static seam_status head_load(seam_head *head, const seam_tensor_source *source, seam_error *err);

seam_status seam_head_create(seam_head **ret_head, seam_backend *backend,
                             const seam_weights *weights, seam_error *err) {
    const seam_tensor_source source = seam_tensor_source_weights(weights);
    return seam_head_create_from(ret_head, backend, &source, err);
}

seam_status seam_head_create_from(seam_head **ret_head, seam_backend *backend,
                                  const seam_tensor_source *source, seam_error *err) {
    SEAM_TRY(seam_model_config_check(source->config, err));
    seam_head *head = seam_mem_zalloc(1, sizeof *head);
    if (head == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the head");
    }
    head->config = *source->config;
    head->backend = backend;
    head->ops = seam_backend_ops(backend);
    seam_error inner = {.status = SEAM_OK};
    const seam_status st = head_load(head, source, &inner);
    if (st != SEAM_OK) {
        seam_head_destroy(head);
        return seam_error_set(err, st, "%s",
                              inner.text[0] != 0 ? inner.text : "no memory for embedding and head");
    }
    *ret_head = head;
    return SEAM_OK;
}

void seam_head_destroy(seam_head *gift_head) {
    if (gift_head == NULL) {
        return;
    }
    const seam_ops *ops = gift_head->ops;
    void *const memories[] = {gift_head->loss, gift_head->d_logits, gift_head->logits,
                              gift_head->rstd, gift_head->d_h,      gift_head->h,
                              gift_head->norm, gift_head->table};
    for (size_t i = 0; i < sizeof memories / sizeof memories[0]; i++) {
        ops->mem_free(gift_head->backend, memories[i]);
    }
    if (gift_head->lm != NULL) {
        ops->weight_destroy(gift_head->lm);
    }
    seam_mem_free(gift_head);
}

const seam_model_config *seam_head_config(const seam_head *head) {
    return &head->config;
}

size_t seam_head_bytes(const seam_head *head) {
    return head->device_bytes + head->ops->weight_bytes(head->lm);
}

/* What stands on the device whatever the file holds: the norm, and the scratch of a chunk. */
typedef struct head_part {
    void **memory;
    uint32_t rows, cols;
    seam_dtype dtype;
} head_part;
#define PARTS 7

/* The first is the norm. */
static void parts_of(head_part ret_parts[PARTS], seam_head *head, const seam_model_config *config,
                     const seam_ops *ops) {
    const uint32_t V = config->vocab_count, C = config->hidden, chunk = ops->head_rows;
    const head_part parts[PARTS] = {
        {&head->norm, 1, C, ops->acc},       {&head->h, chunk, C, ops->act},
        {&head->d_h, chunk, C, ops->acc},    {&head->rstd, chunk, 1, ops->acc},
        {&head->logits, chunk, V, ops->acc}, {&head->d_logits, chunk, V, ops->act},
        {&head->loss, chunk, 1, ops->acc},
    };
    memcpy(ret_parts, parts, sizeof parts);
}

static seam_dtype table_type_of(const seam_ops *ops, bool bf16_table) {
    return ops->act == SEAM_F32 && bf16_table ? SEAM_BF16 : ops->act;
}

static uint64_t bytes_of(uint64_t rows, uint64_t cols, seam_dtype dtype) {
    return rows * cols * seam_dtype_bytes(dtype);
}

void seam_head_plan_make(seam_head_plan *ret_plan, const seam_model_config *config,
                         const seam_ops *ops, bool bf16_table) {
    seam_head none = {.norm = NULL};
    head_part parts[PARTS];
    size_t beside = 0;
    const uint32_t V = config->vocab_count, C = config->hidden;
    parts_of(parts, &none, config, ops);
    *ret_plan = (seam_head_plan){.table = bytes_of(V, C, table_type_of(ops, bf16_table)),
                                 .matrix = ops->weight_own_bytes(&beside, V, C, ops->act) +
                                           bytes_of(parts[0].rows, parts[0].cols, parts[0].dtype)};
    for (uint32_t i = 1; i < PARTS; i++) {
        ret_plan->scratch += bytes_of(parts[i].rows, parts[i].cols, parts[i].dtype);
    }
}

static seam_status device_take(void **ret_ptr, seam_head *head, size_t rows, size_t cols,
                               seam_dtype dtype) {
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, rows, cols, seam_dtype_bytes(dtype))) {
        return SEAM_E_LIMIT;
    }
    SEAM_TRY(head->ops->mem_alloc(ret_ptr, head->backend, bytes));
    head->device_bytes += bytes;
    return SEAM_OK;
}

/* Host f32 rows to a device matrix of another type, through the chunk's logits as staging. */
static seam_status matrix_put(seam_head *head, seam_stream *stream, void *device, seam_dtype dtype,
                              const float *host, size_t rows, size_t cols) {
    const seam_ops *ops = head->ops;
    const size_t chunk = ops->head_rows * (size_t)head->config.vocab_count;
    const size_t count = rows * cols;
    for (size_t i = 0; i < count; i += chunk) {
        const size_t n = count - i < chunk ? count - i : chunk;
        SEAM_TRY(ops->copy_in(stream, head->logits, host + i, n * sizeof(float)));
        SEAM_TRY(ops->cast(stream, (uint8_t *)device + i * seam_dtype_bytes(dtype), dtype,
                           head->logits, SEAM_F32, n));
        SEAM_TRY(ops->stream_sync(stream));
    }
    return SEAM_OK;
}

/* Is every value one of bf16?  Then a table of half the bytes has the same rows. */
static bool is_bf16(const float *x, size_t count) {
    uint32_t below = 0;
    for (size_t i = 0; i < count; i++) {
        below |= seam_f32_bits(x[i]);
    }
    return (below & 0xffffu) == 0;
}

static seam_status head_load(seam_head *head, const seam_tensor_source *source, seam_error *err) {
    const seam_ops *ops = head->ops;
    const uint32_t V = head->config.vocab_count;
    const uint32_t C = head->config.hidden;
    head_part parts[PARTS];
    SEAM_ASSERT(ops->head_rows >= SEAM_HEAD_CHUNK_ROWS && ops->head_rows <= CHUNK_ROWS_MAX);
    parts_of(parts, head, &head->config, ops);
    for (uint32_t i = 0; i < PARTS; i++) {
        SEAM_TRY(device_take(parts[i].memory, head, parts[i].rows, parts[i].cols, parts[i].dtype));
    }
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, V, C, sizeof(float))) {
        return seam_error_set(err, SEAM_E_LIMIT, "the embedding is too large to address");
    }
    float *host = seam_mem_alloc(bytes);
    if (host == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the embedding");
    }
    seam_status st = SEAM_OK;
    seam_stream *stream = NULL;
    SEAM_TRY_GOTO(ops->stream_create(&stream, head->backend), st, end);
    SEAM_TRY_GOTO(source->read(host, source->context, "model.norm.weight", 1, C, err), st, end);
    SEAM_TRY_GOTO(matrix_put(head, stream, head->norm, ops->acc, host, 1, C), st, end);
    SEAM_TRY_GOTO(source->read(host, source->context, "model.embed_tokens.weight", V, C, err), st,
                  end);
    head->table_type = table_type_of(ops, ops->act == SEAM_F32 && is_bf16(host, (size_t)V * C));
    SEAM_TRY_GOTO(device_take(&head->table, head, V, C, head->table_type), st, end);
    SEAM_TRY_GOTO(matrix_put(head, stream, head->table, head->table_type, host, V, C), st, end);
    if (!head->config.tied) {
        SEAM_TRY_GOTO(source->read(host, source->context, "lm_head.weight", V, C, err), st, end);
    }
    st = ops->weight_create(&head->lm, head->backend, host, V, C, true, true, 0);
end:
    if (stream != NULL) {
        ops->stream_destroy(stream);
    }
    seam_mem_free(host);
    return st;
}

static seam_status tokens_check(const seam_head *head, const uint32_t *ids, uint32_t count) {
    for (uint32_t t = 0; t < count; t++) {
        if (ids[t] >= head->config.vocab_count) {
            return SEAM_E_ARG;
        }
    }
    return SEAM_OK;
}

/* y (rows, C) of the table's type. */
static seam_status table_gather(const seam_head *head, seam_stream *stream, void *y,
                                const uint32_t *ids, uint32_t rows) {
    const seam_embedding_forward_args args = {.y = y,
                                              .table = head->table,
                                              .ids = ids,
                                              .T = rows,
                                              .C = head->config.hidden,
                                              .type = head->table_type};
    return head->ops->embedding_forward(stream, &args);
}

seam_status seam_head_embed(const seam_head *head, seam_stream *stream, void *x,
                            const uint32_t *ids, uint32_t rows) {
    const seam_dtype acc = head->ops->acc;
    const uint32_t chunk = head->ops->head_rows, C = head->config.hidden;
    SEAM_TRY(tokens_check(head, ids, rows));
    if (head->table_type == acc) {
        return table_gather(head, stream, x, ids, rows);
    }
    for (uint32_t begin = 0; begin < rows; begin += chunk) { /* h has the room: the type is act */
        const uint32_t n = rows - begin < chunk ? rows - begin : chunk; /* or a smaller one */
        uint8_t *const y = (uint8_t *)x + (size_t)begin * C * seam_dtype_bytes(acc);
        SEAM_TRY(table_gather(head, stream, head->h, ids + begin, n));
        SEAM_TRY(head->ops->cast(stream, y, acc, head->h, head->table_type, (size_t)n * C));
    }
    return SEAM_OK;
}

bool seam_head_embeds_bf16(const seam_head *head) {
    return head->table_type == SEAM_BF16;
}

seam_status seam_head_embed_bf16(const seam_head *head, seam_stream *stream, void *x,
                                 const uint32_t *ids, uint32_t rows) {
    SEAM_ASSERT(seam_head_embeds_bf16(head));
    SEAM_TRY(tokens_check(head, ids, rows));
    return table_gather(head, stream, x, ids, rows);
}

/* head.logits (rows, V) = norm(x) W^T. */
static seam_status chunk_logits(const seam_head *head, seam_stream *stream, const void *x,
                                uint32_t rows) {
    const seam_rmsnorm_forward_args norm = {.y = head->h,
                                            .rstd = head->rstd,
                                            .x = x,
                                            .w = head->norm,
                                            .eps = head->config.rms_eps,
                                            .T = rows,
                                            .C = head->config.hidden};
    SEAM_TRY(head->ops->rmsnorm_forward(stream, &norm));
    const seam_linear_forward_args lm = {.y = head->logits,
                                         .y_ld = head->config.vocab_count,
                                         .y_out = SEAM_OUT_ACC,
                                         .x = head->h,
                                         .x_ld = head->config.hidden,
                                         .w = head->lm,
                                         .T = rows};
    return head->ops->linear_forward(stream, &lm);
}

/* dx (rows, C) acc from head.d_logits. */
static seam_status chunk_backward(const seam_head *head, seam_stream *stream, void *dx,
                                  const void *x, uint32_t rows) {
    const seam_linear_backward_args lm = {.dx = head->d_h,
                                          .dx_ld = head->config.hidden,
                                          .dx_out = SEAM_OUT_ACC,
                                          .dy = head->d_logits,
                                          .dy_ld = head->config.vocab_count,
                                          .w = head->lm,
                                          .T = rows};
    SEAM_TRY(head->ops->linear_backward(stream, &lm));
    const seam_rmsnorm_backward_args norm = {.dx = dx,
                                             .dy = head->d_h,
                                             .dy_is_acc = true,
                                             .x = x,
                                             .w = head->norm,
                                             .rstd = head->rstd,
                                             .T = rows,
                                             .C = head->config.hidden};
    return head->ops->rmsnorm_backward(stream, &norm);
}

/* The chunk's losses, from head.loss. */
static seam_status chunk_losses(double *ret_losses, const seam_head *head, seam_stream *stream,
                                uint32_t rows) {
    union {
        float f32[CHUNK_ROWS_MAX];
        double f64[CHUNK_ROWS_MAX];
    } loss;
    const bool wide = head->ops->acc == SEAM_F64;
    SEAM_TRY(
        head->ops->copy_out(stream, &loss, head->loss, rows * seam_dtype_bytes(head->ops->acc)));
    SEAM_TRY(head->ops->stream_sync(stream));
    for (uint32_t t = 0; t < rows; t++) {
        ret_losses[t] = wide ? loss.f64[t] : (double)loss.f32[t];
    }
    return SEAM_OK;
}

seam_status seam_head_loss(double *ret_loss_sum, void *dx, uint32_t *argmax, const seam_head *head,
                           seam_stream *stream, const void *x, const uint32_t *targets,
                           uint32_t rows, float grad_scale) {
    const size_t row_bytes = head->config.hidden * seam_dtype_bytes(head->ops->acc);
    SEAM_TRY(tokens_check(head, targets, rows));
    const uint32_t chunk = head->ops->head_rows;
    double losses[CHUNK_ROWS_MAX];
    double sum = 0;
    for (uint32_t begin = 0; begin < rows; begin += chunk) {
        const uint32_t n = rows - begin < chunk ? rows - begin : chunk;
        const uint8_t *chunk_x = (const uint8_t *)x + begin * row_bytes;
        SEAM_TRY(chunk_logits(head, stream, chunk_x, n));
        seam_cross_entropy_args loss = {.loss = head->loss,
                                        .d_logits = dx != NULL ? head->d_logits : NULL,
                                        .logits = head->logits,
                                        .targets = targets + begin,
                                        .grad_scale = grad_scale,
                                        .T = n,
                                        .V = head->config.vocab_count};
        if (argmax != NULL) {
            loss.argmax = argmax + begin;
        }
        SEAM_TRY(head->ops->cross_entropy(stream, &loss));
        if (dx != NULL) {
            SEAM_TRY(chunk_backward(head, stream, (uint8_t *)dx + begin * row_bytes, chunk_x, n));
        }
        SEAM_TRY(chunk_losses(losses, head, stream, n));
        for (uint32_t t = 0; t < n; t++) {
            sum += losses[t];
        }
    }
    *ret_loss_sum = sum;
    return SEAM_OK;
}

seam_status seam_head_row_losses(double *ret_losses, uint32_t *ret_argmax, const seam_head *head,
                                 seam_stream *stream, const void *x, const uint32_t *targets,
                                 uint32_t rows) {
    const size_t row_bytes = head->config.hidden * seam_dtype_bytes(head->ops->acc);
    SEAM_TRY(tokens_check(head, targets, rows));
    const uint32_t chunk = head->ops->head_rows;
    for (uint32_t begin = 0; begin < rows; begin += chunk) {
        const uint32_t n = rows - begin < chunk ? rows - begin : chunk;
        SEAM_TRY(chunk_logits(head, stream, (const uint8_t *)x + begin * row_bytes, n));
        const seam_cross_entropy_args loss = {.loss = head->loss,
                                              .argmax = ret_argmax + begin,
                                              .logits = head->logits,
                                              .targets = targets + begin,
                                              .T = n,
                                              .V = head->config.vocab_count};
        SEAM_TRY(head->ops->cross_entropy(stream, &loss));
        SEAM_TRY(chunk_losses(ret_losses + begin, head, stream, n));
    }
    return SEAM_OK;
}

seam_status seam_head_logits(float *ret_logits, const seam_head *head, seam_stream *stream,
                             const void *x, uint32_t rows) {
    const seam_ops *ops = head->ops;
    SEAM_ASSERT(rows <= SEAM_HEAD_CHUNK_ROWS);
    const size_t count = (size_t)rows * head->config.vocab_count;
    SEAM_TRY(chunk_logits(head, stream, x, rows));
    const void *logits = head->logits;
    if (ops->acc != SEAM_F32) { /* the gradient's place is free here, and act is not smaller */
        SEAM_ASSERT(seam_dtype_bytes(ops->act) >= sizeof(float));
        SEAM_TRY(ops->cast(stream, head->d_logits, SEAM_F32, head->logits, ops->acc, count));
        logits = head->d_logits;
    }
    SEAM_TRY(ops->copy_out(stream, ret_logits, logits, count * sizeof(float)));
    return ops->stream_sync(stream);
}

/* The quantizers between the server's blocks: see layer_gates.h.
 *
 * Where the backend has a codec of its own rows stay on the device, and what the host needs of all
 * boundaries (ranges, gate sums) is fetched once a pass; else they go through the host's rows.  The
 * bits are the same.  What is quantized is packed: rows that a boundary leaves alone (the first of
 * each sequence) are in none of the tensors here.  The gate gradient is that of the other sites
 * (gates.h): the surrogate by the steps D of forward, or with gate_signal exact the error, which
 * backward forms again from the rows before the codec, so that one copy of them is kept and not
 * two. */
#include "layer_gates.h"

#include <string.h>

#include "device_codec.h"
#include "trainer_internal.h"
#include "try.h"

#define PIECE_ROWS  256u /* of the host's codec: whole groups */
#define ALIGN_BYTES 256u

static seam_status layer_forward(void *context, uint32_t layer, seam_stream *stream, void *x);
static seam_status layer_backward(void *context, uint32_t layer, seam_stream *stream,
                                  const void *dx);
static seam_status begin_put(seam_trainer *t, seam_stream *stream);

static bool is_exact(const seam_trainer *t) {
    return t->config->codec.gate_signal_exact;
}

static bool on_device(const seam_trainer *t) {
    return t->ops->codec != NULL;
}

static size_t rows_bytes(const seam_trainer *t) {
    return (size_t)t->config->limits.rows_max * t->channels * sizeof(float);
}

static size_t list_bytes(const seam_trainer *t) {
    return (size_t)t->config->limits.rows_max * sizeof(uint32_t);
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static size_t head_bytes(const seam_trainer *t) {
    return sizeof(uint32_t) + seam_codec_range_bytes(SEAM_CODEC_AMAQ, t->channels);
}

static size_t sums_bytes(const seam_trainer *t) {
    return (size_t)t->layers.count * t->channels * sizeof(double);
}

/* ---- the rows that a boundary quantizes ---- */

static uint32_t inner_count(const seam_trainer *t) {
    return t->at->micro.layout.rows - t->at->micro.layout.sequence_count;
}

/* Their places in the micro-batch, rising. */
static void inner_list(uint32_t *ret, const seam_trainer *t) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    for (uint32_t i = 0, row = 0; i < layout->sequence_count; i++) {
        const uint32_t end = row + layout->sequence_rows[i];
        for (row++; row < end; row++) {
            *ret++ = row;
        }
    }
}

/* ret (inner_count, C) = those rows of x (T, C); it may be x. */
static void inner_pack(float *ret, const seam_trainer *t, const float *x) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    for (uint32_t i = 0; i < layout->sequence_count; i++) {
        const size_t values = (size_t)(layout->sequence_rows[i] - 1) * t->channels;
        memmove(ret, x + t->channels, values * sizeof *x);
        ret += values;
        x += t->channels + values;
    }
}

/* The reverse; the other rows of ret stay. */
static void inner_unpack(float *ret, const seam_trainer *t, const float *packed) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    for (uint32_t i = 0; i < layout->sequence_count; i++) {
        const size_t values = (size_t)(layout->sequence_rows[i] - 1) * t->channels;
        memcpy(ret + t->channels, packed, values * sizeof *packed);
        packed += values;
        ret += t->channels + values;
    }
}

/* ---- memory ---- */

void seam_layers_carve(seam_trainer *t, seam_arena *arena) {
    trainer_layers *y = &t->layers;
    const uint32_t C = t->channels;
    y->count = seam_session_config_layer_sites(t->config);
    const size_t values = (size_t)y->count * C;
    seam_gate_group_carve(&y->group, arena, y->count, C);
    if (y->count == 0) {
        return;
    }
    y->sums = seam_arena_take(arena, C * sizeof *y->sums);
    for (uint32_t i = 0; i < t->depth && !is_exact(t); i++) {
        t->slots[i].layer_steps = seam_arena_take(arena, values * sizeof(float));
    }
    if (on_device(t)) {
        y->begin_stride = aligned((C + (size_t)1) * sizeof *y->begin) / sizeof *y->begin;
        y->work_stride = aligned(t->ops->codec->work_bytes(C));
        y->begin = seam_arena_take(arena, y->count * y->begin_stride * sizeof *y->begin);
        y->head = seam_arena_take(arena, head_bytes(t));
        y->inner = seam_arena_take(arena, list_bytes(t));
        y->device_sums = seam_arena_take(arena, sums_bytes(t));
        return;
    }
    y->ranges = seam_arena_take(arena, seam_codec_range_bytes(SEAM_CODEC_AMAQ, C));
    y->codes = seam_arena_take(arena, PIECE_ROWS * (size_t)C * SEAM_BITS_MAX / 8);
    y->scratch = seam_arena_take(arena, seam_codec_scratch_bytes(C));
    y->kept = seam_arena_take(arena, is_exact(t) ? y->count * rows_bytes(t) : 0);
}

/* All boundaries of a pass share the codes' memory: a tensor's are read before the next one's. */
static size_t device_codes_bytes(const seam_trainer *t) {
    return aligned((size_t)t->config->limits.rows_max * t->channels * SEAM_BITS_MAX / 8);
}

void seam_layers_plan(seam_memory_plan *plan, const seam_trainer *t) {
    const trainer_layers *y = &t->layers;
    if (y->count == 0) {
        return;
    }
    plan->host[SEAM_MEMORY_CODEC] += seam_gate_group_bytes(&y->group);
    if (on_device(t)) {
        plan->device[SEAM_MEMORY_CODEC] +=
            y->count * (y->work_stride + y->begin_stride * sizeof *y->begin) +
            device_codes_bytes(t) + sums_bytes(t) + t->depth * list_bytes(t) +
            (is_exact(t) ? (y->count + (size_t)1) * rows_bytes(t) : 0);
    }
}

static seam_status device_create(seam_trainer *t) {
    trainer_layers *y = &t->layers;
    const seam_ops *ops = t->ops;
    const size_t begin_bytes = y->count * y->begin_stride * sizeof *y->begin;
    SEAM_TRY(ops->mem_alloc((void **)&y->works, t->backend, y->count * y->work_stride));
    SEAM_TRY(ops->mem_alloc((void **)&y->plane_begin, t->backend, begin_bytes));
    SEAM_TRY(ops->mem_alloc((void **)&y->device_codes, t->backend, device_codes_bytes(t)));
    SEAM_TRY(ops->mem_alloc((void **)&y->sums_made, t->backend, sums_bytes(t)));
    for (uint32_t i = 0; i < t->depth; i++) {
        SEAM_TRY(ops->mem_alloc((void **)&t->slots[i].inner, t->backend, list_bytes(t)));
    }
    if (!is_exact(t)) {
        return SEAM_OK;
    }
    SEAM_TRY(ops->mem_alloc((void **)&y->rows_kept, t->backend, y->count * rows_bytes(t)));
    return ops->mem_alloc((void **)&y->decoded, t->backend, rows_bytes(t));
}

seam_status seam_layers_create(seam_trainer *t, seam_stream *stream) {
    trainer_layers *y = &t->layers;
    const seam_session_config *config = t->config;
    if (y->count == 0) {
        return SEAM_OK;
    }
    const seam_gate_group_config group = {.gates = config->layer_gates,
                                          .bits_target = config->all_layer_bits,
                                          .steps_to_target = config->all_layer_steps,
                                          .exact = is_exact(t),
                                          .site_first =
                                              SEAM_SITE_LAYER_FIRST + config->front_layers};
    SEAM_TRY(seam_gate_group_init(&y->group, &group));
    if (on_device(t)) {
        SEAM_TRY(device_create(t));
    }
    y->hook = (seam_layer_hook){.context = t, .forward = layer_forward, .backward = layer_backward};
    return begin_put(t, stream);
}

void seam_layers_destroy(seam_trainer *t) {
    trainer_layers *y = &t->layers;
    t->ops->mem_free(t->backend, y->decoded);
    t->ops->mem_free(t->backend, y->rows_kept);
    for (uint32_t i = 0; i < t->depth; i++) {
        t->ops->mem_free(t->backend, t->slots[i].inner);
    }
    t->ops->mem_free(t->backend, y->sums_made);
    t->ops->mem_free(t->backend, y->device_codes);
    t->ops->mem_free(t->backend, y->plane_begin);
    t->ops->mem_free(t->backend, y->works);
    seam_gate_group_deinit(&y->group);
}

/* What a device's codec needs of the widths. */
static seam_status begin_put(seam_trainer *t, seam_stream *stream) {
    trainer_layers *y = &t->layers;
    const uint32_t C = t->channels;
    if (!on_device(t)) {
        return SEAM_OK;
    }
    for (uint32_t i = 0; i < y->count; i++) {
        const uint8_t *widths = y->group.widths + (size_t)i * C;
        uint32_t *begin = y->begin + i * y->begin_stride;
        for (uint32_t c = 0; c < C; c++) {
            begin[c + 1] = begin[c] + widths[c]; /* begin[0] stays 0 */
        }
    }
    return t->ops->copy_in(stream, y->plane_begin, y->begin,
                           y->count * y->begin_stride * sizeof *y->begin);
}

/* ---- a boundary, by the host's codec ---- */

static seam_codec_args codec_args(const seam_trainer *t, uint32_t layer, const uint8_t *ranges) {
    return (seam_codec_args){.id = SEAM_CODEC_AMAQ,
                             .channels = t->channels,
                             .widths = t->layers.group.widths + (size_t)layer * t->channels,
                             .ranges = ranges};
}

/* ret (inner_count, C) = what a receiver of x would see; it may be x. */
static seam_status host_requantize(float *ret, seam_trainer *t, uint32_t layer, const float *x) {
    trainer_layers *y = &t->layers;
    const uint32_t rows = inner_count(t), C = t->channels;
    const seam_rounding nearest = {.stochastic = false};
    const seam_codec_args args = codec_args(t, layer, y->ranges);
    SEAM_TRY(seam_codec_measure(y->ranges, SEAM_CODEC_AMAQ, x, rows, C, NULL));
    for (uint32_t row = 0; row < rows; row += PIECE_ROWS) {
        const uint32_t count = rows - row < PIECE_ROWS ? rows - row : PIECE_ROWS;
        SEAM_TRY(seam_codec_encode(y->codes, ret + (size_t)row * C, &args, x + (size_t)row * C,
                                   count, &nearest, y->scratch));
    }
    return SEAM_OK;
}

static float *kept_rows(const seam_trainer *t, float *kept, uint32_t layer) {
    return kept + layer * ((size_t)t->config->limits.rows_max * t->channels);
}

/* t->rows and t->packed are free while the blocks run. */
static seam_status host_forward(seam_trainer *t, uint32_t layer, seam_stream *stream, void *x) {
    trainer_layers *y = &t->layers;
    const size_t bytes = (size_t)t->at->micro.layout.rows * t->channels * sizeof(float);
    SEAM_TRY(t->ops->copy_out(stream, t->rows, x, bytes));
    SEAM_TRY(t->ops->stream_sync(stream));
    inner_pack(t->packed, t, t->rows);
    if (is_exact(t)) {
        memcpy(kept_rows(t, y->kept, layer), t->packed,
               (size_t)inner_count(t) * t->channels * sizeof(float));
    }
    SEAM_TRY(host_requantize(t->packed, t, layer, t->packed));
    if (!is_exact(t)) {
        const seam_codec_args args = codec_args(t, layer, y->ranges);
        SEAM_TRY(seam_codec_steps(t->at->layer_steps + (size_t)layer * t->channels, &args));
    }
    inner_unpack(t->rows, t, t->packed);
    return t->ops->copy_in(stream, x, t->rows, bytes);
}

/* What sum_t g^2 of a boundary means for its gates. */
static void surrogate_add(seam_trainer *t, uint32_t layer) {
    trainer_layers *y = &t->layers;
    const size_t at = (size_t)layer * t->channels;
    seam_gates_surrogate(y->group.db + at, y->sums, t->at->layer_steps + at, y->group.widths + at,
                         (uint32_t)t->at->micro.labelled_total, t->channels);
}

static seam_status host_backward(seam_trainer *t, uint32_t layer, seam_stream *stream,
                                 const void *dx) {
    trainer_layers *y = &t->layers;
    const uint32_t rows = t->at->micro.layout.rows, count = inner_count(t), C = t->channels;
    SEAM_TRY(t->ops->copy_out(stream, t->rows, dx, (size_t)rows * C * sizeof(float)));
    SEAM_TRY(t->ops->stream_sync(stream));
    inner_pack(t->rows, t, t->rows);
    if (is_exact(t)) {
        const float *x = kept_rows(t, y->kept, layer);
        const size_t at = (size_t)layer * C;
        SEAM_TRY(host_requantize(t->packed, t, layer, x));
        seam_gates_add_exact(y->group.db + at, t->rows, x, t->packed, y->group.widths + at, count,
                             C);
        return SEAM_OK;
    }
    memset(y->sums, 0, C * sizeof *y->sums);
    seam_gates_add_squares(y->sums, t->rows, count, C);
    surrogate_add(t, layer);
    return SEAM_OK;
}

/* ---- by the device's ---- */

static seam_device_work device_work(const seam_trainer *t, uint32_t layer) {
    const trainer_layers *y = &t->layers;
    const uint8_t *widths = y->group.widths + (size_t)layer * t->channels;
    uint8_t width_max = 0;
    for (uint32_t c = 0; c < t->channels; c++) {
        width_max = widths[c] > width_max ? widths[c] : width_max;
    }
    return (seam_device_work){.bytes = y->works + layer * y->work_stride,
                              .plane_begin = y->plane_begin + layer * y->begin_stride,
                              .planes = y->begin[layer * y->begin_stride + t->channels],
                              .width_max = width_max};
}

/* The rows to be quantized, among those of x (T, C) or packed. */
static seam_device_rows device_rows(const seam_trainer *t, void *x, bool packed) {
    return (seam_device_rows){.x = x,
                              .type = SEAM_F32,
                              .list = packed ? NULL : t->at->inner,
                              .rows = inner_count(t),
                              .C = t->channels};
}

static seam_device_encode_args device_encode_args(const seam_trainer *t, uint32_t layer,
                                                  const seam_device_rows *rows) {
    return (seam_device_encode_args){.work = device_work(t, layer),
                                     .rows = *rows,
                                     .ranged = *rows,
                                     .codes = t->layers.device_codes};
}

/* The rows are made again from their codes: encode may not write where it reads. */
static seam_status device_forward(seam_trainer *t, uint32_t layer, seam_stream *stream, void *x) {
    trainer_layers *y = &t->layers;
    const seam_device_rows rows = device_rows(t, x, false);
    const seam_device_encode_args encode = device_encode_args(t, layer, &rows);
    const seam_device_decode_args decode = {
        .work = encode.work, .rows = rows, .codes = y->device_codes, .row_count = rows.rows};
    if (layer == 0) {
        inner_list(y->inner, t);
        SEAM_TRY(t->ops->copy_in(stream, t->at->inner, y->inner, rows.rows * sizeof *y->inner));
    }
    if (is_exact(t)) {
        SEAM_TRY(t->ops->codec->rows_gather(stream, kept_rows(t, y->rows_kept, layer), &rows));
    }
    SEAM_TRY(t->ops->codec->encode(stream, &encode));
    return t->ops->codec->decode(stream, &decode);
}

static seam_status device_backward(seam_trainer *t, uint32_t layer, seam_stream *stream,
                                   const void *dx) {
    const trainer_layers *y = &t->layers;
    const seam_device_rows g = device_rows(t, (void *)(uintptr_t)dx, false); /* only read */
    double *sums = y->sums_made + (size_t)layer * t->channels;
    if (!is_exact(t)) {
        return t->ops->codec->gate_squares(stream, sums, &g);
    }
    const seam_device_rows x = device_rows(t, kept_rows(t, y->rows_kept, layer), true);
    seam_device_encode_args encode = device_encode_args(t, layer, &x);
    encode.decoded = y->decoded;
    SEAM_TRY(t->ops->codec->encode(stream, &encode));
    return t->ops->codec->gate_errors(stream, sums, &g, x.x, y->decoded);
}

/* ---- a pass ---- */

static seam_status layer_forward(void *context, uint32_t layer, seam_stream *stream, void *x) {
    seam_trainer *t = context;
    SEAM_ASSERT(layer < t->layers.count);
    if (inner_count(t) == 0) {
        return SEAM_OK;
    }
    return on_device(t) ? device_forward(t, layer, stream, x) : host_forward(t, layer, stream, x);
}

static seam_status layer_backward(void *context, uint32_t layer, seam_stream *stream,
                                  const void *dx) {
    seam_trainer *t = context;
    SEAM_ASSERT(layer < t->layers.count);
    if (inner_count(t) == 0) {
        return SEAM_OK;
    }
    return on_device(t) ? device_backward(t, layer, stream, dx)
                        : host_backward(t, layer, stream, dx);
}

seam_status seam_layers_forward_end(seam_trainer *t, seam_stream *stream) {
    const trainer_layers *y = &t->layers;
    if (y->count == 0 || !on_device(t) || inner_count(t) == 0) {
        return SEAM_OK;
    }
    for (uint32_t i = 0; i < y->count; i++) {
        const uint8_t *head =
            y->works + i * y->work_stride + t->ops->codec->head_offset(t->channels);
        const seam_codec_args args = codec_args(t, i, y->head + sizeof(uint32_t));
        uint32_t status = 0;
        SEAM_TRY(t->ops->copy_out(stream, y->head, head, head_bytes(t)));
        SEAM_TRY(t->ops->stream_sync(stream));
        memcpy(&status, y->head, sizeof status);
        SEAM_TRY(status == 0 ? SEAM_OK : SEAM_E_NONFINITE);
        if (!is_exact(t)) {
            SEAM_TRY(seam_codec_steps(t->at->layer_steps + (size_t)i * t->channels, &args));
        }
    }
    return SEAM_OK;
}

seam_status seam_layers_backward_end(seam_trainer *t, seam_stream *stream) {
    trainer_layers *y = &t->layers;
    if (y->count == 0 || !on_device(t) || inner_count(t) == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(t->ops->copy_out(stream, y->device_sums, y->sums_made, sums_bytes(t)));
    SEAM_TRY(t->ops->stream_sync(stream));
    for (uint32_t i = 0; i < y->count; i++) {
        const size_t at = (size_t)i * t->channels;
        if (is_exact(t)) {
            seam_gates_take_exact(y->group.db + at, y->device_sums + at, y->group.widths + at,
                                  t->channels);
        } else {
            memset(y->sums, 0, t->channels * sizeof *y->sums);
            seam_gates_take_squares(y->sums, y->device_sums + at, t->channels);
            surrogate_add(t, i);
        }
    }
    return SEAM_OK;
}

/* ---- the step's end ---- */

seam_status seam_layers_apply(seam_step_result *result, seam_trainer *t, seam_stream *stream) {
    trainer_layers *y = &t->layers;
    if (y->count == 0) {
        return SEAM_OK;
    }
    seam_gate_group_apply(&y->group, t->at->micro.step, result->skipped);
    result->layers = y->group.reports;
    result->layer_count = y->count;
    return result->skipped ? SEAM_OK : begin_put(t, stream);
}

seam_status seam_layers_load(seam_trainer *t, const uint8_t *bytes, seam_stream *stream) {
    SEAM_TRY(seam_gate_group_load(&t->layers.group, bytes));
    return begin_put(t, stream);
}

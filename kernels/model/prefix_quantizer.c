/* See prefix_quantizer.h.
 *
 * A prefix's tensor (tokens, layers, key | value) is dense: its rows are (token, layer), its
 * channels the features of a key, then those of a value.  So both vectors of gates are the widths
 * of one tensor of 2 G D channels, whose ranges go over all tokens and layers.
 *
 * Where the backend has a codec the parameters do not leave the device; else they go through the
 * host's rows.  The bits are the same. */
#include "prefix_quantizer.h"

#include <string.h>

#include "blocks_internal.h"
#include "codec.h"
#include "device_codec.h"
#include "try.h"

#define PIECE_ROWS  256u /* of the host's codec: whole groups */
#define ALIGN_BYTES 256u

struct seam_prefix_quantizer {
    const seam_adapter *adapter;
    const seam_ops *ops;
    seam_backend *backend;
    uint32_t rows, channels; /* of the tensor: tokens * layers, 2 G D */
    seam_arena arena;
    seam_gate_group group;
    float *sums, *steps; /* (channels): sum g^2; D of the values */
    uint8_t *head;       /* status u32 and range block */
    void *values;        /* device (rows, channels): what passes read */
    /* The host's codec. */
    uint8_t *codes;
    void *scratch;
    float *x, *decoded, *g; /* (rows, channels); g is x with the surrogate, which x is over for */
    /* The device's. */
    uint32_t *begin;              /* (channels + 1) */
    double *sums_host;            /* (channels) */
    uint8_t *work, *device_codes; /* device */
    uint32_t *plane_begin;        /* device, as begin */
    double *sums_device;          /* device (channels) */
};

static bool on_device(const seam_prefix_quantizer *z) {
    return z->ops->codec != NULL;
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* ---- memory ---- */

static size_t values_count(const seam_prefix_quantizer *z) {
    return (size_t)z->rows * z->channels;
}

static size_t values_bytes(const seam_prefix_quantizer *z) {
    return seam_adapter_stride(values_count(z)) * sizeof(float);
}

static size_t codes_bytes(const seam_prefix_quantizer *z) {
    return aligned(values_count(z) * SEAM_BITS_MAX / 8);
}

static size_t begin_bytes(const seam_prefix_quantizer *z) {
    return aligned((z->channels + (size_t)1) * sizeof *z->begin);
}

static void carve(seam_prefix_quantizer *z, seam_arena *arena, bool exact, bool device) {
    const uint32_t C = z->channels;
    const size_t floats = values_count(z) * sizeof(float);
    seam_gate_group_carve(&z->group, arena, SEAM_PREFIX_GATES, C / SEAM_PREFIX_GATES);
    z->sums = seam_arena_take(arena, C * sizeof *z->sums);
    z->steps = seam_arena_take(arena, C * sizeof *z->steps);
    z->head = seam_arena_take(arena, sizeof(uint32_t) + seam_codec_range_bytes(SEAM_CODEC_AMAQ, C));
    if (device) {
        z->begin = seam_arena_take(arena, begin_bytes(z));
        z->sums_host = seam_arena_take(arena, C * sizeof *z->sums_host);
        return;
    }
    z->codes = seam_arena_take(arena, PIECE_ROWS * (size_t)C * SEAM_BITS_MAX / 8);
    z->scratch = seam_arena_take(arena, seam_codec_scratch_bytes(C));
    z->x = seam_arena_take(arena, floats);
    z->decoded = seam_arena_take(arena, floats);
    z->g = exact ? seam_arena_take(arena, floats) : z->x;
}

static seam_prefix_quantizer shape_of(const seam_blocks *blocks, uint32_t tokens) {
    return (seam_prefix_quantizer){.ops = blocks->ops,
                                   .backend = blocks->backend,
                                   .rows = tokens * blocks->layer_count,
                                   .channels = SEAM_PREFIX_GATES * blocks->kv_cols};
}

void seam_prefix_quantizer_plan(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                const seam_prefix_config *prefix, bool exact, bool on_device) {
    seam_blocks b;
    const seam_blocks_shape shape = {.config = blocks->model,
                                     .ops = blocks->ops,
                                     .layer_begin = blocks->layer_begin,
                                     .layer_end = blocks->layer_end};
    seam_blocks_shape_init(&b, &shape);
    seam_prefix_quantizer z = shape_of(&b, prefix->tokens);
    seam_arena arena = {0};
    carve(&z, &arena, exact, on_device);
    plan->host[SEAM_MEMORY_CODEC] += sizeof z + arena.used_bytes + seam_gate_group_bytes(&z.group);
    plan->device[SEAM_MEMORY_ADAPTER] += values_bytes(&z);
    if (on_device) { /* a plan without a backend knows no work block, a few bytes a channel */
        const seam_device_codec *codec = blocks->ops->codec;
        plan->device[SEAM_MEMORY_CODEC] += codes_bytes(&z) + begin_bytes(&z) +
                                           z.channels * sizeof *z.sums_device +
                                           (codec != NULL ? codec->work_bytes(z.channels) : 0);
    }
}

static seam_status device_create(seam_prefix_quantizer *z) {
    const seam_ops *ops = z->ops;
    SEAM_TRY(ops->mem_alloc(&z->values, z->backend, values_bytes(z)));
    if (!on_device(z)) {
        return SEAM_OK;
    }
    SEAM_TRY(ops->mem_alloc((void **)&z->work, z->backend, ops->codec->work_bytes(z->channels)));
    SEAM_TRY(ops->mem_alloc((void **)&z->plane_begin, z->backend, begin_bytes(z)));
    SEAM_TRY(ops->mem_alloc((void **)&z->device_codes, z->backend, codes_bytes(z)));
    return ops->mem_alloc((void **)&z->sums_device, z->backend,
                          z->channels * sizeof *z->sums_device);
}

static seam_status fill(seam_prefix_quantizer *z, const seam_prefix_quantizer_config *config) {
    const seam_gate_group_config group = {.gates = config->gates,
                                          .bits_target = config->bits_target,
                                          .steps_to_target = config->steps_to_target,
                                          .exact = config->exact,
                                          .site_first = SEAM_SITE_PREFIX_KEYS};
    seam_arena plan = {0};
    SEAM_TRY(z->rows <= SEAM_ROWS_MAX && z->channels <= SEAM_CHANNELS_MAX ? SEAM_OK : SEAM_E_LIMIT);
    carve(z, &plan, config->exact, on_device(z));
    SEAM_TRY(seam_arena_init(&z->arena, plan.used_bytes));
    carve(z, &z->arena, config->exact, on_device(z));
    SEAM_TRY(seam_gate_group_init(&z->group, &group));
    return device_create(z);
}

seam_status seam_prefix_quantizer_create(seam_prefix_quantizer **ret_quantizer,
                                         const seam_adapter *adapter,
                                         const seam_prefix_quantizer_config *config) {
    const uint32_t tokens = seam_prefix_tokens(adapter);
    SEAM_ASSERT(tokens > 0);
    SEAM_ASSERT(adapter->blocks->ops->acc == SEAM_F32);
    seam_prefix_quantizer *z = seam_mem_zalloc(1, sizeof *z);
    if (z == NULL) {
        return SEAM_E_MEMORY;
    }
    *z = shape_of(adapter->blocks, tokens);
    z->adapter = adapter;
    const seam_status st = fill(z, config);
    if (st != SEAM_OK) {
        seam_prefix_quantizer_destroy(z);
        return st;
    }
    *ret_quantizer = z;
    return SEAM_OK;
}

void seam_prefix_quantizer_destroy(seam_prefix_quantizer *gift_quantizer) {
    seam_prefix_quantizer *const z = gift_quantizer;
    if (z == NULL) {
        return;
    }
    z->ops->mem_free(z->backend, z->sums_device);
    z->ops->mem_free(z->backend, z->device_codes);
    z->ops->mem_free(z->backend, z->plane_begin);
    z->ops->mem_free(z->backend, z->work);
    z->ops->mem_free(z->backend, z->values);
    seam_gate_group_deinit(&z->group);
    seam_arena_deinit(&z->arena);
    seam_mem_free(z);
}

const void *seam_prefix_quantizer_values(const seam_prefix_quantizer *quantizer) {
    return quantizer->values;
}

seam_gate_group *seam_prefix_quantizer_group(seam_prefix_quantizer *quantizer) {
    return &quantizer->group;
}

size_t seam_prefix_quantizer_state_bytes(const seam_model_config *model) {
    return seam_gate_group_state_bytes(SEAM_PREFIX_GATES, model->kv_heads * model->head_dim);
}

/* ---- the round trip ---- */

static seam_codec_args codec_args(const seam_prefix_quantizer *z) {
    return (seam_codec_args){.id = SEAM_CODEC_AMAQ,
                             .channels = z->channels,
                             .widths = z->group.widths,
                             .ranges = z->head + sizeof(uint32_t)};
}

static seam_status host_refresh(seam_prefix_quantizer *z, seam_stream *stream) {
    const uint32_t C = z->channels;
    const seam_rounding nearest = {.stochastic = false};
    const seam_codec_args args = codec_args(z);
    SEAM_TRY(seam_adapter_read(z->x, z->adapter, stream, 0));
    SEAM_TRY(
        seam_codec_measure(z->head + sizeof(uint32_t), SEAM_CODEC_AMAQ, z->x, z->rows, C, NULL));
    for (uint32_t row = 0; row < z->rows; row += PIECE_ROWS) {
        const uint32_t count = z->rows - row < PIECE_ROWS ? z->rows - row : PIECE_ROWS;
        SEAM_TRY(seam_codec_encode(z->codes, z->decoded + (size_t)row * C, &args,
                                   z->x + (size_t)row * C, count, &nearest, z->scratch));
    }
    SEAM_TRY(z->ops->copy_in(stream, z->values, z->decoded, values_count(z) * sizeof(float)));
    return z->ops->stream_sync(stream);
}

static seam_device_rows device_rows(const seam_prefix_quantizer *z, void *x) {
    return (seam_device_rows){.x = x, .type = SEAM_F32, .rows = z->rows, .C = z->channels};
}

static seam_device_work device_work(seam_prefix_quantizer *z) {
    uint8_t width_max = 0;
    for (uint32_t c = 0; c < z->channels; c++) {
        const uint8_t width = z->group.widths[c];
        z->begin[c + 1] = z->begin[c] + width; /* begin[0] stays 0 */
        width_max = width > width_max ? width : width_max;
    }
    return (seam_device_work){.bytes = z->work,
                              .plane_begin = z->plane_begin,
                              .planes = z->begin[z->channels],
                              .width_max = width_max};
}

static seam_status device_refresh(seam_prefix_quantizer *z, seam_stream *stream) {
    const seam_device_codec *codec = z->ops->codec;
    const size_t head_bytes =
        sizeof(uint32_t) + seam_codec_range_bytes(SEAM_CODEC_AMAQ, z->channels);
    uint32_t status = 0;
    const seam_device_encode_args args = {.work = device_work(z),
                                          .rows = device_rows(z, z->adapter->param),
                                          .ranged = device_rows(z, z->adapter->param),
                                          .codes = z->device_codes,
                                          .decoded = z->values};
    SEAM_TRY(z->ops->copy_in(stream, z->plane_begin, z->begin,
                             (z->channels + (size_t)1) * sizeof *z->begin));
    SEAM_TRY(codec->encode(stream, &args));
    SEAM_TRY(
        z->ops->copy_out(stream, z->head, z->work + codec->head_offset(z->channels), head_bytes));
    SEAM_TRY(z->ops->stream_sync(stream));
    memcpy(&status, z->head, sizeof status);
    return status == 0 ? SEAM_OK : SEAM_E_NONFINITE;
}

seam_status seam_prefix_quantizer_refresh(seam_prefix_quantizer *quantizer, seam_stream *stream) {
    seam_prefix_quantizer *const z = quantizer;
    SEAM_TRY(on_device(z) ? device_refresh(z, stream) : host_refresh(z, stream));
    const seam_codec_args args = codec_args(z);
    return seam_codec_steps(z->steps, &args);
}

/* ---- the step's end ---- */

/* sum_t g^2, or with the exact signal db, over the rows of the tensor. */
static seam_status host_signal(seam_prefix_quantizer *z, seam_stream *stream) {
    SEAM_TRY(seam_adapter_read_gradient(z->g, z->adapter, stream, 0));
    if (z->group.config.exact) {
        seam_gates_add_exact(z->group.db, z->g, z->x, z->decoded, z->group.widths, z->rows,
                             z->channels);
    } else {
        seam_gates_add_squares(z->sums, z->g, z->rows, z->channels);
    }
    return SEAM_OK;
}

static seam_status device_signal(seam_prefix_quantizer *z, seam_stream *stream) {
    const seam_device_codec *codec = z->ops->codec;
    const seam_device_rows g = device_rows(z, z->adapter->grad);
    const bool exact = z->group.config.exact;
    SEAM_TRY(exact ? codec->gate_errors(stream, z->sums_device, &g, z->adapter->param, z->values)
                   : codec->gate_squares(stream, z->sums_device, &g));
    SEAM_TRY(
        z->ops->copy_out(stream, z->sums_host, z->sums_device, z->channels * sizeof *z->sums_host));
    SEAM_TRY(z->ops->stream_sync(stream));
    if (exact) {
        seam_gates_take_exact(z->group.db, z->sums_host, z->group.widths, z->channels);
    } else {
        seam_gates_take_squares(z->sums, z->sums_host, z->channels);
    }
    return SEAM_OK;
}

seam_status seam_prefix_quantizer_signal(seam_prefix_quantizer *quantizer, seam_stream *stream,
                                         uint32_t labelled_rows) {
    seam_prefix_quantizer *const z = quantizer;
    seam_gate_group_abort(&z->group);
    memset(z->sums, 0, z->channels * sizeof *z->sums);
    SEAM_TRY(on_device(z) ? device_signal(z, stream) : host_signal(z, stream));
    if (!z->group.config.exact) {
        seam_gates_surrogate(z->group.db, z->sums, z->steps, z->group.widths, labelled_rows,
                             z->channels);
    }
    return SEAM_OK;
}

seam_status seam_prefix_quantizer_apply(seam_prefix_quantizer *quantizer, seam_stream *stream,
                                        uint64_t step, bool skipped) {
    seam_gate_group_apply(&quantizer->group, step, skipped);
    return skipped ? SEAM_OK : seam_prefix_quantizer_refresh(quantizer, stream);
}

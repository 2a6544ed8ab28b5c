/* See plan_server.h.
 *
 * The device's share is the sum that the server makes at CreateSession, from the same function
 * (kernels/model/memory_plan.h).  The host's share is formed here from the coders' sizes: the
 * server adds small arrays of its own.  Nothing is computed or allocated on a device. */
#include "plan_server.h"

#include <string.h>

#include "adapter_modules.h"
#include "coder.h"
#include "credit.h"
#include "frame.h"
#include "head.h"
#include "prefix_quantizer.h"
#include "try.h"

#define CACHE_BYTES_DEFAULT     (UINT64_C(1) << 30)
#define CACHE_BITS_DEFAULT      8u
#define DICTIONARY_ROWS_DEFAULT 65536u
#define AMAQ_BITS_MAX           16u
#define SITES                   4u
#define HEAD_ROWS_CUDA          512u
#define HEAD_ROWS_CPU           128u

/* Matrices that a session trains: the CPU keeps one a direction, and pads them to its panels. */
static size_t own_once(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    *ret_host_bytes = 0;
    return (size_t)N * C * seam_dtype_bytes(act);
}

static size_t own_twice(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act) {
    return 2 * own_once(ret_host_bytes, N, C, act);
}

/* Where seamd has no such room, or would leave it out. */
static seam_status joins_check(const seam_plan_options *o, seam_error *err) {
    const bool joins = seam_plan_on_cuda(o) && strcmp(o->dtype, "bf16") == 0;
    const bool mlp_joins = joins && !o->run.fp8;
    if (o->join_rank > SEAM_LORA_RANK_MAX || (o->join_rank != 0 && !joins)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--join-rank: up to %u, beside --device cuda, --dtype bf16",
                              (uint32_t)SEAM_LORA_RANK_MAX);
    }
    if (o->join_mlp_rank > SEAM_LORA_RANK_MAX || (o->join_mlp_rank != 0 && !mlp_joins)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--join-mlp-rank: up to %u, beside --device cuda, --dtype bf16, "
                              "without --fp8",
                              (uint32_t)SEAM_LORA_RANK_MAX);
    }
    return SEAM_OK;
}

/* The element types of a backend, without the backend. */
static seam_status types_read(seam_ops *ret_types, uint32_t *ret_copies, const seam_plan_options *o,
                              seam_error *err) {
    const bool cuda = seam_plan_on_cuda(o);
    if (!cuda && strcmp(o->device, "cpu") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--device: '%.40s' is not cuda or cpu", o->device);
    }
    if (strcmp(o->dtype, "bf16") != 0 && strcmp(o->dtype, "f32") != 0) {
        return seam_error_set(err, SEAM_E_ARG, "--dtype: '%.40s' is not bf16 or f32", o->dtype);
    }
    if (o->run.fp8 && (!cuda || strcmp(o->dtype, "bf16") != 0)) {
        return seam_error_set(err, SEAM_E_ARG, "--fp8: stands beside --device cuda, --dtype bf16");
    }
    SEAM_TRY(joins_check(o, err));
    ret_types->fp8 = o->run.fp8;
    ret_types->act = strcmp(o->dtype, "bf16") == 0 ? SEAM_BF16 : SEAM_F32;
    ret_types->acc = SEAM_F32;
    ret_types->qkv = cuda ? ret_types->act : SEAM_F32;
    ret_types->remake = cuda;
    ret_types->weight_own_bytes = cuda ? own_once : own_twice;
    ret_types->head_rows = cuda ? HEAD_ROWS_CUDA : HEAD_ROWS_CPU;
    const uint32_t join_rank = o->join_rank != 0 ? o->join_rank : SEAM_JOIN_RANK;
    ret_types->join_rank = cuda && ret_types->act == SEAM_BF16 ? join_rank : 0;
    ret_types->join_mlp_rank = o->join_mlp_rank;
    *ret_copies = cuda ? 1 : 2;
    return SEAM_OK;
}

/* What the codecs of the boundaries, or of the modules, go by. */
static void codecs_read(seam_codec_plan *ret_codec, const seam_plan_options *o) {
    const seam_train_options *const run = &o->run;
    seam_codec_plan codec = {.resend_parameters = run->resend_parameters,
                             .bits = run->bits,
                             .group = run->group,
                             .cache_format = SEAM_CACHE_FP16,
                             .dictionary_rows_max = run->dictionary_rows != 0
                                                        ? run->dictionary_rows
                                                        : DICTIONARY_ROWS_DEFAULT};
    (void)seam_codec_from_name(&codec.codec_out, run->codec); /* known: plan_options.c */
    codec.codec_in = codec.codec_out;
    if (run->codec_fwd_in != NULL) {
        (void)seam_codec_from_name(&codec.codec_in, run->codec_fwd_in);
    }
    codec.topology = seam_train_exchanges(run)               ? SEAM_TOPOLOGY_ADAPTER_EXCHANGE
                     : strcmp(run->topology, "vanilla") == 0 ? SEAM_TOPOLOGY_VANILLA
                                                             : SEAM_TOPOLOGY_U_SHAPED;
    if (run->cache_format != NULL && strcmp(run->cache_format, "quantized") == 0) {
        codec.cache_format = SEAM_CACHE_QUANTIZED;
        codec.cache_bits = run->cache_bits != 0 ? run->cache_bits : CACHE_BITS_DEFAULT;
    }
    codec.cache_bytes_max = run->cache_bytes != 0 ? run->cache_bytes : CACHE_BYTES_DEFAULT;
    codec.granularity = run->granularity != NULL && strcmp(run->granularity, "token") == 0
                            ? SEAM_GRANULARITY_TOKEN
                            : SEAM_GRANULARITY_FEATURE;
    codec.entropy = run->entropy != NULL && strcmp(run->entropy, "rans") == 0 ? SEAM_ENTROPY_RANS
                                                                              : SEAM_ENTROPY_NONE;
    *ret_codec = codec;
}

/* A reply, what arrives and one more message, rows as floats twice, and the coders. */
static void codecs_add(seam_memory_plan *plan, const seam_plan_options *o,
                       const seam_codec_plan *codec, uint32_t channels) {
    const uint32_t rows = o->run.rows_max;
    size_t tensor_bytes = 0;
    for (uint32_t site = 0; site < SITES; site++) {
        const bool gradient = site >= SITES / 2, outer = site == 0 || site == SITES - 1;
        const seam_codec_id id = seam_codec_plan_codec(codec, outer);
        const bool cached = id == SEAM_CODEC_AQSGD && !gradient;
        const seam_coder_config coder = {
            .codec = id,
            .encoder = site % 2 == 1,
            .gradient = gradient,
            .channels = channels,
            .rows_max = rows,
            .state_rows_max = rows,
            .sequences_max = o->sequences,
            .storage_bytes = cached ? (size_t)codec->cache_bytes_max : 0,
            .bits_max = seam_codec_has_gates(id) ? AMAQ_BITS_MAX : codec->bits,
            .plan = codec};
        const size_t bytes = seam_coder_bytes_max(&coder, rows);
        tensor_bytes = bytes > tensor_bytes ? bytes : tensor_bytes;
        plan->host[SEAM_MEMORY_CODEC] += seam_coder_memory_bytes(&coder);
        plan->host[SEAM_MEMORY_CACHE] += coder.storage_bytes;
    }
    if (seam_plan_on_cuda(o)) { /* it codes there: the codes of a tensor */
        plan->device[SEAM_MEMORY_CODEC] += tensor_bytes;
    }
    plan->host[SEAM_MEMORY_CODEC] += 2 * tensor_bytes + SEAM_PAYLOAD_BYTES_MAX +
                                     2 * (uint64_t)rows * channels * sizeof(float) +
                                     seam_inbox_bytes_max(SEAM_CREDIT_BYTES_DEFAULT);
}

#define FRAME_BYTES_MORE (SEAM_FRAME_HEADER_BYTES + 32) /* a frame's header and message */

/* Modules of an exchange beside the adapter: their coders, a message of parameters, an answer with
 * gradients for each micro-batch on its way. */
static void exchange_add(seam_memory_plan *plan, const seam_plan_options *o,
                         const seam_codec_plan *codec, const seam_memory_blocks *blocks,
                         const seam_adapter_config *adapter) {
    if (seam_codec_plan_has_in(codec)) {
        return;
    }
    const seam_gates_config gates = {.bits_max = AMAQ_BITS_MAX};
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    const seam_module_link_options options = {.pairs = pairs,
                                              .pair_count =
                                                  seam_adapter_sites(pairs, blocks, adapter),
                                              .plan = codec,
                                              .gates = &gates,
                                              .server = true};
    const uint64_t frames = seam_module_link_frame_count(&options) * (uint64_t)FRAME_BYTES_MORE;
    const uint64_t staging_count = o->depth > 1 ? 2 : 1;
    plan->host[SEAM_MEMORY_CODEC] +=
        seam_module_link_memory_bytes(&options) +
        staging_count * (seam_module_link_payload_bytes(&options, false) + frames) +
        o->depth * (seam_module_link_payload_bytes(&options, true) + frames);
    plan->host[SEAM_MEMORY_ADAPTER] += seam_adapter_modules_bytes(blocks, adapter);
}

/* Embedding and head, which a server with such topologies has too. */
static uint64_t head_bytes(const seam_plan_server_args *args, const seam_ops *types,
                           const seam_codec_plan *codec) {
    seam_head_plan head = {0};
    if (seam_codec_plan_is_one_pass(codec)) {
        seam_head_plan_make(&head, args->model, types, args->bf16_table);
    }
    return head.table + head.matrix + head.scratch;
}

/* What a session trains with. */
typedef struct training_shape {
    const seam_memory_blocks *blocks;
    seam_activations_options acts;
    uint32_t depth;
    uint64_t row_bytes; /* one pass: a row at the head, and its gradient */
} training_shape;

/* Activations of the micro-batches that are on their way beside the first, and of one session. */
static seam_status training_add(seam_memory_plan *plan, const training_shape *t) {
    SEAM_TRY(seam_memory_plan_training(plan, t->blocks, &t->acts));
    for (uint32_t i = 1; i < t->depth; i++) {
        SEAM_TRY(seam_memory_plan_activations(plan, t->blocks, &t->acts));
    }
    plan->device[SEAM_MEMORY_ACTIVATIONS] += t->acts.rows_max * t->row_bytes;
    return SEAM_OK;
}

/* The largest micro-batch of a single session that fits into `bytes`; 0: none does. */
static uint32_t rows_fit(const training_shape *training, uint64_t bytes) {
    uint32_t low = 0, high = SEAM_ROWS_MAX + 1; /* low fits, high does not */
    while (high - low > 1) {
        const uint32_t rows = low + (high - low) / 2;
        training_shape with = *training;
        seam_memory_plan plan = {0};
        with.acts.rows_max = rows;
        const bool fits =
            training_add(&plan, &with) == SEAM_OK && seam_memory_plan_device_bytes(&plan) <= bytes;
        low = fits ? rows : low;
        high = fits ? high : rows;
    }
    return low;
}

seam_status seam_plan_server_make(seam_plan_server *ret_plan, const seam_plan_server_args *args,
                                  seam_error *err) {
    const seam_plan_options *const o = args->options;
    const seam_model_config *const model = args->model;
    const seam_train_options *const run = &o->run;
    seam_plan_server p = {0};
    seam_ops types = {0};
    uint32_t copies = 0;
    seam_codec_plan codec;
    const seam_adapter_config adapter = {.kind = run->full                 ? SEAM_ADAPTER_FULL
                                                 : run->prefix_tokens != 0 ? SEAM_ADAPTER_PREFIX
                                                                           : SEAM_ADAPTER_LORA,
                                         .lora = {.rank = seam_plan_is_lora(o) ? run->rank : 0,
                                                  .alpha = 1,
                                                  .targets = args->targets},
                                         .prefix = {.tokens = run->prefix_tokens}};
    SEAM_TRY(types_read(&types, &copies, o, err));
    codecs_read(&codec, o);
    const seam_memory_blocks all = {.model = model, .ops = &types, .layer_end = model->layers};
    const seam_memory_blocks blocks = {.model = model,
                                       .ops = &types,
                                       .layer_begin = run->front_blocks,
                                       .layer_end = model->layers - run->tail_blocks};
    const training_shape training = {
        .blocks = &blocks,
        .acts = {.adapter = &adapter,
                 .rows_max = run->rows_max,
                 .seqs_max = o->sequences,
                 .recompute = run->recompute,
                 .fp8 = run->fp8},
        .depth = o->depth,
        .row_bytes = seam_codec_plan_is_one_pass(&codec) ? 2 * model->hidden * sizeof(float) : 0};
    p.weight_bytes = seam_memory_plan_weights(&all, copies) + head_bytes(args, &types, &codec);
    if (training_add(&p.session, &training) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_LIMIT, "the session is too large to address");
    }
    if (run->prefix_bits != 0.0f) {
        seam_prefix_quantizer_plan(&p.session, &blocks, &adapter.prefix, false,
                                   seam_plan_on_cuda(o));
    }
    seam_memory_plan kept = {0};
    if (seam_plan_on_cuda(o)) {
        seam_memory_plan_repeats(&kept, &blocks, &adapter);
        seam_memory_plan_repeats(&p.session, &blocks, &adapter);
    }
    codecs_add(&p.session, o, &codec, model->hidden);
    exchange_add(&p.session, o, &codec, &blocks, &adapter);
    const uint64_t memory = (uint64_t)((double)o->memory_gib * 0x1p30);
    const uint64_t taken = p.weight_bytes + SEAM_MEMORY_WORKSPACE_BYTES;
    const uint64_t taken_by_one = taken + seam_memory_plan_device_bytes(&kept);
    if (memory > taken) {
        p.sessions = (memory - taken) / seam_memory_plan_device_bytes(&p.session);
    }
    if (memory > taken_by_one) {
        p.rows_largest = rows_fit(&training, memory - taken_by_one);
    }
    *ret_plan = p;
    return SEAM_OK;
}

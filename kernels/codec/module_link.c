/* See module_link.h. */
#include "module_link.h"

#include <string.h>

#include "arena.h"
#include "try.h"

static uint32_t tensors_of(uint64_t rows) {
    return (uint32_t)((rows + SEAM_ROWS_MAX - 1) / SEAM_ROWS_MAX);
}

/* Rows of the largest tensor of a pair. */
static uint32_t rows_most(const seam_module_pair *pair) {
    return pair->rows < SEAM_ROWS_MAX ? (uint32_t)pair->rows : SEAM_ROWS_MAX;
}

seam_status seam_module_link_check(const seam_module_link_options *options, seam_error *err) {
    if (options->pair_count < 1 || options->pair_count > SEAM_MODULE_LINK_SITES_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "sites: %u of modules", options->pair_count);
    }
    for (uint32_t i = 0; i < options->pair_count; i++) {
        const seam_module_pair *pair = &options->pairs[i];
        const uint64_t rows_max = (uint64_t)SEAM_MODULE_TENSORS_MAX * SEAM_ROWS_MAX;
        if (pair->rows == 0 || pair->rows > rows_max || pair->channels == 0 ||
            pair->channels > SEAM_CHANNELS_MAX ||
            seam_coder_channels_check(pair->channels) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_ARG, "site %u: %llu rows of %u channels", pair->site,
                                  (unsigned long long)pair->rows, pair->channels);
        }
        SEAM_TRY(seam_codec_plan_check(options->plan, pair->channels, err));
    }
    SEAM_TRY(seam_module_codec_check(seam_codec_plan_module_codec(options->plan, false), err));
    return seam_module_codec_check(seam_codec_plan_module_codec(options->plan, true), err);
}

static size_t scratch_bytes(const seam_module_link_options *options) {
    size_t most = 0;
    for (uint32_t i = 0; i < options->pair_count; i++) {
        const size_t bytes =
            (size_t)rows_most(&options->pairs[i]) * options->pairs[i].channels * sizeof(float);
        most = bytes > most ? bytes : most;
    }
    return most;
}

size_t seam_module_link_memory_bytes(const seam_module_link_options *options) {
    size_t bytes = scratch_bytes(options) + SEAM_PAYLOAD_BYTES_MAX;
    for (uint32_t i = 0; i < options->pair_count; i++) {
        for (int gradient = 0; gradient < 2; gradient++) {
            const seam_coder_config coder =
                seam_module_link_coder_config(options, i, gradient != 0);
            bytes += seam_coder_memory_bytes(&coder);
        }
    }
    return bytes;
}

size_t seam_module_link_payload_bytes(const seam_module_link_options *options, bool gradient) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < options->pair_count; i++) {
        const seam_coder_config coder = seam_module_link_coder_config(options, i, gradient);
        bytes += tensors_of(options->pairs[i].rows) * seam_coder_bytes_max(&coder, coder.rows_max);
    }
    return bytes;
}

uint32_t seam_module_link_frame_count(const seam_module_link_options *options) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < options->pair_count; i++) {
        count += tensors_of(options->pairs[i].rows) *
                 seam_coder_chunks_max(rows_most(&options->pairs[i]));
    }
    return count;
}

seam_coder_config seam_module_link_coder_config(const seam_module_link_options *options,
                                                uint32_t pair_idx, bool gradient) {
    const seam_module_link_options *const o = options;
    const seam_module_pair *const pair = &o->pairs[pair_idx];
    const bool gates = seam_codec_plan_has_gates_modules(o->plan);
    return (seam_coder_config){.codec = seam_codec_plan_module_codec(o->plan, gradient),
                               .encoder = o->server == gradient,
                               .gradient = gradient,
                               .channels = pair->channels,
                               .rows_max = rows_most(pair),
                               .bits_max = gates ? (uint32_t)o->gates->bits_max : o->plan->bits,
                               .plan = o->plan};
}

static seam_status pair_create(seam_module_link *link, const seam_module_link_options *o,
                               uint32_t idx, seam_error *err) {
    seam_site_config site = {.site_id = o->pairs[idx].site,
                             .codec = seam_codec_plan_module_codec(o->plan, true),
                             .width_count = o->pairs[idx].channels,
                             .bits_fixed = (uint8_t)o->plan->bits,
                             .waterfill = o->plan->allocator == SEAM_ALLOCATOR_WATERFILL,
                             .owner = !o->server};
    if (seam_codec_plan_has_gates_modules(o->plan)) {
        site.gates = *o->gates;
    }
    SEAM_TRY(seam_site_create(&link->sites[idx], &site, err));
    for (int gradient = 0; gradient < 2; gradient++) {
        const seam_coder_config coder = seam_module_link_coder_config(o, idx, gradient != 0);
        SEAM_TRY(seam_coder_create(&link->coders[idx][gradient], &coder));
    }
    return SEAM_OK;
}

void seam_module_link_sketch(seam_module_link *ret_link, const seam_module_link_options *options) {
    *ret_link = (seam_module_link){.pair_count = options->pair_count,
                                   .codecs = {seam_codec_plan_module_codec(options->plan, false),
                                              seam_codec_plan_module_codec(options->plan, true)},
                                   .seed = options->seed};
    memcpy(ret_link->pairs, options->pairs, options->pair_count * sizeof *ret_link->pairs);
}

seam_status seam_module_link_create(seam_module_link *ret_link,
                                    const seam_module_link_options *options, seam_error *err) {
    SEAM_ASSERT(seam_module_link_check(options, NULL) == SEAM_OK);
    seam_module_link *const link = ret_link;
    seam_module_link_sketch(link, options);
    link->rows = seam_mem_alloc(scratch_bytes(options));
    link->payload = seam_mem_alloc(SEAM_PAYLOAD_BYTES_MAX);
    seam_status st = link->rows != NULL && link->payload != NULL ? SEAM_OK : SEAM_E_MEMORY;
    for (uint32_t i = 0; i < options->pair_count && st == SEAM_OK; i++) {
        st = pair_create(link, options, i, err);
    }
    if (st != SEAM_OK) {
        seam_module_link_destroy(link);
        return seam_error_set(err, st, "modules: %s", seam_status_text(st));
    }
    return SEAM_OK;
}

void seam_module_link_destroy(seam_module_link *link) {
    for (uint32_t i = 0; i < SEAM_MODULE_LINK_SITES_MAX; i++) {
        for (int gradient = 0; gradient < 2; gradient++) {
            seam_coder_destroy(link->coders[i][gradient]);
        }
        seam_site_destroy(link->sites[i]);
    }
    seam_mem_free(link->payload);
    seam_mem_free(link->rows);
    *link = (seam_module_link){.pair_count = 0};
}

uint32_t seam_module_link_tensor_count(const seam_module_link *link) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < link->pair_count; i++) {
        count += tensors_of(link->pairs[i].rows);
    }
    return count;
}

const seam_alloc *seam_module_link_alloc(const seam_module_link *link, uint32_t pair_idx,
                                         bool gradient, uint64_t step) {
    static const seam_alloc none = {.version = 0};
    const seam_alloc *alloc = &none;
    if (seam_codec_has_widths(link->codecs[gradient]) &&
        seam_site_alloc_at(&alloc, link->sites[pair_idx], step) != SEAM_OK) {
        return NULL;
    }
    return alloc;
}

seam_module_tensor seam_module_link_tensor(const seam_module_link *link, bool gradient,
                                           uint32_t idx, uint64_t step) {
    SEAM_ASSERT(idx < seam_module_link_tensor_count(link));
    uint32_t pair = 0;
    while (idx >= tensors_of(link->pairs[pair].rows)) {
        idx -= tensors_of(link->pairs[pair].rows);
        pair++;
    }
    const seam_module_pair *of = &link->pairs[pair];
    const uint64_t left = of->rows - (uint64_t)idx * SEAM_ROWS_MAX;
    return (seam_module_tensor){.pair_idx = pair,
                                .tensor_idx = idx,
                                .site = gradient ? of->gradient_site : of->site,
                                .rows = left < SEAM_ROWS_MAX ? (uint32_t)left : SEAM_ROWS_MAX,
                                .channels = of->channels,
                                .codec = link->codecs[gradient],
                                .step = step};
}

/* NULL where a codec has no widths: what coders want. */
static const seam_alloc *with_widths(const seam_alloc *alloc) {
    return alloc->widths != NULL ? alloc : NULL;
}

seam_status seam_module_link_encode(seam_module_bytes *bytes, seam_module_link *link,
                                    const seam_module_stack *stack,
                                    const seam_module_link_args *args) {
    const seam_module_pair *pair = &link->pairs[args->pair_idx];
    const seam_alloc *alloc =
        seam_module_link_alloc(link, args->pair_idx, args->gradient, args->step);
    SEAM_TRY(alloc != NULL ? SEAM_OK : SEAM_E_STATE);
    const seam_module_encode_args own = {
        .coder = link->coders[args->pair_idx][args->gradient],
        .codec = link->codecs[args->gradient],
        .alloc = with_widths(alloc),
        .rounding = {.stochastic =
                         args->gradient && seam_codec_has_widths(link->codecs[args->gradient]),
                     .seed = link->seed,
                     .step = args->step,
                     .site = args->gradient ? pair->gradient_site : pair->site},
        .rows = link->rows,
        .payload = link->payload,
        .ret_decoded = args->ret_decoded,
        .take = args->take,
        .user = args->user};
    SEAM_ASSERT(seam_module_stack_rows(stack) == pair->rows);
    return seam_module_stack_encode(bytes, stack, &own);
}

seam_status seam_module_link_decode(bool *ret_complete, seam_module_link *link,
                                    const seam_module_stack *stack,
                                    const seam_module_tensor *tensor, bool gradient,
                                    const seam_coder_chunk *chunk, const uint8_t *payload,
                                    seam_error *err) {
    const seam_alloc *alloc =
        seam_module_link_alloc(link, tensor->pair_idx, gradient, tensor->step);
    SEAM_TRY(alloc != NULL ? SEAM_OK : SEAM_E_STATE);
    const seam_module_decode_args own = {.coder = link->coders[tensor->pair_idx][gradient],
                                         .codec = link->codecs[gradient],
                                         .alloc = with_widths(alloc),
                                         .rows = link->rows};
    return seam_module_stack_decode(ret_complete, stack, &own, tensor->tensor_idx, chunk, payload,
                                    err);
}

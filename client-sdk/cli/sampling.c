/* See sampling.h. */
#include "sampling.h"

#include <stddef.h>

const seam_arg_spec seam_sampling_specs[] = {
    {"top-p", SEAM_ARG_F32, offsetof(seam_sampling, top_p), "X",
     "share of the probability to sample from [0.9]"},
    {"seed", SEAM_ARG_U64, offsetof(seam_sampling, seed), "N", "of the sampling [0]"},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

seam_status seam_sampling_settle(seam_sampling *sampling, float temperature_default,
                                 seam_error *err) {
    if (isnan(sampling->temperature)) {
        sampling->temperature = temperature_default;
    }
    if (!(sampling->temperature >= 0.0f)) {
        return seam_error_set(err, SEAM_E_ARG, "--temperature: %g is below 0",
                              (double)sampling->temperature);
    }
    if (!(sampling->top_p > 0.0f && sampling->top_p <= 1.0f)) {
        return seam_error_set(err, SEAM_E_ARG, "--top-p: %g is not above 0 and at most 1",
                              (double)sampling->top_p);
    }
    return SEAM_OK;
}

static uint32_t stop_ids_of(uint32_t ret_ids[SEAM_STOP_IDS_MAX], const seam_tokenizer *tokenizer) {
    static const char *const ENDS[SEAM_STOP_IDS_MAX - 1] = {"<|im_end|>", "<|eot_id|>", "<|end|>"};
    uint32_t count = 0;
    uint32_t end = 0;
    const int64_t eos = seam_tokenizer_eos(tokenizer);
    if (eos >= 0) {
        ret_ids[count++] = (uint32_t)eos;
    }
    for (size_t i = 0; i < SEAM_STOP_IDS_MAX - 1; i++) {
        if (seam_tokenizer_find_added(&end, tokenizer, ENDS[i]) &&
            (count == 0 || ret_ids[0] != end)) {
            ret_ids[count++] = end;
        }
    }
    return count;
}

void seam_sampling_generation(seam_generation_options *ret_options,
                              uint32_t ret_stop_ids[SEAM_STOP_IDS_MAX],
                              const seam_sampling *sampling, const seam_tokenizer *tokenizer,
                              uint32_t new_tokens_max) {
    *ret_options = (seam_generation_options)SEAM_GENERATION_OPTIONS_INIT;
    ret_options->new_tokens_max = new_tokens_max;
    ret_options->temperature = sampling->temperature;
    ret_options->top_p = sampling->top_p;
    ret_options->seed = sampling->seed;
    ret_options->stop_ids = ret_stop_ids;
    ret_options->stop_count = stop_ids_of(ret_stop_ids, tokenizer);
}

uint32_t seam_sampling_positions(size_t prompt_tokens, uint32_t new_tokens_max,
                                 uint32_t context_max) {
    const uint64_t wanted = (uint64_t)prompt_tokens + new_tokens_max + 1;
    return wanted < context_max ? (uint32_t)wanted : context_max;
}

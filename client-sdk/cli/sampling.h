/* How the next token of a generated text is drawn: what `seam generate` and `seam eval` share. */
#ifndef SEAM_SAMPLING_H
#define SEAM_SAMPLING_H

#include <math.h>
#include <stddef.h>

#include "cli_args.h"
#include "seam_model.h"
#include "tokenizer.h"

#define SEAM_STOP_IDS_MAX 4

typedef struct seam_sampling {
    float temperature, top_p; /* temperature 0: the most likely token */
    uint64_t seed;
} seam_sampling;

/* NAN: not given. */
#define SEAM_SAMPLING_INIT                                                                         \
    { .temperature = NAN, .top_p = 0.9f }

extern const seam_arg_spec seam_sampling_specs[]; /* of a seam_sampling, behind the next row */
/* Of a command's struct, whose member `sampling` it is; usual: "[...]", where none is given. */
#define SEAM_OPTION_TEMPERATURE(type, usual)                                                       \
    {                                                                                              \
        "temperature", SEAM_ARG_F32, offsetof(type, sampling.temperature), "X",                    \
            "of generated texts; 0: the most likely token " usual                                  \
    }

/* A temperature that was not given becomes this one.  SEAM_E_ARG: a value out of range. */
seam_status seam_sampling_settle(seam_sampling *sampling, float temperature_default,
                                 seam_error *err);
/* Texts drawn so, until the tokenizer's end token or one that ends a message in the chat formats of
 * chat.h.  ret_options borrows ret_stop_ids. */
void seam_sampling_generation(seam_generation_options *ret_options,
                              uint32_t ret_stop_ids[SEAM_STOP_IDS_MAX],
                              const seam_sampling *sampling, const seam_tokenizer *tokenizer,
                              uint32_t new_tokens_max);

/* Positions of an inference for such texts: prompt, new tokens and one more, at most the context.
 */
uint32_t seam_sampling_positions(size_t prompt_tokens, uint32_t new_tokens_max,
                                 uint32_t context_max);

#endif

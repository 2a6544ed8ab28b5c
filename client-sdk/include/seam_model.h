/* libseam-model: the client's share of a model, on top of seam.h.
 *
 * Holds the token embedding, the final norm and the LM head of one model, its first and last blocks
 * where a session leaves them to the client, and nothing else of it;
 * takes token ids, runs training steps, scores and generates through a session.  Text becomes ids
 * outside (the CLI's text/ folder, or any tokenizer of the caller).
 *
 * Threads: a model, a trainer and a generation are used by one thread at a time. */
#ifndef SEAM_MODEL_H
#define SEAM_MODEL_H

#include "seam.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seam_model seam_model;

typedef struct seam_model_options {
    size_t struct_bytes;
    const char *path;   /* Hugging Face directory, directory with one .gguf, or a .gguf file */
    uint32_t threads;   /* 0: all cores */
    bool f32;           /* products in f32 even where the processor has bf16 */
    const char *device; /* cpu, or cuda:N in a library built with CUDA; NULL: cpu */
    uint32_t front_blocks, tail_blocks; /* that are this machine's; of both, fewer than all */
} seam_model_options;
#define SEAM_MODEL_OPTIONS_INIT                                                                    \
    { sizeof(seam_model_options), NULL, 0, false, NULL, 0, 0 }

/* SEAM_E_NOT_FOUND, SEAM_E_FORMAT, SEAM_E_UNIMPLEMENTED (architecture), SEAM_E_IO, SEAM_E_MEMORY,
 * SEAM_E_ARG; err names the file and the field. */
SEAM_API seam_status seam_model_open(seam_model **ret_model, const seam_model_options *options,
                                     seam_error *err);
SEAM_API void seam_model_close(seam_model *gift_model); /* NULL is fine */

typedef struct seam_model_facts {
    char name[128], architecture[128];
    char backend[128]; /* what runs the products */
    uint32_t vocab, hidden, layers, context_max;
    uint64_t identity;                  /* for seam_session_options.model_identity */
    uint64_t bytes;                     /* weights held by this process */
    int64_t bos_id, eos_id;             /* -1: none stated */
    uint32_t lora_targets;              /* SEAM_TARGET_... that the model has */
    uint32_t front_blocks, tail_blocks; /* that this process holds */
} seam_model_facts;
SEAM_API void seam_model_describe(seam_model_facts *ret_facts, const seam_model *model);

/* Token sequences, one after another, no padding. */
typedef struct seam_token_batch {
    uint32_t sequence_count;
    const uint32_t *sequence_rows; /* (sequence_count); T is their sum */
    const uint32_t *ids;           /* (T) */
    const uint8_t *labelled_rows;  /* bitmap over T: rows whose next token is in the loss */
    const uint32_t *targets;       /* (labelled rows) the tokens that they should predict */
    const uint64_t *sample_ids;    /* (sequence_count) or NULL */
} seam_token_batch;

/* ---- Training ---- */

typedef struct seam_trainer seam_trainer;

/* Both are borrowed until the trainer is destroyed.  Where the session leaves blocks to the client,
 * the model must have them; what is to be trained there is the trainer's, as is the adapter of
 * adapter_exchange, and it is the session's own part (seam_session_own: before
 * seam_session_journal; after seam_session_resume, at once). SEAM_E_ARG: hidden size or blocks
 * differ; SEAM_E_STATE as seam_session_own. */
SEAM_API seam_status seam_trainer_create(seam_trainer **ret_trainer, seam_session *session,
                                         seam_model *model, seam_error *err);
SEAM_API void seam_trainer_destroy(seam_trainer *gift_trainer); /* NULL is fine */

typedef struct seam_train_report {
    size_t struct_bytes;
    double loss;                                      /* mean over the step's labelled rows, nats */
    uint64_t tokens, labelled_tokens, correct_tokens; /* correct: most likely token = target */
    double seconds, head_seconds;
    seam_step_report step;
} seam_train_report;
#define SEAM_TRAIN_REPORT_INIT                                                                     \
    { sizeof(seam_train_report), 0, 0, 0, 0, 0, 0, SEAM_STEP_REPORT_INIT }

/* One optimizer step over the micro-batches; report is written, not NULL.  Errors of the step calls
 * of seam.h, and SEAM_E_ARG (a token outside the vocabulary), SEAM_E_NONFINITE (the loss),
 * SEAM_E_NONDETERMINISM (adapter_exchange: the server's adapter is not this one any more). */
SEAM_API seam_status seam_trainer_step(seam_trainer *trainer, const seam_token_batch *micros,
                                       uint32_t micro_count, seam_train_report *report,
                                       seam_error *err);

/* The adapter of both ends as one, in PEFT's two files: as seam_session_export where the client
 * trains nothing.  What is written has been read back and compared before it takes the place of an
 * earlier one.  With adapter_exchange, all of it is here.  SEAM_E_IO, SEAM_E_FORMAT;
 * *ret_state_hash (may be NULL): the server's. */
SEAM_API seam_status seam_trainer_export(seam_trainer *trainer, const char *directory,
                                         uint64_t *ret_state_hash, seam_error *err);
/* The start of both ends from one PEFT directory, before the first step (and before
 * seam_session_journal).  Errors as seam_session_import, and SEAM_E_FORMAT for a block that has no
 * LoRA in this session. */
SEAM_API seam_status seam_trainer_import(seam_trainer *trainer, const char *directory,
                                         seam_error *err);

/* ---- Evaluation ---- */

typedef struct seam_score {
    double loss_sum; /* nats over the labelled rows */
    uint64_t labelled_tokens, correct_tokens;
} seam_score;
/* Adds a batch's score; inference of kind FORWARD.  Through blocks of the client's with the adapter
 * of the trainer that has the model, if there is one.  SEAM_E_ARG: not the session's hidden size, a
 * batch that the model cannot read; other errors as of seam_inference_run. */
SEAM_API seam_status seam_model_score(seam_score *score, seam_model *model,
                                      seam_inference *inference, const seam_token_batch *batch,
                                      seam_error *err);

/* What follows a labelled row: any number of tokens may be asked for at one row, so that texts with
 * a common beginning cost one forward of it. */
typedef struct seam_token_query {
    uint32_t row; /* of T; labelled */
    uint32_t token;
} seam_token_query;
typedef struct seam_token_answer {
    double log_probability; /* nats */
    bool is_likeliest;      /* no token is likelier (the lowest id on ties) */
} seam_token_answer;
/* One answer a query; batch->targets is not looked at.  Inference of kind FORWARD; errors as of
 * seam_model_score. */
SEAM_API seam_status seam_model_query(seam_token_answer *ret_answers, seam_model *model,
                                      seam_inference *inference, const seam_token_batch *batch,
                                      const seam_token_query *queries, uint32_t query_count,
                                      seam_error *err);

typedef struct seam_generation_options {
    size_t struct_bytes;
    uint32_t new_tokens_max;  /* of a prompt, at least 1 */
    float top_p, temperature; /* temperature 0: the most likely token (lowest id on ties) */
    uint64_t seed;
    const uint32_t *stop_ids; /* a generation ends before such a token */
    uint32_t stop_count;
} seam_generation_options;
#define SEAM_GENERATION_OPTIONS_INIT                                                               \
    { sizeof(seam_generation_options), 128, 1.0f, 0.0f, 0, NULL, 0 }

/* Called for each new token in order; stop tokens are not reported.  `last`: the prompt is done
 * (token_count may then be 0: it ended with a stop token). */
typedef void seam_token_fn(void *user, uint32_t prompt_idx, const uint32_t *tokens,
                           uint32_t token_count, bool last);

typedef struct seam_prompt {
    const uint32_t *ids;
    uint32_t count; /* at least 1 */
} seam_prompt;
/* Continues every prompt; as many as the inference has slots are in flight at once.  Inference of
 * kind GENERATE, freshly opened with slot_count, positions_max, rows_max.  What a prompt gives
 * does not depend on the others, as long as the codec is f32 or bf16.
 * SEAM_E_LIMIT: a prompt does not fit into positions_max or rows_max; SEAM_E_ARG: not the session's
 * hidden size; other errors as of seam_inference_run. */
SEAM_API seam_status seam_model_generate(seam_model *model, seam_inference *inference,
                                         const seam_prompt *prompts, uint32_t prompt_count,
                                         const seam_generation_options *options,
                                         seam_token_fn *visit, void *user, seam_error *err);

#ifdef __cplusplus
}
#endif
#endif

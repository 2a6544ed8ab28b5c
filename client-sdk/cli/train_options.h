/* Options of `seam train`: the table, the paper's presets, and what they mean for a session. */
#ifndef SEAM_TRAIN_OPTIONS_H
#define SEAM_TRAIN_OPTIONS_H

#include "cli.h"
#include "seam_model.h"

#define SEAM_TARGETS_TEXT_BYTES 48

/* targets may point into it: not to be moved after seam_train_options_finish. */
typedef struct seam_train_options {
    seam_common_options common;
    seam_server_options server;
    /* What is trained on what. */
    const char *model, *server_model, *data, *eval_data, *out, *adapter, *name, *preset, *device,
        *trace;
    const char *topology, *consent;
    bool resend_parameters;
    const char *resume; /* the folder of a run that goes on; then `out` is that folder */
    uint32_t steps, batch, train_rows, rows_max, tokens_max, save_every, threads;
    uint32_t front_blocks, tail_blocks, all_layer_steps, prefix_steps;
    float all_layer_bits, prefix_bits;
    const char *pipeline_depth; /* seam_train_depth_read */
    bool truncate, f32, delete_session, recompute, fp8, rslora, full;
    /* No options: */
    bool delete_cut; /* delete_session holds for a run that was cut, which is made again from its
                      * start */
    const json_t *adapter_stated; /* of a run that goes on: what --adapter was; NULL: its folder
                                   * says it */
    const json_t *command;        /* what --resume is to go by; NULL: the run cannot go on */
    uint64_t seed;
    /* Adapter and optimizer. */
    uint32_t rank, prefix_tokens;
    float alpha, dropout;
    const char *targets, *schedule, *lora_side;
    char targets_of_adapter[SEAM_TARGETS_TEXT_BYTES]; /* no option: what targets may point to */
    bool targets_by_model; /* targets is the default, which the model may change */
    float lr, weight_decay, clip_norm, adam_beta1, adam_beta2, adam_eps;
    uint64_t warmup;
    /* Compressor. */
    const char *codec, *codec_fwd_in, *entropy, *cache_format, *cache_dir;
    const char *clip, *bits_loss, *gate_signal, *allocator, *granularity;
    uint32_t bits, group, dictionary_rows, cache_bits, alloc_lag;
    uint64_t cache_bytes, steps_to_target;
    const char *rate;
    float rate_bits_min, rate_bits_max, step_seconds;
    float target, bits_min, bits_max, bits_start, gate_alpha, beta, bits_lr, beta_after,
        bits_lr_after, beta_paper, channels_paper; /* by preset: beta at so many channels */
    bool labelled_rows_only, distinct_rows_only, elide_input_gradient, dictionary;
    /* Evaluation. */
    uint32_t eval_rows, eval_new_tokens, eval_slots;
    const char *eval_quantized;
    bool eval_before, exact_match;
    /* What a step's time is predicted by. */
    float mbit, rtt_ms, server_tokens_per_s;
} seam_train_options;

/* SEAM_E_ARG names the option.  Help asked for: the other fields are not checked. */
seam_status seam_train_options_parse(seam_train_options *ret_options, int argc, char **argv,
                                     int first, seam_error *err);
/* The same in three steps, for a command that makes several runs: defaults that are not zero;
 * options on top of what is there (extra: a table that is looked at first, or NULL); the other
 * defaults, presets and checks.  SEAM_E_ARG names the option. */
void seam_train_options_init(seam_train_options *ret_options);
seam_status seam_train_options_read(seam_train_options *options, const seam_arg_table *extra,
                                    int argc, char **argv, int first, seam_error *err);
seam_status seam_train_options_finish(seam_train_options *options, seam_error *err);
/* The last of these for a plan, which need not name data and a folder.  SEAM_E_ARG names the
 * option. */
seam_status seam_train_options_settle(seam_train_options *options, seam_error *err);
extern const seam_arg_spec seam_train_codec_specs[];
void seam_train_options_help(void);
/* Defaults that depend on the channels that have gates: beta and what follows from it.  hidden: the
 * model's hidden size. */
void seam_train_options_scale(seam_train_options *options, uint32_t hidden);
/* What only a command line is judged by, before seam_train_options_finish: options that the codec
 * does not have, and the like.  A run that goes on, and the rows of a bench, may have them.
 * SEAM_E_ARG names the option. */
seam_status seam_train_given_check(const seam_train_options *options, seam_error *err);
/* Numbers that every server would refuse, once defaults are in place.  SEAM_E_ARG names the
 * option. */
seam_status seam_train_ranges_check(const seam_train_options *options, seam_error *err);
/* Topology adapter_exchange. */
bool seam_train_exchanges(const seam_train_options *options);
/* --codec, or what stands for it. */
const char *seam_train_codec(const seam_train_options *options);
/* --pipeline-depth; *ret_depth 0: auto.  SEAM_E_ARG. */
seam_status seam_train_depth_read(uint32_t *ret_depth, const seam_train_options *options,
                                  seam_error *err);
/* With --adapter: what it is, where the command line does not say; SEAM_E_ARG names an option that
 * says otherwise.  Read from its folder, or where the options have it from adapter_stated.
 * SEAM_E_IO, SEAM_E_FORMAT. */
seam_status seam_train_adapter_take(seam_train_options *options, seam_error *err);
/* What it was, for adapter_stated of a process that goes on without the folder: LoRA's rank, alpha,
 * rslora and targets, prefix_tokens, or full with front_blocks and tail_blocks.  NULL: no
 * memory. */
json_t *seam_train_adapter_json(const seam_train_options *options);
/* What the session is to have room for; *ret_auto: how much of it is used is measured.  Asks the
 * server. */
seam_status seam_train_depth_choose(uint32_t *ret_depth, bool *ret_auto,
                                    const seam_train_options *options, seam_client *client,
                                    seam_error *err);
/* The paper's settings where the command line says nothing, and the beta that it found.
 * SEAM_E_ARG. */
seam_status seam_train_preset_apply(seam_train_options *options, seam_error *err);
/* LoRA, a prefix or the blocks in full; SEAM_E_ARG names what does not go together. */
seam_status seam_train_adapter_check(const seam_train_options *options, seam_error *err);
/* q and v, or qkv where the model has those as one. */
uint32_t seam_targets_default(const seam_model_facts *facts);
/* targets "q,v" -> bits of SEAM_TARGET_*.  SEAM_E_ARG names the target. */
seam_status seam_targets_parse(uint32_t *ret_targets, const char *text, seam_error *err);
/* The session that the options ask for; strings are borrowed from them. */
seam_status seam_train_session_options(seam_session_options *ret_session,
                                       const seam_train_options *options, seam_error *err);
/* Every option that bears on the result, by name, as it would be typed, without those that have no
 * value; two runs with the same ones, of the same version, did the same.  After
 * seam_train_options_finish with the defaults that do not depend on the model.  Call it before
 * seam_train_options_scale. */
json_t *seam_train_options_typed(const seam_train_options *options);
/* For the report. */
json_t *seam_train_options_json(const seam_train_options *options);

#endif

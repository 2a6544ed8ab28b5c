/* Options that mean the same in several commands, as rows of their tables (cli_args.h): each goes
 * into the member of this name of the command's struct `type`. */
#ifndef SEAM_SHARED_OPTIONS_H
#define SEAM_SHARED_OPTIONS_H

#include "cli_args.h"

#define SEAM_OPTION(type, name, kind, member, value, help)                                         \
    { name, kind, offsetof(type, member), value, help }

/* ---- rows of data ---- */
#define SEAM_OPTION_DATA(type)                                                                     \
    SEAM_OPTION(type, "data", SEAM_ARG_TEXT, data, "FILE", "JSONL, may be gzipped")
#define SEAM_OPTION_TOKENS_MAX(type)                                                               \
    SEAM_OPTION(type, "tokens-max", SEAM_ARG_COUNT, tokens_max, "N",                               \
                "longest row in tokens [the context]")
#define SEAM_OPTION_TRUNCATE(type)                                                                 \
    SEAM_OPTION(type, "truncate", SEAM_ARG_FLAG, truncate, NULL,                                   \
                "cut longer rows instead of refusing them")
#define SEAM_OPTION_BATCH(type)                                                                    \
    SEAM_OPTION(type, "batch", SEAM_ARG_COUNT, batch, "N", "rows of data a step [8]")
#define SEAM_OPTION_TRAIN_ROWS(type)                                                               \
    SEAM_OPTION(type, "train-rows", SEAM_ARG_COUNT, train_rows, "N",                               \
                "use the first N rows of --data [all]")
#define SEAM_OPTION_STEPS(type)                                                                    \
    SEAM_OPTION(type, "steps", SEAM_ARG_COUNT, steps, "N", "optimizer steps [100]")
#define SEAM_OPTION_SEED(type)                                                                     \
    SEAM_OPTION(type, "seed", SEAM_ARG_U64, seed, "N",                                             \
                "order of rows, adapter's start, rounding [0]")
#define SEAM_OPTION_EXACT_MATCH(type)                                                              \
    SEAM_OPTION(type, "exact-match", SEAM_ARG_ONOFF, exact_match, "on|off",                        \
                "generate and compare [on]")

/* ---- a session ---- */
#define SEAM_ROWS_PER_MICRO_DEFAULT 2048u
#define SEAM_LORA_RANK_DEFAULT      16u
#define SEAM_BATCH_DEFAULT          8u
#define SEAM_STEPS_DEFAULT          100u

#define SEAM_OPTION_SERVER_MODEL(type)                                                             \
    SEAM_OPTION(type, "server-model", SEAM_ARG_TEXT, server_model, "NAME",                         \
                "model on the server [the one of this model's shape; needed where several are]")
#define SEAM_OPTION_ROWS_MAX(type)                                                                 \
    SEAM_OPTION(type, "rows-max", SEAM_ARG_COUNT, rows_max, "N", "tokens of one micro-batch [2048]")
#define SEAM_OPTION_TAIL_BLOCKS(type) /* behind the row of front-blocks */                         \
    SEAM_OPTION(type, "tail-blocks", SEAM_ARG_U32, tail_blocks, "M",                               \
                "its last M blocks likewise [0]")
#define SEAM_OPTION_RANK(type)                                                                     \
    SEAM_OPTION(type, "rank", SEAM_ARG_COUNT, rank, "N", "LoRA rank [16]")
#define SEAM_OPTION_TARGETS(type)                                                                  \
    SEAM_OPTION(type, "targets", SEAM_ARG_TEXT, targets, "LIST",                                   \
                "of q,k,v,o,gate,up,down [q,v]; Phi-3: of qkv,o,gate_up,down [qkv]")
#define SEAM_OPTION_CACHE_BYTES(type)                                                              \
    SEAM_OPTION(type, "cache-bytes", SEAM_ARG_COUNT64, cache_bytes, "N",                           \
                "aqsgd: size of the cache at each end and site [1073741824]")

/* ---- a run, for what it sends ---- */
#define SEAM_OPTION_PRESET(type)                                                                   \
    SEAM_OPTION(                                                                                   \
        type, "preset", SEAM_ARG_TEXT, preset, "TASK[@MODEL]",                                     \
        "the paper's settings: gsm8k, math, codealpaca, boolq, arc_challenge, winogrande, "        \
        "commonsense_qa; for llama3-8b or qwen2.5-7b [llama3-8b]")
#define SEAM_OPTION_ADAPTER(type)                                                                  \
    SEAM_OPTION(type, "adapter", SEAM_ARG_TEXT, adapter, "DIR",                                    \
                "start from this PEFT adapter or these trained layers: rank, alpha, targets and "  \
                "the like are its own")
#define SEAM_OPTION_TOPOLOGY(type)                                                                 \
    SEAM_OPTION(type, "topology", SEAM_ARG_TEXT, topology, "NAME",                                 \
                "u_shaped: labels stay here; vanilla: head and loss are the server's; "            \
                "adapter_exchange: the whole model is, adapter and optimizer are here [u_shaped]")
#define SEAM_OPTION_CONSENT(type)                                                                  \
    SEAM_OPTION(type, "consent", SEAM_ARG_TEXT, consent, "WHAT",                                   \
                "what the server may be shown: labels (vanilla), text (adapter_exchange) "         \
                "[nothing]")
#define SEAM_OPTION_RESEND(type)                                                                   \
    SEAM_OPTION(                                                                                   \
        type, "resend-parameters", SEAM_ARG_FLAG, resend_parameters, NULL,                         \
        "adapter_exchange: quantized parameters travel every step, as in the paper [once]")

/* ---- the link, for a step's predicted time: plan_wire.h ---- */
#define SEAM_OPTION_MBIT(type)                                                                     \
    SEAM_OPTION(type, "mbit", SEAM_ARG_POSITIVE, mbit, "N",                                        \
                "the link's rate each way in Mbit/s, for a step's predicted time [no time]")
#define SEAM_OPTION_RTT_MS(type)                                                                   \
    SEAM_OPTION(type, "rtt-ms", SEAM_ARG_WEIGHT, rtt_ms, "X", "its round trip, with --mbit [0]")
#define SEAM_OPTION_SERVER_TOKENS(type)                                                            \
    SEAM_OPTION(type, "server-tokens-per-s", SEAM_ARG_POSITIVE, server_tokens_per_s, "N",          \
                "what the server trains on, as an earlier run's report has it (tokens by "         \
                "server_seconds) [its time is left out]")

#endif

/* What a session is to be: the options of seam_session_create.  Part of seam.h, which includes it
 * and has the terms. */
#ifndef SEAM_SESSION_OPTIONS_H
#define SEAM_SESSION_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* seam_session_options.lora_targets */
       SEAM_TARGET_Q = 1u << 0,
       SEAM_TARGET_K = 1u << 1,
       SEAM_TARGET_V = 1u << 2,
       SEAM_TARGET_O = 1u << 3,
       SEAM_TARGET_GATE = 1u << 4,
       SEAM_TARGET_UP = 1u << 5,
       SEAM_TARGET_DOWN = 1u << 6,
       SEAM_TARGET_QKV = 1u << 7,    /* q, k, v as one module: architecture phi3, which has no */
       SEAM_TARGET_GATE_UP = 1u << 8 /* SEAM_TARGET_Q; gate, up likewise */
};

/* Names are those of the CLI's options.  Defaults in brackets. */
typedef struct seam_session_options {
    size_t struct_bytes;
    const char *model;       /* as the server lists it; NULL: its only one */
    uint64_t model_identity; /* 0: not compared */
    const char *name;        /* for people */

    /* "amaq" [default], "affine", "tensor", "channel", "group", "aqsgd", "bf16", "f32" */
    const char *codec;
    const char *codec_fwd_in; /* of fwd_in and bwd_in: "f32", "bf16", "dictionary" [codec] */
    uint32_t bits;            /* affine, tensor, channel, group, aqsgd: width, 1..16 [4] */
    uint32_t group;           /* group: channels that share a scale [largest divisor up to 128] */
    const char *entropy;      /* coder of the codes: "none" [default], "rans" */
    uint32_t dictionary_rows_max; /* [65536] */
    uint64_t cache_bytes_max;     /* aqsgd: of each end and site [2^30] */
    const char *cache_format;     /* "fp16" [default], "quantized" */
    uint32_t cache_bits;          /* quantized: width, 1..16 [8] */
    const char *cache_dir;        /* this end's caches go into files there [memory] */
    bool all_rows; /* send unlabelled rows of fwd_out and bwd_out too: same result, more bytes */
    bool send_input_gradient; /* bwd_in travels also where no gate needs it: likewise */
    bool repeat_rows;         /* equal rows of fwd_in travel each time: likewise */
    uint64_t seed;            /* of stochastic rounding and of the adapter's start [0] */

    /* AMAQ: bits_target 4 or 3 sets the paper's range and start; other targets need all three. */
    float bits_target; /* [4] */
    float bits_min, bits_max, bits_start;
    float alpha;                     /* [1] */
    float beta, bits_lr;             /* until the target is reached [0.02], [0.01] */
    float beta_after, bits_lr_after; /* afterwards [a tenth] */
    const char *bits_loss;           /* "l2" [default], "l1" */
    const char *clip;                /* "soft" [default], "hard" */
    const char *gate_signal;         /* "surrogate" [default], "exact" */
    uint32_t alloc_lag_steps;        /* [2] */
    const char *allocator;           /* "gates" [default; of `seam train` waterfill], "waterfill" */
    /* What has a width of its own: "feature" [default], "token": a place in the sample, the first
     * 1023 apart; allocator gates, no entropy coder. */
    const char *granularity;
    /* Step at which the mean is to be bits_target.  Gates: a controller sets beta and bits_lr, 0:
     * the six numbers above do.  Waterfill: 0 is at once; 40 % of the run does well. */
    uint64_t steps_to_target;
    /* The target follows the link: a step's bytes are to cross it while both ends compute, or in
     * what step_seconds leaves.  With waterfill or steps_to_target only. */
    bool rate_auto;
    float rate_bits_min, rate_bits_max; /* of the target [3, within the range; bits_start] */
    float step_seconds;                 /* 0: the wire's time is to fit the compute time */

    uint32_t lora_rank;    /* [16] */
    float lora_alpha;      /* [16] */
    uint32_t lora_targets; /* [q and v]; of what the model has */
    bool lora_rslora;      /* scale alpha / sqrt(rank) instead of alpha / rank */
    float lora_dropout;    /* of the adapted inputs in training, 0..0.95 [0] */
    /* Prefix tuning: virtual tokens, 1..256; the lora_ fields must be 0 then.  0: LoRA. */
    uint32_t prefix_tokens;
    /* Full fine-tuning of the server's blocks instead of LoRA: every matrix, norm and bias, in a
     * copy of the session's own.  No field of LoRA or of a prefix, no fp8. */
    bool full;

    float lr;                     /* [1e-4] */
    float adam_beta1, adam_beta2; /* [0.9], [0.999] */
    float adam_eps, weight_decay; /* [1e-8], [0] */
    float clip_norm;              /* global norm of the gradient; 0: no clipping */
    const char *schedule;         /* "constant" [default], "linear", "cosine" */
    uint64_t warmup_steps, total_steps;

    uint32_t rows_per_micro_max;      /* T of one micro-batch [4096] */
    uint32_t sequences_per_micro_max; /* [64, but no more than the rows] */
    uint32_t micros_per_step_max;     /* [1]; a step here has at most 64 */

    bool recompute; /* the server keeps less of a micro-batch and computes it again: same result */
    bool fp8;       /* its frozen products run in FP8; of a server that offers it */
    /* Micro-batches whose forward is on its way at once, up to 8 [1]: seam_step_begin_ahead.  The
     * server keeps activations of so many.  Not with gate_signal "exact", send_input_gradient. */
    uint32_t pipeline_depth;
    /* seam_session_ahead follows what steps measure of the link and both ends, up to pipeline_depth
     * or what it has settled at; with adapter_exchange the round trip.  No result depends on it.
     * A server that has no room for a depth above 1 says so at once: less may do. */
    bool pipeline_auto;
    /* Blocks of the model that are the caller's: its first and its last ones; at least one is the
     * server's.  Dictionary only without front blocks.  [0] */
    uint32_t front_blocks, tail_blocks;
    /* Whose blocks have LoRA: "server", "client", "both" [where the caller has blocks].  But for
     * "server" the caller trains too: seam_session_own.  A prefix is both's; with full, server. */
    const char *lora_side;
    /* "u_shaped" [default]: labels stay here.  "vanilla": the server has head and loss and is shown
     * the labels.  "adapter_exchange": it has the whole model and is shown the text; adapter and
     * optimizer are here.  What a topology shows must be allowed at both ends. */
    const char *topology;
    const char *consent;    /* what may be shown: "none" [default], "labels", "text" (and labels) */
    bool resend_parameters; /* adapter_exchange: they travel every step, in its codec; else once */
    float all_layer_bits;   /* WIRE.md 4.2: target of gates between the server's blocks [0: off] */
    uint32_t all_layer_steps; /* [steps_to_target, else 200] */
    float prefix_bits;        /* WIRE.md 4.3: likewise of the prefix, with prefix_tokens [0: off] */
    uint32_t prefix_steps;    /* [steps_to_target, else 200] */
} seam_session_options;
#define SEAM_SESSION_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(seam_session_options), NULL, 0, NULL, NULL, NULL, 0, 0, NULL, 0, 0, NULL, 0, NULL,  \
            false, false, false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL, NULL, 0, \
            false, 0, 0, 0, 0, 0, 0, false, 0, false, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0,    \
            false, false, 0, false, 0, 0, NULL, NULL, NULL, false, 0, 0, 0, 0                      \
    }

#ifdef __cplusplus
}
#endif
#endif

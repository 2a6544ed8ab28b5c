/* What an operator sets: flag > SEAM_* variable > file > default.
 *
 * `--memory-budget`, SEAM_MEMORY_BUDGET and a file line `memory-budget = 4G` are the same option.
 * The file (--config or SEAM_CONFIG) has one `key = value` a line; # begins a comment.  A list
 * (model) given at a higher place replaces the lower one.  An unknown key is an error by name. */
#ifndef SEAM_SERVER_CONFIG_H
#define SEAM_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "ops.h"
#include "seam_status.h"

#define SEAM_PATH_BYTES     1024
#define SEAM_MODELS_MAX     16
#define SEAM_MODEL_ID_BYTES 128

typedef struct seam_model_entry {
    char id[SEAM_MODEL_ID_BYTES]; /* NAME of NAME=PATH, else the path's last component */
    char path[SEAM_PATH_BYTES];
} seam_model_entry;

typedef struct seam_server_config {
    char listen[256]; /* host:port; port 0 takes a free one */
    seam_model_entry models[SEAM_MODELS_MAX];
    uint32_t model_count;
    char device[64];
    seam_dtype dtype;                  /* 0: the backend's best */
    uint32_t threads;                  /* 0: all cores */
    bool fp8;                          /* keep weights in FP8 too, for sessions that ask for it */
    uint32_t join_rank, join_mlp_rank; /* of the backend (ops.h) */
    char tls_cert[SEAM_PATH_BYTES], tls_key[SEAM_PATH_BYTES];
    char tls_client_ca[SEAM_PATH_BYTES]; /* set: clients must show a certificate of it */
    bool insecure, force_insecure;
    char token_file[SEAM_PATH_BYTES]; /* set: calls must carry one of its bearer keys */
    char ready_file[SEAM_PATH_BYTES]; /* written with the address once the server serves */
    uint32_t sessions_max;
    uint32_t streams_max;            /* calls in flight, all kinds */
    uint32_t rows_max;               /* of one micro-batch or request */
    bool allow_labels;               /* sessions may show labels (VANILLA) */
    bool allow_text;                 /* and text (ADAPTER_EXCHANGE) */
    uint64_t memory_budget_bytes;    /* of the device, for all sessions; 0: what is left free */
    uint64_t cache_bytes_max;        /* largest cache or table that a codec of a session may keep */
    char cache_dir[SEAM_PATH_BYTES]; /* set: caches stand in files there, not in memory */
    char state_dir[SEAM_PATH_BYTES]; /* set: sessions outlive the process */
    uint32_t checkpoint_seconds, checkpoint_percent, park_timeout_s;
    uint64_t credit_bytes; /* frame bytes that a client may have in flight */
    uint32_t handshake_timeout_ms, lease_timeout_ms, drain_timeout_ms;
    uint32_t log_level;
    char trace[SEAM_PATH_BYTES]; /* set: a timeline of the last steps goes there at the end */
    bool help, version;          /* asked for: print and leave */
} seam_server_config;

/* Reads all places.  SEAM_E_ARG, SEAM_E_IO; *err names flag, variable or file:line. */
seam_status seam_server_config_load(seam_server_config *ret_config, int arg_count,
                                    char *const *args, seam_error *err);
/* Rules across options: TLS pairs, plaintext only on loopback unless forced, a model at all. */
seam_status seam_server_config_check(const seam_server_config *config, seam_error *err);
/* Is host:port's host an address of this machine only? */
bool seam_listen_is_loopback(const char *listen);
/* The option table as text, for --help. */
void seam_server_config_help(void);

#endif

/* One table of options serves flags, variables, the file and --help. */
#include "server_config.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "credit.h"
#include "log.h"
#include "try.h"
#include "utf8.h"

#define LINE_BYTES     2048
#define FILE_LINES_MAX 1000

typedef enum option_kind { TEXT, FLAG, U32, BYTES64, MODEL, DTYPE, LEVEL } option_kind;

typedef struct option {
    const char *name;
    option_kind kind;
    size_t offset, text_bytes;
    uint64_t min, max;
    const char *help;
} option;

#define AT(field)      offsetof(seam_server_config, field)
#define TEXT_AT(field) AT(field), sizeof((seam_server_config *)0)->field

static const option options[] = {
    {"listen", TEXT, TEXT_AT(listen), 0, 0, "HOST:PORT to serve on; port 0 takes a free one"},
    {"model", MODEL, 0, 0, 0, 0,
     "PATH or NAME=PATH of a model, or ORG/NAME[@REVISION][:FILE] of the Hub; may be repeated"},
    {"device", TEXT, TEXT_AT(device), 0, 0, "cpu, cuda:N, or auto: cuda:0 where there is one"},
    {"dtype", DTYPE, AT(dtype), 0, 0, 0, "auto, f32 or bf16: what products read"},
    {"fp8", FLAG, AT(fp8), 0, 0, 0, "keep weights in FP8 too, for sessions that ask (cuda, bf16)"},
    {"join-rank", U32, AT(join_rank), 0, 1, SEAM_LORA_RANK_MAX,
     "LoRA of up to this rank on q, k and v runs in their product (cuda, bf16); memory: seam plan"},
    {"join-mlp-rank", U32, AT(join_mlp_rank), 0, 0, SEAM_LORA_RANK_MAX,
     "the same of gate and up forward, without --fp8; 0: beside the product"},
    {"threads", U32, AT(threads), 0, 0, 1024, "compute threads; 0: all cores"},
    {"tls-cert", TEXT, TEXT_AT(tls_cert), 0, 0, "PEM certificate chain of the server"},
    {"tls-key", TEXT, TEXT_AT(tls_key), 0, 0, "PEM private key of the server"},
    {"tls-client-ca", TEXT, TEXT_AT(tls_client_ca), 0, 0,
     "PEM of the CA whose certificates clients must show (mTLS)"},
    {"insecure", FLAG, AT(insecure), 0, 0, 0, "plaintext; only on loopback"},
    {"force-insecure", FLAG, AT(force_insecure), 0, 0, 0, "plaintext on any address"},
    {"token-file", TEXT, TEXT_AT(token_file), 0, 0,
     "bearer keys: one SHA-256 in hex a line; calls must carry one of them"},
    {"ready-file", TEXT, TEXT_AT(ready_file), 0, 0, "written with HOST:PORT once serving"},
    {"sessions-max", U32, AT(sessions_max), 0, 1, 65536, "sessions at once"},
    {"streams-max", U32, AT(streams_max), 0, 1, 65536, "calls in flight at once"},
    {"rows-max", U32, AT(rows_max), 0, 1, 1u << 20, "rows of a micro-batch"},
    {"allow-labels", FLAG, AT(allow_labels), 0, 0, 0,
     "take sessions that show their labels (topology VANILLA); heads are loaded too"},
    {"allow-text", FLAG, AT(allow_text), 0, 0, 0,
     "take sessions that show text and labels (ADAPTER_EXCHANGE); whole models are loaded"},
    {"memory-budget", BYTES64, AT(memory_budget_bytes), 0, 0, UINT64_MAX,
     "bytes of the device for all sessions (K, M, G); 0: what is free, less workspaces"},
    {"credit-bytes", BYTES64, AT(credit_bytes), 0, SEAM_CREDIT_BYTES_MIN, SEAM_CREDIT_BYTES_MAX,
     "bytes of tensors that a client may have on their way or waiting (K, M, G): no less than a "
     "link's rate times its round trip"},
    {"cache-bytes-max", BYTES64, AT(cache_bytes_max), 0, 0, UINT64_MAX,
     "largest cache (aqsgd, each site) or table (dictionary) of a session"},
    {"cache-dir", TEXT, TEXT_AT(cache_dir), 0, 0,
     "folder for the caches of codec aqsgd; without it they take memory"},
    {"state-dir", TEXT, TEXT_AT(state_dir), 0, 0,
     "folder for sessions and their checkpoints: they outlive their lease and this process"},
    {"checkpoint-seconds", U32, AT(checkpoint_seconds), 0, 1, 86400,
     "seconds of work between two checkpoints of a session, at most"},
    {"checkpoint-percent", U32, AT(checkpoint_percent), 0, 1, 100,
     "of the time that checkpoints may take: how much sooner than that they come"},
    {"park-timeout", U32, AT(park_timeout_s), 0, 1, 0xffffffffu,
     "seconds that a parked session is kept"},
    {"handshake-timeout", U32, AT(handshake_timeout_ms), 0, 100, 600000, "ms"},
    {"lease-timeout", U32, AT(lease_timeout_ms), 0, 0, 86400000,
     "ms that a session waits for a lost client"},
    {"drain-timeout", U32, AT(drain_timeout_ms), 0, 0, 86400000,
     "ms for steps in flight at SIGTERM"},
    {"trace", TEXT, TEXT_AT(trace), 0, 0,
     "file for a timeline of the last steps (Chrome trace JSON), written at the end; the device is "
     "waited for at the end of each phase"},
    {"log-level", LEVEL, AT(log_level), 0, 0, 0, "error, warn, info or debug"},
};
#define OPTION_COUNT (sizeof options / sizeof options[0])

static seam_status file_read(seam_server_config *config, const char *path, seam_error *err);
static seam_status env_read(seam_server_config *config, seam_error *err);
static seam_status args_read(seam_server_config *config, int arg_count, char *const *args,
                             seam_error *err);
static const char *config_path(int arg_count, char *const *args);

seam_status seam_server_config_load(seam_server_config *ret_config, int arg_count,
                                    char *const *args, seam_error *err) {
    seam_server_config config = {
        .listen = "127.0.0.1:50051",
        .device = "cpu",
        .join_rank = SEAM_JOIN_RANK,
        .sessions_max = 16,
        .streams_max = 1024,
        .rows_max = 8192,
        .credit_bytes = SEAM_CREDIT_BYTES_DEFAULT,
        .cache_bytes_max = UINT64_C(4) << 30,
        .checkpoint_seconds = 60,
        .checkpoint_percent = 1,
        .park_timeout_s = 30 * 86400,
        .handshake_timeout_ms = 10000,
        .lease_timeout_ms = 60000,
        .drain_timeout_ms = 30000,
        .log_level = SEAM_LOG_INFO,
    };
    const char *path = config_path(arg_count, args);
    if (path != NULL) {
        SEAM_TRY(file_read(&config, path, err));
    }
    SEAM_TRY(env_read(&config, err));
    SEAM_TRY(args_read(&config, arg_count, args, err));
    *ret_config = config;
    return SEAM_OK;
}

bool seam_listen_is_loopback(const char *listen) {
    return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "localhost:", 10) == 0 ||
           strncmp(listen, "[::1]:", 6) == 0 || strncmp(listen, "unix:", 5) == 0;
}

/* gRPC takes a port's last 16 bits and serves there: 99999 would be 34463. */
static bool listen_has_port(const char *listen) {
    const char *const colon = strrchr(listen, ':');
    if (colon == NULL || strncmp(listen, "unix:", 5) == 0) {
        return colon != NULL;
    }
    const size_t count = strspn(colon + 1, "0123456789");
    return count >= 1 && count <= 5 && colon[1 + count] == '\0' &&
           strtoul(colon + 1, NULL, 10) <= UINT16_MAX;
}

seam_status seam_server_config_check(const seam_server_config *config, seam_error *err) {
    const bool cert = config->tls_cert[0] != '\0';
    const bool key = config->tls_key[0] != '\0';
    if (!listen_has_port(config->listen)) {
        return seam_error_set(err, SEAM_E_ARG, "listen: \"%s\" is not HOST:PORT, port 0 to 65535",
                              config->listen);
    }
    if (cert != key) {
        return seam_error_set(err, SEAM_E_ARG, "%s is missing: tls-cert and tls-key go together",
                              cert ? "tls-key" : "tls-cert");
    }
    if (config->tls_client_ca[0] != '\0' && !cert) {
        return seam_error_set(err, SEAM_E_ARG, "tls-client-ca needs tls-cert and tls-key");
    }
    if (cert && (config->insecure || config->force_insecure)) {
        return seam_error_set(err, SEAM_E_ARG, "insecure and tls-cert exclude each other");
    }
    if (config->fp8 && config->join_mlp_rank != 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "join-mlp-rank and fp8 exclude each other: gate and up have room for "
                              "LoRA or products in FP8");
    }
    if (!cert && !config->force_insecure && !seam_listen_is_loopback(config->listen)) {
        return seam_error_set(err, SEAM_E_ARG,
                              "listen: %s is reachable from outside; give tls-cert and tls-key "
                              "(or force-insecure)",
                              config->listen);
    }
    if (config->model_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "model: at least one is needed");
    }
    return SEAM_OK;
}

void seam_server_config_help(void) {
    (void)printf("usage: seamd [options]\n\n"
                 "Serves the frozen blocks of a model for split fine-tuning.\n"
                 "Every option is also a variable SEAM_<NAME> and a key of --config FILE.\n\n");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        (void)printf("  --%-18s %s\n", options[i].name, options[i].help);
    }
    (void)printf("  --%-18s %s\n  --%-18s\n  --%-18s\n", "config", "FILE of key = value lines",
                 "help", "version");
}

/* ---- values ---- */

static seam_status u64_parse(uint64_t *ret, const char *text) {
    char *end = NULL;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || text[0] == '-') {
        return SEAM_E_ARG;
    }
    uint64_t scale = 1;
    switch (*end) {
    case 'K':
        scale = UINT64_C(1) << 10;
        end++;
        break;
    case 'M':
        scale = UINT64_C(1) << 20;
        end++;
        break;
    case 'G':
        scale = UINT64_C(1) << 30;
        end++;
        break;
    default:
        break;
    }
    uint64_t product = 0;
    if (*end != '\0' || __builtin_mul_overflow((uint64_t)number, scale, &product)) {
        return SEAM_E_ARG;
    }
    *ret = product;
    return SEAM_OK;
}

/* "NAME=PATH", or "PATH" whose last component is the name; of ORG/NAME@REVISION:FILE too the name
 * is what stands before '@' and ':'. */
static seam_status model_add(seam_server_config *config, const char *text) {
    if (config->model_count == SEAM_MODELS_MAX) {
        return SEAM_E_LIMIT;
    }
    seam_model_entry *entry = &config->models[config->model_count];
    const char *equals = strchr(text, '=');
    const char *path = equals != NULL ? equals + 1 : text;
    size_t path_count = strlen(path);
    while (path_count > 1 && path[path_count - 1] == '/') {
        path_count--;
    }
    const char *id = text;
    size_t id_count = equals != NULL ? (size_t)(equals - text) : 0;
    if (equals == NULL) {
        const bool is_relative = path[0] != '/' && path[0] != '.';
        const size_t mark = is_relative ? strcspn(path, "@:") : path_count;
        const size_t end = mark < path_count ? mark : path_count;
        id = path + end;
        while (id > path && id[-1] != '/') {
            id--;
        }
        id_count = end - (size_t)(id - path);
    }
    /* Clients are told the name, in a message that holds nothing but UTF-8. */
    if (path_count == 0 || path_count >= sizeof entry->path || id_count == 0 ||
        id_count >= sizeof entry->id || seam_utf8_check(id, id_count) != id_count) {
        return SEAM_E_ARG;
    }
    memcpy(entry->path, path, path_count);
    entry->path[path_count] = '\0';
    memcpy(entry->id, id, id_count);
    entry->id[id_count] = '\0';
    for (uint32_t i = 0; i < config->model_count; i++) {
        if (strcmp(config->models[i].id, entry->id) == 0) {
            return SEAM_E_EXISTS;
        }
    }
    config->model_count++;
    return SEAM_OK;
}

static seam_status word_find(uint32_t *ret_idx, const char *const *words, uint32_t count,
                             const char *text) {
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret_idx = i;
            return SEAM_OK;
        }
    }
    return SEAM_E_ARG;
}

static seam_status option_store(seam_server_config *config, const option *opt, const char *value) {
    static const char *const levels[] = {"", "error", "warn", "info", "debug"};
    static const char *const dtypes[] = {"auto", "f32", "bf16"};
    static const seam_dtype dtype_values[] = {(seam_dtype)0, SEAM_F32, SEAM_BF16};
    uint8_t *field = (uint8_t *)config + opt->offset;
    uint64_t number = 0;
    uint32_t idx = 0;
    switch (opt->kind) {
    case TEXT:
        if (strlen(value) >= opt->text_bytes) {
            return SEAM_E_LIMIT;
        }
        memcpy(field, value, strlen(value) + 1);
        return SEAM_OK;
    case FLAG:
        if (strcmp(value, "1") != 0 && strcmp(value, "true") != 0 && strcmp(value, "0") != 0 &&
            strcmp(value, "false") != 0) {
            return SEAM_E_ARG;
        }
        *(bool *)(void *)field = value[0] == '1' || value[0] == 't';
        return SEAM_OK;
    case U32:
        SEAM_TRY(u64_parse(&number, value));
        if (number < opt->min || number > opt->max) {
            return SEAM_E_LIMIT;
        }
        *(uint32_t *)(void *)field = (uint32_t)number;
        return SEAM_OK;
    case BYTES64:
        SEAM_TRY(u64_parse(&number, value));
        if (number < opt->min || number > opt->max) {
            return SEAM_E_LIMIT;
        }
        *(uint64_t *)(void *)field = number;
        return SEAM_OK;
    case MODEL:
        return model_add(config, value);
    case DTYPE:
        SEAM_TRY(word_find(&idx, dtypes, 3, value));
        *(seam_dtype *)(void *)field = dtype_values[idx];
        return SEAM_OK;
    case LEVEL:
        SEAM_TRY(word_find(&idx, levels, 5, value));
        *(uint32_t *)(void *)field = idx;
        return SEAM_OK;
    }
    return SEAM_E_ARG;
}

/* `where` names flag, variable or file:line for the message. */
static seam_status option_set(seam_server_config *config, const option *opt, const char *value,
                              const char *where, seam_error *err) {
    const seam_status st = option_store(config, opt, value);
    if (st == SEAM_OK) {
        return SEAM_OK;
    }
    if (st == SEAM_E_LIMIT && (opt->kind == U32 || opt->kind == BYTES64)) {
        return seam_error_set(err, SEAM_E_ARG, "%s: \"%s\" is not in %llu..%llu (%s)", where, value,
                              (unsigned long long)opt->min, (unsigned long long)opt->max,
                              opt->help);
    }
    const char *why = st == SEAM_E_LIMIT    ? "is outside its limits"
                      : st == SEAM_E_EXISTS ? "is given twice"
                                            : "is not a valid value";
    return seam_error_set(err, SEAM_E_ARG, "%s: \"%s\" %s (%s)", where, value, why, opt->help);
}

static const option *option_find(const char *name, size_t count) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strlen(options[i].name) == count && memcmp(options[i].name, name, count) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* ---- places ---- */

static const char *config_path(int arg_count, char *const *args) {
    for (int i = 1; i < arg_count; i++) {
        if (strcmp(args[i], "--config") == 0 && i + 1 < arg_count) {
            return args[i + 1];
        }
        if (strncmp(args[i], "--config=", 9) == 0) {
            return args[i] + 9;
        }
    }
    return getenv("SEAM_CONFIG");
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t') {
        text++;
    }
    size_t count = strlen(text);
    while (count > 0 && strchr(" \t\r\n", text[count - 1]) != NULL) {
        text[--count] = '\0';
    }
    return text;
}

static seam_status line_read(seam_server_config *config, char *line, const char *where,
                             seam_error *err) {
    char *comment = strchr(line, '#');
    if (comment != NULL) {
        *comment = '\0';
    }
    char *key = trim(line);
    if (*key == '\0') {
        return SEAM_OK;
    }
    char *equals = strchr(key, '=');
    if (equals == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "%s: no = in \"%s\"", where, key);
    }
    *equals = '\0';
    key = trim(key);
    const option *opt = option_find(key, strlen(key));
    if (opt == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "%s: unknown key \"%s\"", where, key);
    }
    return option_set(config, opt, trim(equals + 1), where, err);
}

static seam_status file_read(seam_server_config *config, const char *path, seam_error *err) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return seam_error_set(err, SEAM_E_IO, "config: cannot open %s: %s", path, strerror(errno));
    }
    char line[LINE_BYTES];
    char where[SEAM_PATH_BYTES + 32];
    seam_status st = SEAM_OK;
    for (uint32_t n = 1; st == SEAM_OK && fgets(line, sizeof line, file) != NULL; n++) {
        (void)snprintf(where, sizeof where, "%s:%u", path, n);
        st = n > FILE_LINES_MAX
                 ? seam_error_set(err, SEAM_E_ARG, "%s: more than %u lines", path, FILE_LINES_MAX)
                 : line_read(config, line, where, err);
    }
    if (st == SEAM_OK && ferror(file) != 0) { /* as of a folder, which can be opened */
        st = seam_error_set(err, SEAM_E_IO, "config: cannot read %s: %s", path, strerror(errno));
    }
    (void)fclose(file);
    return st;
}

static seam_status env_read(seam_server_config *config, seam_error *err) {
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char name[64] = "SEAM_";
        for (size_t j = 0; options[i].name[j] != '\0'; j++) {
            const char c = options[i].name[j];
            name[5 + j] = c == '-' ? '_' : (char)(c - 'a' + 'A');
        }
        const char *value = getenv(name);
        if (value == NULL) {
            continue;
        }
        if (options[i].kind == MODEL) {
            config->model_count = 0;
        }
        SEAM_TRY(option_set(config, &options[i], value, name, err));
    }
    return SEAM_OK;
}

static seam_status args_read(seam_server_config *config, int arg_count, char *const *args,
                             seam_error *err) {
    bool model_seen = false;
    for (int i = 1; i < arg_count; i++) {
        const char *arg = args[i];
        if (strcmp(arg, "--help") == 0) {
            config->help = true;
            continue;
        }
        if (strcmp(arg, "--version") == 0) {
            config->version = true;
            continue;
        }
        const char *equals = strchr(arg, '=');
        const size_t count = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
        const bool is_flag = strncmp(arg, "--", 2) == 0;
        const bool is_file = is_flag && count == 8 && strncmp(arg, "--config", 8) == 0;
        const option *opt = is_flag && !is_file ? option_find(arg + 2, count - 2) : NULL;
        if (opt == NULL && !is_file) {
            return seam_error_set(err, SEAM_E_ARG, "unknown option %s (see --help)", arg);
        }
        const char *value = equals != NULL ? equals + 1 : NULL;
        if (value == NULL && opt != NULL && opt->kind == FLAG) {
            value = "1";
        }
        if (value == NULL) {
            if (i + 1 == arg_count) {
                return seam_error_set(err, SEAM_E_ARG, "%s needs a value", arg);
            }
            value = args[++i];
        }
        if (is_file) {
            continue; /* read before everything else */
        }
        if (opt->kind == MODEL && !model_seen) {
            config->model_count = 0;
            model_seen = true;
        }
        char where[64];
        (void)snprintf(where, sizeof where, "--%s", opt->name);
        SEAM_TRY(option_set(config, opt, value, where, err));
    }
    return SEAM_OK;
}

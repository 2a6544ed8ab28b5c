/* seamd, the server of Seam.  Read here first: config -> device -> models -> engine -> rpc ->
 * drain.
 *
 * Nothing in this file is specific to a call; ARCHITECTURE.md gives the reading order from here
 * into rpc/, session/ and engine/.  The only place of the server that ends the process. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "credit.h"
#include "engine.h"
#include "file_write.h"
#include "host.h"
#include "log.h"
#include "ops.h"
#include "products.h"
#include "pull.h"
#include "registry.h"
#include "rpc_server.h"
#include "server_config.h"
#include "session_table.h"
#include "state_store.h"
#include "storage.h"
#include "trace.h"
#include "try.h"

/* EXIT_RESTART: the device is lost to this process; the next one may have it. */
#define TRACE_SPANS (1u << 16) /* about a hundred a step */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_RESTART = 3 };

/* Everything that is taken at the start and given back in reverse order. */
typedef struct seamd {
    seam_server_config config;
    seam_auth *auth;
    seam_backend *backend;
    seam_registry *registry;
    seam_engine *engine;
    seam_state_store *store; /* NULL without a state directory */
    seam_sessions *sessions;
    seam_server *server;
    seam_trace *trace;
} seamd;

static void model_loaded(const seam_model_entry *entry, const seam_model *model, double seconds) {
    if (model == NULL) {
        seam_log(SEAM_LOG_INFO, "model_loading", "model=%s path=%s", entry->id, entry->path);
    } else {
        seam_log(SEAM_LOG_INFO, "model_loaded",
                 "model=%s layers=%u hidden=%u weight_bytes=%llu seconds=%.2f", model->id,
                 model->config->layers, model->config->hidden,
                 (unsigned long long)model->weight_bytes, seconds);
    }
}

/* Signals are blocked until the server serves; one that waits stops a download. */
static bool fetch_goes_on(void *context, const char *file, uint64_t done_bytes,
                          uint64_t total_bytes) {
    (void)context;
    (void)file;
    (void)done_bytes;
    (void)total_bytes;
    sigset_t pending;
    return sigpending(&pending) != 0 ||
           (sigismember(&pending, SIGTERM) != 1 && sigismember(&pending, SIGINT) != 1);
}

/* A model that is no path on this machine but a repository's name is fetched first. */
static seam_status models_fetch(seam_server_config *config, seam_error *err) {
    static const seam_pull_watch watch = {fetch_goes_on, NULL};
    for (uint32_t i = 0; i < config->model_count; i++) {
        seam_model_entry *const entry = &config->models[i];
        seam_pull_reference reference;
        seam_pull_counts counts = {0};
        if (access(entry->path, F_OK) == 0 || !seam_pull_reference_read(&reference, entry->path)) {
            continue; /* the registry names what is not there */
        }
        seam_log(SEAM_LOG_INFO, "model_fetching", "model=%s source=%s", entry->id, entry->path);
        reference.hub.ret_counts = &counts;
        const seam_status st =
            seam_pull_hub(entry->path, sizeof entry->path, &reference.hub, &watch, err);
        if (st != SEAM_OK) {
            return seam_error_prefix(err, st, "model %s", entry->id);
        }
        seam_log(counts.is_cached ? SEAM_LOG_WARN : SEAM_LOG_INFO, "model_fetched",
                 "model=%s fetched_bytes=%llu hub_reached=%d", entry->id,
                 (unsigned long long)counts.fetched_bytes, !counts.is_cached);
    }
    return SEAM_OK;
}

static seam_status sessions_open(seamd *d, seam_error *err) {
    const uint64_t host_bytes = seam_host_memory_available() / 4 * 3;
    const uint64_t room = seam_backend_ops(d->backend)->mem_room(d->backend);
    const uint64_t workspace =
        room / 4 < SEAM_MEMORY_WORKSPACE_BYTES ? room / 4 : SEAM_MEMORY_WORKSPACE_BYTES;
    const bool shared = room == SEAM_MEM_ROOM_HOST;
    const uint64_t budget = d->config.memory_budget_bytes;
    const seam_sessions_options options = {
        .engine = d->engine,
        .sessions_max = d->config.sessions_max,
        .rows_max = d->config.rows_max,
        .device = d->config.device,
        .memory_budget_bytes = budget != 0 ? budget
                               : shared    ? host_bytes
                                           : room - workspace,
        .host_budget_bytes = shared ? 0 : host_bytes,
        .inbox_bytes = seam_inbox_bytes_max(d->config.credit_bytes),
        .cache_bytes_max = d->config.cache_bytes_max,
        .cache_dir = d->config.cache_dir[0] != '\0' ? d->config.cache_dir : NULL,
        .allow_labels = d->config.allow_labels,
        .allow_text = d->config.allow_text,
        .lease_ms = d->config.lease_timeout_ms,
        .store = d->store,
        .park_ms = UINT64_C(1000) * d->config.park_timeout_s,
        .checkpoint_work_ms = UINT64_C(1000) * d->config.checkpoint_seconds,
        .checkpoint_percent = d->config.checkpoint_percent,
        .trace = d->trace,
    };
    SEAM_TRY(seam_sessions_create(&d->sessions, &options, err));
    return seam_sessions_recover(d->sessions, d->registry, err);
}

/* The ready file, then one line for people and scripts. */
static seam_status announce(const seamd *d, seam_error *err) {
    const char *address = seam_server_address(d->server);
    if (d->config.ready_file[0] != '\0') {
        SEAM_TRY(seam_file_write_atomic(d->config.ready_file, address, strlen(address), err));
    }
    (void)printf("seamd: listening on %s\n", address);
    (void)fflush(stdout);
    seam_log(SEAM_LOG_INFO, "serving", "address=%s tls=%d mtls=%d", address,
             d->config.tls_cert[0] != '\0', d->config.tls_client_ca[0] != '\0');
    return SEAM_OK;
}

/* After the models, whose matrices it counts. */
static void products_log(const seam_backend *backend) {
    char text[SEAM_ERROR_TEXT_BYTES];
    if (seam_backend_products(text, sizeof text, backend)) {
        seam_log(SEAM_LOG_INFO, "products", "text=\"%s\"", text);
    }
}

/* What is opened only after models were loaded, at a session's start or at the end: whether it
 * could be. */
static seam_status paths_check(const seam_server_config *config, seam_error *err) {
    const struct {
        const char *option, *path;
    } read[] = {{"tls-cert", config->tls_cert},
                {"tls-key", config->tls_key},
                {"tls-client-ca", config->tls_client_ca}},
      written[] = {{"trace", config->trace}, {"ready-file", config->ready_file}};
    for (size_t i = 0; i < sizeof read / sizeof *read; i++) {
        if (read[i].path[0] != '\0' && access(read[i].path, R_OK) != 0) {
            return seam_error_set(err, SEAM_E_IO, "%s: cannot open %s: %s", read[i].option,
                                  read[i].path, strerror(errno));
        }
    }
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        const char *const path = written[i].path;
        const seam_status st = path[0] != '\0' ? seam_file_write_check(path, err) : SEAM_OK;
        if (st != SEAM_OK) {
            return seam_error_prefix(err, st, "%s", written[i].option);
        }
    }
    if (config->cache_dir[0] != '\0') {
        seam_storage probe;
        const seam_status st = seam_storage_open(&probe, config->cache_dir, 1, err);
        if (st != SEAM_OK) {
            return seam_error_prefix(err, st, "cache-dir");
        }
        seam_storage_close(&probe);
    }
    return SEAM_OK;
}

static seam_status start(seamd *d, seam_error *err) {
    const seam_server_config *config = &d->config;
    SEAM_TRY(paths_check(config, err));
    SEAM_TRY(seam_auth_create(&d->auth, config->token_file, err));
    if (config->state_dir[0] != '\0') {
        SEAM_TRY(seam_state_store_open(&d->store, config->state_dir, err));
    }
    SEAM_TRY(models_fetch(&d->config, err)); /* before the device is taken */
    const seam_backend_options backend = {.device = config->device,
                                          .act = config->dtype,
                                          .threads = config->threads,
                                          .fp8 = config->fp8,
                                          .join_rank = config->join_rank,
                                          .join_mlp_rank = config->join_mlp_rank};
    if (config->trace[0] != '\0' && seam_trace_create(&d->trace, TRACE_SPANS) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "trace: out of memory");
    }
    SEAM_TRY(seam_backend_create(&d->backend, &backend, err));
    if (err->text[0] != '\0') { /* auto */
        char text[SEAM_ERROR_TEXT_BYTES];
        seam_log(SEAM_LOG_WARN, "device_missing", "text=\"%s\"",
                 seam_log_text(text, sizeof text, err->text));
        *err = (seam_error){0};
    }
    seam_log(SEAM_LOG_INFO, "device", "device=%s backend=\"%s\"", config->device,
             seam_backend_describe(d->backend));
    SEAM_TRY(seam_registry_create(&d->registry, d->backend, config, model_loaded, err));
    products_log(d->backend);
    /* Each call has at most one job, each session one to park or to end it. */
    const uint32_t jobs_max = config->streams_max + config->sessions_max + 1;
    SEAM_TRY(seam_engine_create(&d->engine, d->backend, jobs_max, err));
    SEAM_TRY(sessions_open(d, err));
    const seam_server_options options = {.config = config,
                                         .auth = d->auth,
                                         .registry = d->registry,
                                         .engine = d->engine,
                                         .sessions = d->sessions,
                                         .lost = seam_host_stop};
    SEAM_TRY(seam_server_create(&d->server, &options, err));
    return announce(d, err);
}

/* Nobody records any more. */
static void trace_write(seamd *d) {
    static const char *const lanes[SEAM_LANE_COUNT] = {"receive", "queue", "engine", "send"};
    seam_error err = {0};
    if (d->trace != NULL && seam_trace_write(d->trace, d->config.trace, "seamd", lanes,
                                             SEAM_LANE_COUNT, &err) != SEAM_OK) {
        char text[SEAM_ERROR_TEXT_BYTES];
        seam_log(SEAM_LOG_ERROR, "trace_lost", "text=\"%s\"",
                 seam_log_text(text, sizeof text, err.text));
    }
    seam_trace_destroy(d->trace);
}

/* Calls end first, then the engine's queue with the last checkpoints, then what they used. */
static void stop(seamd *d, bool lost) {
    if (d->server != NULL && d->config.ready_file[0] != '\0') {
        (void)unlink(d->config.ready_file);
    }
    if (d->server != NULL) {
        seam_server_drain(d->server);
    }
    if (d->server != NULL && !lost) {
        seam_server_park(d->server);
    }
    seam_engine_stop(d->engine);
    seam_server_destroy(d->server);
    if (d->sessions != NULL) {
        seam_sessions_engine_ended(d->sessions);
    }
    seam_engine_destroy(d->engine); /* the loop's threads took the last jobs from it */
    seam_state_store_close(d->store);
    seam_sessions_destroy(d->sessions);
    trace_write(d);
    seam_registry_destroy(d->registry);
    seam_backend_destroy(d->backend);
    seam_auth_destroy(d->auth);
}

int main(int arg_count, char **args) {
    static seamd d;
    seam_error err = {0};
    seam_status st = seam_server_config_load(&d.config, arg_count, args, &err);
    if (st == SEAM_OK && (d.config.help || d.config.version)) {
        if (d.config.help) {
            seam_server_config_help();
        } else {
            (void)printf("seamd %s\n", SEAM_VERSION);
        }
        return EXIT_OK;
    }
    if (st == SEAM_OK) {
        st = seam_server_config_check(&d.config, &err);
    }
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "seamd: %s\n", err.text);
        return EXIT_USAGE;
    }
    seam_host_tune();
    seam_log_set_level((seam_log_level)d.config.log_level);
    sigset_t signals;
    seam_host_block_signals(&signals);
    st = start(&d, &err);
    if (st == SEAM_OK) {
        int signal_number = 0;
        (void)sigwait(&signals, &signal_number);
        st = seam_server_lost(d.server);
        seam_log(SEAM_LOG_INFO, "stopping", "signal=%d", signal_number);
    } else {
        (void)fprintf(stderr, "seamd: %s\n", err.text[0] ? err.text : seam_status_text(st));
    }
    stop(&d, seam_status_is_process_dead(st));
    seam_log(SEAM_LOG_INFO, "stopped", "status=%s", seam_status_name(st));
    return st == SEAM_OK ? EXIT_OK : seam_status_is_process_dead(st) ? EXIT_RESTART : EXIT_FAILED;
}

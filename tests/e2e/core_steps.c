/* The thin core from the outside, for test_client_core.py: steps on made-up tensors, then what the
 * library counted and what the kernel's TCP_INFO says of this process's own connections.
 *
 *   core_steps ADDRESS CA|- CODEC[/FWD_IN] STEPS SEQUENCES ROWS_EACH [MODE]
 *   MODE: exact, gradient (bwd_in travels), cancel, anonymous (without sample ids), waterfill,
 * paced, rateSECONDS (of a step; one more line for every step; nobody says which rows are equal);
 * repeats in front: equal rows travel each; halves in front: x is handed over in bf16
 *
 * Three steps are an epoch: the same samples come again, each of rows out of a small vocabulary.
 *
 * Prints one JSON line: status, text, steps, state_hash, counted and kernel bytes, mean bits. */
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "seam.h"

#define FILES_MAX     1024
#define SEQUENCES_MAX 64
#define EPOCH_STEPS   3
#define VOCAB         50

typedef struct shape {
    uint32_t sequences, rows_each, rows, channels;
    uint32_t sequence_rows[SEQUENCES_MAX];
    uint64_t sample_ids[SEQUENCES_MAX];
    bool anonymous, unkeyed, halves;
    uint8_t *labelled;
    uint32_t *tokens;
    float *x, *y;
    uint16_t *x_bf16;
} shape;

static void kernel_bytes(uint64_t *ret_sent, uint64_t *ret_received, int port) {
    *ret_sent = *ret_received = 0;
    for (int fd = 3; fd < FILES_MAX; fd++) {
        /* gRPC makes IPv6 sockets; an IPv4 one has family and port at the same place. */
        struct sockaddr_in6 peer = {0};
        socklen_t peer_bytes = sizeof peer;
        struct tcp_info info = {0};
        socklen_t info_bytes = sizeof info;
        if (getpeername(fd, (struct sockaddr *)&peer, &peer_bytes) != 0 ||
            (peer.sin6_family != AF_INET && peer.sin6_family != AF_INET6) ||
            ntohs(peer.sin6_port) != port ||
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_bytes) != 0) {
            continue;
        }
        *ret_sent += info.tcpi_bytes_acked;
        *ret_received += info.tcpi_bytes_received;
    }
}

/* Any numbers of bf16 do, as long as every run has the same. */
static void fill(float *values, size_t count, uint32_t seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)((int32_t)seed >> 24) * 0x1p-7f;
    }
}

static seam_status halves_forward(seam_session *session, shape *s, seam_error *err) {
    for (size_t i = 0; i < (size_t)s->rows * s->channels; i++) {
        uint32_t bits;
        memcpy(&bits, &s->x[i], sizeof bits);
        s->x_bf16[i] = (uint16_t)(bits >> 16);
    }
    const seam_status st = seam_step_forward_begin_bf16(session, 0, s->x_bf16, err);
    return st == SEAM_OK ? seam_step_forward_end(session, s->y, 0, err) : st;
}

static seam_status step(seam_session *session, shape *s, uint32_t number, seam_step_report *report,
                        seam_error *err) {
    const seam_step_micro micro = {.sequence_count = s->sequences,
                                   .sequence_rows = s->sequence_rows,
                                   .labelled_rows = s->labelled,
                                   .sample_ids = s->anonymous ? NULL : s->sample_ids,
                                   .row_keys = s->unkeyed ? NULL : s->tokens};
    for (uint32_t i = 0; i < s->sequences; i++) {
        s->sample_ids[i] = (uint64_t)(number % EPOCH_STEPS) << 32 | i;
    }
    for (uint32_t row = 0; row < s->rows; row++) {
        s->tokens[row] = (number % EPOCH_STEPS * 977 + row * 31) % VOCAB;
        fill(s->x + (size_t)row * s->channels, s->channels, s->tokens[row]);
    }
    seam_status st = seam_step_begin(session, &micro, 1, err);
    if (st != SEAM_OK) {
        return st;
    }
    st = s->halves ? halves_forward(session, s, err)
                   : seam_step_forward(session, s->y, 0, s->x, err);
    if (st != SEAM_OK) {
        return st;
    }
    const size_t values = (size_t)seam_step_rows_out(session, 0) * s->channels;
    for (size_t i = 0; i < values; i++) { /* gradient of mean y^2 / 2 */
        s->y[i] /= (float)values;
    }
    st = seam_step_backward(session, NULL, 0, s->y, err);
    return st == SEAM_OK ? seam_step_commit(session, report, err) : st;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void *cancel_soon(void *session) {
    const struct timespec pause = {.tv_nsec = 200000000};
    nanosleep(&pause, NULL);
    seam_session_cancel(session);
    return NULL;
}

/* A commit within a commit: refused. */
static seam_status inner_status = SEAM_E_STATE;

static void commit_again(void *session, const seam_step_report *report) {
    (void)report;
    inner_status = seam_step_commit(session, NULL, NULL);
}

static void hooks_set(seam_session *session, const char *mode) {
    if (strcmp(mode, "nested") == 0) {
        inner_status = SEAM_OK;
        seam_session_on_commit(session, commit_again, session);
    }
}

static seam_session_options options_of(char **argv, const char *mode, const shape *s) {
    const bool repeats = strncmp(mode, "repeats", strlen("repeats")) == 0;
    mode += repeats ? strlen("repeats") : 0;
    const bool rate = strncmp(mode, "rate", 4) == 0;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    char *fwd_in = argv[3];
    options.codec = strsep(&fwd_in, "/");
    options.codec_fwd_in = fwd_in;
    options.cache_bytes_max = 4 << 20;
    options.seed = 7;
    options.lora_rank = 4;
    options.gate_signal = strcmp(mode, "exact") == 0 ? "exact" : NULL;
    options.send_input_gradient = strcmp(mode, "gradient") == 0;
    options.repeat_rows = repeats;
    options.allocator = rate || strcmp(mode, "waterfill") == 0 ? "waterfill" : NULL;
    options.rate_auto = rate;
    options.step_seconds = rate ? strtof(mode + strlen("rate"), NULL) : 0.0f;
    options.steps_to_target = strcmp(mode, "paced") == 0 ? 10 : 0;
    options.entropy = strcmp(mode, "rans") == 0 ? "rans" : NULL;
    options.rows_per_micro_max = s->rows;
    options.sequences_per_micro_max = s->sequences;
    return options;
}

static void shape_take(shape *s) {
    s->labelled = calloc((s->rows + 7) / 8, 1);
    s->x = calloc(s->rows, s->channels * sizeof(float));
    s->y = calloc(s->rows, s->channels * sizeof(float));
    s->x_bf16 = calloc(s->rows, s->channels * sizeof *s->x_bf16);
    s->tokens = calloc(s->rows, sizeof *s->tokens);
    for (uint32_t i = 0; i < s->sequences; i++) {
        s->sequence_rows[i] = s->rows_each;
        for (uint32_t t = s->rows_each / 2; t < s->rows_each; t++) {
            const uint32_t row = i * s->rows_each + t;
            s->labelled[row / 8] |= (uint8_t)(1u << (row % 8));
        }
    }
}

static seam_status run(seam_client *client, char **argv, const char *mode, int port,
                       seam_error *err) {
    const bool halves = strncmp(mode, "halves", strlen("halves")) == 0;
    mode += halves ? strlen("halves") : 0;
    const bool cancel = strcmp(mode, "cancel") == 0;
    const unsigned steps = (unsigned)strtoul(argv[4], NULL, 10);
    shape s = {.sequences = (uint32_t)strtoul(argv[5], NULL, 10),
               .rows_each = (uint32_t)strtoul(argv[6], NULL, 10),
               .halves = halves};
    s.rows = s.sequences * s.rows_each;
    s.anonymous = strcmp(mode, "anonymous") == 0;
    s.unkeyed = strncmp(mode, "rate", strlen("rate")) == 0;
    const seam_session_options options = options_of(argv, mode, &s);
    seam_session *session = NULL;
    seam_status st = seam_session_create(&session, client, &options, err);
    if (st != SEAM_OK) {
        return st;
    }
    s.channels = seam_session_channels(session);
    shape_take(&s);
    hooks_set(session, mode);
    pthread_t canceller;
    if (cancel) {
        pthread_create(&canceller, NULL, cancel_soon, session);
    }
    seam_step_report report = SEAM_STEP_REPORT_INIT;
    for (unsigned i = 0; st == SEAM_OK && i < steps; i++) {
        const double begin = seconds_now();
        st = step(session, &s, i, &report, err);
        if (options.rate_auto && st == SEAM_OK) {
            printf("{\"seconds\": %.6f, \"bits_target\": %.4f, \"bits\": %.4f, "
                   "\"link_bits_per_second\": %.0f}\n",
                   seconds_now() - begin, report.bits_target, report.gate_mean_bits,
                   report.link_bits_per_second);
            (void)fflush(stdout);
        }
    }
    if (cancel) {
        pthread_join(canceller, NULL);
    }
    uint64_t sent = 0, received = 0, kernel_sent = 0, kernel_received = 0;
    const struct timespec settle = {.tv_nsec = 300000000}; /* acknowledgements in flight */
    nanosleep(&settle, NULL);
    seam_client_bytes(&sent, &received, client);
    kernel_bytes(&kernel_sent, &kernel_received, port);
    seam_site_state in = {.mean_bits = 0}, out = {.mean_bits = 0};
    (void)seam_session_site(&in, session, 0);
    (void)seam_session_site(&out, session, 1);
    printf("{\"status\": \"%s\", \"steps\": %llu, \"state_hash\": \"%016llx\", \"sent\": %llu, "
           "\"received\": %llu, \"kernel_sent\": %llu, \"kernel_received\": %llu, "
           "\"bits_in\": %.4f, \"bits_out\": %.4f, \"text\": \"%s\"}\n",
           st == SEAM_OK ? "OK" : seam_describe(st),
           (unsigned long long)seam_session_committed_steps(session),
           (unsigned long long)report.state_hash, (unsigned long long)sent,
           (unsigned long long)received, (unsigned long long)kernel_sent,
           (unsigned long long)kernel_received, in.mean_bits, out.mean_bits,
           st == SEAM_OK ? "" : err->text);
    free(s.tokens);
    free(s.y);
    free(s.x_bf16);
    free(s.x);
    free(s.labelled);
    seam_session_close(session);
    return st;
}

static void log_line(void *user, const char *text) {
    (void)user;
    fprintf(stderr, "log: %s\n", text);
}

int main(int argc, char **argv) {
    if (argc < 7) {
        fprintf(stderr,
                "usage: core_steps ADDRESS CA|- CODEC[/FWD_IN] STEPS SEQUENCES ROWS [MODE]\n");
        return 2;
    }
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    options.address = argv[1];
    options.plaintext = strcmp(argv[2], "-") == 0;
    options.ca_file = options.plaintext ? NULL : argv[2];
    options.reconnect_timeout_ms = 5000;
    options.progress_timeout_ms = 10000;
    options.log = log_line;
    const char *const mode = argc > 7 ? argv[7] : "";
    const char *const colon = strrchr(argv[1], ':');
    seam_client *client = NULL;
    seam_error err = {0};
    seam_status st = seam_client_open(&client, &options, &err);
    if (st == SEAM_OK) {
        st = run(client, argv, mode, (int)strtol(colon != NULL ? colon + 1 : "0", NULL, 10), &err);
        seam_client_close(client);
    }
    if (st != SEAM_OK) {
        fprintf(stderr, "core_steps: %s\n", err.text);
    }
    return st == SEAM_OK && inner_status == SEAM_E_STATE ? 0 : 1;
}

/* What a client takes of its memory in a session, beside what was planned for it:
 * test_client_memory.py compares.
 *
 *   client_memory ADDRESS MODEL_DIR MODEL_ID FRONT TAIL CODEC DEPTH MICROS TRAINED TOPOLOGY
 *
 * TRAINED: lora, prefix, full.  TOPOLOGY: resent is adapter_exchange with resend_parameters. malloc
 * is counted by the linker's --wrap: our own code's alone, not gRPC's.  Prints one JSON object:
 * planned and taken bytes, by phase. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_plan.h"
#include "ops.h"
#include "seam_model.h"
#include "weights.h"

enum {
    SEQUENCES = 4,
    SEQUENCE_ROWS = 64,
    ROWS = SEQUENCES * SEQUENCE_ROWS,
    MICROS_MAX = 4,
    STEPS = 3
};

/* ---- counting ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *ptr, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *ptr);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *ptr, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *ptr);

static _Atomic int64_t live_bytes; /* in blocks as malloc rounds them */

static void *counted(void *ptr) {
    live_bytes += (int64_t)malloc_usable_size(ptr);
    return ptr;
}

void *__wrap_malloc(size_t bytes) {
    return counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return counted(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *ptr, size_t bytes) {
    live_bytes -= (int64_t)malloc_usable_size(ptr);
    return counted(__real_realloc(ptr, bytes));
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return counted(__real_aligned_alloc(alignment, bytes));
}

void __wrap_free(void *ptr) {
    live_bytes -= (int64_t)malloc_usable_size(ptr);
    __real_free(ptr);
}

/* ---- a run ---- */

typedef struct run {
    seam_client *client;
    seam_model *model;
    seam_session *session;
    seam_trainer *trainer;
    seam_session_options options;
    seam_client_memory plan;
    int64_t backend_bytes; /* of a backend with a stream, which no plan has */
    int64_t taken[4];      /* by the model, the session, the trainer, its steps */
    uint32_t micros;
} run;

static uint32_t number(const char *text) {
    return (uint32_t)strtoul(text, NULL, 10);
}

static void options_fill(run *r, char **argv) {
    seam_session_options o = SEAM_SESSION_OPTIONS_INIT;
    const char *const trained = argv[9];
    o.model = argv[3];
    o.front_blocks = number(argv[4]);
    o.tail_blocks = number(argv[5]);
    o.codec = argv[6];
    o.pipeline_depth = number(argv[7]);
    o.micros_per_step_max = r->micros = number(argv[8]);
    o.full = strcmp(trained, "full") == 0;
    o.prefix_tokens = strcmp(trained, "prefix") == 0 ? 5 : 0;
    o.resend_parameters = strcmp(argv[10], "resent") == 0;
    if (strcmp(trained, "lora") == 0) {
        o.lora_rank = 16;
        o.lora_targets = SEAM_TARGET_Q | SEAM_TARGET_V;
    }
    o.topology = o.resend_parameters ? "adapter_exchange" : argv[10];
    o.consent = strcmp(o.topology, "u_shaped") != 0 ? "text" : NULL;
    o.cache_bytes_max = 1 << 20;
    o.lr = 1e-3f;
    o.rows_per_micro_max = ROWS;
    o.sequences_per_micro_max = SEQUENCES;
    r->options = o;
}

static seam_status planned(run *r, const char *model_dir, seam_error *err) {
    const seam_backend_options backend_options = {.device = "cpu", .act = SEAM_F32, .threads = 1};
    seam_backend *backend = NULL;
    seam_stream *stream = NULL;
    seam_weights *weights = NULL;
    const int64_t before = live_bytes;
    seam_status st = seam_backend_create(&backend, &backend_options, err);
    st = st == SEAM_OK ? seam_backend_ops(backend)->stream_create(&stream, backend) : st;
    r->backend_bytes = live_bytes - before;
    if (stream != NULL) {
        seam_backend_ops(backend)->stream_destroy(stream);
    }
    st = st == SEAM_OK ? seam_weights_open(&weights, model_dir, err) : st;
    if (st == SEAM_OK) { /* the tiny model's values are of f32 */
        const seam_client_shape shape = {
            .model = seam_weights_config(weights), .ops = seam_backend_ops(backend), .rows = ROWS};
        st = seam_client_plan(&r->plan, &shape, &r->options, err);
    }
    seam_weights_close(weights);
    seam_backend_destroy(backend);
    return st;
}

/* Full micro-batches of tokens that repeat seldom; all rows but each sequence's last are labelled.
 */
static seam_status step(run *r, uint32_t vocab, seam_error *err) {
    static uint32_t ids[MICROS_MAX][ROWS], targets[MICROS_MAX][ROWS];
    static uint64_t sample_ids[SEQUENCES];
    static uint8_t bitmap[ROWS / 8];
    static const uint32_t sequence_rows[SEQUENCES] = {SEQUENCE_ROWS, SEQUENCE_ROWS, SEQUENCE_ROWS,
                                                      SEQUENCE_ROWS};
    seam_token_batch micros[MICROS_MAX];
    seam_train_report report = SEAM_TRAIN_REPORT_INIT;
    memset(bitmap, 0xff, sizeof bitmap);
    for (uint32_t m = 0; m < r->micros; m++) {
        uint32_t labelled = 0;
        for (uint32_t t = 0; t < ROWS; t++) {
            ids[m][t] = (t * 37 + m) % vocab;
            sample_ids[t / SEQUENCE_ROWS] = t / SEQUENCE_ROWS;
            if (t % SEQUENCE_ROWS == SEQUENCE_ROWS - 1) {
                bitmap[t / 8] &= (uint8_t) ~(1u << t % 8);
            } else {
                targets[m][labelled++] = (t * 37 + 37 + m) % vocab;
            }
        }
        micros[m] = (seam_token_batch){.sequence_count = SEQUENCES,
                                       .sequence_rows = sequence_rows,
                                       .ids = ids[m],
                                       .labelled_rows = bitmap,
                                       .targets = targets[m],
                                       .sample_ids = sample_ids};
    }
    return seam_trainer_step(r->trainer, micros, r->micros, &report, err);
}

static seam_status phases(run *r, const char *model_dir, seam_error *err) {
    seam_model_options options = SEAM_MODEL_OPTIONS_INIT;
    seam_model_facts facts;
    options.path = model_dir;
    options.threads = 1;
    options.f32 = true;
    options.front_blocks = r->options.front_blocks;
    options.tail_blocks = r->options.tail_blocks;
    int64_t before = live_bytes;
    seam_status st = seam_model_open(&r->model, &options, err);
    r->taken[0] = live_bytes - before - r->backend_bytes;
    before = live_bytes;
    st = st == SEAM_OK ? seam_session_create(&r->session, r->client, &r->options, err) : st;
    r->taken[1] = live_bytes - before;
    before = live_bytes;
    st = st == SEAM_OK ? seam_trainer_create(&r->trainer, r->session, r->model, err) : st;
    r->taken[2] = live_bytes - before;
    before = live_bytes;
    for (uint32_t i = 0; st == SEAM_OK && i < STEPS; i++) {
        seam_model_describe(&facts, r->model);
        st = step(r, facts.vocab, err);
    }
    r->taken[3] = live_bytes - before;
    return st;
}

static void print(const run *r) {
    const seam_client_memory *const p = &r->plan;
    const uint64_t want[4] = {p->embedding + p->head + p->blocks, p->session - p->record_bytes,
                              p->adapter + p->moments + p->modules + p->activations +
                                  p->record_bytes,
                              p->rows + p->tensors};
    static const char *const names[4] = {"model", "session", "trainer", "steps"};
    (void)printf("{");
    for (uint32_t i = 0; i < 4; i++) {
        (void)printf("\"%s\": [%llu, %lld], ", names[i], (unsigned long long)want[i],
                     (long long)r->taken[i]);
    }
    (void)printf("\"all\": %llu}\n", (unsigned long long)seam_client_memory_bytes(p));
}

int main(int argc, char **argv) {
    if (argc != 11) {
        (void)fprintf(stderr,
                      "usage: client_memory ADDRESS MODEL_DIR MODEL_ID FRONT TAIL CODEC DEPTH "
                      "MICROS TRAINED TOPOLOGY\n");
        return 2;
    }
    run r = {.client = NULL};
    seam_error err = {0};
    seam_client_options options = SEAM_CLIENT_OPTIONS_INIT;
    options.address = argv[1];
    options.plaintext = true;
    options_fill(&r, argv);
    seam_status st = planned(&r, argv[2], &err);
    st = st == SEAM_OK ? seam_client_open(&r.client, &options, &err) : st;
    st = st == SEAM_OK ? phases(&r, argv[2], &err) : st;
    seam_trainer_destroy(r.trainer);
    if (r.session != NULL) {
        (void)seam_session_delete(r.session, NULL);
    }
    seam_model_close(r.model);
    seam_client_close(r.client);
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "client_memory: %s\n", err.text);
        return 1;
    }
    print(&r);
    return 0;
}

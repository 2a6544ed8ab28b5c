/* See audit.h.  The step's rows are copied as they are shown; the attacks run when it is over, for
 * one search through a table serves all rows.
 * Read next: audit_inputs.c, audit_labels.c. */
#include "audit.h"

#include <string.h>

#include "arena.h"
#include "audit_impl.h"
#include "client_blocks.h"
#include "try.h"

static void arrays_free(seam_audit *audit);
static void chances_count(seam_audit_report *report, seam_audit *audit);

seam_status seam_audit_create(seam_audit **ret_audit, seam_model *model,
                              const seam_model_options *options, seam_error *err) {
    seam_audit *const audit = seam_mem_zalloc(1, sizeof *audit);
    if (audit == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    audit->model = model;
    const seam_backend_options backend = {.device =
                                              options->device != NULL ? options->device : "cpu",
                                          .act = SEAM_F32,
                                          .threads = options->threads};
    seam_status st = seam_backend_create(&audit->backend, &backend, err);
    st = st == SEAM_OK ? seam_weights_open(&audit->weights, options->path, err) : st;
    if (st != SEAM_OK) {
        seam_audit_destroy(audit);
        return st;
    }
    *ret_audit = audit;
    return SEAM_OK;
}

void seam_audit_destroy(seam_audit *gift_audit) {
    if (gift_audit != NULL) {
        arrays_free(gift_audit);
        seam_weights_close(gift_audit->weights);
        seam_backend_destroy(gift_audit->backend);
        seam_mem_free(gift_audit);
    }
}

/* ---- the stream ---- */

static void arrays_free(seam_audit *audit) {
    void *const arrays[] = {audit->x,    audit->y,     audit->dy,      audit->guesses,
                            audit->ids,  audit->pairs, audit->lengths, audit->kept,
                            audit->norm, audit->head,  audit->counts};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        seam_mem_free(arrays[i]);
    }
    audit->x = audit->y = audit->dy = audit->norm = audit->head = audit->kept = NULL;
    audit->guesses = audit->ids = audit->pairs = audit->lengths = audit->counts = NULL;
    audit->kept_count = 0;
    audit->has_lead = false;
}

static bool arrays_take(seam_audit *audit) {
    const size_t C = audit->model->hidden, T = audit->row_begin[audit->micro_count];
    const size_t ids = T > SEAM_AUDIT_PIECE_ROWS ? T : SEAM_AUDIT_PIECE_ROWS;
    audit->x = seam_mem_zalloc(T * C, sizeof *audit->x);
    audit->y = seam_mem_zalloc(T * C, sizeof *audit->y);
    audit->dy = seam_mem_zalloc(T * C, sizeof *audit->dy);
    audit->guesses = seam_mem_zalloc(T * SEAM_AUDIT_GUESSES, sizeof *audit->guesses);
    audit->ids = seam_mem_zalloc(ids, sizeof *audit->ids);
    audit->pairs = seam_mem_zalloc(2 * ids, sizeof *audit->pairs);
    audit->lengths = seam_mem_zalloc(ids, sizeof *audit->lengths);
    audit->norm = seam_mem_zalloc(C, sizeof *audit->norm);
    audit->counts = seam_mem_zalloc(audit->model->vocab, sizeof *audit->counts);
    return audit->x != NULL && audit->y != NULL && audit->dy != NULL && audit->guesses != NULL &&
           audit->ids != NULL && audit->pairs != NULL && audit->lengths != NULL &&
           audit->norm != NULL && audit->counts != NULL;
}

seam_status seam_audit_begin(seam_audit *audit, const seam_token_batch *micros,
                             uint32_t micro_count, seam_error *err) {
    SEAM_ASSERT(micro_count > 0 && micro_count <= SEAM_AUDIT_MICROS_MAX);
    audit->micros = micros;
    audit->micro_count = micro_count;
    audit->has_inputs = audit->has_gradients = false;
    for (uint32_t m = 0; m < micro_count; m++) {
        uint32_t rows = 0, labelled = 0;
        SEAM_TRY(seam_batch_count(&rows, &labelled, &micros[m], audit->model, err));
        audit->row_begin[m + 1] = audit->row_begin[m] + rows;
        audit->label_begin[m + 1] = audit->label_begin[m] + labelled;
    }
    arrays_free(audit);
    return arrays_take(audit) ? SEAM_OK : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
}

bool seam_audit_is_labelled(const seam_token_batch *batch, uint32_t row) {
    return ((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0;
}

/* The labelled ones of the rows out of a micro-batch, which with tail blocks are more. */
static void labelled_take(float *ret, const seam_audit *audit, const seam_watched *seen) {
    const seam_token_batch *const batch = &audit->micros[seen->micro];
    const uint32_t rows = audit->row_begin[seen->micro + 1] - audit->row_begin[seen->micro];
    const size_t C = audit->model->hidden;
    seam_model *const model = audit->model;
    const bool all = seen->row_count == rows;
    if (model->tail != NULL) {
        seam_tail_rows_mark(model->bitmap, batch);
    }
    const float *from = seen->rows;
    for (uint32_t t = 0; t < rows; t++) {
        const bool labelled = seam_audit_is_labelled(batch, t);
        const bool tail = model->tail != NULL && (model->bitmap[t / 8] >> (t % 8) & 1) != 0;
        if (labelled) {
            memcpy(ret, from, C * sizeof *ret);
            ret += C;
        }
        from += all || labelled || tail ? C : 0;
    }
}

void seam_audit_see(void *user, const seam_watched *seen) {
    seam_audit *const audit = user;
    SEAM_ASSERT(seen->micro < audit->micro_count);
    const size_t C = audit->model->hidden;
    const size_t rows_at = audit->row_begin[seen->micro] * C;
    const size_t labels_at = audit->label_begin[seen->micro] * C;
    const uint32_t rows = audit->row_begin[seen->micro + 1] - audit->row_begin[seen->micro];
    switch (seen->site) {
    case SEAM_WATCH_FWD_IN:
        SEAM_ASSERT(seen->row_count == rows);
        memcpy(audit->x + rows_at, seen->rows, rows * C * sizeof *audit->x);
        audit->has_inputs = true;
        break;
    case SEAM_WATCH_FWD_OUT:
        if (audit->model->tail == NULL) {
            labelled_take(audit->y + labels_at, audit, seen);
        } else if (seen->row_count == rows) {
            memcpy(audit->y + rows_at, seen->rows, rows * C * sizeof *audit->y);
        } else {
            seam_tail_rows_spread(audit->y + rows_at, seen->rows, &audit->micros[seen->micro],
                                  audit->model->hidden);
        }
        break;
    case SEAM_WATCH_BWD_OUT:
        labelled_take(audit->dy + labels_at, audit, seen);
        audit->has_gradients = true;
        break;
    }
}

/* ---- attacks ---- */

seam_status seam_audit_run(seam_audit_report *ret_report, seam_audit *audit,
                           bool (*is_stopped)(void), seam_error *err) {
    audit->is_stopped = is_stopped;
    *ret_report = (seam_audit_report){.tokens = audit->row_begin[audit->micro_count],
                                      .labels = audit->label_begin[audit->micro_count]};
    chances_count(ret_report, audit);
    if (audit->has_inputs) {
        SEAM_TRY(seam_audit_inputs(ret_report, audit, err));
        seam_audit_labels_by_inputs(ret_report, audit);
    }
    return audit->has_gradients ? seam_audit_labels(ret_report, audit, err) : SEAM_OK;
}

void seam_audit_share_add(seam_audit_share *share, const uint32_t *guesses, uint32_t truth) {
    bool among = false;
    for (uint32_t k = 0; k < SEAM_AUDIT_GUESSES; k++) {
        among = among || guesses[k] == truth;
    }
    share->count++;
    share->first += guesses[0] == truth ? 1 : 0;
    share->among += among ? 1 : 0;
}

uint32_t seam_audit_target(const seam_audit *audit, uint32_t label) {
    uint32_t m = 0;
    while (label >= audit->label_begin[m + 1]) {
        m++;
    }
    return audit->micros[m].targets[label - audit->label_begin[m]];
}

/* ---- chance ---- */

/* The tokens that are counted most, as guesses for all: what knowing their frequencies gives. */
static void chance_count(seam_audit_share *ret_share, uint32_t *counts, uint32_t vocab) {
    *ret_share = (seam_audit_share){0};
    for (uint32_t i = 0; i < vocab; i++) {
        ret_share->count += counts[i];
    }
    for (uint32_t k = 0; k < SEAM_AUDIT_GUESSES; k++) {
        uint32_t most = 0;
        for (uint32_t i = 1; i < vocab; i++) {
            most = counts[i] > counts[most] ? i : most;
        }
        ret_share->first += k == 0 ? counts[most] : 0;
        ret_share->among += counts[most];
        counts[most] = 0;
    }
}

static void chances_count(seam_audit_report *report, seam_audit *audit) {
    const uint32_t V = audit->model->vocab;
    memset(audit->counts, 0, V * sizeof *audit->counts);
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        for (uint32_t t = 0; t < audit->row_begin[m + 1] - audit->row_begin[m]; t++) {
            audit->counts[audit->micros[m].ids[t]]++;
        }
    }
    chance_count(&report->shares[SEAM_AUDIT_INPUT_CHANCE], audit->counts, V);
    memset(audit->counts, 0, V * sizeof *audit->counts);
    for (uint32_t i = 0; i < audit->label_begin[audit->micro_count]; i++) {
        audit->counts[seam_audit_target(audit, i)]++;
    }
    chance_count(&report->shares[SEAM_AUDIT_LABEL_CHANCE], audit->counts, V);
}

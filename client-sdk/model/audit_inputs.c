/* Inputs out of the rows of fwd_in; see audit.h.  Without blocks at the client a row is one of the
 * embedding, with the codec's error.  Behind blocks that are public the operator has them run on
 * what it guesses, and on every token of the vocabulary.
 * Read next: audit_labels.c. */
#include <string.h>

#include "arena.h"
#include "audit_impl.h"
#include "client_blocks.h"
#include "try.h"

#define TABLE_KEPT_BYTES_MAX ((size_t)1 << 30)
#define CONTEXT_ROUNDS                                                                             \
    4 /* at most: after two or three, few guesses change (SmolLM2, 1 to 8 blocks) */

static void inputs_count(seam_audit_share *ret_share, const seam_audit *audit);
static seam_audit_read_fn front_read;
static seam_status context_attack(seam_audit_report *report, seam_audit *audit, seam_error *err);

seam_status seam_audit_inputs(seam_audit_report *report, seam_audit *audit, seam_error *err) {
    const bool front = audit->model->front != NULL;
    const uint32_t T = audit->row_begin[audit->micro_count];
    const seam_audit_table embedding = seam_audit_table_of(audit, seam_audit_embedding_read);
    /* Behind blocks a row has another length, and its direction says more. */
    const seam_audit_rows direct = {.x = audit->x, .rows = T, .cosine = front};
    SEAM_TRY(seam_audit_search(audit->guesses, audit->backend, &embedding, &direct, err));
    inputs_count(&report->shares[SEAM_AUDIT_INPUT_ROWS], audit);
    if (!front) {
        return SEAM_OK;
    }
    const seam_audit_table behind = seam_audit_table_of(audit, front_read);
    const seam_audit_rows alone = {.x = audit->x, .rows = T};
    SEAM_TRY(seam_audit_search(audit->guesses, audit->backend, &behind, &alone, err));
    inputs_count(&report->shares[SEAM_AUDIT_INPUT_BLOCKS], audit);
    return context_attack(report, audit, err);
}

static void inputs_count(seam_audit_share *ret_share, const seam_audit *audit) {
    *ret_share = (seam_audit_share){0};
    const uint32_t *guesses = audit->guesses;
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        const uint32_t rows = audit->row_begin[m + 1] - audit->row_begin[m];
        for (uint32_t t = 0; t < rows; t++, guesses += SEAM_AUDIT_GUESSES) {
            seam_audit_share_add(ret_share, guesses, audit->micros[m].ids[t]);
        }
    }
}

/* model->host_x = embeddings of ids, through the client's blocks as the public model has them where
 * `batch` says how the rows stand. */
static seam_status rows_make(seam_audit *audit, const uint32_t *ids, uint32_t rows,
                             const seam_token_batch *batch, seam_error *err) {
    seam_model *const model = audit->model;
    const seam_client_look look = {.base_model = true, .batch = batch, .rows = rows};
    SEAM_TRY(seam_model_reserve(model, rows, err));
    SEAM_TRY(seam_model_embed(model, ids, rows, err));
    return batch != NULL ? seam_client_infer(model, model->host_x, &look, err) : SEAM_OK;
}

/* model->host_x = what the blocks make of each token alone, or as the second of a sequence behind
 * audit->lead: attention leans on a sequence's first token, which so has another row than later
 * ones.  Where a token stands beyond that does not show in what it adds itself. */
static seam_status tokens_make(seam_audit *audit, const uint32_t *ids, uint32_t count,
                               seam_error *err) {
    const uint32_t each = audit->has_lead ? 2 : 1;
    const size_t C = audit->model->hidden;
    for (uint32_t i = 0; i < count; i++) {
        audit->pairs[i * each] = audit->lead;
        audit->pairs[i * each + each - 1] = ids[i];
        audit->lengths[i] = each;
    }
    const seam_token_batch batch = {.sequence_count = count, .sequence_rows = audit->lengths};
    SEAM_TRY(rows_make(audit, audit->pairs, count * each, &batch, err));
    float *const rows = audit->model->host_x;
    for (size_t i = 0; audit->has_lead && i < count; i++) {
        memmove(rows + i * C, rows + (2 * i + 1) * C, C * sizeof *rows);
    }
    return SEAM_OK;
}

static void ids_from(seam_audit *audit, uint32_t begin, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        audit->ids[i] = begin + i;
    }
}

seam_status seam_audit_embedding_read(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                                      seam_error *err) {
    seam_audit *const audit = user;
    ids_from(audit, begin, count);
    SEAM_TRY(rows_make(audit, audit->ids, count, NULL, err));
    memcpy(ret_rows, audit->model->host_x, (size_t)count * audit->model->hidden * sizeof *ret_rows);
    return SEAM_OK;
}

/* Pieces come in order; a table that is to be searched again is kept, as far as it is not large. */
static seam_status front_read(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                              seam_error *err) {
    seam_audit *const audit = user;
    const size_t C = audit->model->hidden, bytes = count * C * sizeof *ret_rows;
    if (begin < audit->kept_count) {
        memcpy(ret_rows, audit->kept + begin * C, bytes);
        return SEAM_OK;
    }
    ids_from(audit, begin, count);
    SEAM_TRY(tokens_make(audit, audit->ids, count, err));
    memcpy(ret_rows, audit->model->host_x, bytes);
    if (audit->kept != NULL) {
        memcpy(audit->kept + begin * C, ret_rows, bytes);
        audit->kept_count = begin + count;
    }
    return SEAM_OK;
}

seam_audit_table seam_audit_table_of(seam_audit *audit, seam_audit_read_fn *read) {
    return (seam_audit_table){.count = audit->model->vocab,
                              .channels = audit->model->hidden,
                              .is_stopped = audit->is_stopped,
                              .read = read,
                              .user = audit};
}

/* rows (T, C) = x without what earlier tokens add behind the blocks, if the guesses are right. */
static seam_status context_remove(float *rows, seam_audit *audit, seam_error *err) {
    const size_t C = audit->model->hidden;
    const uint32_t *guesses = audit->guesses;
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        const uint32_t begin = audit->row_begin[m], count = audit->row_begin[m + 1] - begin;
        float *const to = rows + begin * C;
        for (uint32_t t = 0; t < count; t++, guesses += SEAM_AUDIT_GUESSES) {
            audit->ids[t] = guesses[0];
        }
        SEAM_TRY(tokens_make(audit, audit->ids, count, err));
        for (size_t i = 0; i < count * C; i++) {
            to[i] = audit->x[begin * C + i] + audit->model->host_x[i];
        }
        SEAM_TRY(rows_make(audit, audit->ids, count, &audit->micros[m], err));
        for (size_t i = 0; i < count * C; i++) {
            to[i] -= audit->model->host_x[i];
        }
    }
    return SEAM_OK;
}

/* A sequence's first token has no context: what was found of it alone stays. */
static void firsts_copy(uint32_t *to, const uint32_t *from, const seam_audit *audit) {
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        size_t row = audit->row_begin[m];
        for (uint32_t s = 0; s < audit->micros[m].sequence_count; s++) {
            const size_t at = row * SEAM_AUDIT_GUESSES;
            memcpy(to + at, from + at, SEAM_AUDIT_GUESSES * sizeof *to);
            row += audit->micros[m].sequence_rows[s];
        }
    }
}

/* before: (T, GUESSES) scratch; rows: (T, C). */
static seam_status rounds_run(seam_audit *audit, float *rows, uint32_t *before, seam_error *err) {
    const uint32_t T = audit->row_begin[audit->micro_count];
    const size_t bytes = (size_t)T * SEAM_AUDIT_GUESSES * sizeof *before;
    const seam_audit_table table = seam_audit_table_of(audit, front_read);
    const seam_audit_rows wanted = {.x = rows, .rows = T};
    bool changed = true;
    memcpy(rows, audit->x, (size_t)T * audit->model->hidden * sizeof *rows);
    for (uint32_t round = 0; changed && round < CONTEXT_ROUNDS; round++) {
        memcpy(before, audit->guesses, bytes);
        SEAM_TRY(seam_audit_search(audit->guesses, audit->backend, &table, &wanted, err));
        firsts_copy(audit->guesses, before, audit);
        changed = memcmp(before, audit->guesses, bytes) != 0;
        SEAM_TRY(context_remove(rows, audit, err));
    }
    return SEAM_OK;
}

/* With a sequence's first token the second is found, and so on: a round corrects every row by what
 * is guessed of those before it. */
static seam_status context_attack(seam_audit_report *report, seam_audit *audit, seam_error *err) {
    const size_t T = audit->row_begin[audit->micro_count], C = audit->model->hidden;
    const size_t table_bytes = (size_t)audit->model->vocab * C * sizeof(float);
    float *const rows = seam_mem_alloc(T * C * sizeof *rows);
    uint32_t *const before = seam_mem_alloc(T * SEAM_AUDIT_GUESSES * sizeof *before);
    audit->lead = audit->guesses[0];
    audit->has_lead = true;
    audit->kept = table_bytes <= TABLE_KEPT_BYTES_MAX ? seam_mem_alloc(table_bytes) : NULL;
    const seam_status st = rows != NULL && before != NULL
                               ? rounds_run(audit, rows, before, err)
                               : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    seam_mem_free(before);
    seam_mem_free(rows);
    SEAM_TRY(st);
    inputs_count(&report->shares[SEAM_AUDIT_INPUT_CONTEXT], audit);
    return SEAM_OK;
}

/* See choice_batcher.h.  All memory is taken at creation: a row of a batch is named by at most one
 * term of each choice and one of the loss.
 * Read next: cli/evaluate_choices.c, which adds the terms up. */
#include "choice_batcher.h"

#include <string.h>

#include "arena.h"
#include "try.h"

enum { SEQS_MAX = SEAM_DATA_CHOICES_MAX, TERMS_PER_ROW_MAX = SEAM_DATA_CHOICES_MAX + 1 };

/* The sequences of a sample and which of them each choice is read from. */
typedef struct plan {
    seam_sample sample;
    seam_choice choices[SEAM_DATA_CHOICES_MAX];
    uint32_t carrier[SEAM_DATA_CHOICES_MAX]; /* sequence of each choice */
    /* Sequence s: seq_rows[s] ids, prompt first.  0: the sample's; others: of choice owner[s]. */
    uint32_t seq_count, owner[SEQS_MAX], seq_rows[SEQS_MAX];
    uint64_t rows_total;
} plan;

struct seam_choice_batcher {
    const seam_data *data;
    uint32_t rows_max;
    uint32_t sample_next, seq_next; /* seq_next > 0: the sample's first sequences are out */
    plan plan;                      /* of sample_next, while seq_next > 0 */
    uint32_t *ids, *seq_rows;
    uint8_t *wanted;
    seam_choice_term *terms;
    seam_choice_batch batch;
};

static void plan_make(plan *p, const seam_data *data, uint32_t sample_idx);
static void sequence_add(seam_choice_batcher *b, const plan *p, uint32_t seq);

static seam_status lengths_check(const seam_data *data, uint32_t rows_max, seam_error *err) {
    if (rows_max == 0) {
        return seam_error_set(err, SEAM_E_ARG, "rows of a batch are above 0");
    }
    plan p;
    for (uint32_t i = 0; i < seam_data_count(data); i++) {
        plan_make(&p, data, i);
        for (uint32_t s = 0; s < p.seq_count; s++) {
            if (p.seq_rows[s] > rows_max) {
                return seam_error_set(
                    err, SEAM_E_LIMIT,
                    "line %llu: the row has %u tokens; a request of --rows-max %u holds rows of %u",
                    (unsigned long long)p.sample.line, p.seq_rows[s] + 1, rows_max, rows_max + 1);
            }
        }
    }
    return SEAM_OK;
}

seam_status seam_choice_batcher_create(seam_choice_batcher **ret_batcher, const seam_data *data,
                                       uint32_t rows_max, seam_error *err) {
    SEAM_TRY(lengths_check(data, rows_max, err));
    seam_choice_batcher *b = seam_mem_zalloc(1, sizeof(*b));
    if (b != NULL) {
        b->data = data;
        b->rows_max = rows_max;
        b->ids = seam_mem_zalloc(rows_max, sizeof(*b->ids));
        b->seq_rows = seam_mem_zalloc(rows_max, sizeof(*b->seq_rows));
        b->wanted = seam_mem_zalloc(rows_max / 8 + 1, 1);
        b->terms = seam_mem_zalloc(rows_max, TERMS_PER_ROW_MAX * sizeof(*b->terms));
    }
    if (b == NULL || b->ids == NULL || b->seq_rows == NULL || b->wanted == NULL ||
        b->terms == NULL) {
        seam_choice_batcher_destroy(b);
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the batches of the evaluation");
    }
    *ret_batcher = b;
    return SEAM_OK;
}

void seam_choice_batcher_destroy(seam_choice_batcher *gift_batcher) {
    seam_choice_batcher *b = gift_batcher;
    if (b == NULL) {
        return;
    }
    seam_mem_free(b->terms);
    seam_mem_free(b->wanted);
    seam_mem_free(b->seq_rows);
    seam_mem_free(b->ids);
    seam_mem_free(b);
}

void seam_choice_batcher_next(seam_choice_batch *ret_batch, seam_choice_batcher *batcher) {
    seam_choice_batcher *b = batcher;
    b->batch = (seam_choice_batch){
        .ids = b->ids, .seq_rows = b->seq_rows, .wanted = b->wanted, .terms = b->terms};
    memset(b->wanted, 0, b->rows_max / 8 + 1);
    for (bool full = false; !full && b->sample_next < seam_data_count(b->data);) {
        if (b->seq_next == 0) {
            plan_make(&b->plan, b->data, b->sample_next);
            if (b->batch.rows > 0 && b->plan.rows_total > b->rows_max - b->batch.rows) {
                break;
            }
        }
        while (b->seq_next < b->plan.seq_count && !full) {
            full = b->plan.seq_rows[b->seq_next] > b->rows_max - b->batch.rows;
            if (!full) {
                sequence_add(b, &b->plan, b->seq_next++);
            }
        }
        if (!full) {
            b->sample_next++;
            b->seq_next = 0;
        }
    }
    *ret_batch = b->batch;
}

/* ---- Sequences of a sample ---- */

/* Whether `ids` begin with all but the last token of the choice. */
static bool holds(const uint32_t *ids, uint32_t count, const seam_choice *choice) {
    const uint32_t needed = choice->token_count - 1;
    return needed <= count && (needed == 0 || memcmp(ids, choice->ids, needed * sizeof *ids) == 0);
}

/* The choice whose sequence serves choice c: the longest one that holds it, the first of those.
 * A sequence that holds the longest would hold c and be longer, so the longest serves itself. */
static uint32_t carrier_of(const plan *p, uint32_t c) {
    uint32_t best = c;
    for (uint32_t i = 0; i < p->sample.choice_count; i++) {
        const seam_choice *const other = &p->choices[i];
        const uint32_t best_count = p->choices[best].token_count;
        if ((other->token_count > best_count || (other->token_count == best_count && i < best)) &&
            holds(other->ids, other->token_count - 1, &p->choices[c])) {
            best = i;
        }
    }
    return best;
}

static void plan_make(plan *p, const seam_data *data, uint32_t sample_idx) {
    seam_data_get(&p->sample, data, sample_idx);
    const seam_sample *const s = &p->sample;
    p->seq_count = 1;
    p->seq_rows[0] = s->token_count - 1;
    p->rows_total = p->seq_rows[0];
    for (uint32_t c = 0; c < s->choice_count; c++) {
        seam_data_choice(&p->choices[c], data, s->choice_first + c);
    }
    /* Sequence 0 goes on after the prompt with the completion, the right choice; no end token. */
    uint32_t seq_of[SEAM_DATA_CHOICES_MAX] = {0};
    const uint32_t completion_count = s->token_count - 1 - s->prompt_count;
    for (uint32_t c = 0; c < s->choice_count; c++) {
        if (!holds(s->ids + s->prompt_count, completion_count, &p->choices[c]) &&
            carrier_of(p, c) == c) {
            const uint32_t seq = p->seq_count++;
            SEAM_ASSERT(seq < SEQS_MAX); /* the right choice never comes here */
            seq_of[c] = seq;
            p->owner[seq] = c;
            p->seq_rows[seq] = s->prompt_count + p->choices[c].token_count - 1;
            p->rows_total += p->seq_rows[seq];
        }
    }
    for (uint32_t c = 0; c < s->choice_count; c++) {
        const bool by_first = holds(s->ids + s->prompt_count, completion_count, &p->choices[c]);
        p->carrier[c] = by_first ? 0 : seq_of[carrier_of(p, c)];
    }
}

static void term_add(seam_choice_batcher *b, const seam_choice_term *term) {
    SEAM_ASSERT(b->batch.term_count < (uint64_t)b->rows_max * TERMS_PER_ROW_MAX);
    b->terms[b->batch.term_count++] = *term;
    b->wanted[term->row / 8] |= (uint8_t)(1U << term->row % 8);
}

static void sequence_add(seam_choice_batcher *b, const plan *p, uint32_t seq) {
    const seam_sample *const s = &p->sample;
    const uint32_t begin = b->batch.rows;
    const uint32_t rows = p->seq_rows[seq];
    uint32_t *const ids = b->ids + begin;
    if (seq == 0) {
        memcpy(ids, s->ids, rows * sizeof *ids);
        const uint32_t right = s->choice_count > 0 ? s->choice_right : 0;
        for (uint32_t t = 0; t < rows; t++) {
            if (s->in_loss[t + 1] == 1) {
                /* The end token is in the loss and in no choice. */
                const bool chosen =
                    s->choice_count > 0 && t + 1 - s->prompt_count < p->choices[right].token_count;
                const seam_choice_term term = {.row = begin + t,
                                               .token = s->ids[t + 1],
                                               .choice_idx = chosen ? s->choice_first + right
                                                                    : SEAM_NO_CHOICE,
                                               .in_loss = true};
                term_add(b, &term);
            }
        }
    } else {
        const seam_choice *const own = &p->choices[p->owner[seq]];
        memcpy(ids, s->ids, s->prompt_count * sizeof *ids);
        memcpy(ids + s->prompt_count, own->ids, (own->token_count - 1) * sizeof *ids);
    }
    for (uint32_t c = 0; c < s->choice_count; c++) {
        for (uint32_t i = 0;
             p->carrier[c] == seq && c != s->choice_right && i < p->choices[c].token_count; i++) {
            const seam_choice_term term = {.row = begin + s->prompt_count - 1 + i,
                                           .token = p->choices[c].ids[i],
                                           .choice_idx = s->choice_first + c};
            term_add(b, &term);
        }
    }
    b->seq_rows[b->batch.seq_count++] = rows;
    b->batch.rows += rows;
}

/* Order and packing; see batcher.h.
 *
 * Fisher-Yates with one Philox4x32-10 word pair a swap: j = floor(r64 * (i + 1) / 2^64), counter =
 * (i, epoch low, epoch high, "ordr"), key = seed.  All memory is taken at creation.
 * Read next: model/split_trainer.c; how rows became ids: data.c, tokenizer.c. */
#include "batcher.h"

#include <string.h>

#include "arena.h"
#include "codec.h"
#include "try.h"

enum { COUNTER_TAG = 0x6f726472 };

struct seam_batcher {
    const seam_data *data;
    seam_batcher_options options;
    uint32_t *order; /* of `epoch` */
    uint64_t epoch;
    bool has_order;
    /* Pools of one step; micros point into them. */
    uint32_t *ids, *positions, *seq_begin, *seq_rows, *labelled_rows, *targets;
    uint64_t *sample_ids;
    uint8_t *labelled;
    seam_micro *micros;
    /* While a step is packed. */
    seam_step_batch batch;
    size_t rows_used, seqs_used, labels_used, bitmap_used;
};

static seam_status lengths_check(const seam_data *data, const seam_batcher_options *options,
                                 seam_error *err) {
    if (options->samples_per_step == 0 || options->rows_max == 0) {
        return seam_error_set(err, SEAM_E_ARG, "samples a step and rows a micro-batch are above 0");
    }
    if (seam_data_tokens_longest(data) <= options->rows_max + 1ULL) {
        return SEAM_OK;
    }
    for (uint32_t i = 0; i < seam_data_count(data); i++) {
        seam_sample sample;
        seam_data_get(&sample, data, i);
        if (sample.token_count - 1 > options->rows_max) {
            return seam_error_set(
                err, SEAM_E_LIMIT,
                "line %llu: the row has %u tokens; a micro-batch of --rows-max %u "
                "holds rows of %u",
                (unsigned long long)sample.line, sample.token_count, options->rows_max,
                options->rows_max + 1);
        }
    }
    return SEAM_OK;
}

static seam_status pools_take(seam_batcher *b) {
    const size_t seqs = b->options.samples_per_step;
    const uint32_t longest = seam_data_tokens_longest(b->data);
    size_t rows;
    if (!seam_mul_bytes(&rows, seqs, longest)) {
        return SEAM_E_MEMORY;
    }
    b->order = seam_mem_zalloc(seam_data_count(b->data), sizeof(*b->order));
    b->ids = seam_mem_zalloc(rows, sizeof(*b->ids));
    b->positions = seam_mem_zalloc(rows, sizeof(*b->positions));
    b->labelled_rows = seam_mem_zalloc(rows, sizeof(*b->labelled_rows));
    b->targets = seam_mem_zalloc(rows, sizeof(*b->targets));
    b->seq_rows = seam_mem_zalloc(seqs, sizeof(*b->seq_rows));
    b->seq_begin = seam_mem_zalloc(2 * seqs, sizeof(*b->seq_begin)); /* S + 1 a micro-batch */
    b->sample_ids = seam_mem_zalloc(seqs, sizeof(*b->sample_ids));
    b->labelled = seam_mem_zalloc(rows / 8 + seqs, 1);
    b->micros = seam_mem_zalloc(seqs, sizeof(*b->micros));
    const void *const all[] = {b->order,    b->ids,      b->positions, b->labelled_rows,
                               b->targets,  b->seq_rows, b->seq_begin, b->sample_ids,
                               b->labelled, b->micros};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] == NULL) {
            return SEAM_E_MEMORY;
        }
    }
    return SEAM_OK;
}

seam_status seam_batcher_create(seam_batcher **ret_batcher, const seam_data *data,
                                const seam_batcher_options *options, seam_error *err) {
    SEAM_TRY(lengths_check(data, options, err));
    seam_batcher *b = seam_mem_zalloc(1, sizeof(*b));
    if (b != NULL) {
        b->data = data;
        b->options = *options;
    }
    if (b == NULL || pools_take(b) != SEAM_OK) {
        seam_batcher_destroy(b);
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for the batches of a step");
    }
    *ret_batcher = b;
    return SEAM_OK;
}

void seam_batcher_destroy(seam_batcher *gift_batcher) {
    seam_batcher *b = gift_batcher;
    if (b == NULL) {
        return;
    }
    seam_mem_free(b->micros);
    seam_mem_free(b->labelled);
    seam_mem_free(b->sample_ids);
    seam_mem_free(b->seq_begin);
    seam_mem_free(b->seq_rows);
    seam_mem_free(b->targets);
    seam_mem_free(b->labelled_rows);
    seam_mem_free(b->positions);
    seam_mem_free(b->ids);
    seam_mem_free(b->order);
    seam_mem_free(b);
}

uint32_t seam_batcher_micros_max(const seam_batcher *batcher) {
    /* One ends only when the next sample does not fit: it then holds at least as many samples as
     * the longest ones would fill it with, or seqs_max. */
    const seam_batcher_options *o = &batcher->options;
    const uint64_t seqs_max = o->seqs_max == 0 ? o->samples_per_step : o->seqs_max;
    const uint64_t longest = seam_data_tokens_longest(batcher->data) - 1ULL;
    const uint64_t fit = o->rows_max / longest;
    const uint64_t per_micro = fit < seqs_max ? fit : seqs_max;
    return (uint32_t)((o->samples_per_step + per_micro - 1) / per_micro);
}

static void order_make(seam_batcher *b, uint64_t epoch) {
    const uint32_t key[2] = {(uint32_t)b->options.seed, (uint32_t)(b->options.seed >> 32)};
    const uint32_t count = seam_data_count(b->data);
    for (uint32_t i = 0; i < count; i++) {
        b->order[i] = i;
    }
    for (uint32_t i = count - 1; i > 0 && !b->options.in_order; i--) {
        const uint32_t counter[4] = {i, (uint32_t)epoch, (uint32_t)(epoch >> 32), COUNTER_TAG};
        uint32_t words[4];
        seam_philox(words, counter, key);
        const uint64_t random = (uint64_t)words[1] << 32 | words[0];
        /* High half of a 64 x 32 bit product. */
        const uint64_t n = (uint64_t)i + 1;
        const uint64_t low = (random & UINT32_MAX) * n;
        const uint32_t j = (uint32_t)(((random >> 32) * n + (low >> 32)) >> 32);
        const uint32_t swap = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = swap;
    }
    b->epoch = epoch;
    b->has_order = true;
}

/* The sample at place `at` of the endless sequence of epochs. */
static uint32_t sample_at(seam_batcher *b, uint64_t at) {
    const uint64_t count = seam_data_count(b->data);
    if (!b->has_order || b->epoch != at / count) {
        order_make(b, at / count);
    }
    return b->order[at % count];
}

static void micro_begin(seam_batcher *b) {
    SEAM_ASSERT(b->micros != NULL);
    b->bitmap_used +=
        b->batch.micro_count == 0 ? 0 : (b->micros[b->batch.micro_count - 1].rows + 7U) / 8U;
    uint32_t *seq_begin = b->seq_begin + b->seqs_used + b->batch.micro_count;
    seq_begin[0] = 0;
    b->micros[b->batch.micro_count++] = (seam_micro){
        .ids = b->ids + b->rows_used,
        .positions = b->positions + b->rows_used,
        .seq_begin = seq_begin,
        .seq_rows = b->seq_rows + b->seqs_used,
        .sample_ids = b->sample_ids + b->seqs_used,
        .labelled = b->labelled + b->bitmap_used,
        .labelled_rows = b->labelled_rows + b->labels_used,
        .targets = b->targets + b->labels_used,
    };
}

static void sample_add(seam_batcher *b, const seam_sample *s, uint32_t sample_idx) {
    seam_micro *m = &b->micros[b->batch.micro_count - 1];
    const uint32_t rows = s->token_count - 1;
    uint8_t *bitmap = b->labelled + b->bitmap_used;
    uint32_t *seq_begin = b->seq_begin + b->seqs_used + b->batch.micro_count - 1;
    for (uint32_t t = 0; t < rows; t++) {
        const uint32_t row = m->rows + t;
        b->ids[b->rows_used + t] = s->ids[t];
        b->positions[b->rows_used + t] = t;
        if (s->in_loss[t + 1] == 1) {
            bitmap[row / 8] |= (uint8_t)(1U << row % 8);
            b->labelled_rows[b->labels_used] = row;
            b->targets[b->labels_used++] = s->ids[t + 1];
            m->labelled_count++;
        }
    }
    b->seq_rows[b->seqs_used] = rows;
    b->sample_ids[b->seqs_used] = sample_idx;
    b->seqs_used++;
    b->rows_used += rows;
    m->rows += rows;
    m->seq_count++;
    seq_begin[1] = m->rows;
}

void seam_batcher_step(seam_step_batch *ret_batch, seam_batcher *batcher, uint64_t step) {
    seam_batcher *b = batcher;
    const seam_batcher_options *o = &b->options;
    const uint64_t begin = step * o->samples_per_step;
    const uint64_t count = seam_data_count(b->data);
    uint64_t end = begin + o->samples_per_step;
    SEAM_ASSERT(!o->in_order || begin < count);
    end = o->in_order && end > count ? count : end;
    b->batch = (seam_step_batch){.step = step,
                                 .epoch = begin / count,
                                 .sample_count = (uint32_t)(end - begin),
                                 .micros = b->micros};
    b->rows_used = b->seqs_used = b->labels_used = b->bitmap_used = 0;
    memset(b->labelled, 0,
           (size_t)o->samples_per_step * seam_data_tokens_longest(b->data) / 8 +
               o->samples_per_step);
    for (uint64_t at = begin; at < end; at++) {
        const uint32_t sample_idx = sample_at(b, at);
        const seam_micro *m =
            b->batch.micro_count == 0 ? NULL : &b->micros[b->batch.micro_count - 1];
        seam_sample sample;
        seam_data_get(&sample, b->data, sample_idx);
        if (m == NULL || sample.token_count - 1 > o->rows_max - m->rows ||
            (o->seqs_max > 0 && m->seq_count == o->seqs_max)) {
            micro_begin(b);
        }
        sample_add(b, &sample, sample_idx);
    }
    b->batch.rows_total = b->rows_used;
    b->batch.labelled_total = b->labels_used;
    *ret_batch = b->batch;
}

/* Streams of the entropy coder.  rans.h is the API, rans_impl.h has the terms, WIRE.md 3.4 the
 * bytes:
 *
 *   u8 class count (0: the packed codes follow as they are), classes, class of each channel,
 *   u32 bytes of each block, stored words of full groups, tail group, blocks.
 *
 * Blocks start anew.  A block's step waits for the one before, so several are decoded side by
 * side; a GPU gives each to a warp. */
#include "rans.h"

#include <string.h>

#include "bytes.h"
#include "rans_impl.h"
#include "try.h"

#define LANES       SEAM_RANS_LANES
#define READERS     SEAM_RANS_READERS_MAX
#define STATE_BYTES (4 * LANES)
#define WORDS_BYTES (SEAM_RANS_WORDS_SLOP + SEAM_RANS_BLOCK_STEPS * SEAM_RANS_STEP_WORDS * 2)

/* A decoder's tables and the last words of a stream, with room behind them. */
typedef struct decode_work {
    seam_rans_decode_entry tables[READERS][SEAM_RANS_PROB_SUM + SEAM_RANS_TABLE_SLOP];
    uint8_t last[2 * SEAM_RANS_WORDS_AHEAD];
} decode_work;

/* An encoder's table and the words of one block, filled from the end. */
typedef struct encode_work {
    seam_rans_encode_entry table[SEAM_RANS_SYMBOLS_MAX];
    uint8_t words[WORDS_BYTES];
} encode_work;

_Static_assert(STATE_BYTES >= SEAM_RANS_WORDS_AHEAD, "a block's loads end within the next one");

/* The fixed part of scratch; arrays over channels follow it. */
typedef struct work {
    _Alignas(64) uint8_t units[READERS][SEAM_RANS_SLICE_STEPS * LANES];
    seam_rans_shuffles shuffles;
    uint32_t cells_at[SEAM_RANS_SLICE_STEPS * 8];
    seam_rans_class classes[SEAM_RANS_CLASSES_MAX];
    union {
        encode_work encode;
        decode_work decode;
    } as;
} work;

size_t seam_rans_bytes_max(const seam_rans_args *args) {
    return 1 + seam_codec_code_bytes(SEAM_CODEC_AMAQ, args->widths, args->rows, args->channels);
}

size_t seam_rans_scratch_bytes(uint32_t channels) {
    return sizeof(work) + seam_rans_arrays_bytes(channels);
}

/* Of a class index in the stream. */
static uint32_t class_idx_bits(uint32_t class_count) {
    uint32_t bits = 0;
    while (class_count > 1u << bits) {
        bits++;
    }
    return bits;
}

/* ---- encode ---- */

typedef struct stream_writer {
    uint8_t *at, *end; /* end: what the stored form would not exceed */
} stream_writer;

static bool bytes_append(stream_writer *out, const void *bytes, size_t count) {
    if ((size_t)(out->end - out->at) < count) {
        return false;
    }
    memcpy(out->at, bytes, count);
    out->at += count;
    return true;
}

static void units_read(work *w, const seam_rans_walk *walk, const uint8_t *codes, uint32_t step,
                       uint32_t steps) {
    const uint32_t cells = seam_rans_cells_find(w->cells_at, walk, step, steps);
    const uint32_t whole = cells / walk->unit.cells;
    const uint32_t rest = cells % walk->unit.cells;
    walk->plan->tile->read(w->units[0], codes, w->cells_at, whole, walk->unit);
    if (rest == 0) {
        return;
    }
    uint8_t *last = w->units[0] + (size_t)whole * LANES;
    const uint8_t pad = seam_rans_pad_bits(walk, rest);
    walk->plan->tile->read(last, codes, w->cells_at + (size_t)whole * walk->unit.cells, 1,
                           (seam_rans_unit){walk->unit.planes, rest});
    for (uint32_t l = 0; l < LANES; l++) {
        last[l] |= pad;
    }
}

/* One block: 32 states and the words that they leave. */
static bool block_encode(stream_writer *out, uint8_t *ret_size, work *w, const seam_rans_walk *walk,
                         const uint8_t *codes, uint32_t begin) {
    const uint32_t steps = seam_rans_block_steps(walk, begin);
    seam_rans_lanes lanes;
    uint8_t *const words_end = w->as.encode.words + WORDS_BYTES;
    uint8_t *words = words_end;
    for (uint32_t l = 0; l < LANES; l++) {
        lanes.x[l] = SEAM_RANS_STATE_MIN;
    }
    for (uint32_t end = steps; end > 0;) { /* slices from the last on */
        const uint32_t slice = (end - 1) / SEAM_RANS_SLICE_STEPS * SEAM_RANS_SLICE_STEPS;
        units_read(w, walk, codes, begin + slice, end - slice);
        words = walk->plan->tile->encode(&lanes, words, w->units[0], end - slice,
                                         w->as.encode.table, &w->shuffles);
        end = slice;
    }
    const size_t words_bytes = (size_t)(words_end - words);
    uint8_t states[STATE_BYTES];
    for (uint32_t l = 0; l < LANES; l++) {
        seam_put_u32(states + 4 * (size_t)l, lanes.x[l]);
    }
    seam_put_u32(ret_size, (uint32_t)(STATE_BYTES + words_bytes));
    return bytes_append(out, states, STATE_BYTES) && bytes_append(out, words, words_bytes);
}

static bool classes_encode(stream_writer *out, const seam_rans_plan *plan) {
    const uint8_t count = (uint8_t)plan->class_count;
    if (!bytes_append(out, &count, 1)) {
        return false;
    }
    for (uint32_t i = 0; i < plan->class_count; i++) {
        uint8_t bytes[SEAM_RANS_CLASS_BYTES_MAX];
        if (!bytes_append(out, bytes, seam_rans_class_write(bytes, &plan->classes[i]))) {
            return false;
        }
    }
    const uint32_t bits = class_idx_bits(plan->class_count);
    uint32_t held = 0;
    uint32_t held_bits = 0;
    for (uint32_t c = 0; c < plan->channels; c++) {
        held |= (uint32_t)plan->class_of[c] << held_bits;
        held_bits += bits;
        if (held_bits >= 8) {
            const uint8_t byte = (uint8_t)held;
            if (!bytes_append(out, &byte, 1)) {
                return false;
            }
            held >>= 8;
            held_bits -= 8;
        }
    }
    const uint8_t rest = (uint8_t)held;
    return held_bits == 0 || bytes_append(out, &rest, 1);
}

/* Most spans are a word or two. */
static inline void words_copy(uint8_t *to, const uint8_t *from, uint32_t bytes) {
    if (bytes > 16) {
        memcpy(to, from, bytes);
        return;
    }
    for (uint32_t i = 0; i < bytes; i += 4) {
        memcpy(to + i, from + i, 4);
    }
}

static bool stored_encode(stream_writer *out, const seam_rans_plan *plan, const uint8_t *codes) {
    if ((size_t)(out->end - out->at) < plan->stored_bytes + seam_rans_tail_bytes(plan)) {
        return false;
    }
    for (uint32_t g = 0; g < plan->groups; g++) {
        const uint8_t *group = codes + (size_t)g * plan->group_bytes;
        for (uint32_t i = 0; i < plan->span_count; i++) {
            const seam_rans_span span = plan->spans[i];
            if (!span.zero) {
                words_copy(out->at, group + span.at, span.bytes);
                out->at += span.bytes;
            }
        }
    }
    return bytes_append(out, codes + (size_t)plan->groups * plan->group_bytes,
                        seam_rans_tail_bytes(plan));
}

/* False: it would not be shorter than the codes. */
static bool chunk_encode(stream_writer *out, seam_rans_plan *plan, work *w, const uint8_t *codes) {
    seam_rans_model(plan, codes);
    seam_rans_members_sort(plan);
    seam_rans_spans_find(plan);
    if (!classes_encode(out, plan)) {
        return false;
    }
    uint8_t *sizes = out->at;
    const size_t sizes_bytes = 4 * (size_t)seam_rans_block_count(plan);
    if ((size_t)(out->end - out->at) < sizes_bytes) {
        return false;
    }
    out->at += sizes_bytes;
    if (!stored_encode(out, plan, codes)) {
        return false;
    }
    seam_rans_shuffles_encode(&w->shuffles);
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (!seam_rans_kind_is_coded(plan->classes[i].kind)) {
            continue;
        }
        const seam_rans_walk walk = seam_rans_walk_of(plan, i);
        uint16_t freqs[SEAM_RANS_SYMBOLS_MAX];
        seam_rans_unit_freqs(freqs, walk.cls);
        seam_rans_encode_table(w->as.encode.table, freqs,
                               1u << (walk.unit.planes * walk.unit.cells));
        for (uint32_t step = 0; step < walk.steps; step += SEAM_RANS_BLOCK_STEPS, sizes += 4) {
            if (!block_encode(out, sizes, w, &walk, codes, step)) {
                return false;
            }
        }
    }
    return true;
}

void seam_rans_encode_by(uint8_t *ret_stream, size_t *ret_bytes, const seam_rans_tile_ops *tile,
                         const seam_rans_args *args, const uint8_t *codes, void *scratch) {
    work *w = scratch;
    seam_rans_plan plan;
    SEAM_ASSERT((uintptr_t)w % 64 == 0);
    seam_rans_plan_init(&plan, tile, args, w->classes, w + 1);
    const size_t codes_bytes = seam_rans_bytes_max(args) - 1;
    stream_writer out = {ret_stream, ret_stream + codes_bytes};
    if (plan.groups > 0 && chunk_encode(&out, &plan, w, codes)) {
        *ret_bytes = (size_t)(out.at - ret_stream);
        return;
    }
    ret_stream[0] = 0;
    memcpy(ret_stream + 1, codes, codes_bytes);
    *ret_bytes = 1 + codes_bytes;
}

void seam_rans_encode(uint8_t *ret_stream, size_t *ret_bytes, const seam_rans_args *args,
                      const uint8_t *codes, void *scratch) {
    seam_rans_encode_by(ret_stream, ret_bytes, seam_rans_tile_best(), args, codes, scratch);
}

/* ---- decode ---- */

/* Bits behind the last row of the tail are zero. */
static seam_status tail_check(const seam_rans_plan *plan, const uint8_t *tail) {
    const uint32_t used = (uint32_t)((uint64_t)plan->group_bytes / 4 * plan->tail_rows % 8);
    return used == 0 || tail[seam_rans_tail_bytes(plan) - 1] >> used == 0 ? SEAM_OK : SEAM_E_FORMAT;
}

static seam_status classes_decode(seam_rans_plan *plan, const uint8_t **at, const uint8_t *end) {
    plan->class_count = *(*at)++;
    if (plan->class_count > SEAM_RANS_CLASSES_MAX) {
        return SEAM_E_FORMAT;
    }
    for (uint32_t i = 0; i < plan->class_count; i++) {
        SEAM_TRY(seam_rans_class_read(&plan->classes[i], at, end));
    }
    const uint32_t C = plan->channels;
    const uint32_t bits = class_idx_bits(plan->class_count);
    const size_t bytes = ((size_t)C * bits + 7) / 8;
    if ((size_t)(end - *at) < bytes) {
        return SEAM_E_FORMAT;
    }
    const uint8_t *in = *at;
    uint32_t held = 0;
    uint32_t held_bits = 0;
    for (uint32_t c = 0; c < C; c++) {
        if (held_bits < bits) {
            held |= (uint32_t)*in++ << held_bits;
            held_bits += 8;
        }
        plan->class_of[c] = (uint8_t)(held & ((1u << bits) - 1));
        held >>= bits;
        held_bits -= bits;
    }
    if (held != 0) {
        return SEAM_E_FORMAT; /* the last byte is filled with zeros */
    }
    *at += bytes;
    for (uint32_t c = 0; c < C; c++) {
        if (plan->class_of[c] >= plan->class_count) {
            return SEAM_E_FORMAT;
        }
        const uint32_t kind = plan->classes[plan->class_of[c]].kind;
        if (kind != SEAM_RANS_KIND_ZERO && kind > plan->widths[c]) {
            return SEAM_E_FORMAT;
        }
    }
    return SEAM_OK;
}

/* Stored words of the full groups, the zeros and the tail; room has been checked. */
static void stored_decode(uint8_t *ret_codes, const seam_rans_plan *plan, const uint8_t *in) {
    for (uint32_t g = 0; g < plan->groups; g++) {
        uint8_t *group = ret_codes + (size_t)g * plan->group_bytes;
        for (uint32_t i = 0; i < plan->span_count; i++) {
            const seam_rans_span span = plan->spans[i];
            if (span.zero) {
                memset(group + span.at, 0, span.bytes);
            } else {
                words_copy(group + span.at, in, span.bytes);
                in += span.bytes;
            }
        }
    }
    memcpy(ret_codes + (size_t)plan->groups * plan->group_bytes, in, seam_rans_tail_bytes(plan));
}

/* A block being decoded. */
typedef struct block_run {
    seam_rans_walk walk;
    seam_rans_reader reader;
    const uint8_t *words_end;
    uint32_t step, end; /* of the class: the next one, and the one behind the block's last */
    uint32_t table;     /* its index */
    bool last;          /* of the stream, and its last words have not been moved yet */
} block_run;

/* The blocks in their order, and those that are being decoded. */
typedef struct block_queue {
    const seam_rans_plan *plan;
    work *w;
    const uint8_t *sizes, *at, *end; /* of the next block: its size, itself; where all end */
    uint32_t class_idx, step;        /* what it begins with */
    uint32_t count;
    block_run runs[READERS];
    uint32_t table_class[READERS]; /* whose table it is, or SEAM_RANS_CLASSES_MAX */
} block_queue;

/* Moves on to the next class that has a block left; false: there is none. */
static bool queue_seek(seam_rans_walk *ret, block_queue *q) {
    for (; q->class_idx < q->plan->class_count; q->class_idx++, q->step = 0) {
        if (seam_rans_kind_is_coded(q->plan->classes[q->class_idx].kind)) {
            *ret = seam_rans_walk_of(q->plan, q->class_idx);
            if (q->step < ret->steps) {
                return true;
            }
        }
    }
    return false;
}

/* Index of the next block's table, made where it is not there; one is always free. */
static uint32_t queue_table(block_queue *q, const seam_rans_walk *walk) {
    bool taken[READERS] = {false};
    uint32_t table = READERS;
    for (uint32_t i = 0; i < q->count; i++) {
        taken[q->runs[i].table] = true;
    }
    for (uint32_t i = 0; i < READERS; i++) {
        if (q->table_class[i] == q->class_idx) {
            return i;
        }
        table = taken[i] ? table : i;
    }
    SEAM_ASSERT(table < READERS);
    uint16_t freqs[SEAM_RANS_SYMBOLS_MAX];
    seam_rans_unit_freqs(freqs, walk->cls);
    seam_rans_decode_table(q->w->as.decode.tables[table], freqs,
                           1u << (walk->unit.planes * walk->unit.cells));
    q->table_class[table] = q->class_idx;
    return table;
}

/* The words that loads from would leave the stream go where there is room behind them. */
static seam_status words_move(block_run *run, uint8_t *last) {
    seam_rans_reader *reader = &run->reader;
    if (!run->last || reader->at > run->words_end) {
        return SEAM_E_FORMAT; /* they ran out too early */
    }
    const size_t left = (size_t)(run->words_end - reader->at);
    memcpy(last, reader->at, left);
    reader->at = last;
    reader->end = last + left;
    run->words_end = reader->end;
    run->last = false;
    return SEAM_OK;
}

static seam_status block_open(block_run *ret, block_queue *q, const seam_rans_walk *walk) {
    const uint32_t bytes = seam_get_u32(q->sizes); /* the caller has checked their sum */
    const uint8_t *block = q->at;
    if (bytes < STATE_BYTES) {
        return SEAM_E_FORMAT;
    }
    for (uint32_t l = 0; l < LANES; l++) {
        const uint32_t x = seam_get_u32(block + 4 * (size_t)l);
        if (x < SEAM_RANS_STATE_MIN || x >> 31 != 0) {
            return SEAM_E_FORMAT;
        }
        ret->reader.lanes.x[l] = x;
    }
    ret->walk = *walk;
    ret->step = q->step;
    ret->end = q->step + seam_rans_block_steps(walk, q->step);
    ret->table = queue_table(q, walk);
    ret->words_end = block + bytes;
    ret->reader.entries = q->w->as.decode.tables[ret->table];
    ret->reader.at = block + STATE_BYTES;
    ret->reader.end = ret->words_end;
    q->sizes += 4;
    q->at += bytes;
    q->step = ret->end;
    ret->last = q->at == q->end;
    if (!ret->last) { /* the states of the next one give room to the loads of its last words */
        return (size_t)(q->end - q->at) < STATE_BYTES ? SEAM_E_FORMAT : SEAM_OK;
    }
    const uint32_t words = bytes - STATE_BYTES;
    ret->reader.end -= words < SEAM_RANS_WORDS_AHEAD ? words : SEAM_RANS_WORDS_AHEAD;
    return words <= SEAM_RANS_WORDS_AHEAD ? words_move(ret, q->w->as.decode.last) : SEAM_OK;
}

/* All words taken, all states where the encoder began. */
static seam_status block_close(const block_run *run) {
    for (uint32_t l = 0; l < LANES; l++) {
        if (run->reader.lanes.x[l] != SEAM_RANS_STATE_MIN) {
            return SEAM_E_FORMAT;
        }
    }
    return run->reader.at == run->words_end ? SEAM_OK : SEAM_E_FORMAT;
}

static seam_status units_write(uint8_t *ret_codes, work *w, const block_run *run,
                               const uint8_t *units, uint32_t steps) {
    const seam_rans_walk *walk = &run->walk;
    const uint32_t cells = seam_rans_cells_find(w->cells_at, walk, run->step, steps);
    const uint32_t whole = cells / walk->unit.cells;
    const uint32_t rest = cells % walk->unit.cells;
    walk->plan->tile->write(ret_codes, units, w->cells_at, whole, walk->unit);
    if (rest == 0) {
        return SEAM_OK;
    }
    const uint8_t *last = units + (size_t)whole * LANES;
    walk->plan->tile->write(ret_codes, last, w->cells_at + (size_t)whole * walk->unit.cells, 1,
                            (seam_rans_unit){walk->unit.planes, rest});
    const uint32_t pad = seam_rans_pad_bits(walk, rest);
    const uint32_t used = rest * walk->unit.planes;
    for (uint32_t l = 0; l < LANES; l++) {
        if ((uint32_t)last[l] >> used << used != pad) {
            return SEAM_E_FORMAT;
        }
    }
    return SEAM_OK;
}

/* `steps` of each run, which has as many left. */
static seam_status runs_decode(block_queue *q, uint32_t steps) {
    for (uint32_t i = 0; i < q->count; i++) {
        q->runs[i].reader.units = q->w->units[i];
        q->runs[i].reader.steps = steps;
    }
    for (;;) {
        seam_rans_reader *readers[READERS];
        uint32_t count = 0;
        for (uint32_t i = 0; i < q->count; i++) {
            seam_rans_reader *reader = &q->runs[i].reader;
            if (reader->steps == 0) {
                continue;
            }
            if (reader->at > reader->end) {
                SEAM_TRY(words_move(&q->runs[i], q->w->as.decode.last));
            }
            readers[count++] = reader;
        }
        if (count == 0) {
            return SEAM_OK;
        }
        q->plan->tile->decode(readers, count, &q->w->shuffles);
    }
}

static seam_status blocks_decode(uint8_t *ret_codes, block_queue *q) {
    for (;;) {
        seam_rans_walk walk;
        while (q->count < READERS && queue_seek(&walk, q)) {
            SEAM_TRY(block_open(&q->runs[q->count], q, &walk));
            q->count++;
        }
        if (q->count == 0) {
            return SEAM_OK;
        }
        uint32_t steps = SEAM_RANS_SLICE_STEPS;
        for (uint32_t i = 0; i < q->count; i++) {
            const uint32_t left = q->runs[i].end - q->runs[i].step;
            steps = left < steps ? left : steps;
        }
        SEAM_TRY(runs_decode(q, steps));
        for (uint32_t i = q->count; i-- > 0;) {
            block_run *run = &q->runs[i];
            SEAM_TRY(units_write(ret_codes, q->w, run, q->w->units[i], steps));
            run->step += steps;
            if (run->step == run->end) {
                SEAM_TRY(block_close(run));
                *run = q->runs[--q->count];
            }
        }
    }
}

static seam_status chunk_decode(uint8_t *ret_codes, seam_rans_plan *plan, work *w,
                                const uint8_t *stream, const uint8_t *end) {
    const uint8_t *at = stream;
    SEAM_TRY(classes_decode(plan, &at, end));
    seam_rans_members_sort(plan);
    seam_rans_spans_find(plan);
    const uint8_t *sizes = at;
    const uint32_t blocks = seam_rans_block_count(plan);
    const size_t fixed = 4 * (size_t)blocks + plan->stored_bytes + seam_rans_tail_bytes(plan);
    if ((size_t)(end - at) < fixed) {
        return SEAM_E_FORMAT;
    }
    at += fixed;
    uint64_t blocks_bytes = 0;
    for (uint32_t i = 0; i < blocks; i++) {
        blocks_bytes += seam_get_u32(sizes + 4 * (size_t)i);
    }
    if (blocks_bytes != (uint64_t)(end - at)) {
        return SEAM_E_FORMAT; /* before any work: most damage shows here */
    }
    SEAM_TRY(tail_check(plan, at - seam_rans_tail_bytes(plan)));
    stored_decode(ret_codes, plan, sizes + 4 * (size_t)blocks);
    seam_rans_shuffles_decode(&w->shuffles);
    block_queue queue = {.plan = plan, .w = w, .sizes = sizes, .at = at, .end = end};
    for (uint32_t i = 0; i < READERS; i++) {
        queue.table_class[i] = SEAM_RANS_CLASSES_MAX;
    }
    return blocks_decode(ret_codes, &queue);
}

seam_status seam_rans_decode_by(uint8_t *ret_codes, const seam_rans_tile_ops *tile,
                                const seam_rans_args *args, const uint8_t *stream,
                                size_t stream_bytes, void *scratch) {
    work *w = scratch;
    seam_rans_plan plan;
    SEAM_ASSERT((uintptr_t)w % 64 == 0);
    seam_rans_plan_init(&plan, tile, args, w->classes, w + 1);
    const size_t codes_bytes = seam_rans_bytes_max(args) - 1;
    if (stream_bytes == 0) {
        return SEAM_E_FORMAT;
    }
    if (stream[0] != 0) {
        return chunk_decode(ret_codes, &plan, w, stream, stream + stream_bytes);
    }
    if (stream_bytes != 1 + codes_bytes) {
        return SEAM_E_FORMAT;
    }
    memcpy(ret_codes, stream + 1, codes_bytes);
    return tail_check(&plan, ret_codes + (size_t)plan.groups * plan.group_bytes);
}

seam_status seam_rans_decode(uint8_t *ret_codes, const seam_rans_args *args, const uint8_t *stream,
                             size_t stream_bytes, void *scratch) {
    return seam_rans_decode_by(ret_codes, seam_rans_tile_best(), args, stream, stream_bytes,
                               scratch);
}

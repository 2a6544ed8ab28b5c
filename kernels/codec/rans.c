/* Streams of the entropy coder: what stands where, and the walk over cells.  rans.h is the API,
 * rans_impl.h has the terms, WIRE.md 3.4 the bytes:
 *
 *   u8 class count (0: the packed codes follow as they are), classes, class of each channel,
 *   u32 bytes of each block, stored words of full groups, tail group, blocks.
 *
 * A class's cells are taken group by group, its channels in rising order, so that both ends walk
 * the packed codes nearly in order.  Blocks start anew: a GPU gives each to a warp. */
#include "rans.h"

#include <string.h>

#include "bytes.h"
#include "rans_impl.h"
#include "try.h"

#define LANES       SEAM_RANS_LANES
#define STATE_BYTES (4 * LANES)
#define WORDS_BYTES (SEAM_RANS_WORDS_SLOP + SEAM_RANS_BLOCK_STEPS * SEAM_RANS_STEP_WORDS * 2)

/* The fixed part of scratch; arrays over channels follow it. */
typedef struct work {
    _Alignas(64) uint8_t units[SEAM_RANS_SLICE_STEPS * LANES];
    seam_rans_shuffles shuffles;
    union {
        seam_rans_encode_entry encode[SEAM_RANS_SYMBOLS_MAX];
        seam_rans_decode_entry decode[SEAM_RANS_PROB_SUM];
    } table;
    uint32_t cells_at[SEAM_RANS_SLICE_STEPS * 8];
    seam_rans_class classes[SEAM_RANS_CLASSES_MAX];
    uint8_t words[WORDS_BYTES]; /* encoder: of one block, filled from the end */
} work;

size_t seam_rans_bytes_max(const seam_rans_args *args) {
    return 1 + seam_codec_code_bytes(SEAM_CODEC_AMAQ, args->widths, args->rows, args->channels);
}

size_t seam_rans_scratch_bytes(uint32_t channels) {
    return sizeof(work) + (size_t)channels * (2 * sizeof(uint32_t) + 16 * sizeof(uint16_t) + 1);
}

/* ---- geometry ---- */

static void plan_init(seam_rans_plan *plan, const seam_rans_tile_ops *tile,
                      const seam_rans_args *args, work *w) {
    SEAM_ASSERT((uintptr_t)w % 64 == 0);
    SEAM_ASSERT(args->rows >= 1);
    SEAM_ASSERT(args->channels >= 1);
    SEAM_ASSERT(seam_rans_bytes_max(args) < UINT32_MAX);
    memset(plan, 0, sizeof *plan);
    plan->widths = args->widths;
    plan->channels = args->channels;
    plan->groups = args->rows / SEAM_GROUP_ROWS;
    plan->tail_rows = args->rows % SEAM_GROUP_ROWS;
    plan->channel_at = (uint32_t *)(void *)(w + 1);
    plan->members = plan->channel_at + args->channels;
    plan->counts = (uint16_t *)(void *)(plan->members + args->channels);
    plan->class_of = (uint8_t *)(plan->counts + 16 * (size_t)args->channels);
    plan->classes = w->classes;
    plan->tile = tile;
    for (uint32_t c = 0; c < args->channels; c++) {
        SEAM_ASSERT(args->widths[c] >= 1);
        SEAM_ASSERT(args->widths[c] <= SEAM_BITS_MAX);
        plan->channel_at[c] = plan->group_bytes;
        plan->group_bytes += 4u * args->widths[c];
    }
}

static size_t tail_bytes(const seam_rans_plan *plan) {
    return ((size_t)plan->group_bytes / 4 * plan->tail_rows + 7) / 8;
}

/* Members by class, from class_of. */
static void members_sort(seam_rans_plan *plan) {
    uint32_t *begin = plan->class_begin;
    memset(begin, 0, sizeof plan->class_begin);
    for (uint32_t c = 0; c < plan->channels; c++) {
        begin[plan->class_of[c] + 1]++;
    }
    for (uint32_t i = 0; i < SEAM_RANS_CLASSES_MAX; i++) {
        begin[i + 1] += begin[i];
    }
    uint32_t filled[SEAM_RANS_CLASSES_MAX] = {0};
    for (uint32_t c = 0; c < plan->channels; c++) {
        const uint32_t k = plan->class_of[c];
        plan->members[begin[k] + filled[k]++] = c;
    }
}

/* Of a class index in the stream. */
static uint32_t class_idx_bits(uint32_t class_count) {
    uint32_t bits = 0;
    while (class_count > 1u << bits) {
        bits++;
    }
    return bits;
}

static bool kind_is_coded(uint32_t kind) {
    return kind >= 1 && kind <= 8;
}

static uint32_t stored_planes(const seam_rans_plan *plan, uint32_t channel) {
    const uint32_t kind = plan->classes[plan->class_of[channel]].kind;
    return kind == SEAM_RANS_KIND_ZERO ? 0 : plan->widths[channel] - kind;
}

static size_t stored_bytes(const seam_rans_plan *plan) {
    size_t bytes = 0;
    for (uint32_t c = 0; c < plan->channels; c++) {
        bytes += 4 * (size_t)stored_planes(plan, c);
    }
    return bytes * plan->groups;
}

/* The cells of one coded class. */
typedef struct class_walk {
    const seam_rans_plan *plan;
    const seam_rans_class *cls;
    const uint32_t *members;
    uint32_t member_count;
    seam_rans_unit unit;
    uint32_t cells, steps;
} class_walk;

static uint32_t round_up_div(uint32_t a, uint32_t b) {
    return a / b + (a % b != 0 ? 1 : 0);
}

static class_walk walk_of(const seam_rans_plan *plan, uint32_t class_idx) {
    class_walk walk = {
        .plan = plan,
        .cls = &plan->classes[class_idx],
        .members = plan->members + plan->class_begin[class_idx],
        .member_count = plan->class_begin[class_idx + 1] - plan->class_begin[class_idx],
        .unit = seam_rans_unit_of(plan->classes[class_idx].kind),
    };
    walk.cells = walk.member_count * plan->groups;
    walk.steps = round_up_div(walk.cells, walk.unit.cells);
    return walk;
}

static uint32_t walk_blocks(const class_walk *walk) {
    return round_up_div(walk->steps, SEAM_RANS_BLOCK_STEPS);
}

/* Of the block that begins at this step. */
static uint32_t block_steps(const class_walk *walk, uint32_t begin) {
    const uint32_t left = walk->steps - begin;
    return left < SEAM_RANS_BLOCK_STEPS ? left : SEAM_RANS_BLOCK_STEPS;
}

static uint32_t block_count(const seam_rans_plan *plan) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (kind_is_coded(plan->classes[i].kind)) {
            const class_walk walk = walk_of(plan, i);
            count += walk_blocks(&walk);
        }
    }
    return count;
}

/* Where the modelled planes of the cells of units step .. step + steps lie; returns how many
 * cells there are: the last unit of a class may have fewer than others. */
static uint32_t cells_find(uint32_t *ret_at, const class_walk *walk, uint32_t step,
                           uint32_t steps) {
    const uint32_t first = step * walk->unit.cells;
    const uint32_t left = walk->cells - first;
    const uint32_t count = left < steps * walk->unit.cells ? left : steps * walk->unit.cells;
    const seam_rans_plan *plan = walk->plan;
    const uint32_t planes = walk->unit.planes;
    uint32_t group_at = first / walk->member_count * plan->group_bytes;
    uint32_t m = first % walk->member_count;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t c = walk->members[m];
        ret_at[i] = group_at + plan->channel_at[c] + 4 * (plan->widths[c] - planes);
        if (++m == walk->member_count) {
            m = 0;
            group_at += plan->group_bytes;
        }
    }
    return count;
}

/* The part of a unit's byte that `cells` cells leave free, filled with the class's pad symbol. */
static uint8_t pad_bits(const class_walk *walk, uint32_t cells) {
    const uint32_t symbol = seam_rans_pad_symbol(walk->cls);
    uint32_t bits = 0;
    for (uint32_t i = cells; i < walk->unit.cells; i++) {
        bits |= symbol << (i * walk->unit.planes);
    }
    return (uint8_t)bits;
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

static void units_read(work *w, const class_walk *walk, const uint8_t *codes, uint32_t step,
                       uint32_t steps) {
    const uint32_t cells = cells_find(w->cells_at, walk, step, steps);
    const uint32_t whole = cells / walk->unit.cells;
    const uint32_t rest = cells % walk->unit.cells;
    walk->plan->tile->read(w->units, codes, w->cells_at, whole, walk->unit);
    if (rest == 0) {
        return;
    }
    uint8_t *last = w->units + (size_t)whole * LANES;
    const uint8_t pad = pad_bits(walk, rest);
    walk->plan->tile->read(last, codes, w->cells_at + (size_t)whole * walk->unit.cells, 1,
                           (seam_rans_unit){walk->unit.planes, rest});
    for (uint32_t l = 0; l < LANES; l++) {
        last[l] |= pad;
    }
}

/* One block: 32 states and the words that they leave. */
static bool block_encode(stream_writer *out, uint8_t *ret_size, work *w, const class_walk *walk,
                         const uint8_t *codes, uint32_t begin) {
    const uint32_t steps = block_steps(walk, begin);
    seam_rans_lanes lanes;
    uint8_t *const words_end = w->words + WORDS_BYTES;
    uint8_t *words = words_end;
    for (uint32_t l = 0; l < LANES; l++) {
        lanes.x[l] = SEAM_RANS_STATE_MIN;
    }
    for (uint32_t end = steps; end > 0;) { /* slices from the last on */
        const uint32_t slice = (end - 1) / SEAM_RANS_SLICE_STEPS * SEAM_RANS_SLICE_STEPS;
        units_read(w, walk, codes, begin + slice, end - slice);
        words = walk->plan->tile->encode(&lanes, words, w->units, end - slice, w->table.encode,
                                         &w->shuffles);
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

static bool stored_encode(stream_writer *out, const seam_rans_plan *plan, const uint8_t *codes) {
    if ((size_t)(out->end - out->at) < stored_bytes(plan) + tail_bytes(plan)) {
        return false;
    }
    for (uint32_t g = 0; g < plan->groups; g++) {
        const uint8_t *group = codes + (size_t)g * plan->group_bytes;
        for (uint32_t c = 0; c < plan->channels; c++) {
            const uint32_t planes = stored_planes(plan, c);
            for (uint32_t j = 0; j < planes; j++, out->at += 4) {
                memcpy(out->at, group + plan->channel_at[c] + 4 * (size_t)j, 4);
            }
        }
    }
    return bytes_append(out, codes + (size_t)plan->groups * plan->group_bytes, tail_bytes(plan));
}

/* False: it would not be shorter than the codes. */
static bool chunk_encode(stream_writer *out, seam_rans_plan *plan, work *w, const uint8_t *codes) {
    seam_rans_model(plan, codes);
    members_sort(plan);
    if (!classes_encode(out, plan)) {
        return false;
    }
    uint8_t *sizes = out->at;
    const size_t sizes_bytes = 4 * (size_t)block_count(plan);
    if ((size_t)(out->end - out->at) < sizes_bytes) {
        return false;
    }
    out->at += sizes_bytes;
    if (!stored_encode(out, plan, codes)) {
        return false;
    }
    seam_rans_shuffles_encode(&w->shuffles);
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (!kind_is_coded(plan->classes[i].kind)) {
            continue;
        }
        const class_walk walk = walk_of(plan, i);
        uint16_t freqs[SEAM_RANS_SYMBOLS_MAX];
        seam_rans_unit_freqs(freqs, walk.cls);
        seam_rans_encode_table(w->table.encode, freqs, 1u << (walk.unit.planes * walk.unit.cells));
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
    plan_init(&plan, tile, args, w);
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
    return used == 0 || tail[tail_bytes(plan) - 1] >> used == 0 ? SEAM_OK : SEAM_E_FORMAT;
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
        for (uint32_t c = 0; c < plan->channels; c++) {
            uint8_t *cell = group + plan->channel_at[c];
            if (plan->classes[plan->class_of[c]].kind == SEAM_RANS_KIND_ZERO) {
                memset(cell, 0, 4 * (size_t)plan->widths[c]);
                continue;
            }
            const uint32_t planes = stored_planes(plan, c);
            for (uint32_t j = 0; j < planes; j++, in += 4) {
                memcpy(cell + 4 * (size_t)j, in, 4);
            }
        }
    }
    memcpy(ret_codes + (size_t)plan->groups * plan->group_bytes, in, tail_bytes(plan));
}

static seam_status units_write(uint8_t *ret_codes, work *w, const class_walk *walk, uint32_t step,
                               uint32_t steps) {
    const uint32_t cells = cells_find(w->cells_at, walk, step, steps);
    const uint32_t whole = cells / walk->unit.cells;
    const uint32_t rest = cells % walk->unit.cells;
    walk->plan->tile->write(ret_codes, w->units, w->cells_at, whole, walk->unit);
    if (rest == 0) {
        return SEAM_OK;
    }
    const uint8_t *last = w->units + (size_t)whole * LANES;
    walk->plan->tile->write(ret_codes, last, w->cells_at + (size_t)whole * walk->unit.cells, 1,
                            (seam_rans_unit){walk->unit.planes, rest});
    const uint32_t pad = pad_bits(walk, rest);
    const uint32_t used = rest * walk->unit.planes;
    for (uint32_t l = 0; l < LANES; l++) {
        if ((uint32_t)last[l] >> used << used != pad) {
            return SEAM_E_FORMAT;
        }
    }
    return SEAM_OK;
}

static seam_status block_open(seam_rans_reader *ret, const uint8_t *block, size_t block_bytes) {
    if (block_bytes < STATE_BYTES) {
        return SEAM_E_FORMAT;
    }
    for (uint32_t l = 0; l < LANES; l++) {
        const uint32_t x = seam_get_u32(block + 4 * (size_t)l);
        if (x < SEAM_RANS_STATE_MIN || x >> 31 != 0) {
            return SEAM_E_FORMAT;
        }
        ret->lanes.x[l] = x;
    }
    ret->at = block + STATE_BYTES;
    ret->end = block + block_bytes;
    return SEAM_OK;
}

/* All words taken, all states where the encoder began. */
static seam_status block_close(const seam_rans_reader *reader) {
    for (uint32_t l = 0; l < LANES; l++) {
        if (reader->lanes.x[l] != SEAM_RANS_STATE_MIN) {
            return SEAM_E_FORMAT;
        }
    }
    return reader->at == reader->end ? SEAM_OK : SEAM_E_FORMAT;
}

static seam_status block_decode(uint8_t *ret_codes, work *w, const class_walk *walk,
                                seam_rans_reader *reader, uint32_t begin) {
    const uint32_t steps = block_steps(walk, begin);
    for (uint32_t step = 0; step < steps; step += SEAM_RANS_SLICE_STEPS) {
        const uint32_t slice =
            steps - step < SEAM_RANS_SLICE_STEPS ? steps - step : SEAM_RANS_SLICE_STEPS;
        walk->plan->tile->decode(reader, w->units, slice, w->table.decode, &w->shuffles);
        if (reader->at == NULL) {
            return SEAM_E_FORMAT;
        }
        SEAM_TRY(units_write(ret_codes, w, walk, begin + step, slice));
    }
    return block_close(reader);
}

/* The blocks of one class; *sizes and *at move behind what they say. */
static seam_status class_decode(uint8_t *ret_codes, work *w, const class_walk *walk,
                                const uint8_t **sizes, const uint8_t **at) {
    uint16_t freqs[SEAM_RANS_SYMBOLS_MAX];
    seam_rans_reader reader;
    seam_rans_unit_freqs(freqs, walk->cls);
    seam_rans_decode_table(w->table.decode, freqs, 1u << (walk->unit.planes * walk->unit.cells));
    for (uint32_t step = 0; step < walk->steps; step += SEAM_RANS_BLOCK_STEPS) {
        const uint32_t block_bytes = seam_get_u32(*sizes); /* the caller has checked their sum */
        SEAM_TRY(block_open(&reader, *at, block_bytes));
        SEAM_TRY(block_decode(ret_codes, w, walk, &reader, step));
        *sizes += 4;
        *at += block_bytes;
    }
    return SEAM_OK;
}

static seam_status chunk_decode(uint8_t *ret_codes, seam_rans_plan *plan, work *w,
                                const uint8_t *stream, const uint8_t *end) {
    const uint8_t *at = stream;
    SEAM_TRY(classes_decode(plan, &at, end));
    members_sort(plan);
    const uint8_t *sizes = at;
    const uint32_t blocks = block_count(plan);
    const size_t fixed = 4 * (size_t)blocks + stored_bytes(plan) + tail_bytes(plan);
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
    SEAM_TRY(tail_check(plan, at - tail_bytes(plan)));
    stored_decode(ret_codes, plan, sizes + 4 * (size_t)blocks);
    seam_rans_shuffles_decode(&w->shuffles);
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (!kind_is_coded(plan->classes[i].kind)) {
            continue;
        }
        const class_walk walk = walk_of(plan, i);
        SEAM_TRY(class_decode(ret_codes, w, &walk, &sizes, &at));
    }
    return SEAM_OK;
}

seam_status seam_rans_decode_by(uint8_t *ret_codes, const seam_rans_tile_ops *tile,
                                const seam_rans_args *args, const uint8_t *stream,
                                size_t stream_bytes, void *scratch) {
    work *w = scratch;
    seam_rans_plan plan;
    plan_init(&plan, tile, args, w);
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

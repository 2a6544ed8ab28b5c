/* Codes one session of a stateful codec, from stdin to stdout: the C side of
 * test_stateful_live.py, which has the format.
 *
 * An encoder and a decoder of C run side by side; the answer has the payloads and what the encoder
 * announced, after checking that the decoder sees exactly that. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aqsgd.h"
#include "bytes.h"
#include "codec.h"
#include "dictionary.h"

enum { ROWS_MAX = 512, S_MAX = 64, C_MAX = 64, PAYLOAD_MAX = 1 << 20, STORAGE_MAX = 1 << 20 };

typedef struct session {
    uint32_t codec, channels, bits, cache_bits, chunk_rows;
    uint64_t bytes_max; /* rows of the dictionary, bytes of the cache */
    seam_dictionary *dictionary[2];
    seam_aqsgd *aqsgd[2];
} session;

static uint64_t ids[S_MAX];
static uint32_t seq_rows[S_MAX];
static uint8_t mask[ROWS_MAX / 8], payload[PAYLOAD_MAX];
static uint8_t storage[2][STORAGE_MAX];
static float x[ROWS_MAX * C_MAX], announced[ROWS_MAX * C_MAX], got[ROWS_MAX * C_MAX];

static void fail(const char *what) {
    (void)fprintf(stderr, "stateful_cli: %s\n", what);
    exit(1);
}

static void take(void *ret, size_t count) {
    if (fread(ret, 1, count, stdin) != count) {
        fail("the input ends too early");
    }
}

static uint32_t take_u32(void) {
    uint8_t bytes[4];
    take(bytes, sizeof bytes);
    return seam_get_u32(bytes);
}

static uint64_t take_u64(void) {
    uint8_t bytes[8];
    take(bytes, sizeof bytes);
    return seam_get_u64(bytes);
}

static void session_make(session *s) {
    for (int end = 0; end < 2; end++) {
        const seam_dictionary_config dictionary = {.channels = s->channels,
                                                   .rows_max = (uint32_t)s->bytes_max,
                                                   .chunk_rows_max = ROWS_MAX,
                                                   .encoder = end == 0};
        const seam_aqsgd_config aqsgd = {.channels = s->channels,
                                         .rows_max = ROWS_MAX,
                                         .sequences_max = S_MAX,
                                         .bits = s->bits,
                                         .cache_bits = s->cache_bits,
                                         .storage = storage[end],
                                         .storage_bytes = (size_t)s->bytes_max};
        const seam_status st = s->codec == SEAM_CODEC_DICTIONARY
                                   ? seam_dictionary_create(&s->dictionary[end], &dictionary)
                                   : seam_aqsgd_create(&s->aqsgd[end], &aqsgd);
        if (st != SEAM_OK) {
            fail(seam_status_text(st));
        }
    }
}

static seam_status chunk_pass(size_t *ret_bytes, session *s, uint32_t row, uint32_t count) {
    const size_t at = (size_t)row * s->channels;
    seam_error err = {0};
    seam_status st = SEAM_OK;
    if (s->codec == SEAM_CODEC_DICTIONARY) {
        st = seam_dictionary_encode(ret_bytes, announced + at, s->dictionary[0], payload, x + at,
                                    count);
        if (st == SEAM_OK) {
            st = seam_dictionary_decode(got + at, s->dictionary[1], payload, *ret_bytes, count,
                                        &err);
        }
    } else {
        seam_aqsgd_encode(ret_bytes, announced + at, s->aqsgd[0], payload, x + at, count);
        st = seam_aqsgd_decode(got + at, s->aqsgd[1], payload, *ret_bytes, count, &err);
    }
    return st;
}

static void put(const void *bytes, size_t count) {
    if (fwrite(bytes, 1, count, stdout) != count) {
        fail("cannot write");
    }
}

static void tensor_begin(session *s, const seam_sequences *sequences, uint32_t rows) {
    if (s->codec == SEAM_CODEC_DICTIONARY) {
        seam_dictionary_begin(s->dictionary[0]);
        seam_dictionary_begin(s->dictionary[1]);
        return;
    }
    if (seam_aqsgd_encode_begin(s->aqsgd[0], sequences, x, rows, mask) != SEAM_OK) {
        fail("encode_begin");
    }
    seam_aqsgd_decode_begin(s->aqsgd[1], sequences, rows, mask);
}

static void tensor_commit(session *s) {
    for (int end = 0; end < 2; end++) {
        if (s->codec == SEAM_CODEC_DICTIONARY) {
            seam_dictionary_commit(s->dictionary[end]);
        } else {
            seam_aqsgd_commit(s->aqsgd[end]);
        }
    }
}

static void tensor_pass(session *s, uint32_t rows) {
    const seam_sequences sequences = {ids, seq_rows, take_u32()};
    for (uint32_t i = 0; i < sequences.count; i++) {
        ids[i] = take_u64();
        seq_rows[i] = take_u32();
    }
    take(mask, (rows + 7) / 8);
    take(x, (size_t)rows * s->channels * sizeof *x);
    tensor_begin(s, &sequences, rows);
    for (uint32_t row = 0; row < rows; row += s->chunk_rows) {
        const uint32_t count = rows - row < s->chunk_rows ? rows - row : s->chunk_rows;
        size_t bytes = 0;
        uint8_t head[4];
        if (chunk_pass(&bytes, s, row, count) != SEAM_OK) {
            fail("a chunk is refused");
        }
        seam_put_u32(head, (uint32_t)bytes);
        put(head, sizeof head);
        put(payload, bytes);
    }
    tensor_commit(s);
    if (memcmp(announced, got, (size_t)rows * s->channels * sizeof *got) != 0) {
        fail("the decoder sees other values than the encoder announced");
    }
    put(announced, (size_t)rows * s->channels * sizeof *announced);
}

int main(void) {
    session s = {.codec = take_u32(), .channels = take_u32()};
    s.bits = take_u32();
    s.cache_bits = take_u32();
    s.chunk_rows = take_u32();
    s.bytes_max = take_u64();
    if (s.channels < 1 || s.channels > C_MAX || s.chunk_rows < 1 || s.bytes_max > STORAGE_MAX) {
        fail("bad session");
    }
    session_make(&s);
    for (uint32_t rows = take_u32(); rows != 0; rows = take_u32()) {
        if (rows > ROWS_MAX) {
            fail("too many rows");
        }
        tensor_pass(&s, rows);
    }
    for (int end = 0; end < 2; end++) {
        seam_dictionary_destroy(s.dictionary[end]);
        seam_aqsgd_destroy(s.aqsgd[end]);
    }
    return fflush(stdout) == 0 ? 0 : 1;
}

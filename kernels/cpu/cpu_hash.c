/* Hash of a tensor's bits: PIECES partial sums, on the workers of the pool.  Bound by the two
 * 64-bit products a word, which vectors have where AVX-512 is. */
#include <string.h>

#include "cpu_ops.h"

#define PIECES 256u

typedef struct hash_job {
    const uint8_t *bytes; /* (count, 4) */
    size_t piece;
    uint64_t *sums; /* (PIECES) */
} hash_job;

static void hash_range(const void *context, size_t begin, size_t end) {
    const hash_job *job = context;
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i++) {
        uint32_t word;
        memcpy(&word, job->bytes + i * sizeof word, sizeof word);
        uint64_t z = (uint64_t)word | (uint64_t)i << 32;
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        sum += z ^ z >> 31;
    }
    job->sums[begin / job->piece] = sum;
}

seam_status CPU_FN(hash)(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count) {
    uint64_t sums[PIECES] = {0};
    const size_t piece = count / PIECES + 1;
    const hash_job job = {.bytes = x, .piece = piece, .sums = sums};
    seam_cpu_ranges(stream, count, piece, hash_range, &job);
    uint64_t hash = 0;
    for (uint32_t i = 0; i < PIECES; i++) {
        hash += sums[i];
    }
    *ret_hash = hash;
    return SEAM_OK;
}

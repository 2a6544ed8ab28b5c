/* Hash of a tensor's bits, reference: word by word. */
#include <string.h>

#include "ref.h"

seam_status seam_ref_hash(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count) {
    (void)stream;
    uint64_t hash = 0;
    for (size_t i = 0; i < 2 * count; i++) { /* acc is f64: two words a value */
        uint32_t word;
        memcpy(&word, (const uint8_t *)x + i * sizeof word, sizeof word);
        uint64_t z = (uint64_t)word | (uint64_t)(uint32_t)i << 32;
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        hash += z ^ z >> 31;
    }
    *ret_hash = hash;
    return SEAM_OK;
}

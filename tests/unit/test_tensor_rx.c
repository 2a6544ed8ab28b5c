/* Goal: only the frames of one tensor in their order complete it.  Method: a tensor of three chunks
 * taken whole; then each field of one of its headers changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "tensor_rx.h"

static const seam_tensor_expect expect = {.kind = SEAM_FRAME_TENSOR,
                                          .phase = SEAM_PHASE_FORWARD,
                                          .site = 1,
                                          .step = 9,
                                          .micro = 2,
                                          .rows = 70,
                                          .channels = 6,
                                          .codec_mask = 1u << 4};

static seam_frame_header chunk(uint32_t row_begin, uint32_t row_count) {
    return (seam_frame_header){.kind = SEAM_FRAME_TENSOR,
                               .phase = SEAM_PHASE_FORWARD,
                               .codec = 4,
                               .site = 1,
                               .micro = 2,
                               .step = 9,
                               .rows = 70,
                               .channels = 6,
                               .row_begin = row_begin,
                               .row_count = row_count,
                               .alloc_version = 3,
                               .alloc_bits_total = 24,
                               .alloc_hash = 77};
}

static void test_add__chunks_in_order__complete_with_digest(void **state) {
    (void)state;
    seam_tensor_rx rx;
    bool complete = true;
    uint64_t digest = SEAM_HASH64_INIT;
    seam_tensor_rx_init(&rx, &expect);
    for (uint32_t i = 0; i < 3; i++) {
        const seam_frame_header h = chunk(32 * i, i < 2 ? 32 : 6);
        assert_int_equal(seam_tensor_rx_add(&complete, &rx, &h, 100 + i, NULL), SEAM_OK);
        assert_int_equal(complete, i == 2);
        digest = seam_frame_digest_add(digest, 100 + i);
    }
    assert_true(rx.digest == digest);
}

static void test_add__field_changed__error(void **state) {
    (void)state;
    enum {
        KIND,
        PHASE,
        SITE,
        STEP,
        MICRO,
        BEGIN,
        ROWS,
        CHANNELS,
        CODEC,
        CODING,
        VERSION,
        TOTAL,
        HASH
    };
    for (int field = KIND; field <= HASH; field++) {
        seam_tensor_rx rx;
        bool complete = false;
        seam_error err = {0};
        seam_tensor_rx_init(&rx, &expect);
        const seam_frame_header first = chunk(0, 32);
        assert_int_equal(seam_tensor_rx_add(&complete, &rx, &first, 1, NULL), SEAM_OK);
        seam_frame_header h = chunk(32, 32);
        h.kind ^= (uint8_t)(field == KIND);
        h.phase ^= (uint8_t)(3 * (field == PHASE));
        h.site ^= (uint16_t)(field == SITE);
        h.step += field == STEP;
        h.micro += field == MICRO;
        h.row_begin += field == BEGIN ? 32 : 0;
        h.rows += field == ROWS;
        h.channels += field == CHANNELS;
        h.codec ^= (uint8_t)(field == CODEC);
        h.coding = field == CODING;
        h.alloc_version += field == VERSION;
        h.alloc_bits_total += field == TOTAL;
        h.alloc_hash += field == HASH;
        const seam_status st = seam_tensor_rx_add(&complete, &rx, &h, 2, &err);
        assert_int_equal(st, field <= BEGIN ? SEAM_E_OUT_OF_SEQUENCE : SEAM_E_FORMAT);
        assert_memory_equal(err.text, "frame.", 6);
    }
}

static void test_add__first_chunk_missing_or_twice__out_of_sequence(void **state) {
    (void)state;
    seam_tensor_rx rx;
    bool complete = false;
    seam_tensor_rx_init(&rx, &expect);
    seam_frame_header h = chunk(32, 32);
    assert_int_equal(seam_tensor_rx_add(&complete, &rx, &h, 1, NULL), SEAM_E_OUT_OF_SEQUENCE);
    h = chunk(0, 32);
    assert_int_equal(seam_tensor_rx_add(&complete, &rx, &h, 1, NULL), SEAM_OK);
    assert_int_equal(seam_tensor_rx_add(&complete, &rx, &h, 1, NULL), SEAM_E_OUT_OF_SEQUENCE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add__chunks_in_order__complete_with_digest),
        cmocka_unit_test(test_add__field_changed__error),
        cmocka_unit_test(test_add__first_chunk_missing_or_twice__out_of_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

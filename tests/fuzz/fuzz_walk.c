/* Any bytes as a message of a stream.  What the walk calls a frame is the frame that protobuf-c
 * finds; what it calls a control message is unpacked, and its layout judged: an accepted layout
 * holds what its comment promises. */
#include "fuzz.h"
#include "seam/v1/stream.pb-c.h"
#include "step_layout.h"
#include "walk.h"

/* Without labels; begin_check with them too. */
static const seam_layout_limits limits = {.rows_max = 4096,
                                          .sequences_max = 64,
                                          .micros_max = 16,
                                          .positions_max = 2048,
                                          .row_sources_taken = true};

static void rows_check(const uint32_t *rows, uint32_t count, uint32_t end) {
    for (uint32_t i = 0; i < count; i++) {
        FUZZ_CHECK(rows[i] < end);
        FUZZ_CHECK(i == 0 || rows[i] > rows[i - 1]);
    }
}

static void begin_check(const Seam__V1__StepBegin *begin, bool labels) {
    static uint32_t labelled[4096];
    seam_layout_limits own = limits;
    own.labels_needed = labels;
    own.vocab_count = 1000;
    const seam_status whole = seam_step_begin_check(begin, &own, NULL);
    for (size_t i = 0; i < begin->n_micros && i < own.micros_max; i++) {
        seam_micro_layout layout;
        const seam_status st =
            seam_micro_layout_read(&layout, labelled, begin->micros[i], (uint32_t)i, &own, NULL);
        FUZZ_CHECK(whole != SEAM_OK || st == SEAM_OK);
        if (st == SEAM_OK) {
            FUZZ_CHECK(layout.rows >= 1 && layout.rows <= limits.rows_max);
            FUZZ_CHECK(layout.labelled_count >= 1);
            rows_check(labelled, layout.labelled_count, layout.rows);
            FUZZ_CHECK((layout.labels != NULL) == labels);
            for (uint32_t j = 0; labels && j < layout.labelled_count; j++) {
                FUZZ_CHECK(layout.labels[j] < own.vocab_count);
            }
        }
    }
}

static void rows_request_check(const Seam__V1__GenerateRows *rows) {
    static uint32_t out[4096];
    seam_request_layout layout;
    const uint32_t slot_count = rows->n_slots > 0 ? 16 : 0;
    if (seam_request_layout_read(&layout, out, rows, rows->request, slot_count, &limits, NULL) ==
        SEAM_OK) {
        FUZZ_CHECK(layout.rows >= 1 && layout.rows <= limits.rows_max);
        FUZZ_CHECK(layout.rows_out_count >= 1 && layout.rows_out_count <= layout.rows);
        rows_check(out, layout.rows_out_count, layout.rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    seam_walk walk = {0};
    const seam_status st = seam_walk_message(&walk, data, count, NULL);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_FORMAT);
    if (st != SEAM_OK) {
        return 0;
    }
    FUZZ_CHECK(walk.body + walk.body_bytes == data + count);
    Seam__V1__TrainRequest *const train = seam__v1__train_request__unpack(NULL, count, data);
    if (walk.field == SEAM_MESSAGE_FRAME_FIELD) {
        FUZZ_CHECK(train != NULL && train->body_case == SEAM__V1__TRAIN_REQUEST__BODY_FRAME);
        FUZZ_CHECK(train->frame.len == walk.body_bytes);
        FUZZ_CHECK(walk.body_bytes == 0 || /* protobuf-c then gives NULL */
                   memcmp(train->frame.data, walk.body, walk.body_bytes) == 0);
        FUZZ_CHECK(seam_message_header_bytes(walk.body_bytes) + walk.body_bytes == count);
        FUZZ_CHECK(seam_message_frame_bytes(count) == walk.body_bytes);
    } else if (train != NULL && train->body_case == SEAM__V1__TRAIN_REQUEST__BODY_STEP_BEGIN) {
        begin_check(train->step_begin, false);
        begin_check(train->step_begin, true);
    }
    if (train != NULL) {
        seam__v1__train_request__free_unpacked(train, NULL);
    }
    Seam__V1__GenerateRequest *const generate =
        seam__v1__generate_request__unpack(NULL, count, data);
    if (generate != NULL) {
        if (generate->body_case == SEAM__V1__GENERATE_REQUEST__BODY_ROWS) {
            rows_request_check(generate->rows);
        }
        seam__v1__generate_request__free_unpacked(generate, NULL);
    }
    return 0;
}

/* Goal: what the server's machine takes and keeps with several micro-batches on their way.  Method:
 * one step of four at depth 2, every verdict on the way; tests/sim drives the same machine at
 * random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server_proto.h"

enum { FWD = SEAM_PHASE_FORWARD, BWD = SEAM_PHASE_BACKWARD };

static seam_step_key key(uint64_t step, uint32_t micro, uint8_t phase) {
    return (seam_step_key){
        .step = step, .micro = micro, .phase = phase, .site = phase == FWD ? 0 : 2};
}

static seam_server_verdict tensor(seam_server_proto *sp, seam_step_key k, seam_status expected) {
    seam_server_verdict v = {0};
    const uint64_t digest = 1000 * k.step + 10 * k.micro + k.phase;
    const seam_status st =
        seam_server_proto_tensor(&v, sp, seam_server_proto_epoch(sp), k, digest, NULL);
    assert_int_equal(st, expected);
    return v;
}

static void setup(seam_server_proto *sp) {
    const seam_server_proto_config config = {.micros_max = 4,
                                             .site_forward = 0,
                                             .site_backward = 2,
                                             .backward_reply = true,
                                             .pipeline_depth = 2,
                                             .lease_ms = 1000};
    const seam_attach_args args = {.epoch_seen = 0};
    seam_attach_verdict v = {0};
    seam_server_proto_init(sp, &config);
    assert_int_equal(seam_server_proto_attach(&v, sp, &args, NULL), SEAM_OK);
    assert_int_equal(v.action, SEAM_ATTACH_CONTINUE);
}

/* One pass at depth 2: no backward tensors; the answers to the last two stay after the Commit. */
static void test_one_pass__two_ahead__verdicts(void **state) {
    (void)state;
    seam_server_proto sp;
    const seam_server_proto_config config = {.micros_max = 4,
                                             .site_forward = 0,
                                             .site_backward = 2,
                                             .one_pass = true,
                                             .pipeline_depth = 2,
                                             .lease_ms = 1000};
    const seam_attach_args attach = {.epoch_seen = 0};
    seam_attach_verdict attached = {0};
    seam_server_proto_init(&sp, &config);
    assert_int_equal(seam_server_proto_attach(&attached, &sp, &attach, NULL), SEAM_OK);
    seam_server_verdict v = {0};
    const seam_step_begin_args args = {
        .epoch = seam_server_proto_epoch(&sp), .digest = 500, .micro_count = 3};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    assert_int_equal(tensor(&sp, key(0, 0, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    (void)tensor(&sp, key(0, 2, FWD), SEAM_E_OUT_OF_SEQUENCE);
    (void)tensor(&sp, key(0, 0, BWD), SEAM_E_OUT_OF_SEQUENCE);
    assert_false(seam_server_proto_forward_done(&sp, 0, 0));
    (void)tensor(&sp, key(0, 0, BWD), SEAM_E_OUT_OF_SEQUENCE);
    assert_int_equal(tensor(&sp, key(0, 2, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 0, FWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    assert_false(seam_server_proto_forward_done(&sp, 0, 1));
    assert_true(seam_server_proto_forward_done(&sp, 0, 2));
    seam_server_proto_committed(&sp, 0);
    assert_int_equal(tensor(&sp, key(0, 0, FWD), SEAM_OK).verdict, SEAM_VERDICT_ALREADY_COMMITTED);
    v = tensor(&sp, key(0, 1, FWD), SEAM_OK);
    assert_int_equal(v.verdict, SEAM_VERDICT_REPLY_CACHED);
    assert_false(v.resend_commit);
    v = tensor(&sp, key(0, 2, FWD), SEAM_OK);
    assert_int_equal(v.verdict, SEAM_VERDICT_REPLY_CACHED);
    assert_true(v.resend_commit);
}

/* One pass where the client trains too: the norm ends the step, when every pass is done. */
static void test_one_pass__norm__ends_the_step(void **state) {
    (void)state;
    seam_server_proto sp;
    const seam_server_proto_config config = {.micros_max = 4,
                                             .site_forward = 0,
                                             .site_backward = 2,
                                             .one_pass = true,
                                             .has_norm = true,
                                             .pipeline_depth = 2,
                                             .lease_ms = 1000};
    const seam_attach_args attach = {.epoch_seen = 0};
    const seam_step_begin_args begin = {.epoch = 1, .digest = 500, .micro_count = 2};
    seam_attach_verdict attached = {0};
    seam_server_verdict v = {0};
    seam_server_proto_init(&sp, &config);
    assert_int_equal(seam_server_proto_attach(&attached, &sp, &attach, NULL), SEAM_OK);
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &begin, NULL), SEAM_OK);
    (void)tensor(&sp, key(0, 0, FWD), SEAM_OK);
    (void)tensor(&sp, key(0, 1, FWD), SEAM_OK);
    assert_false(seam_server_proto_forward_done(&sp, 0, 0));
    (void)tensor(&sp, key(0, 0, BWD), SEAM_E_OUT_OF_SEQUENCE);
    (void)tensor(&sp, key(0, 2, BWD), SEAM_E_OUT_OF_SEQUENCE); /* one pass runs yet */
    assert_false(seam_server_proto_forward_done(&sp, 0, 1));
    assert_int_equal(tensor(&sp, key(0, 2, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_REPLY_CACHED);
    assert_int_equal(tensor(&sp, key(0, 2, BWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    assert_true(seam_server_proto_backward_done(&sp, 0, 2));
    seam_server_proto_committed(&sp, 0);
    v = tensor(&sp, key(0, 1, FWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_REPLY_CACHED && !v.resend_commit);
    v = tensor(&sp, key(0, 2, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_IGNORE && v.resend_commit);
    (void)tensor(&sp, key(0, 1, BWD), SEAM_E_OUT_OF_SEQUENCE);
    assert_int_equal(seam_server_proto_tensor(&v, &sp, 1, key(0, 2, BWD), 1, NULL),
                     SEAM_E_CONFLICT);
}

/* Depth 2, four micro-batches, all with replies. */
static void test_pipeline__two_ahead__verdicts(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    seam_server_verdict v = {0};
    const seam_step_begin_args args = {
        .epoch = seam_server_proto_epoch(&sp), .digest = 500, .micro_count = 4};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    assert_true(tensor(&sp, key(0, 0, FWD), SEAM_OK).drop_cache);
    assert_false(tensor(&sp, key(0, 1, FWD), SEAM_OK).drop_cache);
    (void)tensor(&sp, key(0, 2, FWD), SEAM_E_OUT_OF_SEQUENCE); /* two are ahead */
    (void)tensor(&sp, key(0, 0, BWD), SEAM_E_OUT_OF_SEQUENCE); /* its forward is not done */
    seam_server_proto_forward_done(&sp, 0, 0);
    assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 2, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    /* F2's place is F0's; F1's reply is not there yet. */
    assert_int_equal(tensor(&sp, key(0, 0, FWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    assert_int_equal(tensor(&sp, key(0, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    seam_server_proto_forward_done(&sp, 0, 1);
    assert_int_equal(tensor(&sp, key(0, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_REPLY_CACHED);
    /* The stream ends: what was not begun comes again. */
    seam_server_proto_withdraw(&sp, 2, FWD);
    seam_server_proto_withdraw(&sp, 0, BWD);
    assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 2, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    /* B1 needs no backward reply, F3 that to B0 at the server, B2 too. */
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    (void)tensor(&sp, key(0, 3, FWD), SEAM_E_OUT_OF_SEQUENCE);
    seam_server_proto_backward_done(&sp, 0, 0);
    assert_int_equal(tensor(&sp, key(0, 3, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    seam_server_proto_forward_done(&sp, 0, 2);
    seam_server_proto_backward_done(&sp, 0, 1);
    seam_server_proto_forward_done(&sp, 0, 3);
    assert_int_equal(tensor(&sp, key(0, 2, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_REPLY_CACHED);
    assert_int_equal(tensor(&sp, key(0, 3, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_false(seam_server_proto_backward_done(&sp, 0, 2));
    assert_true(seam_server_proto_backward_done(&sp, 0, 3));
    seam_server_proto_committed(&sp, 0);
    /* The client may lack the last two backward replies; the last brings the Commit. */
    v = tensor(&sp, key(0, 2, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_REPLY_CACHED && !v.resend_commit);
    v = tensor(&sp, key(0, 3, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_REPLY_CACHED && v.resend_commit);
    v = tensor(&sp, key(0, 1, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_ALREADY_COMMITTED && v.resend_commit);
    assert_int_equal(
        seam_server_proto_tensor(&v, &sp, seam_server_proto_epoch(&sp), key(0, 2, BWD), 1, NULL),
        SEAM_E_CONFLICT);
}

/* What the client gives back stays given back, from the step on that said so. */
static void test_step_begin__lower_depth__no_more_ahead(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    seam_server_verdict v = {0};
    seam_error err = {0};
    seam_step_begin_args args = {.epoch = seam_server_proto_epoch(&sp),
                                 .digest = 500,
                                 .micro_count = 2,
                                 .pipeline_depth = 3};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, &err), SEAM_E_LIMIT);
    assert_memory_equal(err.text, "step_begin.pipeline_depth: 3", 28);
    args.pipeline_depth = 1;
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    args.pipeline_depth = 2; /* a repetition: it says nothing new */
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    assert_int_equal(v.verdict, SEAM_VERDICT_IGNORE);
    for (uint64_t step = 0; step < 2; step++) {
        (void)tensor(&sp, key(step, 0, FWD), SEAM_OK);
        (void)tensor(&sp, key(step, 1, FWD), SEAM_E_OUT_OF_SEQUENCE);
        (void)seam_server_proto_forward_done(&sp, step, 0);
        (void)tensor(&sp, key(step, 1, FWD), SEAM_E_OUT_OF_SEQUENCE);
        (void)tensor(&sp, key(step, 0, BWD), SEAM_OK);
        assert_int_equal(tensor(&sp, key(step, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
        (void)seam_server_proto_backward_done(&sp, step, 0);
        (void)seam_server_proto_forward_done(&sp, step, 1);
        (void)tensor(&sp, key(step, 1, BWD), SEAM_OK);
        assert_true(seam_server_proto_backward_done(&sp, step, 1));
        seam_server_proto_committed(&sp, step);
        args.step = step + 1;
        args.pipeline_depth = 2;
        assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, &err), SEAM_E_LIMIT);
        args.pipeline_depth = 0; /* as before */
        assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    }
}

/* The client's share of the norm: behind the last gradient, without a reply, and only it brings a
 * lost Commit.  It takes no reply's place. */
static void norm_run(uint32_t depth) {
    const seam_server_proto_config config = {.micros_max = 2,
                                             .site_forward = 0,
                                             .site_backward = 2,
                                             .backward_reply = true,
                                             .has_norm = true,
                                             .pipeline_depth = depth,
                                             .lease_ms = 1000};
    const seam_attach_args attach = {.epoch_seen = 0};
    const seam_step_begin_args begin = {.epoch = 1, .digest = 500, .micro_count = 1};
    seam_attach_verdict a = {0};
    seam_server_verdict v = {0};
    seam_server_proto sp;
    uint32_t micro = 0;
    seam_server_proto_init(&sp, &config);
    assert_int_equal(seam_server_proto_attach(&a, &sp, &attach, NULL), SEAM_OK);
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &begin, NULL), SEAM_OK);
    (void)tensor(&sp, key(0, 0, FWD), SEAM_OK);
    (void)tensor(&sp, key(0, 1, BWD), SEAM_E_OUT_OF_SEQUENCE);
    (void)tensor(&sp, key(0, 1, FWD), SEAM_E_OUT_OF_SEQUENCE);
    seam_server_proto_forward_done(&sp, 0, 0);
    (void)tensor(&sp, key(0, 0, BWD), SEAM_OK);
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    (void)tensor(&sp, key(0, 2, BWD), SEAM_E_OUT_OF_SEQUENCE);
    seam_server_proto_withdraw(&sp, 1, BWD);
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_false(seam_server_proto_backward_done(&sp, 0, 0));
    assert_int_equal(seam_server_proto_phase(&micro, &sp), SEAM_SERVER_BACKWARD_RUNNING);
    assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_REPLY_CACHED);
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    assert_true(seam_server_proto_backward_done(&sp, 0, 1));
    seam_server_proto_committed(&sp, 0);
    v = tensor(&sp, key(0, 0, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_REPLY_CACHED && !v.resend_commit);
    v = tensor(&sp, key(0, 1, BWD), SEAM_OK);
    assert_true(v.verdict == SEAM_VERDICT_IGNORE && v.resend_commit);
    assert_int_equal(seam_server_proto_tensor(&v, &sp, 1, key(0, 1, BWD), 1, NULL),
                     SEAM_E_CONFLICT);
}

static void test_norm__every_depth__ends_the_step(void **state) {
    (void)state;
    for (uint32_t depth = 1; depth <= 3; depth++) {
        norm_run(depth);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline__two_ahead__verdicts),
        cmocka_unit_test(test_step_begin__lower_depth__no_more_ahead),
        cmocka_unit_test(test_norm__every_depth__ends_the_step),
        cmocka_unit_test(test_one_pass__two_ahead__verdicts),
        cmocka_unit_test(test_one_pass__norm__ends_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: every action of the client's machine, and every contradiction it stops at.  Method: a small
 * driver that carries actions out and lists them as text, so that a case reads as a dialogue;
 * tests/sim drives the same machine at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "client_proto.h"

enum { FWD = SEAM_PHASE_FORWARD, BWD = SEAM_PHASE_BACKWARD };

static const seam_client_proto_config base_config = {
    .site_forward_reply = 1, .site_backward_reply = 0, .backward_reply = true, .give_up_ms = 60000};

static seam_step_key reply_key(uint64_t step, uint32_t micro, uint8_t phase) {
    return (seam_step_key){
        .step = step, .micro = micro, .phase = phase, .site = phase == FWD ? 1 : 0};
}

static uint64_t digest_of(seam_step_key k) {
    return 1000 * k.step + 10 * k.micro + k.phase;
}

/* Carry out actions until one needs the outside; return their names ("attach begin f0 wait"). */
static const char *run(seam_client_proto *cp, uint64_t now_ms) {
    static char text[256];
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < 32; i++) {
        seam_client_action a;
        char word[32] = "";
        bool go_on = true;
        seam_client_proto_next(&a, cp, now_ms);
        const char *const again = a.is_repetition ? "'" : "";
        switch (a.kind) {
        case SEAM_CLIENT_CONNECT:
            (void)snprintf(word, sizeof word, "connect");
            break;
        case SEAM_CLIENT_SEND_ATTACH:
            (void)snprintf(word, sizeof word, "attach(%llu,%d)",
                           (unsigned long long)a.committed_step_count, a.step_in_flight);
            break;
        case SEAM_CLIENT_SEND_STEP_BEGIN:
            (void)snprintf(word, sizeof word, "begin%s", again);
            break;
        case SEAM_CLIENT_SEND_FORWARD:
            (void)snprintf(word, sizeof word, "f%u%s", a.micro, again);
            break;
        case SEAM_CLIENT_SEND_BACKWARD:
            (void)snprintf(word, sizeof word, "b%u%s", a.micro, again);
            break;
        default: {
            static const char *const names[] = {
                [SEAM_CLIENT_RECEIVE] = "wait",    [SEAM_CLIENT_BACK_OFF] = "back-off",
                [SEAM_CLIENT_RESTORE] = "restore", [SEAM_CLIENT_JOURNAL] = "journal",
                [SEAM_CLIENT_IDLE] = "idle",       [SEAM_CLIENT_STOPPED] = "stopped"};
            (void)snprintf(word, sizeof word, "%s", names[a.kind]);
            go_on = false;
            break;
        }
        }
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? " " : "", word);
        if (!go_on) {
            break;
        }
        seam_client_proto_done(cp, &a);
    }
    return text;
}

static seam_status begin(seam_client_proto *cp, uint64_t step, uint32_t micro_count,
                         uint64_t now_ms) {
    const seam_begin_step_args args = {
        .step = step, .micro_count = micro_count, .ahead = 1, .now_ms = now_ms};
    return seam_client_proto_begin_step(cp, &args, NULL);
}

static void attached(seam_client_proto *cp, seam_attach_action action, uint64_t committed,
                     uint64_t rollback_step, seam_status expected) {
    const seam_attached_args args = {.action = action,
                                     .epoch = seam_client_proto_epoch(cp) + 1,
                                     .committed_step_count = committed,
                                     .rollback_step = rollback_step};
    assert_int_equal(seam_client_proto_attached(cp, &args, NULL), expected);
}

static bool reply(seam_client_proto *cp, seam_step_key k, seam_status expected) {
    bool is_new = false;
    assert_int_equal(seam_client_proto_reply(&is_new, cp, k, digest_of(k), 0, NULL), expected);
    return is_new;
}

static bool commit(seam_client_proto *cp, uint64_t step, seam_status expected) {
    bool is_new = false;
    assert_int_equal(seam_client_proto_commit(&is_new, cp, step, 7, NULL, 0, NULL), expected);
    return is_new;
}

static void lose(seam_client_proto *cp, seam_status st) {
    seam_client_proto_stream_lost(cp, &(seam_stream_lost_args){.status = st, .now_ms = 0});
    cp->retry_at_ms = 0; /* no waiting in these tests; back-off has its own */
}

static void setup_with(seam_client_proto *cp, const seam_client_proto_config *config,
                       uint32_t micro_count) {
    seam_client_proto_init(cp, config);
    assert_string_equal(run(cp, 0), "connect attach(0,0) wait");
    attached(cp, SEAM_ATTACH_CONTINUE, 0, 0, SEAM_OK);
    assert_string_equal(run(cp, 0), "idle");
    assert_int_equal(begin(cp, 0, micro_count, 0), SEAM_OK);
}

static void test_step__two_micro_batches__dialogue(void **state) {
    (void)state;
    seam_client_proto cp;
    setup_with(&cp, &base_config, 2);
    assert_string_equal(run(&cp, 0), "begin f0 wait");
    assert_true(seam_client_proto_awaits(&cp, reply_key(0, 0, FWD)));
    assert_false(seam_client_proto_awaits(&cp, reply_key(0, 0, BWD)));
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_false(reply(&cp, reply_key(0, 0, FWD), SEAM_OK)); /* repeated */
    assert_string_equal(run(&cp, 0), "b0 wait");
    assert_true(reply(&cp, reply_key(0, 0, BWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "f1 wait");
    assert_true(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b1 wait");
    assert_true(reply(&cp, reply_key(0, 1, BWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "wait");
    assert_true(commit(&cp, 0, SEAM_OK));
    assert_false(commit(&cp, 0, SEAM_OK));
    assert_string_equal(run(&cp, 0), "journal");
    seam_client_proto_journaled(&cp);
    assert_string_equal(run(&cp, 0), "idle");
    assert_false(commit(&cp, 0, SEAM_OK));
    assert_false(reply(&cp, reply_key(0, 1, BWD), SEAM_OK));
    assert_int_equal(seam_client_proto_committed_count(&cp), 1);
    assert_int_equal(begin(&cp, 2, 1, 0), SEAM_E_OUT_OF_SEQUENCE);
    assert_int_equal(begin(&cp, 1, 0, 0), SEAM_E_LIMIT);
    assert_int_equal(begin(&cp, 1, 1, 0), SEAM_OK);
    assert_int_equal(begin(&cp, 1, 1, 0), SEAM_E_STATE);
}

/* Depth 2, three micro-batches: F0 F1 B0 F2 B1 B2, and so the replies. */
static void ahead_begin(seam_client_proto *cp, uint32_t ahead, seam_status expected) {
    seam_client_proto_config config = base_config;
    config.pipeline_depth = 2;
    setup_with(cp, &config, 1);
    cp->in_flight = false; /* the step of setup_with again, otherwise */
    const seam_begin_step_args args = {.micro_count = 3, .ahead = ahead};
    assert_int_equal(seam_client_proto_begin_step(cp, &args, NULL), expected);
}

static void test_step__two_ahead__dialogue(void **state) {
    (void)state;
    seam_client_proto cp;
    ahead_begin(&cp, 0, SEAM_E_LIMIT);
    ahead_begin(&cp, 3, SEAM_E_LIMIT);
    ahead_begin(&cp, 2, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin f0 f1 wait");
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b0 f2 wait");
    assert_true(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b1 wait");
    assert_true(reply(&cp, reply_key(0, 0, BWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "wait");
    assert_true(reply(&cp, reply_key(0, 2, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b2 wait");
    assert_true(reply(&cp, reply_key(0, 1, BWD), SEAM_OK));
    assert_false(commit(&cp, 0, SEAM_OK)); /* early: it comes again */
    assert_true(reply(&cp, reply_key(0, 2, BWD), SEAM_OK));
    assert_true(commit(&cp, 0, SEAM_OK));
    assert_string_equal(run(&cp, 0), "journal");
}

/* A new stream brings a later reply first: it is dropped, and both come again. */
static void test_reply__early_after_resend__dropped(void **state) {
    (void)state;
    seam_client_proto cp;
    ahead_begin(&cp, 2, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin f0 f1 wait");
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
    attached(&cp, SEAM_ATTACH_RESEND, 0, 0, SEAM_OK);
    assert_false(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "begin' f0' f1' wait");
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_true(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b0 f2 b1 wait");
    /* Never sent: nothing that a stream could bring. */
    (void)reply(&cp, reply_key(0, 2, BWD), SEAM_E_OUT_OF_SEQUENCE);
    assert_string_equal(run(&cp, 0), "stopped");
}

/* One pass: a message a micro-batch, as many ahead as told, and the Commit answers the last; or the
 * norm, which comes behind them. */
static void test_one_pass__ahead__forward_only(void **state) {
    (void)state;
    for (uint32_t norm = 0; norm < 2; norm++) {
        const seam_step_order order = {
            .micro_count = 5, .ahead = 2, .one_pass = true, .has_norm = norm == 1};
        assert_int_equal(seam_step_message_count(order), 6 + norm);
        for (uint32_t m = 0; m < 5 + norm; m++) {
            uint32_t micro = 99;
            uint8_t phase = 0;
            seam_step_message_at(&micro, &phase, order, 1 + m);
            assert_int_equal(micro, m);
            assert_int_equal(phase, m < 5 ? FWD : BWD);
            assert_int_equal(seam_step_message_idx(order, m, phase), 1 + m);
        }
    }
}

/* One pass with a norm: it waits for every answer, also on a stream that has lost some. */
static void test_one_pass__norm__dialogue(void **state) {
    (void)state;
    seam_client_proto_config config = base_config;
    config.has_norm = config.one_pass = true;
    config.backward_reply = false;
    seam_client_proto cp;
    setup_with(&cp, &config, 2);
    assert_string_equal(run(&cp, 0), "begin f0 wait");
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "f1 wait");
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
    attached(&cp, SEAM_ATTACH_RESEND, 0, 0, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin' f1' wait");
    assert_true(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b2 wait");
    assert_true(commit(&cp, 0, SEAM_OK));
    assert_string_equal(run(&cp, 0), "journal");
}

/* Every order is one: each message once, in the order of its phase, no further ahead than told. */
static void test_message_order__all_shapes__round_trip(void **state) {
    (void)state;
    for (uint32_t count = 1; count <= 9; count++) {
        for (uint32_t ahead = 1; ahead <= count; ahead++) {
            const bool has_norm = (count + ahead) % 2 == 0;
            const seam_step_order order = {
                .micro_count = count, .ahead = ahead, .has_norm = has_norm};
            uint32_t next[2] = {0, 0};
            for (uint32_t idx = 1; idx < seam_step_message_count(order); idx++) {
                uint32_t micro = 99;
                uint8_t phase = 0;
                seam_step_message_at(&micro, &phase, order, idx);
                assert_int_equal(micro, next[phase == FWD ? 0 : 1]++);
                assert_int_equal(seam_step_message_idx(order, micro, phase), idx);
                assert_true(next[1] <= next[0] + (has_norm ? 1 : 0) && next[0] <= next[1] + ahead);
                assert_true(phase == FWD || next[0] == count || next[0] + 1 == next[1] + ahead);
            }
            assert_true(next[0] == count && next[1] == count + (has_norm ? 1 : 0));
        }
    }
}

/* The client's share of the norm ends a step; lost on its way, it alone comes again. */
static void test_step__norm__dialogue(void **state) {
    (void)state;
    seam_client_proto_config config = base_config;
    config.has_norm = true;
    seam_client_proto cp;
    setup_with(&cp, &config, 1);
    assert_string_equal(run(&cp, 0), "begin f0 wait");
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b0 b1 wait");
    assert_true(reply(&cp, reply_key(0, 0, BWD), SEAM_OK));
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
    attached(&cp, SEAM_ATTACH_RESEND, 0, 0, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin' b1' wait");
    assert_true(commit(&cp, 0, SEAM_OK));
    assert_string_equal(run(&cp, 0), "journal");
    seam_client_proto_journaled(&cp);
    assert_int_equal(begin(&cp, 1, SEAM_MICROS_MAX, 0), SEAM_E_LIMIT);
    assert_int_equal(begin(&cp, 1, 1, 0), SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin f0 wait");
    assert_true(reply(&cp, reply_key(1, 0, FWD), SEAM_OK));
    assert_false(commit(&cp, 0, SEAM_OK));
    assert_string_equal(run(&cp, 0), "b0 b1 wait");
    (void)reply(&cp, reply_key(1, 1, BWD), SEAM_E_OUT_OF_SEQUENCE); /* the norm has none */
}

static void test_step__no_backward_reply__dialogue(void **state) {
    (void)state;
    seam_client_proto_config config = base_config;
    config.backward_reply = false;
    seam_client_proto cp;
    setup_with(&cp, &config, 2);
    assert_string_equal(run(&cp, 0), "begin f0 wait");
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b0 f1 wait");
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
    attached(&cp, SEAM_ATTACH_RESEND, 0, 0, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin' b0' f1' wait");
    assert_true(reply(&cp, reply_key(0, 1, FWD), SEAM_OK));
    assert_string_equal(run(&cp, 0), "b1 wait");
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
    attached(&cp, SEAM_ATTACH_RESEND, 1, 0, SEAM_OK);
    assert_string_equal(run(&cp, 0), "begin' b1' wait");
    assert_true(commit(&cp, 0, SEAM_OK));
}

/* Where the stream breaks (after `replies` replies of a one-micro-batch step), and what goes out
 * again under each answer. */
static void test_lost__every_place__resends_what_is_unanswered(void **state) {
    (void)state;
    static const struct {
        uint32_t replies;
        seam_attach_action action;
        const char *expected;
    } cases[] = {
        {0, SEAM_ATTACH_RESEND, "begin' f0' wait"}, {1, SEAM_ATTACH_RESEND, "begin' b0' wait"},
        {2, SEAM_ATTACH_RESEND, "begin' b0' wait"}, {0, SEAM_ATTACH_CONTINUE, "begin' f0' wait"},
        {1, SEAM_ATTACH_CONTINUE, "restore"},       {2, SEAM_ATTACH_CONTINUE, "restore"},
        {0, SEAM_ATTACH_ROLLBACK, "restore"},       {2, SEAM_ATTACH_ROLLBACK, "restore"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_client_proto cp;
        setup_with(&cp, &base_config, 1);
        (void)run(&cp, 0);
        for (uint32_t r = 0; r < cases[i].replies; r++) {
            assert_true(reply(&cp, reply_key(0, 0, r == 0 ? FWD : BWD), SEAM_OK));
            (void)run(&cp, 0);
        }
        lose(&cp, SEAM_E_UNAVAILABLE);
        assert_string_equal(run(&cp, 0), "connect attach(0,1) wait");
        attached(&cp, cases[i].action, 0, 0, SEAM_OK);
        assert_string_equal(run(&cp, 0), cases[i].expected);
    }
}

static void test_reply__before_resending__is_taken(void **state) {
    (void)state;
    seam_client_proto cp;
    setup_with(&cp, &base_config, 1);
    (void)run(&cp, 0);
    lose(&cp, SEAM_E_UNAVAILABLE);
    (void)run(&cp, 0);
    attached(&cp, SEAM_ATTACH_RESEND, 0, 0, SEAM_OK);
    assert_true(reply(&cp, reply_key(0, 0, FWD), SEAM_OK)); /* work that had been running */
    assert_string_equal(run(&cp, 0), "begin' b0 wait");
}

static void test_rollback__replay__compares_hashes(void **state) {
    (void)state;
    seam_client_proto_config config = base_config;
    config.committed_step_count = 5;
    config.epoch_seen = 9;
    for (int same = 0; same < 2; same++) {
        seam_client_proto cp;
        bool is_new = false;
        const uint64_t journal_hash = same ? 7 : 8;
        seam_client_proto_init(&cp, &config);
        assert_string_equal(run(&cp, 0), "connect attach(5,0) wait");
        attached(&cp, SEAM_ATTACH_ROLLBACK, 3, 3, SEAM_OK);
        assert_string_equal(run(&cp, 0), "restore");
        seam_client_proto_restored(&cp, 3, 0);
        assert_string_equal(run(&cp, 0), "idle");
        assert_int_equal(begin(&cp, 3, 1, 0), SEAM_OK);
        (void)run(&cp, 0);
        (void)reply(&cp, reply_key(3, 0, FWD), SEAM_OK);
        (void)run(&cp, 0);
        (void)reply(&cp, reply_key(3, 0, BWD), SEAM_OK);
        const seam_status st = seam_client_proto_commit(&is_new, &cp, 3, 7, &journal_hash, 0, NULL);
        assert_int_equal(st, same ? SEAM_OK : SEAM_E_NONDETERMINISM);
        assert_string_equal(run(&cp, 0), same ? "journal" : "stopped");
    }
}

static void test_restore__stream_lost_meanwhile__connects_after(void **state) {
    (void)state;
    seam_client_proto_config config = base_config;
    config.committed_step_count = 5;
    seam_client_proto cp;
    seam_client_proto_init(&cp, &config);
    (void)run(&cp, 0);
    attached(&cp, SEAM_ATTACH_ROLLBACK, 2, 2, SEAM_OK);
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "restore");
    seam_client_proto_restored(&cp, 2, 0);
    assert_string_equal(run(&cp, 0), "connect attach(2,0) wait");
}

static void test_commit__stream_lost__journal_comes_first(void **state) {
    (void)state;
    seam_client_proto cp;
    setup_with(&cp, &base_config, 1);
    (void)run(&cp, 0);
    (void)reply(&cp, reply_key(0, 0, FWD), SEAM_OK);
    (void)run(&cp, 0);
    (void)reply(&cp, reply_key(0, 0, BWD), SEAM_OK);
    (void)commit(&cp, 0, SEAM_OK);
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_string_equal(run(&cp, 0), "journal");
    seam_client_proto_journaled(&cp);
    assert_string_equal(run(&cp, 0), "connect attach(1,0) wait");
}

static void test_attached__contradiction__stops(void **state) {
    (void)state;
    static const struct {
        seam_attach_action action;
        uint64_t committed, rollback_step;
    } cases[] = {{SEAM_ATTACH_CONTINUE, 4, 0}, {SEAM_ATTACH_CONTINUE, 6, 0},
                 {SEAM_ATTACH_RESEND, 4, 0},   {SEAM_ATTACH_RESEND, 7, 0},
                 {SEAM_ATTACH_ROLLBACK, 6, 6}, {SEAM_ATTACH_ROLLBACK, 2, 3},
                 {SEAM_ATTACH_WAIT, 5, 0},     {(seam_attach_action)9, 5, 0}};
    seam_client_proto_config config = base_config;
    config.committed_step_count = 5;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_client_proto cp;
        seam_client_proto_init(&cp, &config);
        (void)run(&cp, 0);
        attached(&cp, cases[i].action, cases[i].committed, cases[i].rollback_step,
                 SEAM_E_OUT_OF_SEQUENCE);
        assert_string_equal(run(&cp, 0), "stopped");
        assert_int_equal(seam_client_proto_error(&cp)->status, SEAM_E_OUT_OF_SEQUENCE);
    }
    seam_client_proto cp;
    seam_client_proto_init(&cp, &config);
    (void)run(&cp, 0);
    const seam_attached_args stale = {
        .action = SEAM_ATTACH_CONTINUE, .epoch = 0, .committed_step_count = 5};
    assert_int_equal(seam_client_proto_attached(&cp, &stale, NULL), SEAM_E_OUT_OF_SEQUENCE);
}

static void test_reply__not_awaited__stops(void **state) {
    (void)state;
    const seam_step_key wrong[] = {
        reply_key(0, 0, BWD),
        reply_key(0, 1, FWD),
        reply_key(1, 0, FWD),
        {.step = 0, .micro = 0, .phase = FWD, .site = 3},
        {.step = 0, .micro = 0, .phase = SEAM_PHASE_GENERATE, .site = 1},
        {.step = 0, .micro = UINT32_MAX, .phase = FWD, .site = 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        seam_client_proto cp;
        setup_with(&cp, &base_config, 2);
        (void)run(&cp, 0);
        assert_false(seam_client_proto_awaits(&cp, wrong[i]));
        (void)reply(&cp, wrong[i], SEAM_E_OUT_OF_SEQUENCE);
        assert_string_equal(run(&cp, 0), "stopped");
    }
    seam_client_proto cp;
    setup_with(&cp, &base_config, 1);
    (void)run(&cp, 0);
    (void)commit(&cp, 0, SEAM_E_OUT_OF_SEQUENCE); /* before its replies */
}

static void test_reply__repeated_with_other_bytes__conflict(void **state) {
    (void)state;
    seam_client_proto cp;
    bool is_new = false;
    setup_with(&cp, &base_config, 1);
    (void)run(&cp, 0);
    (void)reply(&cp, reply_key(0, 0, FWD), SEAM_OK);
    assert_int_equal(seam_client_proto_reply(&is_new, &cp, reply_key(0, 0, FWD), 12345, 0, NULL),
                     SEAM_E_CONFLICT);
    assert_int_equal(seam_client_proto_error(&cp)->status, SEAM_E_CONFLICT);
}

static void test_lost__status__stops_or_tries_again(void **state) {
    (void)state;
    static const struct {
        seam_status st;
        uint64_t retry_after_ms;
        bool again;
    } cases[] = {
        {SEAM_OK, 0, true},
        {SEAM_E_UNAVAILABLE, 0, true},
        {SEAM_E_DEADLINE, 0, true},
        {SEAM_E_CANCELLED, 0, true},
        {SEAM_E_CHECKSUM, 0, true},
        {SEAM_E_IO, 0, true},
        {SEAM_E_DEVICE_LOST, 0, true},
        {SEAM_E_INTERNAL, 0, true},
        {SEAM_E_LIMIT, 500, true},
        {SEAM_E_MEMORY, 500, true},
        {SEAM_E_LIMIT, 0, false},
        {SEAM_E_MEMORY, 0, false},
        {SEAM_E_FENCED, 0, false},
        {SEAM_E_CONFLICT, 0, false},
        {SEAM_E_GONE, 0, false},
        {SEAM_E_NOT_FOUND, 0, false},
        {SEAM_E_DENIED, 0, false},
        {SEAM_E_FORMAT, 0, false},
        {SEAM_E_ARG, 0, false},
        {SEAM_E_UNIMPLEMENTED, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_client_proto cp;
        seam_client_action a;
        setup_with(&cp, &base_config, 1);
        (void)run(&cp, 0);
        seam_client_proto_stream_lost(
            &cp, &(seam_stream_lost_args){.status = cases[i].st,
                                          .retry_after_ms = cases[i].retry_after_ms,
                                          .now_ms = 1000});
        seam_client_proto_next(&a, &cp, 1000);
        assert_int_equal(a.kind, cases[i].again ? SEAM_CLIENT_BACK_OFF : SEAM_CLIENT_STOPPED);
        if (cases[i].again) {
            assert_int_equal(a.wait_ms, cases[i].retry_after_ms > 100 ? 500 : 100);
            seam_client_proto_next(&a, &cp, 1000 + a.wait_ms);
            assert_int_equal(a.kind, SEAM_CLIENT_CONNECT);
        }
    }
}

static void test_next__no_progress__gives_up_with_the_reason(void **state) {
    (void)state;
    seam_client_proto cp;
    seam_client_action a;
    setup_with(&cp, &base_config, 1);
    (void)run(&cp, 0);
    seam_client_proto_stream_lost(&cp, &(seam_stream_lost_args){.status = SEAM_E_UNAVAILABLE,
                                                                .text = "connection refused",
                                                                .now_ms = 1000});
    seam_client_proto_next(&a, &cp, 60999);
    assert_int_equal(a.kind, SEAM_CLIENT_CONNECT);
    seam_client_proto_next(&a, &cp, 61000);
    assert_int_equal(a.kind, SEAM_CLIENT_STOPPED);
    assert_int_equal(seam_client_proto_error(&cp)->status, SEAM_E_DEADLINE);
    assert_string_equal(seam_client_proto_error(&cp)->text,
                        "no progress for 60 s: connection refused");
}

static void test_next__idle_long__does_not_give_up(void **state) {
    (void)state;
    seam_client_proto cp;
    seam_client_proto_init(&cp, &base_config);
    assert_false(seam_client_proto_is_attached(&cp));
    (void)run(&cp, 0);
    assert_false(seam_client_proto_is_attached(&cp)); /* a stream, and no answer yet */
    attached(&cp, SEAM_ATTACH_CONTINUE, 0, 0, SEAM_OK);
    assert_true(seam_client_proto_is_attached(&cp));
    assert_string_equal(run(&cp, 900000), "idle");
    assert_int_equal(begin(&cp, 0, 1, 900000), SEAM_OK);
    assert_string_equal(run(&cp, 900000), "begin f0 wait");
    assert_string_equal(run(&cp, 100000), "wait"); /* a clock that has gone back */
    lose(&cp, SEAM_E_UNAVAILABLE);
    assert_false(seam_client_proto_is_attached(&cp));
}

static void test_back_off__attempts__grows_to_the_cap(void **state) {
    (void)state;
    assert_int_equal(seam_back_off_ms(1, 0), 100);
    assert_int_equal(seam_back_off_ms(1, UINT32_MAX), 200);
    assert_int_equal(seam_back_off_ms(2, UINT32_MAX), 320);
    assert_int_equal(seam_back_off_ms(3, UINT32_MAX), 512);
    assert_int_equal(seam_back_off_ms(40, UINT32_MAX), 30000);
    assert_int_equal(seam_back_off_ms(UINT32_MAX, 0), 15000);
}

static void test_stop__by_caller__says_why(void **state) {
    (void)state;
    seam_client_proto cp;
    setup_with(&cp, &base_config, 1);
    seam_client_proto_stop(&cp, SEAM_E_IO, "journal: disk full");
    assert_string_equal(run(&cp, 0), "stopped");
    assert_string_equal(seam_client_proto_error(&cp)->text, "journal: disk full");
    (void)reply(&cp, reply_key(0, 0, FWD), SEAM_E_STATE);
    (void)commit(&cp, 0, SEAM_E_STATE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step__two_micro_batches__dialogue),
        cmocka_unit_test(test_step__norm__dialogue),
        cmocka_unit_test(test_step__no_backward_reply__dialogue),
        cmocka_unit_test(test_step__two_ahead__dialogue),
        cmocka_unit_test(test_reply__early_after_resend__dropped),
        cmocka_unit_test(test_message_order__all_shapes__round_trip),
        cmocka_unit_test(test_one_pass__ahead__forward_only),
        cmocka_unit_test(test_one_pass__norm__dialogue),
        cmocka_unit_test(test_lost__every_place__resends_what_is_unanswered),
        cmocka_unit_test(test_reply__before_resending__is_taken),
        cmocka_unit_test(test_rollback__replay__compares_hashes),
        cmocka_unit_test(test_restore__stream_lost_meanwhile__connects_after),
        cmocka_unit_test(test_commit__stream_lost__journal_comes_first),
        cmocka_unit_test(test_attached__contradiction__stops),
        cmocka_unit_test(test_reply__not_awaited__stops),
        cmocka_unit_test(test_reply__repeated_with_other_bytes__conflict),
        cmocka_unit_test(test_lost__status__stops_or_tries_again),
        cmocka_unit_test(test_next__no_progress__gives_up_with_the_reason),
        cmocka_unit_test(test_next__idle_long__does_not_give_up),
        cmocka_unit_test(test_back_off__attempts__grows_to_the_cap),
        cmocka_unit_test(test_stop__by_caller__says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Goal: every verdict of the server's machine.  Method: tables of (where the session stands, what
 * comes, what is answered); tests/sim drives the same machine at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server_proto.h"

enum { FWD = SEAM_PHASE_FORWARD, BWD = SEAM_PHASE_BACKWARD, MICROS = 2 };

static const seam_server_proto_config base_config = {.config_hash = 70,
                                                     .model_identity = 80,
                                                     .micros_max = 4,
                                                     .site_forward = 0,
                                                     .site_backward = 2,
                                                     .backward_reply = true,
                                                     .lease_ms = 1000,
                                                     .park_ms = 5000};

static seam_step_key key(uint64_t step, uint32_t micro, uint8_t phase) {
    return (seam_step_key){
        .step = step, .micro = micro, .phase = phase, .site = phase == FWD ? 0 : 2};
}

static uint64_t digest_of(seam_step_key k) {
    return 1000 * k.step + 10 * k.micro + k.phase;
}

static seam_attach_verdict attach_as(seam_server_proto *sp, uint64_t committed, bool in_flight,
                                     seam_status expected) {
    seam_attach_verdict v = {0};
    const seam_attach_args args = {.epoch_seen = 0,
                                   .committed_step_count = committed,
                                   .config_hash = 70,
                                   .model_identity = 80,
                                   .step_in_flight = in_flight};
    assert_int_equal(seam_server_proto_attach(&v, sp, &args, NULL), expected);
    return v;
}

static seam_server_verdict begin(seam_server_proto *sp, uint64_t step, seam_status expected) {
    seam_server_verdict v = {0};
    const seam_step_begin_args args = {.epoch = seam_server_proto_epoch(sp),
                                       .step = step,
                                       .digest = 500 + step,
                                       .micro_count = MICROS};
    assert_int_equal(seam_server_proto_step_begin(&v, sp, &args, NULL), expected);
    return v;
}

static seam_server_verdict tensor(seam_server_proto *sp, seam_step_key k, seam_status expected) {
    seam_server_verdict v = {0};
    const seam_status st =
        seam_server_proto_tensor(&v, sp, seam_server_proto_epoch(sp), k, digest_of(k), NULL);
    assert_int_equal(st, expected);
    return v;
}

/* Bring the step in flight to `accepted` messages, `finished` of them worked off. */
static void advance(seam_server_proto *sp, uint32_t accepted, uint32_t finished) {
    const uint64_t step = seam_server_proto_committed_count(sp);
    uint32_t done = 1;
    for (uint32_t i = 0; i < accepted; i++) {
        if (i == 0) {
            assert_int_equal(begin(sp, step, SEAM_OK).verdict, SEAM_VERDICT_RUN);
            continue;
        }
        const seam_step_key k = key(step, (i - 1) / 2, i % 2 == 1 ? FWD : BWD);
        assert_int_equal(tensor(sp, k, SEAM_OK).verdict, SEAM_VERDICT_RUN);
        if (done < finished) {
            done++;
            if (k.phase == FWD) {
                seam_server_proto_forward_done(sp, step, k.micro);
            } else if (seam_server_proto_backward_done(sp, step, k.micro)) {
                assert_int_equal(k.micro, MICROS - 1);
            }
        }
    }
}

static void setup_with(seam_server_proto *sp, const seam_server_proto_config *config) {
    seam_server_proto_init(sp, config);
    assert_int_equal(attach_as(sp, config->committed_step_count, false, SEAM_OK).action,
                     SEAM_ATTACH_CONTINUE);
}

static void setup(seam_server_proto *sp) {
    setup_with(sp, &base_config);
}

static void commit_step(seam_server_proto *sp) {
    const uint64_t step = seam_server_proto_committed_count(sp);
    advance(sp, 5, 5);
    seam_server_proto_committed(sp, step);
}

static void test_phase__each_message__name_of_spec(void **state) {
    (void)state;
    static const struct {
        uint32_t accepted, finished, micro;
        seam_server_phase phase;
        bool busy;
    } cases[] = {
        {0, 0, 0, SEAM_SERVER_READY, false},           {1, 1, 0, SEAM_SERVER_BEGUN, false},
        {2, 1, 0, SEAM_SERVER_FORWARD_RUNNING, true},  {2, 2, 0, SEAM_SERVER_FORWARD_DONE, false},
        {3, 2, 0, SEAM_SERVER_BACKWARD_RUNNING, true}, {3, 3, 0, SEAM_SERVER_BACKWARD_DONE, false},
        {4, 3, 1, SEAM_SERVER_FORWARD_RUNNING, true},  {4, 4, 1, SEAM_SERVER_FORWARD_DONE, false},
        {5, 4, 1, SEAM_SERVER_BACKWARD_RUNNING, true}, {5, 5, 1, SEAM_SERVER_APPLYING, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_server_proto sp;
        uint32_t micro = 99;
        setup(&sp);
        advance(&sp, cases[i].accepted, cases[i].finished);
        assert_int_equal(seam_server_proto_phase(&micro, &sp), cases[i].phase);
        assert_int_equal(micro, cases[i].micro);
        assert_int_equal(seam_server_proto_is_busy(&sp), cases[i].busy);
    }
    assert_string_equal(seam_server_link_name(SEAM_LINK_FROZEN), "FROZEN");
}

/* One row: after `accepted`/`finished` messages of step 1 (step 0 is committed), this tensor comes.
 */
typedef struct tensor_case {
    uint32_t accepted, finished;
    uint64_t step;
    uint32_t micro;
    uint8_t phase;
    seam_status st;
    seam_verdict verdict;
    bool drop_cache, resend_commit;
} tensor_case;

static const tensor_case tensor_cases[] = {
    /* In order: run; the first forward tensor drops the cache of the step before. */
    {1, 1, 1, 0, FWD, SEAM_OK, SEAM_VERDICT_RUN, true, false},
    {2, 2, 1, 0, BWD, SEAM_OK, SEAM_VERDICT_RUN, false, false},
    {3, 3, 1, 1, FWD, SEAM_OK, SEAM_VERDICT_RUN, false, false},
    {4, 4, 1, 1, BWD, SEAM_OK, SEAM_VERDICT_RUN, false, false},
    /* Too early: no StepBegin, wrong micro-batch or phase, answer not known yet, next step. */
    {0, 0, 1, 0, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {1, 1, 1, 0, BWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {1, 1, 1, 1, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {2, 1, 1, 0, BWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {3, 2, 1, 1, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {5, 5, 1, 2, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {5, 5, 2, 0, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {2, 2, 1, 5000, FWD, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    {1, 1, 1, 0, SEAM_PHASE_GENERATE, SEAM_E_OUT_OF_SEQUENCE, 0, false, false},
    /* Again: running, done, one before, a micro-batch before. */
    {2, 1, 1, 0, FWD, SEAM_OK, SEAM_VERDICT_IGNORE, false, false},
    {2, 2, 1, 0, FWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, false},
    {3, 2, 1, 0, FWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, false},
    {3, 2, 1, 0, BWD, SEAM_OK, SEAM_VERDICT_IGNORE, false, false},
    {3, 3, 1, 0, BWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, false},
    {4, 3, 1, 0, BWD, SEAM_OK, SEAM_VERDICT_IGNORE, false, false},
    {5, 5, 1, 1, BWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, false},
    {5, 5, 1, 0, FWD, SEAM_OK, SEAM_VERDICT_IGNORE, false, false},
    /* Of the committed step: its last replies and the Commit, until a forward tensor runs. */
    {0, 0, 0, 1, FWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, false},
    {0, 0, 0, 1, BWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, true},
    {1, 1, 0, 1, BWD, SEAM_OK, SEAM_VERDICT_REPLY_CACHED, false, true},
    {0, 0, 0, 0, BWD, SEAM_OK, SEAM_VERDICT_ALREADY_COMMITTED, false, true},
    {2, 2, 0, 1, BWD, SEAM_OK, SEAM_VERDICT_ALREADY_COMMITTED, false, true},
};

static void test_tensor__every_place__verdict(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof tensor_cases / sizeof tensor_cases[0]; i++) {
        const tensor_case *c = &tensor_cases[i];
        seam_server_proto sp;
        setup(&sp);
        commit_step(&sp);
        advance(&sp, c->accepted, c->finished);
        const seam_step_key k = key(c->step, c->micro, c->phase);
        seam_server_verdict v = {0};
        seam_verdict peeked = 0;
        seam_error err = {0};
        const uint64_t epoch = seam_server_proto_epoch(&sp);
        const seam_status peek_st = seam_server_proto_peek(&peeked, &sp, epoch, k, NULL);
        const seam_status st = seam_server_proto_tensor(&v, &sp, epoch, k, digest_of(k), &err);
        if (st != c->st || peek_st != st || v.verdict != c->verdict || peeked != v.verdict ||
            v.drop_cache != c->drop_cache || v.resend_commit != c->resend_commit) {
            fail_msg("case %zu: %s verdict %d drop %d commit %d (%s)", i, seam_status_name(st),
                     (int)v.verdict, v.drop_cache, v.resend_commit, err.text);
        }
    }
}

static void test_tensor__other_digest__conflict_freezes(void **state) {
    (void)state;
    static const struct {
        uint32_t accepted, finished;
        uint64_t step;
        uint32_t micro;
        uint8_t phase;
    } cases[] = {{2, 2, 1, 0, FWD}, {3, 3, 1, 0, BWD}, {4, 4, 1, 0, BWD}, {0, 0, 0, 1, BWD}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        seam_server_proto sp;
        seam_server_verdict v = {0};
        setup(&sp);
        commit_step(&sp);
        advance(&sp, cases[i].accepted, cases[i].finished);
        const seam_step_key k = key(cases[i].step, cases[i].micro, cases[i].phase);
        const uint64_t epoch = seam_server_proto_epoch(&sp);
        assert_int_equal(seam_server_proto_tensor(&v, &sp, epoch, k, digest_of(k) + 1, NULL),
                         SEAM_E_CONFLICT);
        assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_FROZEN);
        (void)begin(&sp, 1, SEAM_E_CONFLICT);
        (void)attach_as(&sp, 1, false, SEAM_E_CONFLICT);
    }
}

static void test_tensor__other_site__out_of_sequence(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    advance(&sp, 1, 1);
    seam_step_key k = key(0, 0, FWD);
    k.site = 2;
    (void)tensor(&sp, k, SEAM_E_OUT_OF_SEQUENCE);
}

static void test_tensor__no_backward_reply__forward_queues_behind(void **state) {
    (void)state;
    seam_server_proto_config config = base_config;
    config.backward_reply = false;
    seam_server_proto sp;
    setup_with(&sp, &config);
    advance(&sp, 3, 2); /* BACKWARD(0) runs */
    assert_int_equal(tensor(&sp, key(0, 1, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    /* The repeated backward tensor of the micro-batch before is known and needs no answer. */
    assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    assert_false(seam_server_proto_backward_done(&sp, 0, 0));
    seam_server_proto_forward_done(&sp, 0, 1);
    assert_int_equal(tensor(&sp, key(0, 1, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_true(seam_server_proto_backward_done(&sp, 0, 1));
    seam_server_proto_committed(&sp, 0);
    const seam_server_verdict v = tensor(&sp, key(0, 1, BWD), SEAM_OK);
    assert_int_equal(v.verdict, SEAM_VERDICT_IGNORE);
    assert_true(v.resend_commit);
}

static void test_step_begin__every_place__verdict(void **state) {
    (void)state;
    seam_server_proto sp;
    seam_server_verdict v = {0};
    setup(&sp);
    (void)begin(&sp, 1, SEAM_E_OUT_OF_SEQUENCE);
    seam_step_begin_args args = {.epoch = 1, .step = 0, .digest = 500, .micro_count = 5};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_E_LIMIT);
    args.micro_count = 0;
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_E_LIMIT);
    assert_int_equal(begin(&sp, 0, SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(begin(&sp, 0, SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    args.epoch = 0;
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_E_FENCED);
    seam_server_proto_abort_step(&sp);
    commit_step(&sp);
    assert_int_equal(begin(&sp, 0, SEAM_OK).verdict, SEAM_VERDICT_IGNORE);
    commit_step(&sp);
    assert_int_equal(begin(&sp, 0, SEAM_OK).verdict, SEAM_VERDICT_ALREADY_COMMITTED);
    args = (seam_step_begin_args){.epoch = 1, .step = 1, .digest = 1, .micro_count = MICROS};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_E_CONFLICT);
}

/* One row: the server has `committed` steps, `accepted` messages of the next (all finished) and
 * checkpoints of 0 and 2 steps; a client with `theirs` attaches. */
typedef struct attach_case {
    uint64_t committed;
    uint32_t accepted;
    uint64_t theirs;
    bool in_flight;
    seam_attach_action action; /* 0: GONE */
    uint64_t rollback_step;
    bool drop_step, load_checkpoint;
} attach_case;

static const attach_case attach_cases[] = {
    {3, 0, 3, false, SEAM_ATTACH_CONTINUE, 0, false, false},
    {3, 0, 3, true, SEAM_ATTACH_CONTINUE, 0, false, false},
    {3, 3, 3, true, SEAM_ATTACH_RESEND, 0, false, false},
    {3, 3, 3, false, SEAM_ATTACH_CONTINUE, 0, true, false},
    {3, 0, 2, true, SEAM_ATTACH_RESEND, 0, false, false},
    {3, 0, 2, false, SEAM_ATTACH_ROLLBACK, 2, false, true}, /* two micro-batches, one cached */
    {3, 2, 2, true, SEAM_ATTACH_ROLLBACK, 2, true, true},
    {3, 0, 1, true, SEAM_ATTACH_ROLLBACK, 0, false, true},
    {3, 0, 5, false, SEAM_ATTACH_ROLLBACK, 3, false, false},
    {3, 2, 5, true, SEAM_ATTACH_ROLLBACK, 3, true, false},
};

static void test_attach__every_count__action(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof attach_cases / sizeof attach_cases[0]; i++) {
        const attach_case *c = &attach_cases[i];
        seam_server_proto sp;
        setup(&sp);
        assert_int_equal(seam_server_proto_durable_add(&sp, 0), SEAM_OK);
        while (seam_server_proto_committed_count(&sp) < c->committed) {
            commit_step(&sp);
            if (seam_server_proto_committed_count(&sp) == 2) {
                assert_int_equal(seam_server_proto_durable_add(&sp, 2), SEAM_OK);
            }
        }
        advance(&sp, c->accepted, c->accepted);
        const seam_attach_verdict v = attach_as(&sp, c->theirs, c->in_flight, SEAM_OK);
        if (v.action != c->action || v.rollback_step != c->rollback_step ||
            v.drop_step != c->drop_step || v.load_checkpoint != c->load_checkpoint) {
            fail_msg("case %zu: action %d rollback %llu drop %d load %d", i, (int)v.action,
                     (unsigned long long)v.rollback_step, v.drop_step, v.load_checkpoint);
        }
        assert_true(v.fences_stream);
        assert_int_equal(v.epoch, 2);
    }
}

static void test_attach__no_checkpoint_far_enough__gone(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    commit_step(&sp);
    commit_step(&sp);
    (void)attach_as(&sp, 0, true, SEAM_E_GONE);
    (void)attach_as(&sp, 1, false, SEAM_E_GONE);
    assert_int_equal(seam_server_proto_epoch(&sp), 1); /* unchanged: the stream stands */
    assert_int_equal(begin(&sp, 2, SEAM_OK).verdict, SEAM_VERDICT_RUN);
}

static void test_attach__one_micro_batch__reborn_client_resends(void **state) {
    (void)state;
    seam_server_proto sp;
    seam_server_verdict v = {0};
    setup(&sp);
    const seam_step_begin_args args = {.epoch = 1, .step = 0, .digest = 5, .micro_count = 1};
    assert_int_equal(seam_server_proto_step_begin(&v, &sp, &args, NULL), SEAM_OK);
    (void)tensor(&sp, key(0, 0, FWD), SEAM_OK);
    seam_server_proto_forward_done(&sp, 0, 0);
    (void)tensor(&sp, key(0, 0, BWD), SEAM_OK);
    assert_true(seam_server_proto_backward_done(&sp, 0, 0));
    seam_server_proto_committed(&sp, 0);
    assert_int_equal(attach_as(&sp, 0, false, SEAM_OK).action, SEAM_ATTACH_RESEND);
}

static void test_attach__wrong_hash__names_the_field(void **state) {
    (void)state;
    seam_server_proto sp;
    seam_attach_verdict v = {0};
    seam_error err = {0};
    setup(&sp);
    seam_attach_args args = {.config_hash = 71, .model_identity = 80};
    assert_int_equal(seam_server_proto_attach(&v, &sp, &args, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "config_hash"));
    args = (seam_attach_args){.config_hash = 70, .model_identity = 81};
    assert_int_equal(seam_server_proto_attach(&v, &sp, &args, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "model_identity"));
}

static void test_attach__step_to_drop_runs__wait(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    advance(&sp, 2, 1);
    assert_int_equal(attach_as(&sp, 0, false, SEAM_OK).action, SEAM_ATTACH_WAIT);
    assert_int_equal(seam_server_proto_epoch(&sp), 1);
    seam_server_proto_forward_done(&sp, 0, 0);
    const seam_attach_verdict v = attach_as(&sp, 0, false, SEAM_OK);
    assert_int_equal(v.action, SEAM_ATTACH_CONTINUE);
    assert_true(v.drop_step);
    assert_int_equal(begin(&sp, 0, SEAM_OK).verdict, SEAM_VERDICT_RUN);
}

static void test_attach__newer__fences_the_older(void **state) {
    (void)state;
    seam_server_proto sp;
    seam_server_verdict v = {0};
    setup(&sp);
    advance(&sp, 2, 1);
    assert_int_equal(attach_as(&sp, 0, true, SEAM_OK).action, SEAM_ATTACH_RESEND);
    const seam_step_key k = key(0, 0, FWD);
    assert_int_equal(seam_server_proto_tensor(&v, &sp, 1, k, digest_of(k), NULL), SEAM_E_FENCED);
    assert_int_equal(seam_server_proto_tensor(&v, &sp, 2, k, digest_of(k), NULL), SEAM_OK);
    seam_server_proto_stream_lost(&sp, 1, 0); /* late: changes nothing */
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_ATTACHED);
    seam_attach_verdict attach = {0};
    seam_attach_args args = {.epoch_seen = 40, .config_hash = 70, .model_identity = 80};
    seam_server_proto_forward_done(&sp, 0, 0);
    assert_int_equal(seam_server_proto_attach(&attach, &sp, &args, NULL), SEAM_OK);
    assert_int_equal(attach.epoch, 41);
    args.epoch_seen = UINT64_MAX;
    assert_int_equal(seam_server_proto_attach(&attach, &sp, &args, NULL), SEAM_E_ARG);
    assert_int_equal(seam_server_proto_epoch(&sp), 41);
}

static void test_tick__lease_over__parked_then_expired(void **state) {
    (void)state;
    seam_server_proto_config config = base_config;
    config.can_park = true;
    seam_server_proto sp;
    setup_with(&sp, &config);
    commit_step(&sp);
    advance(&sp, 2, 1);
    assert_int_equal(seam_server_proto_tick(&sp, 99999), SEAM_LEASE_NONE); /* attached */
    seam_server_proto_stream_lost(&sp, 1, 100);
    assert_int_equal(seam_server_proto_tick(&sp, 1099), SEAM_LEASE_NONE);
    assert_int_equal(seam_server_proto_tick(&sp, 1100), SEAM_LEASE_NONE); /* still works */
    seam_server_proto_forward_done(&sp, 1, 0);
    assert_int_equal(seam_server_proto_tick(&sp, 1100), SEAM_LEASE_PARK);
    assert_int_equal(seam_server_proto_durable_add(&sp, 1), SEAM_OK);
    assert_int_equal(seam_server_proto_parked(&sp, 1200), SEAM_OK);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_PARKED);
    seam_server_proto lost = sp;
    seam_server_proto_durable_lost(&lost, 1);
    (void)attach_as(&lost, 1, false, SEAM_E_GONE); /* nothing to wake it from */
    seam_server_proto other = sp;
    const seam_attach_verdict v = attach_as(&other, 1, true, SEAM_OK);
    assert_int_equal(v.action, SEAM_ATTACH_ROLLBACK); /* the partial step is gone, and caches */
    assert_int_equal(v.rollback_step, 1);
    assert_true(v.load_checkpoint);
    assert_int_equal(v.load_step_count, 1);
    seam_server_proto_restored(&other, 1, 1300);
    assert_int_equal(seam_server_proto_link(&other), SEAM_LINK_ATTACHED);
    assert_int_equal(begin(&other, 1, SEAM_OK).verdict, SEAM_VERDICT_RUN);
    assert_int_equal(seam_server_proto_tick(&sp, 6199), SEAM_LEASE_NONE);
    assert_int_equal(seam_server_proto_tick(&sp, 6200), SEAM_LEASE_EXPIRE);
    (void)attach_as(&sp, 1, false, SEAM_E_GONE);
}

/* A client that has not begun a step since may not have seen the answer: it is told again. */
static void test_attach__reloaded__rollback_until_a_step_begins(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    commit_step(&sp);
    seam_server_proto_stream_lost(&sp, 1, 0);
    seam_server_proto_restored(&sp, 1, 10);
    for (uint64_t epoch = 2; epoch < 4; epoch++) {
        const seam_attach_verdict v = attach_as(&sp, 1, false, SEAM_OK);
        assert_int_equal(v.action, SEAM_ATTACH_ROLLBACK);
        assert_int_equal(v.rollback_step, 1);
        assert_false(v.load_checkpoint);
        if (epoch == 2) {
            seam_server_proto_stream_lost(&sp, epoch, 20);
        }
    }
    const seam_step_begin_args args = {.epoch = 3, .step = 1, .digest = 7, .micro_count = 1};
    seam_server_verdict verdict;
    assert_int_equal(seam_server_proto_step_begin(&verdict, &sp, &args, NULL), SEAM_OK);
    seam_server_proto_stream_lost(&sp, 3, 30);
    assert_int_equal(attach_as(&sp, 1, true, SEAM_OK).action, SEAM_ATTACH_RESEND);
}

/* Whose codec keeps state cannot make the same bytes again. */
static void test_attach__codec_state__resend_needs_what_was_sent(void **state) {
    (void)state;
    for (int keeps = 0; keeps < 2; keeps++) {
        seam_server_proto_config config = base_config;
        config.keeps_codec_state = keeps == 1;
        seam_server_proto sp;
        setup_with(&sp, &config);
        const seam_step_begin_args args = {.epoch = 1, .step = 0, .digest = 7, .micro_count = 1};
        seam_server_verdict verdict;
        assert_int_equal(seam_server_proto_step_begin(&verdict, &sp, &args, NULL), SEAM_OK);
        assert_int_equal(tensor(&sp, key(0, 0, FWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
        seam_server_proto_forward_done(&sp, 0, 0);
        assert_int_equal(tensor(&sp, key(0, 0, BWD), SEAM_OK).verdict, SEAM_VERDICT_RUN);
        assert_true(seam_server_proto_backward_done(&sp, 0, 0));
        seam_server_proto_committed(&sp, 0);
        assert_int_equal(seam_server_proto_durable_add(&sp, 0), SEAM_OK);
        seam_server_proto_stream_lost(&sp, 1, 0);
        const seam_attach_verdict v = attach_as(&sp, 0, false, SEAM_OK);
        assert_int_equal(v.action, keeps == 1 ? SEAM_ATTACH_ROLLBACK : SEAM_ATTACH_RESEND);
        assert_int_equal(attach_as(&sp, 0, true, SEAM_OK).action, SEAM_ATTACH_RESEND);
    }
}

static void test_tick__no_store__expires(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    seam_server_proto_stream_lost(&sp, 1, 0);
    assert_int_equal(attach_as(&sp, 0, false, SEAM_OK).action, SEAM_ATTACH_CONTINUE);
    seam_server_proto_stream_lost(&sp, 2, 500);
    assert_int_equal(seam_server_proto_tick(&sp, 1499), SEAM_LEASE_NONE);
    assert_int_equal(seam_server_proto_tick(&sp, 1500), SEAM_LEASE_EXPIRE);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_EXPIRED);
    assert_int_equal(seam_server_proto_tick(&sp, 99999), SEAM_LEASE_NONE);
}

static void test_parked__client_came_back__state(void **state) {
    (void)state;
    seam_server_proto_config config = base_config;
    config.can_park = true;
    seam_server_proto sp;
    setup_with(&sp, &config);
    assert_int_equal(seam_server_proto_parked(&sp, 0), SEAM_E_STATE);
}

static void test_durable__confirm__older_may_go(void **state) {
    (void)state;
    seam_server_proto sp;
    uint64_t keep_from = 99;
    uint64_t newest = 0;
    setup(&sp);
    assert_false(seam_server_proto_durable_newest(&newest, &sp));
    assert_int_equal(seam_server_proto_durable_add(&sp, 1), SEAM_E_STATE);
    for (uint64_t i = 0; i < SEAM_DURABLE_MAX; i++) {
        assert_int_equal(seam_server_proto_durable_add(&sp, i), SEAM_OK);
        commit_step(&sp);
    }
    assert_int_equal(seam_server_proto_durable_add(&sp, SEAM_DURABLE_MAX), SEAM_E_LIMIT);
    assert_false(seam_server_proto_durable_has_room(&sp));
    assert_int_equal(seam_server_proto_durable_confirm(&keep_from, &sp, 50, NULL), SEAM_E_ARG);
    assert_int_equal(seam_server_proto_durable_confirm(&keep_from, &sp, 3, NULL), SEAM_OK);
    assert_true(seam_server_proto_durable_has_room(&sp));
    assert_int_equal(keep_from, 3);
    assert_int_equal(seam_server_proto_durable_add(&sp, SEAM_DURABLE_MAX), SEAM_OK);
    assert_true(seam_server_proto_durable_newest(&newest, &sp));
    assert_int_equal(newest, SEAM_DURABLE_MAX);
    seam_server_proto_durable_lost(&sp, SEAM_DURABLE_MAX);
    assert_true(seam_server_proto_durable_newest(&newest, &sp));
    assert_int_equal(newest, SEAM_DURABLE_MAX - 1);
    (void)attach_as(&sp, 2, false, SEAM_E_GONE); /* below the confirmed one */
    assert_int_equal(attach_as(&sp, 4, false, SEAM_OK).rollback_step, 4);
}

static void test_durable__confirmed_one_is_lost__others_stay(void **state) {
    (void)state;
    seam_server_proto sp;
    uint64_t keep_from = 0;
    uint64_t newest = 0;
    setup(&sp);
    for (int i = 0; i < 5; i++) {
        commit_step(&sp);
    }
    assert_int_equal(seam_server_proto_durable_add(&sp, 5), SEAM_OK);
    assert_int_equal(seam_server_proto_durable_confirm(&keep_from, &sp, 5, NULL), SEAM_OK);
    assert_int_equal(seam_server_proto_durable_add(&sp, 3), SEAM_E_STATE); /* a late write */
    seam_server_proto_durable_lost(&sp, 5);
    assert_int_equal(seam_server_proto_durable_add(&sp, 3), SEAM_OK);
    assert_int_equal(seam_server_proto_durable_confirm(&keep_from, &sp, 3, NULL), SEAM_OK);
    assert_int_equal(keep_from, 3);
    assert_true(seam_server_proto_durable_newest(&newest, &sp));
    assert_int_equal(newest, 3);
}

static void test_touch__detached__lease_begins_anew(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    seam_server_proto_stream_lost(&sp, 1, 0);
    seam_server_proto_touch(&sp, 900);
    assert_int_equal(seam_server_proto_tick(&sp, 1899), SEAM_LEASE_NONE);
    assert_int_equal(seam_server_proto_tick(&sp, 1900), SEAM_LEASE_EXPIRE);
}

static void test_freeze__restored__goes_on(void **state) {
    (void)state;
    seam_server_proto sp;
    setup(&sp);
    commit_step(&sp);
    seam_server_proto_freeze(&sp, SEAM_E_NONDETERMINISM);
    (void)attach_as(&sp, 1, false, SEAM_E_NONDETERMINISM);
    seam_server_proto_restored(&sp, 0, 50);
    assert_int_equal(seam_server_proto_link(&sp), SEAM_LINK_DETACHED);
    const seam_attach_verdict v = attach_as(&sp, 1, false, SEAM_OK);
    assert_int_equal(v.action, SEAM_ATTACH_ROLLBACK);
    assert_int_equal(v.rollback_step, 0);
    assert_false(v.load_checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phase__each_message__name_of_spec),
        cmocka_unit_test(test_tensor__every_place__verdict),
        cmocka_unit_test(test_tensor__other_digest__conflict_freezes),
        cmocka_unit_test(test_tensor__other_site__out_of_sequence),
        cmocka_unit_test(test_tensor__no_backward_reply__forward_queues_behind),
        cmocka_unit_test(test_step_begin__every_place__verdict),
        cmocka_unit_test(test_attach__every_count__action),
        cmocka_unit_test(test_attach__no_checkpoint_far_enough__gone),
        cmocka_unit_test(test_attach__one_micro_batch__reborn_client_resends),
        cmocka_unit_test(test_attach__wrong_hash__names_the_field),
        cmocka_unit_test(test_attach__step_to_drop_runs__wait),
        cmocka_unit_test(test_attach__newer__fences_the_older),
        cmocka_unit_test(test_tick__lease_over__parked_then_expired),
        cmocka_unit_test(test_tick__no_store__expires),
        cmocka_unit_test(test_parked__client_came_back__state),
        cmocka_unit_test(test_attach__reloaded__rollback_until_a_step_begins),
        cmocka_unit_test(test_attach__codec_state__resend_needs_what_was_sent),
        cmocka_unit_test(test_durable__confirm__older_may_go),
        cmocka_unit_test(test_durable__confirmed_one_is_lost__others_stay),
        cmocka_unit_test(test_touch__detached__lease_begins_anew),
        cmocka_unit_test(test_freeze__restored__goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

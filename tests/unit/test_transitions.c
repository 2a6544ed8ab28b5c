/* Goal: what no honest peer does to the protocol machines: every transition that only misuse or a
 * defect leads to (transitions.h), and that a refusal changes nothing.  Method: random walks with a
 * fixed seed over each machine alone, in which calls come in any state with arguments near the
 * right ones.  Only what a machine asserts of its own caller is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "client_proto.h"
#include "server_proto.h"
#include "transitions.h"

enum {
    WALKS = 60000,
    ONE_PASS_WALKS = 10000, /* more of them, with a norm */
    CALLS = 120,            /* of a walk */
    LEASE_MS = 100,
    PARK_MS = 300,
    CONFIG = 70,
    MODEL = 80,
    SITE_FORWARD = 0,
    SITE_BACKWARD = 2,
    SITE_REPLY = 1,
};

static uint64_t random_state;

static uint32_t draw(uint32_t below) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % below;
}

static bool chance(uint32_t percent) {
    return draw(100) < percent;
}

/* `right`, or something near it. */
static uint64_t near(uint64_t right) {
    const uint64_t off = chance(88) ? 2 : draw(4);
    return right + off < 2 ? 0 : right + off - 2;
}

static uint32_t micros_of(uint64_t step) {
    return 1 + (uint32_t)(step % 3);
}

static seam_step_key key_draw(uint64_t step, uint32_t micro, uint16_t forward, uint16_t backward) {
    const uint8_t phase = chance(50) ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD;
    const uint16_t site = phase == SEAM_PHASE_FORWARD ? forward : backward;
    return (seam_step_key){.step = near(step),
                           .micro = (uint32_t)near(micro),
                           .phase = chance(98) ? phase : 7,
                           .site = chance(97) ? site : 9};
}

static uint64_t digest_draw(seam_step_key key) {
    return 1000 * key.step + 10 * key.micro + key.phase + (chance(10) ? 5 : 0);
}

/* ---- the server's machine ---- */

typedef struct walk {
    seam_server_proto sp;
    uint64_t now_ms;
} walk;

/* A refusal leaves everything as it was; a conflict freezes and leaves the rest. */
static void refusal_check(const seam_server_proto *sp, const seam_server_proto *before,
                          seam_status st) {
    seam_server_proto expected = *before;
    if (st == SEAM_E_CONFLICT && before->link != SEAM_LINK_FROZEN) {
        expected.link = SEAM_LINK_FROZEN;
        expected.frozen = SEAM_E_CONFLICT;
    }
    if (st != SEAM_OK) {
        assert_memory_equal(sp, &expected, sizeof expected);
    }
}

static uint64_t epoch_draw(const seam_server_proto *sp) {
    return seam_server_proto_epoch(sp) - (chance(93) ? 0 : 1);
}

static void attach_call(walk *w) {
    const seam_server_proto before = w->sp;
    const seam_attach_args args = {.committed_step_count =
                                       near(seam_server_proto_committed_count(&w->sp)),
                                   .config_hash = chance(95) ? CONFIG : 1,
                                   .model_identity = chance(95) ? MODEL : 1,
                                   .step_in_flight = chance(60),
                                   .now_ms = w->now_ms};
    seam_attach_verdict v = {0};
    const seam_status st = seam_server_proto_attach(&v, &w->sp, &args, NULL);
    refusal_check(&w->sp, &before, st);
    if (st != SEAM_OK || v.action == SEAM_ATTACH_WAIT) {
        assert_int_equal(w->sp.link, before.link);
        assert_int_equal(w->sp.epoch, before.epoch);
        return;
    }
    assert_true(v.epoch > before.epoch);
    assert_int_equal(v.fences_stream, before.link == SEAM_LINK_ATTACHED);
    if (v.load_checkpoint && chance(90)) {
        seam_server_proto_restored(&w->sp, v.load_step_count, w->now_ms);
        assert_int_equal(seam_server_proto_committed_count(&w->sp), v.load_step_count);
    } else if (v.load_checkpoint) {
        seam_server_proto_freeze(&w->sp, SEAM_E_DATA_LOSS);
    }
}

static void begin_call(walk *w) {
    const seam_server_proto before = w->sp;
    const uint64_t step = near(seam_server_proto_committed_count(&w->sp));
    const seam_step_begin_args args = {.epoch = epoch_draw(&w->sp),
                                       .step = step,
                                       .digest = 500 + step + (chance(5) ? 1 : 0),
                                       .micro_count = chance(95) ? micros_of(step) : draw(6)};
    seam_server_verdict v = {0};
    refusal_check(&w->sp, &before, seam_server_proto_step_begin(&v, &w->sp, &args, NULL));
}

static void tensor_call(walk *w) {
    const seam_server_proto before = w->sp;
    const uint32_t micro = w->sp.accepted[draw(2)];
    const seam_step_key key =
        key_draw(seam_server_proto_committed_count(&w->sp), micro, SITE_FORWARD, SITE_BACKWARD);
    const uint64_t epoch = epoch_draw(&w->sp);
    seam_verdict peeked = 0;
    const seam_status peek_st = seam_server_proto_peek(&peeked, &w->sp, epoch, key, NULL);
    assert_memory_equal(&w->sp, &before, sizeof before);
    seam_server_verdict v = {0};
    const seam_status st = seam_server_proto_tensor(&v, &w->sp, epoch, key, digest_draw(key), NULL);
    refusal_check(&w->sp, &before, st);
    if (st != SEAM_E_CONFLICT) { /* which only the digest shows */
        assert_int_equal(st, peek_st);
        assert_int_equal(v.verdict, peeked);
    }
}

static void engine_call(walk *w) {
    seam_server_proto *sp = &w->sp;
    const uint64_t step = seam_server_proto_committed_count(sp);
    const bool running[2] = {sp->finished[0] < sp->accepted[0], sp->finished[1] < sp->accepted[1]};
    const uint32_t at = running[0] && (!running[1] || chance(50)) ? 0 : 1;
    if (sp->applying) {
        if (chance(10)) {
            seam_server_proto_abort_step(sp);
        } else if (chance(50)) {
            seam_server_proto_committed(sp, step);
        }
    } else if (sp->begun && chance(3)) {
        seam_server_proto_abort_step(sp);
    } else if (running[at] && chance(15)) {
        seam_server_proto_withdraw(sp, sp->accepted[at] - 1,
                                   at == 0 ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD);
    } else if (running[at] && at == 0) {
        (void)seam_server_proto_forward_done(sp, step, sp->finished[0]);
    } else if (running[at]) {
        (void)seam_server_proto_backward_done(sp, step, sp->finished[1]);
    }
}

/* As after SEAM_LEASE_PARK; also where the client has come back. */
static void park_call(walk *w) {
    seam_server_proto *sp = &w->sp;
    const seam_server_proto before = *sp;
    const bool frozen = sp->link == SEAM_LINK_FROZEN && !sp->frozen_parked;
    uint64_t newest = 0, gone = 0;
    if ((sp->link == SEAM_LINK_DETACHED || frozen) && seam_server_proto_is_busy(sp)) {
        return; /* the service does not */
    }
    if (sp->link == SEAM_LINK_DETACHED) {
        if (!seam_server_proto_durable_newest(&newest, sp) || newest != sp->committed) {
            (void)seam_server_proto_durable_make_room(&gone, sp);
        }
        assert_int_equal(seam_server_proto_durable_add(sp, sp->committed), SEAM_OK);
        assert_true(seam_server_proto_durable_newest(&newest, sp));
        assert_true(newest == sp->committed);
    }
    const seam_status st = seam_server_proto_parked(sp, w->now_ms);
    assert_int_equal(st, before.link == SEAM_LINK_DETACHED || frozen ? SEAM_OK : SEAM_E_STATE);
    refusal_check(sp, &before, st);
}

/* A checkpoint is damaged: it alone is forgotten. */
static void durable_lose(seam_server_proto *sp) {
    uint64_t before[SEAM_DURABLE_MAX], after[SEAM_DURABLE_MAX];
    const uint64_t step = near(sp->committed);
    const uint32_t count = seam_server_proto_durable_list(before, sp);
    seam_server_proto_durable_lost(sp, step);
    uint32_t left = 0;
    for (uint32_t i = 0; i < count; i++) {
        before[left] = before[i];
        left += before[i] != step;
    }
    assert_int_equal(seam_server_proto_durable_list(after, sp), left);
    assert_memory_equal(before, after, left * sizeof after[0]);
    assert_true(seam_server_proto_durable_has_room(sp) || left == SEAM_DURABLE_MAX);
}

static void owner_call(walk *w) {
    static const seam_status reasons[] = {SEAM_E_DATA_LOSS, SEAM_E_NONDETERMINISM};
    seam_server_proto *sp = &w->sp;
    uint64_t found = 0;
    switch (draw(6)) {
    case 0:
        if (chance(20)) {
            seam_server_proto_expire(sp);
        }
        break;
    case 1:
        if (chance(20)) {
            seam_server_proto_freeze(sp, reasons[draw(2)]);
        }
        break;
    case 2:
        if (sp->link != SEAM_LINK_EXPIRED && !seam_server_proto_is_busy(sp) &&
            seam_server_proto_durable_find(&found, sp, sp->committed)) {
            seam_server_proto_restored(sp, found, w->now_ms);
        }
        break;
    case 3:
        (void)seam_server_proto_durable_add(sp, near(sp->committed));
        break;
    case 4:
        (void)seam_server_proto_durable_confirm(&found, sp, near(sp->committed), NULL);
        break;
    default:
        seam_server_proto_touch(sp, w->now_ms);
        if (sp->link != SEAM_LINK_PARKED && chance(5)) {
            durable_lose(sp);
        }
        break;
    }
}

static void server_call(walk *w) {
    w->now_ms += draw(10);
    switch (draw(12)) {
    case 0:
        attach_call(w);
        break;
    case 1:
        begin_call(w);
        break;
    case 2:
        owner_call(w);
        break;
    case 3:
        w->now_ms += chance(30) ? LEASE_MS : 0;
        (void)seam_server_proto_tick(&w->sp, w->now_ms + (chance(20) ? PARK_MS : 0));
        break;
    case 4:
        if (chance(30)) {
            seam_server_proto_stream_lost(&w->sp, epoch_draw(&w->sp), w->now_ms);
        } else if (chance(10)) {
            park_call(w);
        }
        break;
    case 5:
    case 6:
    case 7:
        engine_call(w);
        break;
    default:
        tensor_call(w);
        break;
    }
}

static void server_walk(bool one_pass, bool one_pass_norm) {
    walk w = {.now_ms = 1000};
    const seam_server_proto_config config = {.config_hash = CONFIG,
                                             .model_identity = MODEL,
                                             .micros_max = 3,
                                             .pipeline_depth = 1 + draw(3),
                                             .site_forward = SITE_FORWARD,
                                             .site_backward = SITE_BACKWARD,
                                             .backward_reply = !one_pass && chance(50),
                                             .one_pass = one_pass,
                                             .has_norm = one_pass ? one_pass_norm : chance(40),
                                             .can_park = chance(70),
                                             .keeps_codec_state = chance(50),
                                             .lease_ms = LEASE_MS,
                                             .park_ms = PARK_MS,
                                             .now_ms = w.now_ms};
    seam_server_proto_init(&w.sp, &config);
    for (uint32_t call = 0; call < CALLS; call++) {
        server_call(&w);
    }
}

static void test_server__any_call__refusals_change_nothing(void **state) {
    (void)state;
    random_state = 1;
    for (uint32_t i = 0; i < WALKS; i++) {
        server_walk(chance(25), false);
    }
    for (uint32_t i = 0; i < ONE_PASS_WALKS; i++) {
        server_walk(true, true);
    }
    assert_int_equal(transitions_check(TRANSITION_LINK, TRANSITION_PHASE, TAKEN_BY_UNIT), 0);
}

/* ---- the client's machine ---- */

typedef struct client_walk {
    seam_client_proto cp;
    uint64_t now_ms;
} client_walk;

static void lost_call(client_walk *w) {
    static const seam_status statuses[] = {SEAM_OK,         SEAM_E_UNAVAILABLE, SEAM_E_UNAVAILABLE,
                                           SEAM_E_INTERNAL, SEAM_E_CHECKSUM,    SEAM_E_CONFLICT,
                                           SEAM_E_GONE,     SEAM_E_LIMIT};
    const uint32_t kinds = sizeof statuses / sizeof statuses[0];
    seam_client_proto_stream_lost(
        &w->cp, &(seam_stream_lost_args){.status = statuses[draw(chance(60) ? 3 : kinds)],
                                         .retry_after_ms = chance(50) ? 100 : 0,
                                         .random = draw(1u << 30),
                                         .now_ms = w->now_ms});
}

static void attached_call(client_walk *w) {
    static const seam_attach_action actions[] = {SEAM_ATTACH_CONTINUE, SEAM_ATTACH_RESEND,
                                                 SEAM_ATTACH_ROLLBACK, SEAM_ATTACH_WAIT};
    const uint64_t committed = seam_client_proto_committed_count(&w->cp);
    const seam_attached_args args = {.action = actions[draw(chance(97) ? 3 : 4)],
                                     .epoch =
                                         seam_client_proto_epoch(&w->cp) + (chance(97) ? 1 : 0),
                                     .committed_step_count = near(committed),
                                     .rollback_step = near(committed),
                                     .now_ms = w->now_ms};
    seam_error err = {0};
    const seam_status st = seam_client_proto_attached(&w->cp, &args, &err);
    assert_true(st == SEAM_OK || w->cp.mode == SEAM_CLIENT_STOPPED);
}

static void reply_call(client_walk *w) {
    const seam_client_proto before = w->cp;
    bool is_new = false;
    const uint32_t micro = w->cp.config.backward_reply ? w->cp.replies / 2 : w->cp.replies;
    const seam_step_key key =
        key_draw(seam_client_proto_committed_count(&w->cp), micro, SITE_REPLY, SITE_FORWARD);
    const bool awaited = seam_client_proto_awaits(&w->cp, key);
    const seam_status st =
        seam_client_proto_reply(&is_new, &w->cp, key, digest_draw(key), w->now_ms, NULL);
    assert_int_equal(st == SEAM_OK && is_new, awaited);
    if (st == SEAM_OK && !is_new) {
        assert_memory_equal(&w->cp, &before, sizeof before);
    }
    assert_true(st == SEAM_OK || w->cp.mode == SEAM_CLIENT_STOPPED);
}

static void commit_call(client_walk *w) {
    bool is_new = false;
    const uint64_t hash = 9;
    const seam_status st =
        seam_client_proto_commit(&is_new, &w->cp, near(seam_client_proto_committed_count(&w->cp)),
                                 chance(95) ? hash : 1, chance(50) ? &hash : NULL, w->now_ms, NULL);
    assert_true(st == SEAM_OK || w->cp.mode == SEAM_CLIENT_STOPPED);
}

static void begin_step_call(client_walk *w) {
    const seam_client_proto before = w->cp;
    const seam_begin_step_args args = {.step = near(seam_client_proto_committed_count(&w->cp)),
                                       .micro_count = chance(95) ? 1 + draw(3) : 0,
                                       .ahead = chance(95) ? 1 : draw(6),
                                       .now_ms = w->now_ms};
    if (seam_client_proto_begin_step(&w->cp, &args, NULL) != SEAM_OK) {
        assert_memory_equal(&w->cp, &before, sizeof before);
    }
}

static void act(client_walk *w) {
    seam_client_action a;
    w->now_ms += chance(1) ? 2000 : draw(300);
    seam_client_proto_next(&a, &w->cp, w->now_ms);
    switch (a.kind) {
    case SEAM_CLIENT_CONNECT:
    case SEAM_CLIENT_SEND_ATTACH:
    case SEAM_CLIENT_SEND_STEP_BEGIN:
    case SEAM_CLIENT_SEND_FORWARD:
    case SEAM_CLIENT_SEND_BACKWARD:
        seam_client_proto_done(&w->cp, &a);
        break;
    case SEAM_CLIENT_RESTORE:
        seam_client_proto_restored(&w->cp, a.step, w->now_ms);
        break;
    case SEAM_CLIENT_JOURNAL:
        seam_client_proto_journaled(&w->cp);
        break;
    default:
        break;
    }
}

/* What the machine waits for, most of the time; else anything. */
static void event_call(client_walk *w) {
    const bool attaching = w->cp.mode == SEAM_CLIENT_RECEIVE;
    switch (draw(chance(60) ? 2 : 6)) {
    case 0:
        if (attaching) {
            attached_call(w);
        } else {
            reply_call(w);
        }
        break;
    case 1:
        if (!attaching && (w->cp.sent == seam_step_message_count(w->cp.order) || chance(10))) {
            commit_call(w);
        }
        break;
    case 2:
        begin_step_call(w);
        break;
    case 3:
        if (chance(20)) {
            attached_call(w);
        }
        break;
    case 4:
        if (chance(40)) {
            lost_call(w);
        }
        break;
    default:
        if (chance(3)) {
            seam_client_proto_stop(&w->cp, SEAM_E_CANCELLED, NULL);
        }
        break;
    }
}

/* The engine has gone on while the stream was lost: its Commit is there before the client has begun
 * the step on the new one. */
static void commit_meets_reattached_client(void) {
    client_walk w = {.now_ms = 1000};
    bool is_new = false;
    const seam_client_proto_config config = {.site_forward_reply = SITE_REPLY, .now_ms = w.now_ms};
    const seam_begin_step_args begin = {.micro_count = 1, .ahead = 1, .now_ms = w.now_ms};
    seam_attached_args attached = {.action = SEAM_ATTACH_CONTINUE, .epoch = 1};
    const seam_step_key key = {.phase = SEAM_PHASE_FORWARD, .site = SITE_REPLY};
    seam_client_proto_init(&w.cp, &config);
    act(&w); /* connect */
    act(&w); /* attach */
    assert_int_equal(seam_client_proto_attached(&w.cp, &attached, NULL), SEAM_OK);
    assert_int_equal(seam_client_proto_begin_step(&w.cp, &begin, NULL), SEAM_OK);
    act(&w); /* StepBegin */
    act(&w); /* forward */
    assert_int_equal(seam_client_proto_reply(&is_new, &w.cp, key, 5, w.now_ms, NULL), SEAM_OK);
    act(&w); /* backward */
    seam_client_proto_stream_lost(
        &w.cp, &(seam_stream_lost_args){.status = SEAM_E_UNAVAILABLE, .now_ms = w.now_ms});
    w.now_ms = w.cp.retry_at_ms;
    act(&w);
    act(&w);
    attached =
        (seam_attached_args){.action = SEAM_ATTACH_RESEND, .epoch = 2, .committed_step_count = 1};
    assert_int_equal(seam_client_proto_attached(&w.cp, &attached, NULL), SEAM_OK);
    assert_int_equal(seam_client_proto_commit(&is_new, &w.cp, 0, 9, NULL, w.now_ms, NULL), SEAM_OK);
    assert_true(is_new);
}

static void client_walks(bool one_pass, bool one_pass_norm) {
    client_walk w = {.now_ms = 1000};
    const seam_client_proto_config config = {.site_forward_reply = SITE_REPLY,
                                             .site_backward_reply = SITE_FORWARD,
                                             .backward_reply = !one_pass && chance(50),
                                             .one_pass = one_pass,
                                             .has_norm = one_pass ? one_pass_norm : chance(40),
                                             .pipeline_depth = 1 + draw(3),
                                             .give_up_ms = 1500,
                                             .now_ms = w.now_ms};
    seam_client_proto_init(&w.cp, &config);
    for (uint32_t call = 0; call < CALLS; call++) {
        if (chance(80)) {
            act(&w);
        }
        if (w.cp.mode == SEAM_CLIENT_IDLE && !w.cp.in_flight && chance(80)) {
            begin_step_call(&w);
        }
        event_call(&w);
    }
}

static void test_client__any_call__stops_or_goes_on(void **state) {
    (void)state;
    random_state = 2;
    commit_meets_reattached_client();
    for (uint32_t i = 0; i < WALKS; i++) {
        client_walks(chance(25), false);
    }
    for (uint32_t i = 0; i < ONE_PASS_WALKS; i++) {
        client_walks(true, true);
    }
    assert_int_equal(transitions_check(TRANSITION_CLIENT, TRANSITION_CLIENT, TAKEN_BY_UNIT), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server__any_call__refusals_change_nothing),
        cmocka_unit_test(test_client__any_call__stops_or_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

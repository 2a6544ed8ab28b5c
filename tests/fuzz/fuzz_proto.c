/* Any order of events at both protocol machines, each with its own: forged messages, lost streams,
 * rollbacks, time.  Only what their headers forbid is not done.  Nothing may trip an assertion;
 * a refusal changes nothing; work runs once and in order.
 *
 * Input: a byte says what happens next, its operands follow. */
#include "client_proto.h"
#include "fuzz.h"
#include "server_proto.h"

enum { ACTIONS_MAX = 400, FWD = SEAM_PHASE_FORWARD, BWD = SEAM_PHASE_BACKWARD };

typedef struct both {
    seam_server_proto sp;
    seam_client_proto cp;
    uint64_t now_ms;
    uint32_t depth; /* of the pipeline */
    bool one_pass;
    uint32_t runs, done; /* tensors that ran in the server's step; worked off */
    fuzz_input *input;
} both;

static seam_step_key key_take(both *b) {
    const uint8_t bits = fuzz_u8(b->input);
    const uint64_t committed = seam_server_proto_committed_count(&b->sp);
    seam_step_key key = {.step = committed + (bits & 3u) - 1, /* around the present */
                         .micro = bits >> 2 & 3u,
                         .phase = (bits & 16u) != 0 ? BWD : FWD};
    key.site = (bits & 16u) != 0 ? 2 : 0;
    if ((bits & 0xe0u) == 0xe0u) { /* now and then anything */
        key.step = fuzz_u32(b->input);
        key.micro = fuzz_u32(b->input);
        key.phase = fuzz_u8(b->input);
        key.site = fuzz_u8(b->input);
    }
    return key;
}

static uint64_t epoch_take(both *b) {
    return seam_server_proto_epoch(&b->sp) - (fuzz_u8(b->input) % 8 == 0 ? 1u : 0u);
}

static void server_attach(both *b) {
    seam_attach_verdict v = {0};
    const uint64_t before = seam_server_proto_epoch(&b->sp);
    const seam_attach_args args = {.epoch_seen = fuzz_u8(b->input),
                                   .committed_step_count =
                                       seam_server_proto_committed_count(&b->sp) +
                                       fuzz_u8(b->input) % 4 - 1,
                                   .config_hash = fuzz_u8(b->input) == 9 ? 0 : 1,
                                   .model_identity = 2,
                                   .step_in_flight = (fuzz_u8(b->input) & 1) != 0,
                                   .now_ms = b->now_ms};
    const seam_status st = seam_server_proto_attach(&v, &b->sp, &args, NULL);
    if (st != SEAM_OK || v.action == SEAM_ATTACH_WAIT) {
        FUZZ_CHECK(seam_server_proto_epoch(&b->sp) == before);
        return;
    }
    FUZZ_CHECK(v.epoch > before);
    FUZZ_CHECK(seam_server_proto_link(&b->sp) == SEAM_LINK_ATTACHED);
    if (v.load_checkpoint) {
        seam_server_proto_restored(&b->sp, v.load_step_count, b->now_ms);
    }
    if (v.drop_step || v.load_checkpoint) {
        b->runs = b->done = 0;
    }
    FUZZ_CHECK(v.action != SEAM_ATTACH_ROLLBACK ||
               v.rollback_step == seam_server_proto_committed_count(&b->sp));
}

static void server_begin(both *b) {
    seam_server_verdict v = {0};
    const seam_step_begin_args args = {.epoch = epoch_take(b),
                                       .step = seam_server_proto_committed_count(&b->sp) +
                                               fuzz_u8(b->input) % 4 - 1,
                                       .digest = fuzz_u8(b->input) & 1u,
                                       .micro_count = fuzz_u8(b->input) % 5};
    (void)seam_server_proto_step_begin(&v, &b->sp, &args, NULL);
}

static bool same(const seam_server_proto *a, const seam_server_proto *b) {
    return a->link == b->link && a->epoch == b->epoch && a->committed == b->committed &&
           a->begun == b->begun && memcmp(a->accepted, b->accepted, sizeof a->accepted) == 0 &&
           memcmp(a->finished, b->finished, sizeof a->finished) == 0 &&
           a->applying == b->applying && a->last_cached == b->last_cached &&
           memcmp(a->digests, b->digests, sizeof a->digests) == 0;
}

static void server_tensor(both *b) {
    seam_server_verdict v = {0};
    seam_verdict peeked = 0;
    const seam_step_key key = key_take(b);
    const uint64_t epoch = epoch_take(b);
    const seam_status peek_st = seam_server_proto_peek(&peeked, &b->sp, epoch, key, NULL);
    const seam_server_proto before = b->sp;
    const seam_status st =
        seam_server_proto_tensor(&v, &b->sp, epoch, key, fuzz_u8(b->input) & 1u, NULL);
    FUZZ_CHECK(st == peek_st || st == SEAM_E_CONFLICT);
    if (st != SEAM_OK && st != SEAM_E_CONFLICT) {
        FUZZ_CHECK(same(&before, &b->sp));
    }
    if (st == SEAM_OK) {
        FUZZ_CHECK(peeked == v.verdict);
        if (v.verdict == SEAM_VERDICT_RUN) {
            b->runs++;
            FUZZ_CHECK(b->sp.accepted[0] + (b->one_pass ? 0 : b->sp.accepted[1]) == b->runs);
            FUZZ_CHECK(b->sp.accepted[key.phase == FWD ? 0 : 1] == key.micro + 1);
            FUZZ_CHECK(b->sp.accepted[0] <= b->sp.accepted[1] + b->depth);
            FUZZ_CHECK(b->sp.accepted[1] <= b->sp.finished[0]);
        }
    }
}

static void server_engine(both *b) {
    uint32_t micro = 0;
    const uint64_t step = seam_server_proto_committed_count(&b->sp);
    switch (seam_server_proto_phase(&micro, &b->sp)) {
    case SEAM_SERVER_FORWARD_RUNNING:
        b->done++;
        seam_server_proto_forward_done(&b->sp, step, micro);
        break;
    case SEAM_SERVER_BACKWARD_RUNNING:
        b->done++;
        (void)seam_server_proto_backward_done(&b->sp, step, micro);
        break;
    case SEAM_SERVER_APPLYING:
        FUZZ_CHECK(b->runs == b->done && b->runs == (b->one_pass ? 1 : 2) * (micro + 1));
        seam_server_proto_committed(&b->sp, step);
        b->runs = b->done = 0;
        break;
    default:
        FUZZ_CHECK(!seam_server_proto_is_busy(&b->sp));
        break;
    }
}

static void server_store(both *b) {
    uint64_t keep_from = 0;
    const uint8_t what = fuzz_u8(b->input);
    const uint64_t committed = seam_server_proto_committed_count(&b->sp);
    if (what % 4 == 0) {
        const uint64_t back = what / 64; /* now and then a write that comes late */
        (void)seam_server_proto_durable_add(&b->sp, committed >= back ? committed - back : 0);
    } else if (what % 4 == 1) {
        (void)seam_server_proto_durable_confirm(&keep_from, &b->sp, fuzz_u8(b->input), NULL);
    } else if (what % 4 == 2) {
        seam_server_proto_durable_lost(&b->sp, fuzz_u8(b->input));
    } else if (seam_server_proto_link(&b->sp) == SEAM_LINK_FROZEN &&
               !seam_server_proto_is_busy(&b->sp)) {
        uint64_t newest = 0;
        if (seam_server_proto_durable_newest(&newest, &b->sp)) {
            seam_server_proto_restored(&b->sp, newest, b->now_ms);
            b->runs = b->done = 0;
        }
    }
}

static void server_time(both *b) {
    b->now_ms += 16u * fuzz_u8(b->input);
    if (seam_server_proto_tick(&b->sp, b->now_ms) == SEAM_LEASE_PARK) {
        if (seam_server_proto_durable_add(&b->sp, seam_server_proto_committed_count(&b->sp)) ==
            SEAM_OK) {
            FUZZ_CHECK(seam_server_proto_parked(&b->sp, b->now_ms) == SEAM_OK);
            b->runs = b->done = 0;
        }
    }
}

static void client_event(both *b) {
    const uint8_t what = fuzz_u8(b->input);
    bool is_new = false;
    if (what % 4 == 0) {
        const seam_attached_args args = {
            .action = (seam_attach_action)(fuzz_u8(b->input) % 6),
            .epoch = seam_client_proto_epoch(&b->cp) + fuzz_u8(b->input) % 3,
            .committed_step_count =
                seam_client_proto_committed_count(&b->cp) + fuzz_u8(b->input) % 4 - 1,
            .rollback_step = seam_client_proto_committed_count(&b->cp) - fuzz_u8(b->input) % 3,
            .now_ms = b->now_ms};
        (void)seam_client_proto_attached(&b->cp, &args, NULL);
    } else if (what % 4 == 1) {
        seam_step_key key = key_take(b);
        key.step = seam_client_proto_committed_count(&b->cp) + what / 4 % 2;
        key.site = key.phase == FWD ? 1 : 0;
        const bool awaited = seam_client_proto_awaits(&b->cp, key);
        const seam_status st =
            seam_client_proto_reply(&is_new, &b->cp, key, fuzz_u8(b->input) & 1, b->now_ms, NULL);
        FUZZ_CHECK((st == SEAM_OK && is_new) == awaited);
    } else if (what % 4 == 2) {
        (void)seam_client_proto_commit(&is_new, &b->cp,
                                       seam_client_proto_committed_count(&b->cp) + what / 4 % 2, 1,
                                       NULL, b->now_ms, NULL);
    } else {
        static const seam_status statuses[] = {SEAM_OK, SEAM_E_UNAVAILABLE, SEAM_E_LIMIT,
                                               SEAM_E_FENCED};
        seam_client_proto_stream_lost(&b->cp,
                                      &(seam_stream_lost_args){.status = statuses[what / 4 % 4],
                                                               .retry_after_ms = what / 16,
                                                               .random = what,
                                                               .now_ms = b->now_ms});
    }
}

static void client_act(both *b) {
    seam_client_action action;
    seam_begin_step_args args;
    seam_client_proto_next(&action, &b->cp, b->now_ms);
    switch (action.kind) {
    case SEAM_CLIENT_RECEIVE:
    case SEAM_CLIENT_STOPPED:
        break;
    case SEAM_CLIENT_BACK_OFF:
        b->now_ms += action.wait_ms;
        break;
    case SEAM_CLIENT_RESTORE:
        seam_client_proto_restored(&b->cp, action.step, b->now_ms);
        break;
    case SEAM_CLIENT_JOURNAL:
        seam_client_proto_journaled(&b->cp);
        break;
    case SEAM_CLIENT_IDLE:
        args = (seam_begin_step_args){.step = action.step,
                                      .micro_count = 1 + fuzz_u8(b->input) % 3,
                                      .ahead = 1 + fuzz_u8(b->input) % b->depth,
                                      .now_ms = b->now_ms};
        FUZZ_CHECK(seam_client_proto_begin_step(&b->cp, &args, NULL) == SEAM_OK);
        break;
    default:
        seam_client_proto_done(&b->cp, &action);
        break;
    }
}

static void act(both *b) {
    const uint8_t what = fuzz_u8(b->input);
    switch (what % 12) {
    case 0:
        server_attach(b);
        break;
    case 1:
        server_begin(b);
        break;
    case 2:
    case 3:
        server_tensor(b);
        break;
    case 4:
    case 5:
        server_engine(b);
        break;
    case 6:
        server_store(b);
        break;
    case 7:
        server_time(b);
        break;
    case 8:
        seam_server_proto_stream_lost(&b->sp, epoch_take(b), b->now_ms);
        break;
    case 9:
        client_event(b);
        break;
    case 10:
        if (what > 240) {
            seam_server_proto_abort_step(&b->sp);
            b->runs = b->done = 0;
        }
        break;
    default:
        client_act(b);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    both b;
    memset(&b, 0, sizeof b);
    b.input = &input;
    const uint8_t kind = fuzz_u8(&input);
    b.depth = 1 + (kind >> 3) % 3;
    b.one_pass = (kind & 128) != 0;
    const seam_server_proto_config server = {.config_hash = 1,
                                             .model_identity = 2,
                                             .micros_max = 3,
                                             .site_forward = 0,
                                             .site_backward = 2,
                                             .backward_reply = !b.one_pass && (kind & 1) != 0,
                                             .one_pass = b.one_pass,
                                             .pipeline_depth = b.depth,
                                             .can_park = (kind & 2) != 0,
                                             .lease_ms = 1000,
                                             .park_ms = 1000};
    const seam_client_proto_config client = {.committed_step_count = 3,
                                             .site_forward_reply = 1,
                                             .site_backward_reply = 0,
                                             .backward_reply = !b.one_pass && (kind & 1) != 0,
                                             .one_pass = b.one_pass,
                                             .pipeline_depth = b.depth,
                                             .give_up_ms = (kind & 4) != 0 ? 100000 : 0};
    seam_server_proto_init(&b.sp, &server);
    seam_client_proto_init(&b.cp, &client);
    for (int i = 0; i < ACTIONS_MAX && input.left > 0; i++) {
        act(&b);
    }
    return 0;
}

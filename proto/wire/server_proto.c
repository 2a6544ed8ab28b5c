/* The server's machine; see server_proto.h.
 *
 * The step in flight is two counters a phase: `accepted` tensors were taken, `finished` of them
 * have been worked off.  Whether a message is next, a repetition or out of sequence is a comparison
 * with them; the phase that people read is derived. */
#include "server_proto.h"

#include <stdio.h>
#include <string.h>

#include "try.h"

static seam_status link_check(const seam_server_proto *sp, uint64_t epoch, seam_error *err);
static seam_status conflict(seam_server_proto *sp, const char *what, seam_step_key key,
                            seam_error *err);
static void step_clear(seam_server_proto *sp);

/* Index of a phase in the counters. */
enum { F = 0, B = 1 };

void seam_server_proto_init(seam_server_proto *sp, const seam_server_proto_config *config) {
    SEAM_ASSERT(config->micros_max >= 1);
    SEAM_ASSERT(config->micros_max + (config->has_norm ? 1u : 0u) <= SEAM_MICROS_MAX);
    SEAM_ASSERT(config->pipeline_depth <= SEAM_PIPELINE_DEPTH_MAX);
    *sp = (seam_server_proto){.config = *config,
                              .link = SEAM_LINK_DETACHED,
                              .epoch = config->epoch,
                              .link_deadline_ms = config->now_ms + config->lease_ms,
                              .committed = config->committed_step_count};
    sp->config.pipeline_depth = config->pipeline_depth > 0 ? config->pipeline_depth : 1;
    sp->depth = sp->config.pipeline_depth;
}

/* ---- attach ---- */

static seam_status attach_check(const seam_server_proto *sp, const seam_attach_args *args,
                                seam_error *err) {
    if (sp->link == SEAM_LINK_EXPIRED) {
        return seam_error_set(err, SEAM_E_GONE, "the session has ended");
    }
    if (args->config_hash != sp->config.config_hash) {
        return seam_error_set(err, SEAM_E_ARG, "attach.config_hash: not that of the session");
    }
    if (args->model_identity != sp->config.model_identity) {
        return seam_error_set(err, SEAM_E_ARG,
                              "attach.model_identity: the client has another model");
    }
    if (args->epoch_seen > SEAM_EPOCH_SEEN_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "attach.epoch_seen: %llu, no server has given that",
                              (unsigned long long)args->epoch_seen);
    }
    if (sp->link == SEAM_LINK_FROZEN) {
        return seam_error_set(err, sp->frozen, "the session is frozen: %s",
                              seam_status_text(sp->frozen));
    }
    return SEAM_OK;
}

/* Where the client goes on.  Fills everything of the verdict but epoch and fences_stream. */
static seam_status attach_decide(seam_attach_verdict *ret, const seam_server_proto *sp,
                                 const seam_attach_args *args, seam_error *err) {
    const uint64_t theirs = args->committed_step_count;
    uint64_t ours = sp->committed;
    bool begun = sp->begun;
    if (sp->link == SEAM_LINK_PARKED) {
        if (!seam_server_proto_durable_newest(&ours, sp)) {
            return seam_error_set(err, SEAM_E_GONE, "the parked session has no checkpoint");
        }
        ret->load_checkpoint = true;
        ret->load_step_count = ours;
        begun = false;
    }
    const bool cached = sp->link != SEAM_LINK_PARKED && sp->last_cached;
    if (theirs == ours && !begun && (sp->reloaded || sp->link == SEAM_LINK_PARKED)) {
        ret->action = SEAM_ATTACH_ROLLBACK;
        ret->rollback_step = ours;
        return SEAM_OK;
    }
    if (theirs == ours) {
        ret->action = begun && args->step_in_flight ? SEAM_ATTACH_RESEND : SEAM_ATTACH_CONTINUE;
        ret->drop_step = begun && !args->step_in_flight;
        return SEAM_OK;
    }
    if (theirs > ours) {
        ret->action = SEAM_ATTACH_ROLLBACK;
        ret->rollback_step = ours;
        ret->drop_step = begun;
        return SEAM_OK;
    }
    if (theirs + 1 == ours && cached && !begun &&
        (args->step_in_flight || (sp->last_micro_count == 1 && !sp->config.keeps_codec_state))) {
        ret->action = SEAM_ATTACH_RESEND;
        return SEAM_OK;
    }
    uint64_t durable = 0;
    if (!seam_server_proto_durable_find(&durable, sp, theirs)) {
        return seam_error_set(err, SEAM_E_GONE,
                              "the server has committed %llu steps, the client %llu, and no "
                              "checkpoint goes back that far",
                              (unsigned long long)ours, (unsigned long long)theirs);
    }
    ret->action = SEAM_ATTACH_ROLLBACK;
    ret->rollback_step = durable;
    ret->drop_step = begun;
    ret->load_checkpoint = true;
    ret->load_step_count = durable;
    return SEAM_OK;
}

seam_status seam_server_proto_attach(seam_attach_verdict *ret_verdict, seam_server_proto *sp,
                                     const seam_attach_args *args, seam_error *err) {
    seam_attach_verdict verdict = {0};
    SEAM_TRY(attach_check(sp, args, err));
    SEAM_TRY(attach_decide(&verdict, sp, args, err));
    if ((verdict.drop_step || verdict.load_checkpoint) && seam_server_proto_is_busy(sp)) {
        *ret_verdict = (seam_attach_verdict){.action = SEAM_ATTACH_WAIT};
        return SEAM_OK;
    }
    verdict.fences_stream = sp->link == SEAM_LINK_ATTACHED;
    verdict.epoch = (args->epoch_seen > sp->epoch ? args->epoch_seen : sp->epoch) + 1;
    if (verdict.drop_step) {
        step_clear(sp);
    }
    sp->epoch = verdict.epoch;
    /* A parked or rolled-back state is loaded before the answer: seam_server_proto_restored. */
    sp->link = SEAM_LINK_ATTACHED;
    *ret_verdict = verdict;
    return SEAM_OK;
}

/* ---- messages ---- */

seam_status seam_server_proto_step_begin(seam_server_verdict *ret_verdict, seam_server_proto *sp,
                                         const seam_step_begin_args *args, seam_error *err) {
    SEAM_TRY(link_check(sp, args->epoch, err));
    const seam_step_key key = {.step = args->step};
    seam_server_verdict verdict = {.verdict = SEAM_VERDICT_IGNORE};
    if (args->step < sp->committed) {
        if (args->step + 1 < sp->committed || !sp->last_cached) {
            verdict.verdict = SEAM_VERDICT_ALREADY_COMMITTED;
            verdict.resend_commit = true;
        } else if (args->digest != sp->last_begin_digest) {
            return conflict(sp, "step_begin", key, err);
        }
        *ret_verdict = verdict;
        return SEAM_OK;
    }
    if (args->step > sp->committed) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "step_begin.step: %llu, expected %llu",
                              (unsigned long long)args->step, (unsigned long long)sp->committed);
    }
    if (sp->begun) {
        if (args->digest != sp->begin_digest || args->micro_count != sp->micro_count) {
            return conflict(sp, "step_begin", key, err);
        }
        *ret_verdict = verdict;
        return SEAM_OK;
    }
    if (args->micro_count < 1 || args->micro_count > sp->config.micros_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "step_begin.micros: %u, at most %u",
                              args->micro_count, sp->config.micros_max);
    }
    if (args->pipeline_depth > sp->depth) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "step_begin.pipeline_depth: %u, the session has memory for %u "
                              "micro-batches at once",
                              args->pipeline_depth, sp->depth);
    }
    sp->depth = args->pipeline_depth > 0 ? args->pipeline_depth : sp->depth;
    sp->begun = true;
    sp->reloaded = false; /* who begins a step has seen the answer to its Attach */
    sp->begin_digest = args->digest;
    sp->micro_count = args->micro_count;
    verdict.verdict = SEAM_VERDICT_RUN;
    *ret_verdict = verdict;
    return SEAM_OK;
}

/* Backward messages of the step in flight, the norm among them. */
static uint32_t backward_count(const seam_server_proto *sp) {
    return sp->micro_count + (sp->config.has_norm ? 1u : 0u);
}

static bool is_running(const seam_server_proto *sp) {
    return sp->finished[F] < sp->accepted[F] || sp->finished[B] < sp->accepted[B];
}

static seam_status expected_error(const seam_server_proto *sp, seam_step_key key, seam_error *err) {
    char what[64] = "step_begin";
    if (sp->begun && sp->accepted[B] == backward_count(sp)) {
        (void)snprintf(what, sizeof what, "nothing before the commit");
    } else if (sp->begun && is_running(sp)) {
        (void)snprintf(what, sizeof what, "nothing before the reply to the tensor before");
    } else if (sp->begun && sp->accepted[B] == sp->accepted[F] &&
               sp->accepted[F] < sp->micro_count) {
        (void)snprintf(what, sizeof what, "micro %u, phase %u", sp->accepted[F],
                       SEAM_PHASE_FORWARD);
    } else if (sp->begun) {
        (void)snprintf(what, sizeof what, "micro %u, phase %u", sp->accepted[B],
                       SEAM_PHASE_BACKWARD);
    }
    return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                          "frame of step %llu, micro %u, phase %u: expected step %llu, %s",
                          (unsigned long long)key.step, key.micro, key.phase,
                          (unsigned long long)sp->committed, what);
}

/* Of a step long gone nobody knows how many micro-batches it had. */
static bool may_be_norm(const seam_server_proto *sp, seam_step_key key) {
    const uint32_t micro_count = key.step < sp->committed ? sp->last_micro_count : sp->micro_count;
    return sp->config.has_norm && (key.micro == micro_count || key.step + 1 < sp->committed);
}

/* Site, phase and micro-batch of a key. */
static seam_status key_check(const seam_server_proto *sp, seam_step_key key, seam_error *err) {
    if (key.phase != SEAM_PHASE_FORWARD && key.phase != SEAM_PHASE_BACKWARD) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "frame.phase: %u in a Train stream",
                              key.phase);
    }
    if (key.phase == SEAM_PHASE_BACKWARD && sp->config.one_pass && !may_be_norm(sp, key)) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "frame.phase: %u, a micro-batch of this topology has only 1",
                              key.phase);
    }
    const uint16_t site =
        key.phase == SEAM_PHASE_FORWARD ? sp->config.site_forward : sp->config.site_backward;
    if (key.site != site) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "frame.site: %u, expected %u in phase %u", key.site, site, key.phase);
    }
    return key.micro < SEAM_MICROS_MAX ? SEAM_OK : expected_error(sp, key, err);
}

/* A tensor of a committed step. */
static void judge_committed(seam_server_verdict *ret_verdict, const uint64_t **ret_digest_known,
                            const seam_server_proto *sp, seam_step_key key) {
    const bool forward = key.phase == SEAM_PHASE_FORWARD;
    const bool is_norm = !forward && sp->config.has_norm && key.micro == sp->last_micro_count;
    const bool last = sp->config.has_norm ? is_norm : key.micro + 1 == sp->last_micro_count;
    const uint32_t depth = sp->config.pipeline_depth;
    const uint32_t kept = !forward              ? seam_step_backward_kept(depth)
                          : sp->config.one_pass ? depth
                                                : 1;
    *ret_verdict =
        (seam_server_verdict){.verdict = SEAM_VERDICT_ALREADY_COMMITTED, .resend_commit = true};
    if (key.step + 1 < sp->committed || !sp->last_cached ||
        (key.micro >= sp->last_micro_count && !is_norm) ||
        key.micro + kept < sp->last_micro_count) {
        return; /* the reply is gone */
    }
    if (is_norm) {
        *ret_digest_known = &sp->last_norm_digest;
        ret_verdict->verdict = SEAM_VERDICT_IGNORE;
        return;
    }
    *ret_digest_known = forward ? &sp->last_forward_digests[key.micro % SEAM_PIPELINE_DEPTH_MAX]
                                : &sp->last_backward_digests[key.micro % 2];
    /* The last message is answered by its reply, if it has one, and by the Commit. */
    ret_verdict->resend_commit = last && (!forward || sp->config.one_pass);
    ret_verdict->verdict =
        forward || sp->config.backward_reply ? SEAM_VERDICT_REPLY_CACHED : SEAM_VERDICT_IGNORE;
}

/* Is it the next of its phase, and can the client have what it must have before? */
static bool is_due(const seam_server_proto *sp, seam_step_key key) {
    const bool forward = key.phase == SEAM_PHASE_FORWARD;
    const uint32_t depth = sp->config.pipeline_depth;
    if (key.micro != sp->accepted[forward ? F : B]) {
        return false;
    }
    if (key.micro >= sp->micro_count) {
        return !forward && key.micro < backward_count(sp);
    }
    const bool in_turn =
        forward ? key.micro < sp->accepted[B] + sp->depth : key.micro < sp->finished[F];
    return in_turn && (!sp->config.backward_reply ||
                       sp->finished[B] >= seam_step_replies_needed(depth, key.micro, key.phase));
}

/* Is the reply to an accepted tensor still kept? */
static bool is_cached(const seam_server_proto *sp, seam_step_key key) {
    const uint32_t depth = sp->config.pipeline_depth, kept = seam_step_backward_kept(depth);
    if (key.phase == SEAM_PHASE_FORWARD) {
        return key.micro < sp->finished[F] && sp->accepted[F] <= key.micro + depth;
    }
    const uint32_t tensors =
        sp->accepted[B] < sp->micro_count ? sp->accepted[B] : sp->micro_count; /* the norm not */
    return sp->config.backward_reply && key.micro < sp->finished[B] &&
           key.micro < sp->micro_count && tensors <= key.micro + kept &&
           sp->accepted[F] < key.micro + depth + kept;
}

/* Verdict on a key; *ret_digest_known points to the digest that a repetition must have, or stays
 * NULL where none is kept. */
static seam_status tensor_judge(seam_server_verdict *ret_verdict, const uint64_t **ret_digest_known,
                                const seam_server_proto *sp, uint64_t epoch, seam_step_key key,
                                seam_error *err) {
    const int phase = key.phase == SEAM_PHASE_FORWARD ? F : B;
    *ret_digest_known = NULL;
    SEAM_TRY(link_check(sp, epoch, err));
    SEAM_TRY(key_check(sp, key, err));
    if (key.step < sp->committed) {
        judge_committed(ret_verdict, ret_digest_known, sp, key);
        return SEAM_OK;
    }
    if (key.step > sp->committed || !sp->begun) {
        return expected_error(sp, key, err);
    }
    if (key.micro >= sp->accepted[phase]) {
        if (!is_due(sp, key)) {
            return expected_error(sp, key, err);
        }
        *ret_verdict = (seam_server_verdict){.verdict = SEAM_VERDICT_RUN,
                                             .drop_cache = phase == F && key.micro == 0};
        return SEAM_OK;
    }
    *ret_verdict = (seam_server_verdict){.verdict = is_cached(sp, key) ? SEAM_VERDICT_REPLY_CACHED
                                                                       : SEAM_VERDICT_IGNORE};
    if (sp->accepted[phase] <= key.micro + SEAM_PIPELINE_DEPTH_MAX) {
        *ret_digest_known = &sp->digests[phase][key.micro % SEAM_PIPELINE_DEPTH_MAX];
    }
    return SEAM_OK;
}

seam_status seam_server_proto_peek(seam_verdict *ret_verdict, const seam_server_proto *sp,
                                   uint64_t epoch, seam_step_key key, seam_error *err) {
    seam_server_verdict verdict = {0};
    const uint64_t *digest_known = NULL;
    SEAM_TRY(tensor_judge(&verdict, &digest_known, sp, epoch, key, err));
    *ret_verdict = verdict.verdict;
    return SEAM_OK;
}

seam_status seam_server_proto_tensor(seam_server_verdict *ret_verdict, seam_server_proto *sp,
                                     uint64_t epoch, seam_step_key key, uint64_t digest,
                                     seam_error *err) {
    seam_server_verdict verdict = {0};
    const uint64_t *digest_known = NULL;
    SEAM_TRY(tensor_judge(&verdict, &digest_known, sp, epoch, key, err));
    if (verdict.verdict == SEAM_VERDICT_RUN) {
        const int phase = key.phase == SEAM_PHASE_FORWARD ? F : B;
        sp->digests[phase][key.micro % SEAM_PIPELINE_DEPTH_MAX] = digest;
        sp->accepted[phase]++;
        if (verdict.drop_cache) {
            sp->last_cached = false;
        }
    } else if (digest_known != NULL && *digest_known != digest) {
        return conflict(sp, "frame", key, err);
    }
    *ret_verdict = verdict;
    return SEAM_OK;
}

/* ---- the engine ---- */

void seam_server_proto_withdraw(seam_server_proto *sp, uint32_t micro, uint8_t phase) {
    const int at = phase == SEAM_PHASE_FORWARD ? F : B;
    SEAM_ASSERT(sp->begun);
    SEAM_ASSERT(sp->finished[at] < sp->accepted[at]);
    SEAM_ASSERT(micro + 1 == sp->accepted[at]);
    sp->accepted[at]--;
}

static void finish(seam_server_proto *sp, uint64_t step, uint32_t micro, int phase) {
    SEAM_ASSERT(sp->begun);
    SEAM_ASSERT(step == sp->committed);
    SEAM_ASSERT(sp->finished[phase] < sp->accepted[phase]);
    SEAM_ASSERT(micro == sp->finished[phase]);
    sp->finished[phase]++;
}

bool seam_server_proto_forward_done(seam_server_proto *sp, uint64_t step, uint32_t micro) {
    finish(sp, step, micro, F);
    if (sp->config.one_pass) { /* its gradient is done too */
        sp->accepted[B]++;
        sp->finished[B]++;
        sp->applying = sp->finished[B] == backward_count(sp);
    }
    return sp->applying;
}

bool seam_server_proto_backward_done(seam_server_proto *sp, uint64_t step, uint32_t micro) {
    finish(sp, step, micro, B);
    sp->applying = sp->finished[B] == backward_count(sp);
    return sp->applying;
}

void seam_server_proto_committed(seam_server_proto *sp, uint64_t step) {
    SEAM_ASSERT(sp->applying);
    SEAM_ASSERT(step == sp->committed);
    const uint32_t last = sp->micro_count - 1;
    sp->last_cached = true;
    sp->last_begin_digest = sp->begin_digest;
    sp->last_micro_count = sp->micro_count;
    memcpy(sp->last_forward_digests, sp->digests[F], sizeof sp->last_forward_digests);
    for (uint32_t micro = last > 0 ? last - 1 : 0; micro <= last; micro++) {
        sp->last_backward_digests[micro % 2] = sp->digests[B][micro % SEAM_PIPELINE_DEPTH_MAX];
    }
    sp->last_norm_digest = sp->digests[B][sp->micro_count % SEAM_PIPELINE_DEPTH_MAX];
    sp->committed++;
    step_clear(sp);
}

void seam_server_proto_abort_step(seam_server_proto *sp) {
    step_clear(sp);
}

static void step_clear(seam_server_proto *sp) {
    sp->begun = false;
    sp->begin_digest = 0;
    sp->micro_count = 0;
    memset(sp->accepted, 0, sizeof sp->accepted);
    memset(sp->finished, 0, sizeof sp->finished);
    sp->applying = false;
    memset(sp->digests, 0, sizeof sp->digests);
}

/* ---- stream and lease ---- */

static seam_status link_check(const seam_server_proto *sp, uint64_t epoch, seam_error *err) {
    if (sp->link == SEAM_LINK_FROZEN) {
        return seam_error_set(err, sp->frozen, "the session is frozen: %s",
                              seam_status_text(sp->frozen));
    }
    if (sp->link != SEAM_LINK_ATTACHED || epoch != sp->epoch) {
        return seam_error_set(err, SEAM_E_FENCED, "stream epoch %llu, the session is at %llu",
                              (unsigned long long)epoch, (unsigned long long)sp->epoch);
    }
    return SEAM_OK;
}

static seam_status conflict(seam_server_proto *sp, const char *what, seam_step_key key,
                            seam_error *err) {
    seam_server_proto_freeze(sp, SEAM_E_CONFLICT);
    return seam_error_set(err, SEAM_E_CONFLICT,
                          "%s of step %llu, micro %u, phase %u: other bytes than the first time",
                          what, (unsigned long long)key.step, key.micro, key.phase);
}

void seam_server_proto_stream_lost(seam_server_proto *sp, uint64_t epoch, uint64_t now_ms) {
    if (sp->link == SEAM_LINK_ATTACHED && epoch == sp->epoch) {
        sp->link = SEAM_LINK_DETACHED;
        sp->link_deadline_ms = now_ms + sp->config.lease_ms;
    }
}

seam_lease_action seam_server_proto_tick(seam_server_proto *sp, uint64_t now_ms) {
    const bool frozen = sp->link == SEAM_LINK_FROZEN;
    if (frozen && !sp->frozen_timed) {
        sp->frozen_timed = true;
        sp->link_deadline_ms = now_ms + sp->config.lease_ms;
    }
    if (now_ms < sp->link_deadline_ms || seam_server_proto_is_busy(sp)) {
        return SEAM_LEASE_NONE;
    }
    if (sp->config.can_park && (sp->link == SEAM_LINK_DETACHED || (frozen && !sp->frozen_parked))) {
        return SEAM_LEASE_PARK;
    }
    if (sp->link == SEAM_LINK_DETACHED || sp->link == SEAM_LINK_PARKED || frozen) {
        seam_server_proto_expire(sp);
        return SEAM_LEASE_EXPIRE;
    }
    return SEAM_LEASE_NONE;
}

void seam_server_proto_touch(seam_server_proto *sp, uint64_t now_ms) {
    const bool frozen = sp->link == SEAM_LINK_FROZEN && sp->frozen_timed && !sp->frozen_parked;
    if (sp->link == SEAM_LINK_DETACHED || frozen) {
        sp->link_deadline_ms = now_ms + sp->config.lease_ms;
    }
}

seam_status seam_server_proto_parked(seam_server_proto *sp, uint64_t now_ms) {
    uint64_t newest = 0;
    if (sp->link == SEAM_LINK_FROZEN && !sp->frozen_parked) {
        SEAM_ASSERT(!seam_server_proto_is_busy(sp));
        sp->frozen_timed = sp->frozen_parked = true;
    } else if (sp->link == SEAM_LINK_DETACHED) {
        SEAM_ASSERT(!seam_server_proto_is_busy(sp));
        SEAM_ASSERT(seam_server_proto_durable_newest(&newest, sp));
        SEAM_ASSERT(newest == sp->committed);
        sp->link = SEAM_LINK_PARKED;
    } else {
        return SEAM_E_STATE;
    }
    step_clear(sp);
    sp->last_cached = false;
    sp->link_deadline_ms = now_ms + sp->config.park_ms;
    return SEAM_OK;
}

void seam_server_proto_unloaded(seam_server_proto *sp, uint64_t now_ms) {
    SEAM_ASSERT(!seam_server_proto_is_busy(sp));
    if (sp->link != SEAM_LINK_ATTACHED && sp->link != SEAM_LINK_DETACHED &&
        sp->link != SEAM_LINK_PARKED) {
        return;
    }
    const bool is_there = seam_server_proto_durable_newest(&sp->committed, sp);
    SEAM_ASSERT(is_there); /* it was to be loaded */
    step_clear(sp);
    sp->last_cached = false;
    sp->link = SEAM_LINK_PARKED;
    sp->link_deadline_ms = now_ms + sp->config.park_ms;
}

void seam_server_proto_expire(seam_server_proto *sp) {
    step_clear(sp);
    sp->last_cached = false;
    sp->link = SEAM_LINK_EXPIRED;
}

/* ---- the state changes from outside ---- */

void seam_server_proto_restored(seam_server_proto *sp, uint64_t step_count, uint64_t now_ms) {
    SEAM_ASSERT(sp->link != SEAM_LINK_EXPIRED);
    SEAM_ASSERT(!seam_server_proto_is_busy(sp));
    step_clear(sp);
    sp->last_cached = false;
    sp->reloaded = true;
    sp->committed = step_count;
    /* Later checkpoints belong to a history that is replayed: the same bytes are written again. */
    while (sp->durable_count > 0 && sp->durable[sp->durable_count - 1] > step_count) {
        sp->durable_count--;
    }
    sp->confirmed = sp->confirmed < step_count ? sp->confirmed : step_count;
    if (sp->link == SEAM_LINK_FROZEN || sp->link == SEAM_LINK_PARKED) {
        sp->link = SEAM_LINK_DETACHED;
        sp->link_deadline_ms = now_ms + sp->config.lease_ms;
        sp->frozen = SEAM_OK;
        sp->frozen_timed = sp->frozen_parked = false;
    }
}

void seam_server_proto_freeze(seam_server_proto *sp, seam_status reason) {
    SEAM_ASSERT(reason != SEAM_OK);
    if (sp->link != SEAM_LINK_EXPIRED) {
        sp->link = SEAM_LINK_FROZEN;
        sp->frozen = reason;
    }
}

/* ---- reading ---- */

seam_server_link seam_server_proto_link(const seam_server_proto *sp) {
    return sp->link;
}

seam_status seam_server_proto_frozen(const seam_server_proto *sp) {
    return sp->frozen;
}

seam_server_phase seam_server_proto_phase(uint32_t *ret_micro, const seam_server_proto *sp) {
    *ret_micro = 0;
    if (!sp->begun) {
        return SEAM_SERVER_READY;
    }
    if (sp->applying) {
        *ret_micro = sp->micro_count - 1;
        return SEAM_SERVER_APPLYING;
    }
    if (is_running(sp)) {
        const int at = sp->finished[B] < sp->accepted[B] ? B : F;
        *ret_micro = sp->finished[at];
        return at == F ? SEAM_SERVER_FORWARD_RUNNING : SEAM_SERVER_BACKWARD_RUNNING;
    }
    if (sp->finished[F] == 0) {
        return SEAM_SERVER_BEGUN;
    }
    const bool backward = sp->finished[B] == sp->finished[F]; /* one pass: always */
    *ret_micro = sp->finished[F] - 1;
    return backward ? SEAM_SERVER_BACKWARD_DONE : SEAM_SERVER_FORWARD_DONE;
}

uint64_t seam_server_proto_epoch(const seam_server_proto *sp) {
    return sp->epoch;
}

uint64_t seam_server_proto_committed_count(const seam_server_proto *sp) {
    return sp->committed;
}

bool seam_server_proto_is_busy(const seam_server_proto *sp) {
    return sp->begun && (sp->applying || is_running(sp));
}

const char *seam_server_link_name(seam_server_link link) {
    static const char *const names[] = {"DETACHED", "ATTACHED", "PARKED", "EXPIRED", "FROZEN"};
    const size_t idx = (size_t)link;
    return idx < sizeof names / sizeof names[0] ? names[idx] : "UNKNOWN";
}

/* The wrapped calls of the two machines, and what they took; see transitions.h.  Names are compared
 * as pointers' texts once, at the check: noting one is an increment. */
#include "transitions.h"

#include <stdio.h>
#include <string.h>

#include "client_proto.h"
#include "server_proto.h"

/* ---- names ---- */

/* clang-format 14 never comes to rest on such lists. */
/* clang-format off */
#define EVENTS(X)                                                                                  \
    X(ATTACH)                                                                                      \
    X(BEGIN)                                                                                       \
    X(BEGIN_OLDER)                                                                                 \
    X(FORWARD)                                                                                     \
    X(BACKWARD)                                                                                    \
    X(TENSOR_OLDER)                                                                                \
    X(WITHDRAW)                                                                                    \
    X(FORWARD_DONE) X(BACKWARD_DONE) X(COMMITTED) X(ABORT) X(STREAM_LOST) X(TICK) X(TOUCH)         \
        X(PARKED) X(EXPIRE) X(RESTORED) X(FREEZE) X(NEXT) X(BEGIN_STEP) X(DONE) X(ATTACHED)        \
            X(REPLY_FORWARD) X(REPLY_BACKWARD) X(COMMIT) X(JOURNALED) X(STOP)
#define OUTCOMES(X)                                                                                \
    X(OK)                                                                                          \
    X(RUN)                                                                                         \
    X(CACHED)                                                                                      \
    X(IGNORE)                                                                                      \
    X(COMMITTED)                                                                                   \
    X(CONTINUE)                                                                                    \
    X(RESEND)                                                                                      \
    X(ROLLBACK) X(WAIT) X(NONE) X(PARK) X(EXPIRE) X(MORE) X(LAST) X(NEW) X(REPEATED) X(CURED)      \
        X(FINAL) X(ARG) X(LIMIT) X(STATE) X(GONE) X(FENCED) X(CONFLICT) X(OUT_OF_SEQUENCE)         \
            X(NONDETERMINISM) X(DATA_LOSS) X(CONNECT) X(SEND_ATTACH) X(SEND_STEP_BEGIN)            \
                X(SEND_FORWARD) X(SEND_BACKWARD) X(RECEIVE) X(BACK_OFF) X(RESTORE) X(JOURNAL)      \
                    X(IDLE) X(STOPPED) X(OTHER)
#define CLIENT_STATES(X)                                                                           \
    X(CONNECT)                                                                                     \
    X(ATTACH) X(ATTACHING) X(RESTORE) X(READY) X(BEGINNING) X(RUNNING) X(JOURNAL) X(STOPPED)
#define LINK_STATES(X) X(DETACHED) X(ATTACHED) X(PARKED) X(EXPIRED) X(FROZEN)
#define PHASE_STATES(X)                                                                            \
    X(READY)                                                                                       \
    X(BEGUN) X(FORWARD_RUNNING) X(FORWARD_DONE) X(BACKWARD_RUNNING) X(BACKWARD_DONE) X(APPLYING)
/* clang-format on */

#define EVENT_ENUM(name)   EVENT_##name,
#define OUTCOME_ENUM(name) OUTCOME_##name,
#define CLIENT_ENUM(name)  CLIENT_##name,
#define NAME(name)         #name,
typedef enum event { EVENTS(EVENT_ENUM) EVENT_COUNT } event;
typedef enum outcome { OUTCOMES(OUTCOME_ENUM) OUTCOME_COUNT } outcome;
typedef enum client_state { CLIENT_STATES(CLIENT_ENUM) CLIENT_COUNT } client_state;
enum { STATES_MAX = CLIENT_COUNT };

static const char *const event_names[] = {EVENTS(NAME)};
static const char *const outcome_names[] = {OUTCOMES(NAME)};
static const char *const state_names[TRANSITION_MACHINES][STATES_MAX] = {
    {LINK_STATES(NAME)}, {PHASE_STATES(NAME)}, {CLIENT_STATES(NAME)}};

/* ---- what was taken ---- */

static uint64_t taken[TRANSITION_MACHINES][STATES_MAX][EVENT_COUNT][OUTCOME_COUNT][STATES_MAX];
static bool is_paused;

void transitions_pause(bool paused) {
    is_paused = paused;
}

static void note(transition_machine machine, uint32_t from, event e, outcome o, uint32_t to) {
    if (!is_paused) {
        taken[machine][from][e][o][to]++;
    }
}

static uint32_t index_of(const char *const *names, uint32_t count, const char *name) {
    for (uint32_t i = 0; i < count; i++) {
        if (names[i] != NULL && strcmp(names[i], name) == 0) {
            return i;
        }
    }
    (void)fprintf(stderr, "transition_table.c: nothing is called %s\n", name);
    return UINT32_MAX;
}

/* Clears what the table lists, so that what is left is what it does not. */
static uint32_t row_check(const transition *row, transition_taker taker) {
    const char *const *const states = state_names[row->machine];
    const uint32_t from = index_of(states, STATES_MAX, row->from);
    const uint32_t to = index_of(states, STATES_MAX, row->to);
    const uint32_t e = index_of(event_names, EVENT_COUNT, row->event);
    const uint32_t o = index_of(outcome_names, OUTCOME_COUNT, row->outcome);
    if (from == UINT32_MAX || to == UINT32_MAX || e == UINT32_MAX || o == UINT32_MAX) {
        return 1;
    }
    uint64_t *const count = &taken[row->machine][from][e][o][to];
    const bool never = (row->takers & (uint32_t)taker) != 0 && *count == 0;
    if (never) {
        (void)fprintf(stderr, "never taken: %s %s %s -> %s\n", row->from, row->event, row->outcome,
                      row->to);
    }
    *count = 0;
    return never ? 1 : 0;
}

uint32_t transitions_check(transition_machine first, transition_machine last,
                           transition_taker taker) {
    uint32_t wrong = 0;
    for (const transition *row = transition_table; row->from != NULL; row++) {
        if (row->machine >= first && row->machine <= last) {
            wrong += row_check(row, taker);
        }
    }
    for (uint32_t m = (uint32_t)first; m <= (uint32_t)last; m++) {
        for (uint32_t i = 0; i < STATES_MAX * EVENT_COUNT * OUTCOME_COUNT * STATES_MAX; i++) {
            const uint32_t to = i % STATES_MAX, o = i / STATES_MAX % OUTCOME_COUNT,
                           e = i / STATES_MAX / OUTCOME_COUNT % EVENT_COUNT,
                           from = i / STATES_MAX / OUTCOME_COUNT / EVENT_COUNT;
            const uint64_t count = taken[m][from][e][o][to];
            if (count > 0) {
                wrong++;
                (void)fprintf(stderr,
                              "not in the table: {%u, \"%s\", \"%s\", \"%s\", "
                              "\"%s\"} %llu times\n",
                              m, state_names[m][from], event_names[e], outcome_names[o],
                              state_names[m][to], (unsigned long long)count);
            }
        }
    }
    return wrong;
}

static outcome of_status(seam_status st) {
    switch (st) {
    case SEAM_OK:
        return OUTCOME_OK;
    case SEAM_E_ARG:
        return OUTCOME_ARG;
    case SEAM_E_LIMIT:
        return OUTCOME_LIMIT;
    case SEAM_E_STATE:
        return OUTCOME_STATE;
    case SEAM_E_GONE:
        return OUTCOME_GONE;
    case SEAM_E_FENCED:
        return OUTCOME_FENCED;
    case SEAM_E_CONFLICT:
        return OUTCOME_CONFLICT;
    case SEAM_E_OUT_OF_SEQUENCE:
        return OUTCOME_OUT_OF_SEQUENCE;
    case SEAM_E_NONDETERMINISM:
        return OUTCOME_NONDETERMINISM;
    case SEAM_E_DATA_LOSS:
        return OUTCOME_DATA_LOSS;
    default:
        return OUTCOME_OTHER;
    }
}

/* ---- the server's machine ---- */

typedef struct server_state {
    uint32_t link, phase;
} server_state;

static server_state state_of(const seam_server_proto *sp) {
    uint32_t micro = 0;
    return (server_state){.link = (uint32_t)seam_server_proto_link(sp),
                          .phase = (uint32_t)seam_server_proto_phase(&micro, sp)};
}

static void note_link(const seam_server_proto *sp, server_state from, event e, outcome o) {
    note(TRANSITION_LINK, from.link, e, o, state_of(sp).link);
}

static void note_phase(const seam_server_proto *sp, server_state from, event e, outcome o) {
    note(TRANSITION_PHASE, from.phase, e, o, state_of(sp).phase);
}

static void note_server(const seam_server_proto *sp, server_state from, event e, outcome o) {
    note_link(sp, from, e, o);
    note_phase(sp, from, e, o);
}

/* A message of the stream: to the link it is taken or refused, to the phase it is what it is. */
static void note_message(const seam_server_proto *sp, server_state from, event e, seam_status st,
                         seam_verdict verdict) {
    static const outcome verdicts[] = {[SEAM_VERDICT_RUN] = OUTCOME_RUN,
                                       [SEAM_VERDICT_REPLY_CACHED] = OUTCOME_CACHED,
                                       [SEAM_VERDICT_IGNORE] = OUTCOME_IGNORE,
                                       [SEAM_VERDICT_ALREADY_COMMITTED] = OUTCOME_COMMITTED};
    const bool of_link = from.link == SEAM_LINK_FROZEN || st == SEAM_E_FENCED;
    const outcome o = st == SEAM_OK ? verdicts[verdict] : of_status(st);
    note_link(sp, from, e, of_link || st == SEAM_E_CONFLICT ? of_status(st) : OUTCOME_OK);
    if (!of_link) {
        note_phase(sp, from, e, o);
    }
}

#define WRAP(type, name, ...)                                                                      \
    type __real_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__)
/* A call that only happens: `note` has no outcome to tell.  args: of the call, in parentheses. */
#define WRAP_SERVER_EVENT(note, e, name, args, ...)                                                \
    WRAP(void, name, __VA_ARGS__) {                                                                \
        const server_state from = state_of(sp);                                                    \
        __real_##name args;                                                                        \
        note(sp, from, e, OUTCOME_OK);                                                             \
    }
#define WRAP_CLIENT_EVENT(e, name, args, ...)                                                      \
    WRAP(void, name, __VA_ARGS__) {                                                                \
        const uint32_t from = client_state_of(cp);                                                 \
        __real_##name args;                                                                        \
        note_client(cp, from, e, OUTCOME_OK);                                                      \
    }
/* The end of a micro-batch's phase, and whether it was the last one's. */
#define WRAP_DONE(e, name)                                                                         \
    WRAP(bool, name, seam_server_proto *sp, uint64_t step, uint32_t micro) {                       \
        const server_state from = state_of(sp);                                                    \
        const bool last = __real_##name(sp, step, micro);                                          \
        note_phase(sp, from, e, last ? OUTCOME_LAST : OUTCOME_MORE);                               \
        return last;                                                                               \
    }

WRAP(seam_status, seam_server_proto_attach, seam_attach_verdict *ret_verdict, seam_server_proto *sp,
     const seam_attach_args *args, seam_error *err) {
    static const outcome actions[] = {[SEAM_ATTACH_CONTINUE] = OUTCOME_CONTINUE,
                                      [SEAM_ATTACH_RESEND] = OUTCOME_RESEND,
                                      [SEAM_ATTACH_ROLLBACK] = OUTCOME_ROLLBACK,
                                      [SEAM_ATTACH_WAIT] = OUTCOME_WAIT};
    const server_state from = state_of(sp);
    const seam_status st = __real_seam_server_proto_attach(ret_verdict, sp, args, err);
    note_server(sp, from, EVENT_ATTACH,
                st == SEAM_OK ? actions[ret_verdict->action] : of_status(st));
    return st;
}

WRAP(seam_status, seam_server_proto_step_begin, seam_server_verdict *ret_verdict,
     seam_server_proto *sp, const seam_step_begin_args *args, seam_error *err) {
    const server_state from = state_of(sp);
    const bool older = args->step < seam_server_proto_committed_count(sp);
    const seam_status st = __real_seam_server_proto_step_begin(ret_verdict, sp, args, err);
    note_message(sp, from, older ? EVENT_BEGIN_OLDER : EVENT_BEGIN, st, ret_verdict->verdict);
    return st;
}

WRAP(seam_status, seam_server_proto_tensor, seam_server_verdict *ret_verdict, seam_server_proto *sp,
     uint64_t epoch, seam_step_key key, uint64_t digest, seam_error *err) {
    const server_state from = state_of(sp);
    const event e = key.step < seam_server_proto_committed_count(sp) ? EVENT_TENSOR_OLDER
                    : key.phase == SEAM_PHASE_FORWARD                ? EVENT_FORWARD
                                                                     : EVENT_BACKWARD;
    const seam_status st =
        __real_seam_server_proto_tensor(ret_verdict, sp, epoch, key, digest, err);
    note_message(sp, from, e, st, ret_verdict->verdict);
    return st;
}

WRAP_SERVER_EVENT(note_phase, EVENT_WITHDRAW, seam_server_proto_withdraw, (sp, micro, phase),
                  seam_server_proto *sp, uint32_t micro, uint8_t phase)
WRAP_DONE(EVENT_FORWARD_DONE, seam_server_proto_forward_done)
WRAP_DONE(EVENT_BACKWARD_DONE, seam_server_proto_backward_done)
WRAP_SERVER_EVENT(note_phase, EVENT_COMMITTED, seam_server_proto_committed, (sp, step),
                  seam_server_proto *sp, uint64_t step)
WRAP_SERVER_EVENT(note_phase, EVENT_ABORT, seam_server_proto_abort_step, (sp),
                  seam_server_proto *sp)
WRAP_SERVER_EVENT(note_server, EVENT_STREAM_LOST, seam_server_proto_stream_lost,
                  (sp, epoch, now_ms), seam_server_proto *sp, uint64_t epoch, uint64_t now_ms)

WRAP(seam_lease_action, seam_server_proto_tick, seam_server_proto *sp, uint64_t now_ms) {
    static const outcome actions[] = {[SEAM_LEASE_NONE] = OUTCOME_NONE,
                                      [SEAM_LEASE_PARK] = OUTCOME_PARK,
                                      [SEAM_LEASE_EXPIRE] = OUTCOME_EXPIRE};
    const server_state from = state_of(sp);
    const seam_lease_action action = __real_seam_server_proto_tick(sp, now_ms);
    note_link(sp, from, EVENT_TICK, actions[action]);
    if (action != SEAM_LEASE_NONE) {
        note_phase(sp, from, EVENT_TICK, actions[action]);
    }
    return action;
}

WRAP_SERVER_EVENT(note_link, EVENT_TOUCH, seam_server_proto_touch, (sp, now_ms),
                  seam_server_proto *sp, uint64_t now_ms)

WRAP(seam_status, seam_server_proto_parked, seam_server_proto *sp, uint64_t now_ms) {
    const server_state from = state_of(sp);
    const seam_status st = __real_seam_server_proto_parked(sp, now_ms);
    note_server(sp, from, EVENT_PARKED, of_status(st));
    return st;
}

WRAP_SERVER_EVENT(note_server, EVENT_EXPIRE, seam_server_proto_expire, (sp), seam_server_proto *sp)
WRAP_SERVER_EVENT(note_server, EVENT_RESTORED, seam_server_proto_restored, (sp, step_count, now_ms),
                  seam_server_proto *sp, uint64_t step_count, uint64_t now_ms)
WRAP_SERVER_EVENT(note_link, EVENT_FREEZE, seam_server_proto_freeze, (sp, reason),
                  seam_server_proto *sp, seam_status reason)

/* ---- the client's machine ---- */

static uint32_t client_state_of(const seam_client_proto *cp) {
    if (cp->mode == SEAM_CLIENT_STOPPED) {
        return CLIENT_STOPPED;
    }
    if (cp->commit_received) {
        return CLIENT_JOURNAL;
    }
    switch (cp->mode) {
    case SEAM_CLIENT_CONNECT:
        return CLIENT_CONNECT;
    case SEAM_CLIENT_SEND_ATTACH:
        return CLIENT_ATTACH;
    case SEAM_CLIENT_RECEIVE:
        return CLIENT_ATTACHING;
    case SEAM_CLIENT_RESTORE:
        return CLIENT_RESTORE;
    default:
        return !cp->in_flight ? CLIENT_READY : cp->begin_sent ? CLIENT_RUNNING : CLIENT_BEGINNING;
    }
}

static void note_client(const seam_client_proto *cp, uint32_t from, event e, outcome o) {
    note(TRANSITION_CLIENT, from, e, o, client_state_of(cp));
}

WRAP(seam_status, seam_client_proto_begin_step, seam_client_proto *cp,
     const seam_begin_step_args *args, seam_error *err) {
    const uint32_t from = client_state_of(cp);
    const seam_status st = __real_seam_client_proto_begin_step(cp, args, err);
    note_client(cp, from, EVENT_BEGIN_STEP, of_status(st));
    return st;
}

static outcome of_action(seam_client_action_kind kind) {
    static const outcome kinds[] = {[SEAM_CLIENT_CONNECT] = OUTCOME_CONNECT,
                                    [SEAM_CLIENT_SEND_ATTACH] = OUTCOME_SEND_ATTACH,
                                    [SEAM_CLIENT_SEND_STEP_BEGIN] = OUTCOME_SEND_STEP_BEGIN,
                                    [SEAM_CLIENT_SEND_FORWARD] = OUTCOME_SEND_FORWARD,
                                    [SEAM_CLIENT_SEND_BACKWARD] = OUTCOME_SEND_BACKWARD,
                                    [SEAM_CLIENT_RECEIVE] = OUTCOME_RECEIVE,
                                    [SEAM_CLIENT_BACK_OFF] = OUTCOME_BACK_OFF,
                                    [SEAM_CLIENT_RESTORE] = OUTCOME_RESTORE,
                                    [SEAM_CLIENT_JOURNAL] = OUTCOME_JOURNAL,
                                    [SEAM_CLIENT_IDLE] = OUTCOME_IDLE,
                                    [SEAM_CLIENT_STOPPED] = OUTCOME_STOPPED};
    return kinds[kind];
}

WRAP(void, seam_client_proto_next, seam_client_action *ret_action, seam_client_proto *cp,
     uint64_t now_ms) {
    const uint32_t from = client_state_of(cp);
    __real_seam_client_proto_next(ret_action, cp, now_ms);
    note_client(cp, from, EVENT_NEXT, of_action(ret_action->kind));
}

WRAP(void, seam_client_proto_done, seam_client_proto *cp, const seam_client_action *action) {
    const uint32_t from = client_state_of(cp);
    __real_seam_client_proto_done(cp, action);
    note_client(cp, from, EVENT_DONE, of_action(action->kind));
}

WRAP(void, seam_client_proto_stream_lost, seam_client_proto *cp,
     const seam_stream_lost_args *args) {
    const uint32_t from = client_state_of(cp);
    __real_seam_client_proto_stream_lost(cp, args);
    note_client(cp, from, EVENT_STREAM_LOST,
                client_state_of(cp) == CLIENT_STOPPED ? OUTCOME_FINAL : OUTCOME_CURED);
}

WRAP(seam_status, seam_client_proto_attached, seam_client_proto *cp, const seam_attached_args *args,
     seam_error *err) {
    const uint32_t from = client_state_of(cp);
    const seam_status st = __real_seam_client_proto_attached(cp, args, err);
    note_client(cp, from, EVENT_ATTACHED,
                st != SEAM_OK                          ? of_status(st)
                : args->action == SEAM_ATTACH_CONTINUE ? OUTCOME_CONTINUE
                : args->action == SEAM_ATTACH_RESEND   ? OUTCOME_RESEND
                                                       : OUTCOME_ROLLBACK);
    return st;
}

static outcome of_news(seam_status st, const bool *is_new) {
    return st != SEAM_OK ? of_status(st) : *is_new ? OUTCOME_NEW : OUTCOME_REPEATED;
}

WRAP(seam_status, seam_client_proto_reply, bool *ret_is_new, seam_client_proto *cp,
     seam_step_key key, uint64_t digest, uint64_t now_ms, seam_error *err) {
    const uint32_t from = client_state_of(cp);
    const seam_status st = __real_seam_client_proto_reply(ret_is_new, cp, key, digest, now_ms, err);
    note_client(cp, from,
                key.phase == SEAM_PHASE_FORWARD ? EVENT_REPLY_FORWARD : EVENT_REPLY_BACKWARD,
                of_news(st, ret_is_new));
    return st;
}

WRAP(seam_status, seam_client_proto_commit, bool *ret_is_new, seam_client_proto *cp, uint64_t step,
     uint64_t state_hash, const uint64_t *expected_hash, uint64_t now_ms, seam_error *err) {
    const uint32_t from = client_state_of(cp);
    const seam_status st = __real_seam_client_proto_commit(ret_is_new, cp, step, state_hash,
                                                           expected_hash, now_ms, err);
    note_client(cp, from, EVENT_COMMIT, of_news(st, ret_is_new));
    return st;
}

WRAP_CLIENT_EVENT(EVENT_JOURNALED, seam_client_proto_journaled, (cp), seam_client_proto *cp)
WRAP_CLIENT_EVENT(EVENT_RESTORED, seam_client_proto_restored, (cp, step_count, now_ms),
                  seam_client_proto *cp, uint64_t step_count, uint64_t now_ms)
WRAP_CLIENT_EVENT(EVENT_STOP, seam_client_proto_stop, (cp, status, text), seam_client_proto *cp,
                  seam_status status, const char *text)

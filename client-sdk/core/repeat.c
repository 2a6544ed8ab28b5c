/* Calls that are made again: a server that cannot be reached, as long as a broken stream is; one
 * that refuses for now and says for how long (RetryInfo), as an Attach (link.c) that it refuses so.
 */
#include <time.h>

#include "core.h"
#include "try.h"

/* An address where nobody has answered yet may be a wrong one.  Where every attempt fails at once,
 * only the time of a restart is waited; where one has hung, longer than a connection may take
 * (transport/grpc_channel.c, CONNECT_MS), since the server may have died in the middle of it. */
#define REFUSED_MS       6000u
#define FIRST_CONTACT_MS 25000u
#define NAP_MS           50u /* a stop is seen this soon */

/* How long in all.  A server that has refused is the right one. */
static uint64_t limit_ms(const seam_repeat *repeat, const seam_client *client, uint64_t asked_ms) {
    const uint64_t first_ms = repeat->has_hung ? FIRST_CONTACT_MS : REFUSED_MS;
    return asked_ms > 0 || client->rtt_seconds > 0.0 || client->reconnect_timeout_ms < first_ms
               ? client->reconnect_timeout_ms
               : first_ms;
}

static bool may_pass(const seam_repeat *repeat, seam_status st, uint64_t asked_ms) {
    const bool is_room = st == SEAM_E_LIMIT || st == SEAM_E_MEMORY;
    return st == SEAM_E_UNAVAILABLE || (asked_ms > 0 && seam_is_cured_by_repetition(st, asked_ms) &&
                                        !(is_room && repeat->at_once));
}

static seam_status nap(const seam_repeat *repeat, const seam_client *client, uint64_t wait_ms,
                       seam_error *err) {
    const uint64_t until_ms = seam_now_ms() + wait_ms;
    for (uint64_t now_ms = seam_now_ms(); now_ms < until_ms; now_ms = seam_now_ms()) {
        if (client->stop != NULL && client->stop(client->stop_user)) {
            return seam_error_set(err, SEAM_E_CANCELLED, "%s: stopped while waiting for the server",
                                  repeat->method);
        }
        if (repeat->session != NULL) {
            SEAM_TRY(seam_session_check_cancel(repeat->session, err));
        }
        const uint64_t left_ms = until_ms - now_ms;
        const struct timespec ms = {.tv_nsec =
                                        (long)(left_ms < NAP_MS ? left_ms : NAP_MS) * 1000000};
        (void)nanosleep(&ms, NULL);
    }
    return SEAM_OK;
}

seam_status seam_repeat_wait(seam_repeat *repeat, const seam_client *client, seam_status st,
                             uint64_t asked_ms, seam_error *err) {
    if (!may_pass(repeat, st, asked_ms)) {
        return st;
    }
    const uint64_t lost_ms = seam_now_ms() - repeat->begin_ms;
    const uint64_t end_ms = limit_ms(repeat, client, asked_ms);
    if (lost_ms + asked_ms >= end_ms) { /* it would be too late */
        return asked_ms == 0 || repeat->failures == 0
                   ? st
                   : seam_error_prefix(err, st, "%s: given up after %llu s", repeat->method,
                                       (unsigned long long)(lost_ms / 1000u));
    }
    const uint64_t back_off_ms = seam_back_off_ms(++repeat->failures, seam_random_u32());
    const uint64_t left_ms = end_ms - lost_ms;
    const uint64_t wanted_ms = back_off_ms > asked_ms ? back_off_ms : asked_ms;
    const uint64_t wait_ms = wanted_ms < left_ms ? wanted_ms : left_ms;
    seam_client_log(client, "%s: %s, trying again in %.1f s: %s", repeat->method,
                    asked_ms > 0 ? "the server asks to wait" : "no answer", (double)wait_ms * 1e-3,
                    err != NULL ? err->text : seam_status_text(st));
    return nap(repeat, client, wait_ms, err);
}

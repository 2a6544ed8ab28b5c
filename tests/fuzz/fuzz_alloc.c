/* Owner and peer of a site under any sequence of messages, honest and forged, and states loaded
 * from any bytes.  Nothing may crash; an allocation in force is always valid, and an honest
 * exchange leaves both ends with the same one.
 *
 * Input: a byte says what happens next, its operands follow. */
#include <stdbool.h>

#include "fuzz.h"
#include "site.h"

enum { C = 3, ACTIONS_MAX = 200 };

typedef struct both_ends {
    seam_site *owner, *peer;
    uint64_t step;
    bool forged; /* a forged message or state was accepted: the ends may differ from here on */
} both_ends;

static seam_site *site_make(bool owner) {
    seam_site_config config = {
        .site_id = 1, .codec = SEAM_CODEC_AMAQ, .width_count = C, .owner = owner};
    seam_site *site = NULL;
    FUZZ_CHECK(seam_gates_preset(&config.gates, 4.0f));
    FUZZ_CHECK(seam_site_create(&site, &config, NULL) == SEAM_OK);
    return site;
}

static void alloc_check(const seam_alloc *alloc) {
    uint32_t total = 0;
    for (uint32_t c = 0; c < C; c++) {
        FUZZ_CHECK(alloc->widths[c] >= 1 && alloc->widths[c] <= SEAM_BITS_MAX);
        total += alloc->widths[c];
    }
    FUZZ_CHECK(alloc->bits_total == total);
    FUZZ_CHECK(alloc->hash == seam_alloc_hash(alloc->widths, C));
}

/* Deliver the open proposal and its answer as a network would. */
static void exchange(both_ends *e) {
    const seam_alloc *open = seam_site_unanswered(e->owner);
    if (open == NULL) {
        return;
    }
    seam_error err = {0};
    const uint64_t step_now = e->step > 0 ? e->step - 1 : 0;
    const seam_status st = seam_site_judge(e->peer, open->version, open->effective_step,
                                           open->widths, C, open->hash, step_now, &err);
    FUZZ_CHECK((st == SEAM_OK) == (err.text[0] == '\0'));
    if (st == SEAM_OK) {
        FUZZ_CHECK(seam_site_acked(e->owner, open->version) == SEAM_OK);
    }
}

static void step_next(both_ends *e) {
    const seam_alloc *mine = NULL, *theirs = NULL;
    exchange(e);
    if (seam_site_alloc_at(&mine, e->owner, e->step) != SEAM_OK) {
        FUZZ_CHECK(e->forged); /* an honest exchange always gets an ACK */
        return;
    }
    alloc_check(mine);
    if (seam_site_alloc_at(&theirs, e->peer, e->step) == SEAM_OK) {
        alloc_check(theirs);
        FUZZ_CHECK(e->forged || (mine->version == theirs->version && mine->hash == theirs->hash));
    } else {
        FUZZ_CHECK(e->forged);
    }
    e->step++;
}

static void judge_forged(both_ends *e, fuzz_input *input) {
    uint8_t widths[C];
    const uint32_t version = fuzz_u8(input);
    const uint64_t effective = e->step + fuzz_u8(input) % 8;
    fuzz_take(widths, C, input);
    const uint64_t hash = seam_alloc_hash(widths, C) ^ (fuzz_u8(input) & 1);
    seam_error err = {0};
    (void)seam_site_judge(e->peer, version, effective, widths, C, hash, e->step, &err);
    e->forged = true; /* refusals use up numbers too */
}

static void load_any(both_ends *e, fuzz_input *input) {
    uint8_t bytes[256], after[256];
    seam_site *site = (fuzz_u8(input) & 1) != 0 ? e->owner : e->peer;
    const size_t count = seam_site_state_bytes(site);
    FUZZ_CHECK(count <= sizeof bytes);
    seam_site_save(bytes, site);
    const uint8_t changes = fuzz_u8(input) % 5;
    for (uint8_t i = 0; i < changes; i++) {
        bytes[fuzz_u8(input) % count] ^= fuzz_u8(input);
        e->forged = true;
    }
    const seam_status st = seam_site_load(site, bytes, count);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE);
    FUZZ_CHECK(changes > 0 || st == SEAM_OK);
    seam_site_save(after, site);
    alloc_check(seam_site_alloc_now(site));
}

static void propose_any(both_ends *e, fuzz_input *input) {
    uint8_t widths[C];
    const seam_alloc *alloc = NULL;
    bool proposed = false;
    fuzz_take(widths, C, input);
    const uint64_t effective = e->step + 1 + fuzz_u8(input) % 4;
    if (seam_site_propose(&alloc, &proposed, e->owner, widths, effective) == SEAM_OK) {
        alloc_check(alloc);
    }
}

static void act(both_ends *e, fuzz_input *input) {
    const seam_alloc *found = NULL;
    const uint8_t action = fuzz_u8(input) % 8;
    if (action <= 1) {
        propose_any(e, input);
    } else if (action <= 3) {
        step_next(e);
    } else if (action == 4) {
        judge_forged(e, input);
    } else if (action == 5) {
        load_any(e, input);
    } else if (action == 6) {
        e->forged = true;
        (void)seam_site_acked(e->owner, fuzz_u8(input));
        (void)seam_site_nacked(e->owner, fuzz_u8(input), fuzz_u8(input), fuzz_u8(input));
    } else if (seam_site_alloc_find(&found, e->peer, fuzz_u8(input), fuzz_u32(input)) == SEAM_OK) {
        alloc_check(found);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    fuzz_input input = {data, count};
    both_ends e = {.owner = site_make(true), .peer = site_make(false)};
    for (int i = 0; i < ACTIONS_MAX && input.left > 0; i++) {
        act(&e, &input);
    }
    seam_site_destroy(e.owner);
    seam_site_destroy(e.peer);
    return 0;
}

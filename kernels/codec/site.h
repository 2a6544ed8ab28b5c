/* A site's bit allocation and its negotiation, the same code at both ends, free of I/O.
 *
 * The owner of a pair of sites (encoder of the forward one) proposes version v+1 for an effective
 * step; the peer answers ACK or NACK(bounds).  The switch happens exactly at that step, which waits
 * for the answer.  Two versions live: the one in force and the next.  SPEC 4, WIRE.md.
 *
 * Version 1 exists from CreateSession on (derived by both ends from the config: every width is
 * the start width, or the fixed one). */
#ifndef SEAM_SITE_H
#define SEAM_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "gates.h"
#include "seam_status.h"
#include "waterfill.h"

typedef struct seam_alloc {
    uint32_t version; /* from 1 */
    uint32_t bits_total;
    uint64_t effective_step;
    uint64_t hash;   /* seam_alloc_hash of the widths */
    uint8_t *widths; /* (P) */
} seam_alloc;

/* FNV-1a over their count (u32 LE) and the width bytes. */
uint64_t seam_alloc_hash(const uint8_t *widths, uint32_t width_count);

typedef struct seam_site_config {
    uint16_t site_id; /* of the forward site */
    seam_codec_id codec;
    uint32_t width_count;    /* P: the channels; of codec amaq_token the positions */
    uint8_t bits_fixed;      /* codecs with widths but no gates */
    seam_gates_config gates; /* amaq; of waterfill the bounds and the start only */
    bool waterfill;          /* amaq: the allocator, else gates */
    bool owner;
} seam_site_config;

typedef struct seam_site seam_site; /* owner: its allocator too */

/* SEAM_E_ARG (*err names the field), SEAM_E_UNIMPLEMENTED (a codec of a later release),
 * SEAM_E_MEMORY.  Afterwards no function here allocates.  One thread at a time. */
seam_status seam_site_create(seam_site **ret_site, const seam_site_config *config, seam_error *err);
void seam_site_destroy(seam_site *gift_site);
const seam_site_config *seam_site_config_of(const seam_site *site);
/* The allocator of an amaq site at its owner; else NULL. */
seam_gates *seam_site_gates(seam_site *site);
seam_waterfill *seam_site_waterfill(seam_site *site);

/* The allocation that `step` uses; SEAM_E_STATE while it waits for an answer, and for a step
 * before the switch to the version in force.  Steps never fall except by a rollback load.
 * f32/bf16: widths NULL, version 0, hash 0.  Pointers to allocations stay valid until the next
 * propose, judge or load. */
seam_status seam_site_alloc_at(const seam_alloc **ret_alloc, seam_site *site, uint64_t step);
/* The allocation in force, outside of any step (Generate). */
const seam_alloc *seam_site_alloc_now(const seam_site *site);
/* The newest allocation: the one not yet in force or without an answer, else the one in force. */
const seam_alloc *seam_site_alloc_newest(const seam_site *site);
/* Receiver of a frame: the live version with this number and hash.
 * SEAM_E_STATE (unknown version), SEAM_E_CONFLICT (hash differs). */
seam_status seam_site_alloc_find(const seam_alloc **ret_alloc, const seam_site *site,
                                 uint32_t version, uint64_t hash);

/* Owner of an amaq site: propose widths (clamped to the bounds) for `effective_step`.
 * *ret_proposed false (and nothing changed, *ret_alloc the newest) when the widths equal the
 * newest ones or a proposal is still unanswered or not yet in force.
 * SEAM_E_STATE: effective_step has begun (seam_site_alloc_at was asked for it). */
seam_status seam_site_propose(const seam_alloc **ret_alloc, bool *ret_proposed, seam_site *site,
                              const uint8_t *widths, uint64_t effective_step);
/* Owner: the proposal that still has no answer, to be sent again after a reconnect; or NULL. */
const seam_alloc *seam_site_unanswered(const seam_site *site);
/* Owner: the answer arrived.  A NACK drops the proposal (the version number is used up) and
 * narrows the bounds that later proposals are clamped to.  An ACK may arrive twice.
 * SEAM_E_STATE: no such proposal; SEAM_E_ARG: bounds outside 1..16 or that leave no width
 * (nothing changed). */
seam_status seam_site_acked(seam_site *site, uint32_t version);
seam_status seam_site_nacked(seam_site *site, uint32_t version, uint8_t bits_min, uint8_t bits_max);
/* Widths that this end accepts or, as owner, proposes. */
void seam_site_bounds(uint8_t *ret_bits_min, uint8_t *ret_bits_max, const seam_site *site);
/* Peer: judge a proposal; step_now: the latest step that has begun, 0 before the first (so no
 * proposal is effective at step 0).  SEAM_OK: ACK (again for the same version, step and hash);
 * SEAM_E_CONFLICT: same version, other content; SEAM_E_ARG: NACK (again for the same one), *err
 * says why, bounds as seam_site_bounds; SEAM_E_STATE: not a site of the peer's, wrong version
 * number, a step that is not in the future, or an accepted version that is not yet in force. */
seam_status seam_site_judge(seam_site *site, uint32_t version, uint64_t effective_step,
                            const uint8_t *widths, uint32_t width_count, uint64_t hash,
                            uint64_t step_now, seam_error *err);

/* Exact state (allocations, allocator, versions, bounds) for journals and checkpoints.
 * Load: SEAM_E_FORMAT, SEAM_E_NONFINITE for bytes that are not a state of this site's config; the
 * site is unchanged then. */
size_t seam_site_state_bytes(const seam_site *site);
void seam_site_save(uint8_t *ret, const seam_site *site);
seam_status seam_site_load(seam_site *site, const uint8_t *bytes, size_t count);

#endif

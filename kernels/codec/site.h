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

typedef struct seam_alloc {
    uint32_t version; /* from 1 */
    uint32_t bits_total;
    uint64_t effective_step;
    uint64_t hash;   /* seam_alloc_hash of the widths */
    uint8_t *widths; /* (C) */
} seam_alloc;

/* FNV-1a over channels (u32 LE) and the C width bytes. */
uint64_t seam_alloc_hash(const uint8_t *widths, uint32_t channels);

typedef struct seam_site_config {
    uint16_t site_id; /* of the forward site */
    seam_codec_id codec;
    uint32_t channels;
    uint8_t bits_fixed;      /* affine */
    seam_gates_config gates; /* amaq */
    bool owner;
} seam_site_config;

typedef struct seam_site seam_site; /* owner: gates too */

seam_status seam_site_create(seam_site **ret_site, const seam_site_config *config, seam_error *err);
void seam_site_destroy(seam_site *gift_site);
const seam_site_config *seam_site_config_of(const seam_site *site);
seam_gates *seam_site_gates(seam_site *site); /* owner of an amaq site, else NULL */

/* The allocation that `step` uses; SEAM_E_STATE while it waits for an answer. Steps never fall
 * except by a rollback load.  f32/bf16: widths NULL, version 0, hash 0. */
seam_status seam_site_alloc_at(const seam_alloc **ret_alloc, seam_site *site, uint64_t step);
/* Receiver of a frame: the live version with this number and hash.
 * SEAM_E_STATE (unknown version), SEAM_E_CONFLICT (hash differs). */
seam_status seam_site_alloc_find(const seam_alloc **ret_alloc, const seam_site *site,
                                 uint32_t version, uint64_t hash);

/* Owner: propose widths for `effective_step`.  *ret_proposed false (and nothing changed) when the
 * widths equal the newest ones or a proposal is still unanswered or not yet in force. */
seam_status seam_site_propose(const seam_alloc **ret_alloc, bool *ret_proposed, seam_site *site,
                              const uint8_t *widths, uint64_t effective_step);
/* Owner: the answer arrived.  A NACK drops the proposal (the version number is used up) and
 * narrows the bounds that later proposals are clamped to. */
seam_status seam_site_acked(seam_site *site, uint32_t version);
seam_status seam_site_nacked(seam_site *site, uint32_t version, uint8_t bits_min, uint8_t bits_max);
/* Peer: judge a proposal.  SEAM_OK: ACK (again for the same version and hash); SEAM_E_CONFLICT:
 * same version, other hash; SEAM_E_ARG: NACK, *err says why, bounds as in config;
 * SEAM_E_STATE: wrong version number or a step that is not in the future. */
seam_status seam_site_judge(seam_site *site, uint32_t version, uint64_t effective_step,
                            const uint8_t *widths, uint32_t channels, uint64_t hash,
                            uint64_t step_now, seam_error *err);

/* Exact state (allocations, gates, versions) for journals and checkpoints. */
size_t seam_site_state_bytes(const seam_site *site);
void seam_site_save(uint8_t *ret, const seam_site *site);
seam_status seam_site_load(seam_site *site, const uint8_t *bytes, size_t count);

#endif

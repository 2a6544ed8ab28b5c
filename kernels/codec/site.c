/* A site's allocations and their negotiation: see site.h.
 *
 * Two slots.  `now` is the index of the version in force; the other slot holds the next one while
 * `next` says so.  An accepted version switches when its step is reached: at the owner in
 * seam_site_alloc_at, at the peer there or when a proposal after it arrives. */
#include "site.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "try.h"

/* Values stand in saved states. */
typedef enum next_state {
    NEXT_NONE = 0,
    NEXT_PROPOSED = 1, /* owner: sent, no answer yet */
    NEXT_ACCEPTED = 2, /* agreed; not yet in force */
} next_state;

struct seam_site {
    seam_site_config config;
    seam_gates gates;         /* q NULL: not the owner of an amaq site with gates */
    seam_waterfill waterfill; /* weights NULL: not the owner of one with waterfill */
    seam_alloc slots[2];
    uint32_t now;
    next_state next;
    uint32_t version_last; /* highest number used, refused ones too */
    uint8_t bits_min, bits_max;
    uint64_t step_bound; /* steps below have begun */
    /* Peer: the latest proposal that was refused, to refuse it again alike. 0: none. */
    uint32_t refused_version;
    uint64_t refused_hash;
    uint8_t *memory; /* both slots' widths */
};

uint64_t seam_alloc_hash(const uint8_t *widths, uint32_t width_count) {
    uint8_t head[4];
    seam_put_u32(head, width_count);
    return seam_hash64(seam_hash64(SEAM_HASH64_INIT, head, sizeof head), widths, width_count);
}

static bool has_widths(const seam_site *site) {
    return seam_codec_has_widths(site->config.codec);
}

static bool is_negotiated(const seam_site *site) {
    return seam_codec_has_gates(site->config.codec);
}

static uint32_t widths_total(const uint8_t *widths, uint32_t width_count) {
    uint32_t total = 0; /* at most 2^20 */
    for (uint32_t c = 0; c < width_count; c++) {
        total += widths[c];
    }
    return total;
}

/* Number, step, total and hash of a slot whose widths are in place. */
static void slot_finish(seam_alloc *slot, uint32_t width_count, uint32_t version, uint64_t step) {
    slot->version = version;
    slot->effective_step = step;
    slot->bits_total = widths_total(slot->widths, width_count);
    slot->hash = seam_alloc_hash(slot->widths, width_count);
}

/* ---- create ---- */

static seam_status config_check(const seam_site_config *config, seam_error *err) {
    const char *name = seam_codec_name(config->codec);
    if (name == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "codec %d: unknown", (int)config->codec);
    }
    if (!seam_codec_is_implemented(config->codec)) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED, "codec %s: not implemented", name);
    }
    if (config->width_count < 1 || config->width_count > SEAM_CHANNELS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "width_count: %u is not in 1..%u",
                              config->width_count, SEAM_CHANNELS_MAX);
    }
    if (seam_codec_has_gates(config->codec)) {
        return seam_gates_config_check(&config->gates, err);
    }
    if (seam_codec_has_widths(config->codec) &&
        (config->bits_fixed < 1 || config->bits_fixed > SEAM_BITS_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "codec.bits %u: outside 1..%d", config->bits_fixed,
                              SEAM_BITS_MAX);
    }
    return SEAM_OK;
}

static seam_status site_alloc(seam_site *site) {
    const seam_site_config *config = &site->config;
    if (!has_widths(site)) {
        return SEAM_OK;
    }
    site->memory = seam_mem_zalloc(2, config->width_count);
    if (site->memory == NULL) {
        return SEAM_E_MEMORY;
    }
    site->slots[0].widths = site->memory;
    site->slots[1].widths = site->memory + config->width_count;
    if (is_negotiated(site) && config->owner) {
        return config->waterfill
                   ? seam_waterfill_init(&site->waterfill, config->width_count)
                   : seam_gates_init(&site->gates, &config->gates, config->width_count);
    }
    return SEAM_OK;
}

seam_status seam_site_create(seam_site **ret_site, const seam_site_config *config,
                             seam_error *err) {
    SEAM_TRY(config_check(config, err));
    seam_site *site = seam_mem_zalloc(1, sizeof *site);
    if (site == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for site %u", config->site_id);
    }
    site->config = *config;
    site->config.waterfill = config->waterfill && is_negotiated(site);
    if (site_alloc(site) != SEAM_OK) {
        seam_site_destroy(site);
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for site %u", config->site_id);
    }
    if (is_negotiated(site)) {
        site->bits_min = (uint8_t)ceilf(config->gates.bits_min);
        site->bits_max = (uint8_t)floorf(config->gates.bits_max);
    } else if (has_widths(site)) {
        site->bits_min = config->bits_fixed;
        site->bits_max = config->bits_fixed;
    }
    if (has_widths(site)) {
        uint8_t width = config->bits_fixed;
        if (is_negotiated(site)) {
            const float start = rintf(config->gates.bits_start); /* ties to even */
            width = (uint8_t)fminf(fmaxf(start, site->bits_min), site->bits_max);
        }
        memset(site->slots[0].widths, width, config->width_count);
        slot_finish(&site->slots[0], config->width_count, 1, 0);
        site->version_last = 1;
    }
    *ret_site = site;
    return SEAM_OK;
}

void seam_site_destroy(seam_site *gift_site) {
    if (gift_site == NULL) {
        return;
    }
    seam_gates_deinit(&gift_site->gates);
    seam_waterfill_deinit(&gift_site->waterfill);
    seam_mem_free(gift_site->memory);
    seam_mem_free(gift_site);
}

const seam_site_config *seam_site_config_of(const seam_site *site) {
    return &site->config;
}

seam_gates *seam_site_gates(seam_site *site) {
    return site->gates.q != NULL ? &site->gates : NULL;
}

seam_waterfill *seam_site_waterfill(seam_site *site) {
    return site->waterfill.weights != NULL ? &site->waterfill : NULL;
}

void seam_site_bounds(uint8_t *ret_bits_min, uint8_t *ret_bits_max, const seam_site *site) {
    *ret_bits_min = site->bits_min;
    *ret_bits_max = site->bits_max;
}

/* ---- versions ---- */

static seam_alloc *slot_now(seam_site *site) {
    return &site->slots[site->now];
}

static seam_alloc *slot_next(seam_site *site) {
    return &site->slots[site->now ^ 1];
}

/* Switch to an accepted version whose step is reached. */
static void next_promote(seam_site *site, uint64_t step) {
    if (site->next == NEXT_ACCEPTED && step >= slot_next(site)->effective_step) {
        site->now ^= 1;
        site->next = NEXT_NONE;
    }
}

seam_status seam_site_alloc_at(const seam_alloc **ret_alloc, seam_site *site, uint64_t step) {
    if (site->next == NEXT_PROPOSED && step >= slot_next(site)->effective_step) {
        return SEAM_E_STATE; /* waits for ACK or NACK */
    }
    next_promote(site, step);
    if (step < slot_now(site)->effective_step) {
        return SEAM_E_STATE;
    }
    if (step >= site->step_bound && step < UINT64_MAX) {
        site->step_bound = step + 1;
    }
    *ret_alloc = slot_now(site);
    return SEAM_OK;
}

const seam_alloc *seam_site_alloc_now(const seam_site *site) {
    return &site->slots[site->now];
}

const seam_alloc *seam_site_alloc_newest(const seam_site *site) {
    return &site->slots[site->next != NEXT_NONE ? site->now ^ 1 : site->now];
}

seam_status seam_site_alloc_find(const seam_alloc **ret_alloc, const seam_site *site,
                                 uint32_t version, uint64_t hash) {
    const seam_alloc *found = NULL;
    if (site->slots[site->now].version == version) {
        found = &site->slots[site->now];
    } else if (site->next != NEXT_NONE && site->slots[site->now ^ 1].version == version) {
        found = &site->slots[site->now ^ 1];
    }
    if (found == NULL) {
        return SEAM_E_STATE;
    }
    if (found->hash != hash) {
        return SEAM_E_CONFLICT;
    }
    *ret_alloc = found;
    return SEAM_OK;
}

/* ---- owner ---- */

seam_status seam_site_propose(const seam_alloc **ret_alloc, bool *ret_proposed, seam_site *site,
                              const uint8_t *widths, uint64_t effective_step) {
    SEAM_ASSERT(is_negotiated(site));
    SEAM_ASSERT(site->config.owner);
    const uint32_t P = site->config.width_count;
    if (site->next != NEXT_NONE) {
        *ret_alloc = slot_next(site);
        *ret_proposed = false;
        return SEAM_OK;
    }
    if (effective_step < site->step_bound || site->version_last == UINT32_MAX) {
        return SEAM_E_STATE;
    }
    seam_alloc *slot = slot_next(site); /* free: its content may be overwritten */
    for (uint32_t c = 0; c < P; c++) {
        const uint8_t raised = widths[c] < site->bits_min ? site->bits_min : widths[c];
        slot->widths[c] = raised > site->bits_max ? site->bits_max : raised;
    }
    if (memcmp(slot->widths, slot_now(site)->widths, P) == 0) {
        *ret_alloc = slot_now(site);
        *ret_proposed = false;
        return SEAM_OK;
    }
    site->version_last++;
    slot_finish(slot, P, site->version_last, effective_step);
    site->next = NEXT_PROPOSED;
    *ret_alloc = slot;
    *ret_proposed = true;
    return SEAM_OK;
}

const seam_alloc *seam_site_unanswered(const seam_site *site) {
    return site->next == NEXT_PROPOSED ? &site->slots[site->now ^ 1] : NULL;
}

seam_status seam_site_acked(seam_site *site, uint32_t version) {
    if (site->next == NEXT_PROPOSED && slot_next(site)->version == version) {
        site->next = NEXT_ACCEPTED;
        return SEAM_OK;
    }
    const bool again = site->config.owner && is_negotiated(site) && version > 1 &&
                       ((site->next == NEXT_ACCEPTED && slot_next(site)->version == version) ||
                        slot_now(site)->version == version);
    return again ? SEAM_OK : SEAM_E_STATE;
}

seam_status seam_site_nacked(seam_site *site, uint32_t version, uint8_t bits_min,
                             uint8_t bits_max) {
    if (site->next != NEXT_PROPOSED || slot_next(site)->version != version) {
        return SEAM_E_STATE;
    }
    const uint8_t low = bits_min > site->bits_min ? bits_min : site->bits_min;
    const uint8_t high = bits_max < site->bits_max ? bits_max : site->bits_max;
    if (bits_min < 1 || bits_max > SEAM_BITS_MAX || low > high) {
        return SEAM_E_ARG;
    }
    site->bits_min = low;
    site->bits_max = high;
    site->next = NEXT_NONE;
    return SEAM_OK;
}

/* ---- peer ---- */

/* Why the content of a proposal is refused; SEAM_OK if it is not. */
static seam_status proposal_check(const seam_site *site, const uint8_t *widths,
                                  uint32_t width_count, uint64_t hash, seam_error *err) {
    if (width_count != site->config.width_count) {
        return seam_error_set(err, SEAM_E_ARG, "widths: %u of them, site %u has %u", width_count,
                              site->config.site_id, site->config.width_count);
    }
    for (uint32_t c = 0; c < width_count; c++) {
        if (widths[c] < site->bits_min || widths[c] > site->bits_max) {
            return seam_error_set(err, SEAM_E_ARG, "widths[%u] %u: outside %u..%u", c, widths[c],
                                  site->bits_min, site->bits_max);
        }
    }
    if (hash != seam_alloc_hash(widths, width_count)) {
        return seam_error_set(err, SEAM_E_ARG, "hash: not that of the widths");
    }
    return SEAM_OK;
}

/* A proposal whose number was judged before: the same answer for the same content. */
static seam_status judge_again(seam_site *site, uint32_t version, uint64_t effective_step,
                               uint64_t hash, seam_error *err) {
    const bool refused = version != 0 && version == site->refused_version;
    if (refused && hash == site->refused_hash) {
        return seam_error_set(err, SEAM_E_ARG, "version %u: refused before", version);
    }
    const seam_alloc *live = NULL;
    if (version > 1 && version == slot_now(site)->version) {
        live = slot_now(site);
    } else if (site->next == NEXT_ACCEPTED && version == slot_next(site)->version) {
        live = slot_next(site);
    }
    if (live != NULL && live->hash == hash && live->effective_step == effective_step) {
        return SEAM_OK;
    }
    if (live != NULL || refused) {
        return seam_error_set(err, SEAM_E_CONFLICT,
                              "version %u: proposed before with other content", version);
    }
    return seam_error_set(err, SEAM_E_STATE, "version %u: not the next one, %u", version,
                          site->version_last + 1);
}

seam_status seam_site_judge(seam_site *site, uint32_t version, uint64_t effective_step,
                            const uint8_t *widths, uint32_t width_count, uint64_t hash,
                            uint64_t step_now, seam_error *err) {
    if (!is_negotiated(site) || site->config.owner) {
        return seam_error_set(err, SEAM_E_STATE, "site %u: its allocation is not the peer's",
                              site->config.site_id);
    }
    if (version <= site->version_last) {
        return judge_again(site, version, effective_step, hash, err);
    }
    if (version - 1 != site->version_last) {
        return seam_error_set(err, SEAM_E_STATE, "version %u: not the next one, %u", version,
                              site->version_last + 1);
    }
    if (effective_step <= step_now || effective_step < site->step_bound) {
        return seam_error_set(err, SEAM_E_STATE, "effective_step %llu: not in the future",
                              (unsigned long long)effective_step);
    }
    next_promote(site, step_now);
    if (site->next != NEXT_NONE) {
        return seam_error_set(err, SEAM_E_STATE, "version %u: version %u is not yet in force",
                              version, slot_next(site)->version);
    }
    const seam_status st = proposal_check(site, widths, width_count, hash, err);
    site->version_last = version;
    if (st != SEAM_OK) {
        site->refused_version = version;
        site->refused_hash = hash;
        return st;
    }
    seam_alloc *slot = slot_next(site);
    memcpy(slot->widths, widths, width_count);
    slot_finish(slot, width_count, version, effective_step);
    site->next = NEXT_ACCEPTED;
    return SEAM_OK;
}

/* ---- state ----
 *
 *   off size                        off size
 *     0    4  format = 1             24    4  version_last
 *     4    2  site id                28    4  refused_version
 *     6    1  codec                  32    8  refused_hash
 *     7    1  owner                  40   12  slot in force: version u32, effective_step u64
 *     8    4  width_count P         52   12  the other slot
 *    12    1  next state             64    P  widths in force    } codecs with widths
 *    13    2  bits_min, bits_max    64+P   P  widths of the other }
 *    15    1  0 gates, 1 waterfill         G  that allocator (owner of amaq)
 *    16    8  step_bound                                                                   */

#define STATE_FORMAT     1u
#define STATE_HEAD_BYTES 64u

size_t seam_site_state_bytes(const seam_site *site) {
    const size_t P = site->config.width_count;
    size_t allocator_bytes = 0;
    if (site->gates.q != NULL) {
        allocator_bytes = seam_gates_state_bytes((uint32_t)P);
    } else if (site->waterfill.weights != NULL) {
        allocator_bytes = seam_waterfill_state_bytes((uint32_t)P);
    }
    return STATE_HEAD_BYTES + (has_widths(site) ? 2 * P : 0) + allocator_bytes;
}

static void slot_save(uint8_t *ret, const seam_alloc *slot) {
    seam_put_u32(ret, slot->version);
    seam_put_u64(ret + 4, slot->effective_step);
}

void seam_site_save(uint8_t *ret, const seam_site *site) {
    const size_t P = site->config.width_count;
    const seam_alloc *now = &site->slots[site->now];
    /* A slot that is not in use is saved as zeros, so that equal states are equal bytes. */
    const seam_alloc *next = site->next != NEXT_NONE ? &site->slots[site->now ^ 1] : NULL;
    memset(ret, 0, seam_site_state_bytes(site));
    seam_put_u32(ret, STATE_FORMAT);
    seam_put_u16(ret + 4, site->config.site_id);
    ret[6] = (uint8_t)site->config.codec;
    ret[7] = site->config.owner ? 1 : 0;
    seam_put_u32(ret + 8, site->config.width_count);
    ret[12] = (uint8_t)site->next;
    ret[13] = site->bits_min;
    ret[14] = site->bits_max;
    ret[15] = site->config.waterfill ? 1 : 0;
    seam_put_u64(ret + 16, site->step_bound);
    seam_put_u32(ret + 24, site->version_last);
    seam_put_u32(ret + 28, site->refused_version);
    seam_put_u64(ret + 32, site->refused_hash);
    slot_save(ret + 40, now);
    if (!has_widths(site)) {
        return;
    }
    memcpy(ret + STATE_HEAD_BYTES, now->widths, P);
    if (next != NULL) {
        slot_save(ret + 52, next);
        memcpy(ret + STATE_HEAD_BYTES + P, next->widths, P);
    }
    if (site->gates.q != NULL) {
        seam_gates_save(ret + STATE_HEAD_BYTES + 2 * P, &site->gates);
    } else if (site->waterfill.weights != NULL) {
        seam_waterfill_save(ret + STATE_HEAD_BYTES + 2 * P, &site->waterfill);
    }
}

/* The config that the bytes were saved under, and the small fields. */
static bool state_head_valid(const seam_site *site, const uint8_t *bytes) {
    const bool same =
        seam_get_u32(bytes) == STATE_FORMAT && seam_get_u16(bytes + 4) == site->config.site_id &&
        bytes[6] == (uint8_t)site->config.codec && bytes[7] == (site->config.owner ? 1 : 0) &&
        seam_get_u32(bytes + 8) == site->config.width_count &&
        bytes[15] == (site->config.waterfill ? 1 : 0);
    const uint32_t version_now = seam_get_u32(bytes + 40);
    const uint32_t version_next = seam_get_u32(bytes + 52);
    const uint32_t version_last = seam_get_u32(bytes + 24);
    if (!same || bytes[12] > NEXT_ACCEPTED || version_now > version_last) {
        return false;
    }
    if (!is_negotiated(site)) {
        return bytes[12] == NEXT_NONE && version_last == site->version_last &&
               version_now == version_last && bytes[13] == site->bits_min &&
               bytes[14] == site->bits_max;
    }
    const bool bounds = bytes[13] >= 1 && bytes[13] <= bytes[14] && bytes[14] <= SEAM_BITS_MAX;
    const bool next = bytes[12] == NEXT_NONE
                          ? version_next == 0
                          : version_next > version_now && version_next <= version_last;
    const bool role = site->config.owner || bytes[12] != NEXT_PROPOSED;
    return bounds && next && role && version_now >= 1;
}

static bool widths_valid(const seam_site *site, const uint8_t *widths) {
    const uint8_t low = is_negotiated(site) ? 1 : site->config.bits_fixed;
    const uint8_t high = is_negotiated(site) ? SEAM_BITS_MAX : site->config.bits_fixed;
    for (uint32_t c = 0; c < site->config.width_count; c++) {
        if (widths[c] < low || widths[c] > high) {
            return false;
        }
    }
    return true;
}

seam_status seam_site_load(seam_site *site, const uint8_t *bytes, size_t count) {
    const uint32_t P = site->config.width_count;
    if (count != seam_site_state_bytes(site) || !state_head_valid(site, bytes)) {
        return SEAM_E_FORMAT;
    }
    const uint8_t *widths = bytes + STATE_HEAD_BYTES;
    const next_state next = (next_state)bytes[12];
    if (has_widths(site) &&
        (!widths_valid(site, widths) || (next != NEXT_NONE && !widths_valid(site, widths + P)))) {
        return SEAM_E_FORMAT;
    }
    const size_t head_bytes = STATE_HEAD_BYTES + 2 * (size_t)P;
    if (site->gates.q != NULL) { /* the last check: it changes the allocator when it passes */
        SEAM_TRY(seam_gates_load(&site->gates, bytes + head_bytes, count - head_bytes));
    } else if (site->waterfill.weights != NULL) {
        SEAM_TRY(seam_waterfill_load(&site->waterfill, bytes + head_bytes, count - head_bytes));
    }
    site->now = 0;
    site->next = next;
    site->bits_min = bytes[13];
    site->bits_max = bytes[14];
    site->step_bound = seam_get_u64(bytes + 16);
    site->version_last = seam_get_u32(bytes + 24);
    site->refused_version = seam_get_u32(bytes + 28);
    site->refused_hash = seam_get_u64(bytes + 32);
    if (!has_widths(site)) {
        return SEAM_OK;
    }
    memcpy(site->memory, widths, 2 * (size_t)P);
    for (uint32_t i = 0; i < 2; i++) {
        site->slots[i].widths = site->memory + (size_t)i * P;
        const uint8_t *slot = bytes + 40 + 12 * (size_t)i;
        slot_finish(&site->slots[i], P, seam_get_u32(slot), seam_get_u64(slot + 4));
    }
    return SEAM_OK;
}

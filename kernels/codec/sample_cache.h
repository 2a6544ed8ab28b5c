/* What is kept of each sample between its visits, under a cap of bytes: the store behind codec
 * aqsgd.  SPEC 3.2.
 *
 * The caller gives the storage (memory, or a mapped file; on disk it is kept by cache_keeper.h). It
 * is cut into blocks of one size, one for a stored row, and an entry is a chain of them: entries of
 * any length come and go without gaps, so that what fits depends on the cap alone.  The least
 * recently used entry makes room.  Everything is a function of the calls, so two ends that make the
 * same calls hold the same entries.
 *
 * Pure C, no allocation after create; one thread at a time. */
#ifndef SEAM_SAMPLE_CACHE_H
#define SEAM_SAMPLE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_CACHE_NONE        UINT32_MAX
#define SEAM_CACHE_ENTRIES_MAX (1u << 20)

typedef struct seam_sample_cache seam_sample_cache;

/* Bookkeeping that create takes beside the storage, for plans. */
size_t seam_sample_cache_memory_bytes(size_t storage_bytes, size_t block_bytes);
/* storage: storage_bytes of it, borrowed for the cache's life; contents do not matter.
 * SEAM_E_MEMORY; SEAM_E_LIMIT: more than 2^32 - 2 blocks. */
seam_status seam_sample_cache_create(seam_sample_cache **ret_cache, uint8_t *storage,
                                     size_t storage_bytes, size_t block_bytes);
void seam_sample_cache_destroy(seam_sample_cache *gift_cache);

/* The entry of a sample, or SEAM_CACHE_NONE; a look does not count as use. */
uint32_t seam_sample_cache_find(const seam_sample_cache *cache, uint64_t sample_id);
/* An entry for the sample, most recently used, of `block_count` blocks (at least 1) whose contents
 * are unspecified.  An entry that it had is replaced (its blocks stay if their count does); least
 * recently used ones make room.  SEAM_CACHE_NONE: more blocks than there are; the sample has no
 * entry then, and no other one has gone. */
uint32_t seam_sample_cache_put(seam_sample_cache *cache, uint64_t sample_id, uint32_t block_count);

/* No entries any more. */
void seam_sample_cache_clear(seam_sample_cache *cache);

/* What the user of an entry notes in it; zero after a put of another block count. */
typedef struct seam_cache_note {
    uint32_t rows;
    uint32_t tag;
    uint64_t mark;
} seam_cache_note;
seam_cache_note *seam_sample_cache_note(seam_sample_cache *cache, uint32_t entry);
/* Blocks of an entry in order: the first, and the one behind `block`. */
uint32_t seam_sample_cache_block_first(const seam_sample_cache *cache, uint32_t entry);
uint32_t seam_sample_cache_block_next(const seam_sample_cache *cache, uint32_t block);
uint8_t *seam_sample_cache_bytes(seam_sample_cache *cache, uint32_t block);

uint32_t seam_sample_cache_entry_count(const seam_sample_cache *cache);
/* Bytes of the storage that entries take. */
size_t seam_sample_cache_used_bytes(const seam_sample_cache *cache);

/* All entries from the least recently used on: putting them in this order into an empty cache makes
 * the same one.  SEAM_CACHE_NONE: no (other) entry. */
uint32_t seam_sample_cache_oldest(const seam_sample_cache *cache);
uint32_t seam_sample_cache_newer(const seam_sample_cache *cache, uint32_t entry);
uint64_t seam_sample_cache_sample_id(const seam_sample_cache *cache, uint32_t entry);

#endif

/* Blocks in chains, entries in a hash table and in a list by use; see sample_cache.h. */
#include "sample_cache.h"

#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "try.h"

#define NONE SEAM_CACHE_NONE

typedef struct cache_entry {
    uint64_t sample_id;
    seam_cache_note note;
    uint32_t block_first, block_last, block_count;
    uint32_t newer, older; /* list by use */
    uint32_t chain;        /* next entry of the bucket, or next free one */
} cache_entry;

struct seam_sample_cache {
    uint8_t *storage;
    size_t block_bytes;
    uint32_t block_count, entries_max, bucket_mask;
    uint32_t *next; /* (block_count): of a chain or of the free list */
    cache_entry *entries;
    uint32_t *buckets;
    uint32_t block_free, entry_free;
    uint32_t blocks_left, entry_count;
    uint32_t newest, oldest;
};

/* ---- create ---- */

static uint32_t bucket_count(uint32_t entries_max) {
    uint32_t buckets = 1;
    while (buckets < entries_max) {
        buckets *= 2;
    }
    return buckets;
}

/* Views into an arena, which may be one that only plans. */
static void carve(seam_sample_cache *c, seam_arena *arena) {
    c->entries_max =
        c->block_count < SEAM_CACHE_ENTRIES_MAX ? c->block_count : SEAM_CACHE_ENTRIES_MAX;
    const uint32_t buckets = bucket_count(c->entries_max);
    c->bucket_mask = buckets - 1;
    c->next = seam_arena_take(arena, (size_t)c->block_count * sizeof *c->next);
    c->entries = seam_arena_take(arena, (size_t)c->entries_max * sizeof *c->entries);
    c->buckets = seam_arena_take(arena, (size_t)buckets * sizeof *c->buckets);
}

size_t seam_sample_cache_memory_bytes(size_t storage_bytes, size_t block_bytes) {
    SEAM_ASSERT(block_bytes >= 1);
    const size_t blocks = storage_bytes / block_bytes;
    seam_sample_cache sketch = {.block_count = blocks < NONE ? (uint32_t)blocks : NONE - 1};
    seam_arena planning = {0};
    (void)seam_arena_take(&planning, sizeof sketch);
    carve(&sketch, &planning);
    return planning.used_bytes;
}

seam_status seam_sample_cache_create(seam_sample_cache **ret_cache, uint8_t *storage,
                                     size_t storage_bytes, size_t block_bytes) {
    SEAM_ASSERT(block_bytes >= 1);
    if (storage_bytes / block_bytes >= NONE) {
        return SEAM_E_LIMIT;
    }
    seam_arena arena = {0};
    SEAM_TRY(seam_arena_init(&arena, seam_sample_cache_memory_bytes(storage_bytes, block_bytes)));
    seam_sample_cache *c = seam_arena_take(&arena, sizeof *c); /* stands first: destroy frees it */
    c->storage = storage;
    c->block_bytes = block_bytes;
    c->block_count = (uint32_t)(storage_bytes / block_bytes);
    carve(c, &arena);
    seam_sample_cache_clear(c);
    *ret_cache = c;
    return SEAM_OK;
}

void seam_sample_cache_clear(seam_sample_cache *cache) {
    seam_sample_cache *const c = cache;
    for (uint32_t i = 0; i < c->block_count; i++) {
        c->next[i] = i + 1 < c->block_count ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i < c->entries_max; i++) {
        c->entries[i].chain = i + 1 < c->entries_max ? i + 1 : NONE;
    }
    memset(c->buckets, 0xff, ((size_t)c->bucket_mask + 1) * sizeof *c->buckets); /* NONE */
    c->block_free = c->block_count > 0 ? 0 : NONE;
    c->entry_free = c->entries_max > 0 ? 0 : NONE;
    c->blocks_left = c->block_count;
    c->newest = c->oldest = NONE;
    c->entry_count = 0;
}

void seam_sample_cache_destroy(seam_sample_cache *gift_cache) {
    seam_mem_free(gift_cache); /* the base of its arena */
}

/* ---- find ---- */

static uint32_t *bucket_of(const seam_sample_cache *c, uint64_t sample_id) {
    uint8_t bytes[8];
    seam_put_u64(bytes, sample_id);
    return &c->buckets[seam_hash64(SEAM_HASH64_INIT, bytes, sizeof bytes) & c->bucket_mask];
}

uint32_t seam_sample_cache_find(const seam_sample_cache *cache, uint64_t sample_id) {
    uint32_t at = *bucket_of(cache, sample_id);
    while (at != NONE && cache->entries[at].sample_id != sample_id) {
        at = cache->entries[at].chain;
    }
    return at;
}

/* ---- list by use ---- */

static void list_take(seam_sample_cache *c, uint32_t at) {
    const cache_entry *entry = &c->entries[at];
    *(entry->newer != NONE ? &c->entries[entry->newer].older : &c->newest) = entry->older;
    *(entry->older != NONE ? &c->entries[entry->older].newer : &c->oldest) = entry->newer;
}

static void list_put(seam_sample_cache *c, uint32_t at) {
    cache_entry *entry = &c->entries[at];
    entry->newer = NONE;
    entry->older = c->newest;
    *(c->newest != NONE ? &c->entries[c->newest].newer : &c->oldest) = at;
    c->newest = at;
}

/* ---- put ---- */

static void entry_remove(seam_sample_cache *c, uint32_t at) {
    cache_entry *entry = &c->entries[at];
    list_take(c, at);
    uint32_t *link = bucket_of(c, entry->sample_id);
    while (*link != at) {
        link = &c->entries[*link].chain;
    }
    *link = entry->chain;
    c->next[entry->block_last] = c->block_free;
    c->block_free = entry->block_first;
    c->blocks_left += entry->block_count;
    entry->chain = c->entry_free;
    c->entry_free = at;
    c->entry_count--;
}

static uint32_t entry_add(seam_sample_cache *c, uint64_t sample_id, uint32_t block_count) {
    const uint32_t at = c->entry_free;
    cache_entry *entry = &c->entries[at];
    c->entry_free = entry->chain;
    uint32_t last = c->block_free;
    for (uint32_t i = 1; i < block_count; i++) {
        last = c->next[last];
    }
    uint32_t *const bucket = bucket_of(c, sample_id);
    *entry = (cache_entry){.sample_id = sample_id,
                           .block_first = c->block_free,
                           .block_last = last,
                           .block_count = block_count,
                           .chain = *bucket};
    *bucket = at;
    c->block_free = c->next[last];
    c->next[last] = NONE;
    c->blocks_left -= block_count;
    c->entry_count++;
    list_put(c, at);
    return at;
}

uint32_t seam_sample_cache_put(seam_sample_cache *cache, uint64_t sample_id, uint32_t block_count) {
    SEAM_ASSERT(block_count >= 1);
    const uint32_t at = seam_sample_cache_find(cache, sample_id);
    if (at != NONE && cache->entries[at].block_count == block_count) {
        list_take(cache, at);
        list_put(cache, at);
        return at;
    }
    if (at != NONE) {
        entry_remove(cache, at);
    }
    if (block_count > cache->block_count) {
        return NONE;
    }
    while (cache->blocks_left < block_count || cache->entry_free == NONE) {
        entry_remove(cache, cache->oldest);
    }
    return entry_add(cache, sample_id, block_count);
}

/* ---- entries ---- */

seam_cache_note *seam_sample_cache_note(seam_sample_cache *cache, uint32_t entry) {
    return &cache->entries[entry].note;
}

uint32_t seam_sample_cache_block_first(const seam_sample_cache *cache, uint32_t entry) {
    return cache->entries[entry].block_first;
}

uint32_t seam_sample_cache_block_next(const seam_sample_cache *cache, uint32_t block) {
    return cache->next[block];
}

uint8_t *seam_sample_cache_bytes(seam_sample_cache *cache, uint32_t block) {
    return cache->storage + (size_t)block * cache->block_bytes;
}

uint32_t seam_sample_cache_entry_count(const seam_sample_cache *cache) {
    return cache->entry_count;
}

size_t seam_sample_cache_used_bytes(const seam_sample_cache *cache) {
    return (size_t)(cache->block_count - cache->blocks_left) * cache->block_bytes;
}

uint32_t seam_sample_cache_oldest(const seam_sample_cache *cache) {
    return cache->oldest;
}

uint32_t seam_sample_cache_newer(const seam_sample_cache *cache, uint32_t entry) {
    return cache->entries[entry].newer;
}

uint64_t seam_sample_cache_sample_id(const seam_sample_cache *cache, uint32_t entry) {
    return cache->entries[entry].sample_id;
}

/* Memory: the only place of the tree that calls malloc, and arenas of planned memory.
 *
 * Every allocation can be made to fail by a test: seam_mem_fail_after(n) lets n allocations
 * pass and fails the next one (process-wide, for tests only). */
#ifndef SEAM_ARENA_H
#define SEAM_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

/* All return NULL on failure, also for a product that overflows; memory is 64-byte aligned
 * where the name says so. Zero bytes give a unique pointer. Any thread. */
void *seam_mem_alloc(size_t bytes);
void *seam_mem_zalloc(size_t count, size_t item_bytes);
void *seam_mem_realloc(void *gift_ptr, size_t bytes); /* not for aligned memory */
void *seam_mem_alloc_aligned(size_t bytes);           /* 64-byte aligned, zeroed; free as usual */
/* Whole huge pages (2 MiB each) where the system gives them, zeroed; free as usual. */
void *seam_mem_alloc_huge(size_t bytes);
char *seam_mem_strdup(const char *text);
void seam_mem_free(void *gift_ptr); /* NULL is fine */
/* Let `count` allocations succeed, then fail one; negative switches the fault off. Tests only. */
void seam_mem_fail_after(int64_t count);

/* a*b, and a*b*c, in bytes: false (and *ret untouched) on overflow. */
_Bool seam_mul_bytes(size_t *ret_bytes, size_t a, size_t b);
_Bool seam_mul3_bytes(size_t *ret_bytes, size_t a, size_t b, size_t c);

/* A block of planned memory from which views are carved and never freed one by one.
 * Plan with the same calls on an arena without memory (base NULL): `used_bytes` is then the
 * plan. */
typedef struct seam_arena {
    uint8_t *base;         /* 64-byte aligned, or NULL while planning */
    size_t capacity_bytes; /* 0 while planning */
    size_t used_bytes;     /* multiple of 64 */
} seam_arena;

/* Takes `capacity_bytes` (zeroed). SEAM_E_MEMORY. */
seam_status seam_arena_init(seam_arena *arena, size_t capacity_bytes);
void seam_arena_deinit(seam_arena *arena);
/* The next `bytes`, 64-byte aligned; NULL while planning or when the arena is full (which is a
 * bug of the plan: callers assert). */
void *seam_arena_take(seam_arena *arena, size_t bytes);

#endif

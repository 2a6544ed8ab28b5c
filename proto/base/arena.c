/* Memory: see arena.h.  Aligned and plain blocks come from the same allocator, so one free
 * serves both. */
#include "arena.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "try.h"

#define ALIGNMENT       64
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

/* Below zero: no fault planned.  Process-wide, written by tests only. */
static _Atomic int64_t fail_countdown = -1;

static bool fault_now(void) {
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) < 0) {
        return false;
    }
    return atomic_fetch_sub(&fail_countdown, 1) == 0;
}

void seam_mem_fail_after(int64_t count) {
    atomic_store(&fail_countdown, count);
}

void *seam_mem_alloc(size_t bytes) {
    return fault_now() ? NULL : malloc(bytes != 0 ? bytes : 1);
}

void *seam_mem_zalloc(size_t count, size_t item_bytes) {
    size_t bytes = 0;
    if (!seam_mul_bytes(&bytes, count, item_bytes) || fault_now()) {
        return NULL;
    }
    return calloc(1, bytes != 0 ? bytes : 1);
}

void *seam_mem_realloc(void *gift_ptr, size_t bytes) {
    return fault_now() ? NULL : realloc(gift_ptr, bytes != 0 ? bytes : 1);
}

void *seam_mem_alloc_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - ALIGNMENT || fault_now()) {
        return NULL;
    }
    const size_t rounded = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    void *ptr = aligned_alloc(ALIGNMENT, rounded);
    if (ptr != NULL) {
        memset(ptr, 0, rounded);
    }
    return ptr;
}

void *seam_mem_alloc_huge(size_t bytes) {
    if (bytes > SIZE_MAX - HUGE_PAGE_BYTES || fault_now()) {
        return NULL;
    }
    const size_t pages = bytes / HUGE_PAGE_BYTES + (bytes % HUGE_PAGE_BYTES != 0 || bytes == 0);
    const size_t rounded = pages * HUGE_PAGE_BYTES;
    void *ptr = aligned_alloc(HUGE_PAGE_BYTES, rounded);
    if (ptr != NULL) {
        (void)madvise(ptr, rounded, MADV_HUGEPAGE); /* small pages do as well */
        memset(ptr, 0, rounded);
    }
    return ptr;
}

char *seam_mem_strdup(const char *text) {
    const size_t bytes = strlen(text) + 1;
    char *copy = seam_mem_alloc(bytes);
    if (copy != NULL) {
        memcpy(copy, text, bytes);
    }
    return copy;
}

void seam_mem_free(void *gift_ptr) {
    free(gift_ptr);
}

bool seam_mul_bytes(size_t *ret_bytes, size_t a, size_t b) {
    size_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *ret_bytes = product;
    return true;
}

bool seam_mul3_bytes(size_t *ret_bytes, size_t a, size_t b, size_t c) {
    size_t product = 0;
    return seam_mul_bytes(&product, a, b) && seam_mul_bytes(ret_bytes, product, c);
}

seam_status seam_arena_init(seam_arena *arena, size_t capacity_bytes) {
    arena->base = seam_mem_alloc_aligned(capacity_bytes);
    if (arena->base == NULL) {
        return SEAM_E_MEMORY;
    }
    arena->capacity_bytes = capacity_bytes;
    arena->used_bytes = 0;
    return SEAM_OK;
}

void seam_arena_deinit(seam_arena *arena) {
    seam_mem_free(arena->base);
    memset(arena, 0, sizeof *arena);
}

void *seam_arena_take(seam_arena *arena, size_t bytes) {
    SEAM_ASSERT(bytes <= SIZE_MAX / 2);
    const size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t begin = arena->used_bytes;
    if (arena->base == NULL) { /* planning */
        arena->used_bytes = begin + rounded;
        return NULL;
    }
    if (rounded > arena->capacity_bytes - begin) {
        return NULL;
    }
    arena->used_bytes = begin + rounded;
    return arena->base + begin;
}

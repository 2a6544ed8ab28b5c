/* tile.h on AMX: 32 x 32 of c in four tiles, two of a, two of b; bf16 products, f32 sums.
 *
 * A b panel interleaves pairs of k: [k/2][TILE_N][2], as TDPBF16PS reads it.  The instruction
 * adds the two products of a pair to the sum in turn, flushing denormals, rounding to even.
 * Own assembler lines instead of gcc's intrinsics: those do not tell the compiler that they read
 * and write memory, and its _tile_loadconfig declares 8 of 64 bytes. */
#ifndef SEAM_TILE_AMX_H
#define SEAM_TILE_AMX_H

#include "vec.h"

#define TILE_N 32u
#define TILE_M 32u

#define AMX_LOAD(tile, base, stride)                                                               \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile                                            \
                     :                                                                             \
                     : "r"(base), "r"((int64_t)(stride))                                           \
                     : "memory")
#define AMX_STORE(tile, base, stride)                                                              \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)"                                        \
                     :                                                                             \
                     : "r"(base), "r"((int64_t)(stride))                                           \
                     : "memory")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile : : : "memory")
#define AMX_DOT(sum, x, y)                                                                         \
    __asm__ volatile("tdpbf16ps %%tmm" #y ", %%tmm" #x ", %%tmm" #sum : : : "memory")

CPU_INLINE uint32_t tile_k(uint32_t K) {
    return (K + 31u) & ~31u;
}

CPU_INLINE size_t tile_place(uint32_t k, uint32_t n) {
    return (size_t)(k / 2) * 2 * TILE_N + n * 2 + k % 2;
}

typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;
_Static_assert(sizeof(amx_config) == 64, "LDTILECFG reads 64 bytes");

CPU_INLINE void tile_begin(void) {
    amx_config config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(config) : "memory");
}

CPU_INLINE void tile_end(void) {
    __asm__ volatile("tilerelease" : : : "memory");
}

static inline void tile_pack_rows(act *dst, const act *src, size_t ld, uint32_t n_begin,
                                  uint32_t n_end, uint32_t K) {
    const uint32_t even = K & ~1u;
    if (n_begin > 0 || n_end < TILE_N || K != tile_k(K)) {
        memset(dst, 0, (size_t)tile_k(K) * TILE_N * sizeof *dst);
    }
    if (n_begin > 0) {
        for (uint32_t n = n_begin; n < n_end; n++) {
            for (uint32_t k = 0; k < K; k++) {
                dst[(size_t)(k / 2) * 64 + n * 2 + k % 2] = src[(n - n_begin) * ld + k];
            }
        }
        return;
    }
    for (uint32_t n0 = 0; n0 < n_end; n0 += 16) {
        const uint32_t count = min_u32(16, n_end - n0);
        const __mmask16 mask = (__mmask16)((1u << count) - 1);
        const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i index = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)(ld * 2)));
        const act *from = src + n0 * ld;
        for (uint32_t k = 0; k < even; k += 2) {
            const __m512i pairs =
                _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, index, from + k, 1);
            _mm512_storeu_si512(dst + (size_t)(k / 2) * 64 + n0 * 2, pairs);
        }
        for (uint32_t n = n0; even < K && n < n0 + count; n++) {
            dst[(size_t)(even / 2) * 64 + n * 2] = src[n * ld + even];
        }
    }
}

/* Words of x and y taken in turn: x0 y0 x1 y1 .., the low and the high half. */
CPU_INLINE void amx_interleave(act *dst, __m512i x, __m512i y) {
    const __m512i words =
        _mm512_set_epi32(0x002f000f, 0x002e000e, 0x002d000d, 0x002c000c, 0x002b000b, 0x002a000a,
                         0x00290009, 0x00280008, 0x00270007, 0x00260006, 0x00250005, 0x00240004,
                         0x00230003, 0x00220002, 0x00210001, 0x00200000);
    const __m512i sixteen = _mm512_set1_epi16(16);
    _mm512_storeu_si512(dst, _mm512_permutex2var_epi16(x, words, y));
    _mm512_storeu_si512(dst + 32,
                        _mm512_permutex2var_epi16(x, _mm512_add_epi16(words, sixteen), y));
}

static inline void tile_pack_cols(act *dst, const act *src, size_t ld, uint32_t n, uint32_t K) {
    const __mmask32 mask = n >= 32 ? 0xffffffffu : (1u << n) - 1;
    const uint32_t rounded = tile_k(K);
    for (uint32_t k = 0; k < rounded; k += 2) {
        const __m512i x =
            k < K ? _mm512_maskz_loadu_epi16(mask, src + k * ld) : _mm512_setzero_si512();
        const __m512i y =
            k + 1 < K ? _mm512_maskz_loadu_epi16(mask, src + (k + 1) * ld) : _mm512_setzero_si512();
        amx_interleave(dst + (size_t)(k / 2) * 64, x, y);
    }
}

CPU_INLINE void tile_emit_pair(act *dst, uint32_t k, uint32_t n, vf x0, vf x1) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x0));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x1));
    _mm512_storeu_si512(dst + (size_t)(k / 2) * 64 + n * 2,
                        _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

/* One step of k on the tiles that the block has. */
#define AMX_STEP(a0, a1, a_bytes, b0)                                                              \
    do {                                                                                           \
        AMX_LOAD(6, b0, 128);                                                                      \
        AMX_LOAD(4, a0, a_bytes);                                                                  \
        AMX_DOT(0, 4, 6);                                                                          \
        if (two_n) {                                                                               \
            AMX_LOAD(7, (b0) + 32, 128);                                                           \
            AMX_DOT(1, 4, 7);                                                                      \
        }                                                                                          \
        if (two_m) {                                                                               \
            AMX_LOAD(5, a1, a_bytes);                                                              \
            AMX_DOT(2, 5, 6);                                                                      \
            if (two_n) {                                                                           \
                AMX_DOT(3, 5, 7);                                                                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* A block of 16 or 32 rows and columns.  tail: the last tile_k(K) - 32 .. columns of a, padded
 * with zeros, (32, 32), or NULL when 32 divides K. */
CPU_INLINE void amx_block(const _Bool two_m, const _Bool two_n, float *c, uint32_t c_ld, _Bool add,
                          const act *a, size_t a_ld, uint32_t K, const act *tail, const act *b) {
    const size_t c_bytes = (size_t)c_ld * 4, a_bytes = a_ld * 2;
    float *c1 = c + (size_t)16 * c_ld;
    if (add) {
        AMX_LOAD(0, c, c_bytes);
        if (two_n) {
            AMX_LOAD(1, c + 16, c_bytes);
        }
        if (two_m) {
            AMX_LOAD(2, c1, c_bytes);
        }
        if (two_m && two_n) {
            AMX_LOAD(3, c1 + 16, c_bytes);
        }
    } else {
        AMX_ZERO(0);
        AMX_ZERO(1);
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
    const uint32_t whole = K & ~31u;
    for (uint32_t k = 0; k < whole; k += 32) {
        AMX_STEP(a + k, a + k + 16 * a_ld, a_bytes, b + (size_t)k * TILE_N);
    }
    if (tail != NULL) {
        AMX_STEP(tail, tail + 16 * 32, 64, b + (size_t)whole * TILE_N);
    }
    AMX_STORE(0, c, c_bytes);
    if (two_n) {
        AMX_STORE(1, c + 16, c_bytes);
    }
    if (two_m) {
        AMX_STORE(2, c1, c_bytes);
    }
    if (two_m && two_n) {
        AMX_STORE(3, c1 + 16, c_bytes);
    }
}

/* dst (32, ld) = the rows x K corner of src, else zero. */
static inline void amx_pad(act *dst, uint32_t ld, const act *src, size_t src_ld, uint32_t rows,
                           uint32_t K) {
    for (uint32_t i = 0; i < 32; i++) {
        const uint32_t count = i < rows ? K : 0;
        for (uint32_t k = 0; k < ld; k += 32) {
            const uint32_t left = count > k ? count - k : 0;
            const __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1;
            _mm512_store_si512(dst + (size_t)i * ld + k,
                               _mm512_maskz_loadu_epi16(mask, src + i * src_ld + k));
        }
    }
}

static inline void tile_product(float *c, uint32_t c_ld, _Bool add, uint32_t m, uint32_t n,
                                const act *a, size_t a_ld, uint32_t K, const act *b) {
    _Alignas(64) act pad[32 * TILE_K_MAX], corner[32 * 32];
    for (uint32_t i = 0; i < m; i += 32) {
        const uint32_t rows = min_u32(32, m - i);
        const act *from = a + i * a_ld, *tail = NULL;
        size_t ld = a_ld;
        uint32_t k_in_place = K;
        if (rows % 16 != 0) {
            k_in_place = tile_k(K);
            amx_pad(pad, k_in_place, from, a_ld, rows, K);
            from = pad;
            ld = k_in_place;
        } else if (K % 32 != 0) {
            const uint32_t whole = K & ~31u;
            amx_pad(corner, 32, from + whole, a_ld, rows, K - whole);
            tail = corner;
        }
        float *to = c + (size_t)i * c_ld;
        if (rows > 16 && n > 16) {
            amx_block(1, 1, to, c_ld, add, from, ld, k_in_place, tail, b);
        } else if (rows > 16) {
            amx_block(1, 0, to, c_ld, add, from, ld, k_in_place, tail, b);
        } else if (n > 16) {
            amx_block(0, 1, to, c_ld, add, from, ld, k_in_place, tail, b);
        } else {
            amx_block(0, 0, to, c_ld, add, from, ld, k_in_place, tail, b);
        }
    }
}

#endif

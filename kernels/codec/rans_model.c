/* The encoder's model of a chunk: which channels share frequencies, and how many of the top bits
 * of their codes are worth coding.  See rans_impl.h for the terms.
 *
 * Min-max ranges make channels differ: an outlier squeezes a channel's codes into a few values,
 * and a mean off the middle of the range shifts them.  So channels are clustered by the counts
 * of their codes' top bits: a start by variance, then rounds of k-means under the cost in bits
 * (Lloyd 1982 with Kullback-Leibler distance).  One table a channel would cost more to send than it
 * saves.
 *
 * Counts come from at most SAMPLE_GROUPS groups; every symbol keeps a frequency of 1 or more, so
 * that one which was not seen can still be coded, unless all groups were counted.  Integers only:
 * every CPU chooses alike. */
#include <string.h>

#include "bytes.h"
#include "rans_impl.h"
#include "try.h"

#define FAST            SEAM_RANS_PLANES_FAST
#define SYMBOLS         16u /* by the top 4 bits */
#define SAMPLE_GROUPS   8u
#define ROUNDS          3
#define POOLS           5u  /* widths 1, 2, 3, 4 and 5..16 are clustered apart */
#define CLUSTERS_MAX    26u /* and one a pool more, and the class of zeros: 32 */
#define CLUSTERS_A_POOL 11u /* more of them bring less than the encoder's time is worth */
#define CODES_A_CLUSTER 24576u
#define CLASS_COST_BITS 2400u /* states, table and block size of one more class, about */
#define CLASS_ZERO      254u  /* in class_of until classes are final */
#define CLASS_NONE      255u
#define LOG2_ONE        256u /* seam_rans_log2 of 2 */
#define KEYS            256u

/* A pool's channels are members[begin .. begin + count) until the final classes are known. */
typedef struct width_pool {
    uint32_t begin, count, planes, clusters, class_begin;
} width_pool;

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t pool_of(uint8_t width) {
    return min_u32(width, POOLS) - 1;
}

static uint32_t sample_count(const seam_rans_plan *plan) {
    return min_u32(plan->groups, SAMPLE_GROUPS);
}

/* First byte of the i-th sampled group. */
static uint32_t sample_at(const seam_rans_plan *plan, uint32_t i) {
    return (uint32_t)((uint64_t)i * plan->groups / sample_count(plan)) * plan->group_bytes;
}

/* Byte of the highest `planes` planes of a channel in its group. */
static uint32_t top_at(const seam_rans_plan *plan, uint32_t channel, uint32_t planes) {
    return plan->channel_at[channel] + 4 * (plan->widths[channel] - planes);
}

/* ---- counts ---- */

static void pools_sort(width_pool *pools, seam_rans_plan *plan) {
    memset(pools, 0, POOLS * sizeof *pools);
    for (uint32_t c = 0; c < plan->channels; c++) {
        pools[pool_of(plan->widths[c])].count++;
    }
    for (uint32_t p = 0; p < POOLS; p++) {
        pools[p].begin = p > 0 ? pools[p - 1].begin + pools[p - 1].count : 0;
        pools[p].planes = min_u32(p + 1, FAST);
    }
    uint32_t filled[POOLS] = {0};
    for (uint32_t c = 0; c < plan->channels; c++) {
        const uint32_t p = pool_of(plan->widths[c]);
        plan->members[pools[p].begin + filled[p]++] = c;
    }
}

/* Adds how often the codes' top `planes` bits (at most 4) have each value in two cells, or in one
 * where the second is NULL. */
static void cells_count(uint16_t *counts, const seam_rans_plan *plan, const uint8_t *first,
                        const uint8_t *second, uint32_t planes) {
    uint64_t words[FAST] = {0};
    for (uint32_t j = 0; j < planes; j++) {
        words[j] = seam_get_u32(first + 4 * (size_t)j);
        words[j] |= second != NULL ? (uint64_t)seam_get_u32(second + 4 * (size_t)j) << 32 : 0;
    }
    plan->tile->count(counts, words);
    if (second == NULL) { /* the empty half counted as 32 codes of 0 */
        counts[0] = (uint16_t)(counts[0] - SEAM_RANS_LANES);
    }
}

static void channel_count(seam_rans_plan *plan, uint32_t channel, uint32_t planes,
                          const uint8_t *codes) {
    const uint32_t samples = sample_count(plan);
    uint16_t counts[SYMBOLS] = {0};
    const uint8_t *top = codes + top_at(plan, channel, planes);
    for (uint32_t i = 0; i < samples; i += 2) {
        const uint8_t *second = i + 1 < samples ? top + sample_at(plan, i + 1) : NULL;
        cells_count(counts, plan, top + sample_at(plan, i), second, planes);
    }
    memcpy(plan->counts + (size_t)channel * SYMBOLS, counts, sizeof counts);
}

static void pool_count(seam_rans_plan *plan, const width_pool *pool, const uint8_t *codes) {
    for (uint32_t k = 0; k < pool->count; k++) {
        channel_count(plan, plan->members[pool->begin + k], pool->planes, codes);
    }
}

static bool channel_is_zero(const seam_rans_plan *plan, uint32_t channel, const uint8_t *codes) {
    for (uint32_t g = 0; g < plan->groups; g++) {
        const uint8_t *cell = codes + (size_t)g * plan->group_bytes + plan->channel_at[channel];
        for (uint32_t i = 0; i < 4u * plan->widths[channel]; i++) {
            if (cell[i] != 0) {
                return false;
            }
        }
    }
    return true;
}

/* ---- clusters ---- */

typedef struct code_cluster {
    uint32_t sums[SYMBOLS];
    uint16_t freqs[SYMBOLS];
    uint16_t costs[SYMBOLS]; /* 256 * bits */
} code_cluster;

/* Grows with the variance of a channel's codes: 8 steps an octave. */
static uint32_t variance_key(const uint16_t *counts) {
    uint64_t n = 0, first = 0, second = 0;
    for (uint32_t s = 0; s < SYMBOLS; s++) {
        n += counts[s];
        first += s * counts[s];
        second += s * s * counts[s];
    }
    const uint32_t key = seam_rans_log2((uint32_t)(n * second - first * first) + 1) >> 5;
    return min_u32(key, KEYS - 1);
}

/* Equal shares of the channels in order of their variance. */
static void clusters_start(seam_rans_plan *plan, const width_pool *pool) {
    uint32_t below[KEYS + 1] = {0};
    const uint32_t *members = plan->members + pool->begin;
    uint32_t live = 0;
    for (uint32_t k = 0; k < pool->count; k++) {
        if (plan->class_of[members[k]] != CLASS_ZERO) {
            below[variance_key(plan->counts + (size_t)members[k] * SYMBOLS) + 1]++;
            live++;
        }
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        below[key + 1] += below[key];
    }
    for (uint32_t k = 0; k < pool->count; k++) {
        if (plan->class_of[members[k]] != CLASS_ZERO) {
            const uint32_t key = variance_key(plan->counts + (size_t)members[k] * SYMBOLS);
            plan->class_of[members[k]] = (uint8_t)((uint64_t)below[key] * pool->clusters / live);
        }
    }
}

static void clusters_measure(code_cluster *clusters, const seam_rans_plan *plan,
                             const width_pool *pool) {
    const uint32_t *members = plan->members + pool->begin;
    memset(clusters, 0, pool->clusters * sizeof *clusters);
    for (uint32_t k = 0; k < pool->count; k++) {
        const uint32_t at = plan->class_of[members[k]];
        if (at == CLASS_ZERO) {
            continue;
        }
        const uint16_t *counts = plan->counts + (size_t)members[k] * SYMBOLS;
        for (uint32_t s = 0; s < SYMBOLS; s++) {
            clusters[at].sums[s] += counts[s];
        }
    }
    for (uint32_t i = 0; i < pool->clusters; i++) {
        uint32_t weights[SYMBOLS];
        uint64_t total = 0;
        for (uint32_t s = 0; s < SYMBOLS; s++) {
            total += clusters[i].sums[s];
        }
        for (uint32_t s = 0; s < 1u << pool->planes; s++) {
            weights[s] =
                total == 0 ? 1u << 20 : (uint32_t)(((uint64_t)clusters[i].sums[s] << 24) / total);
            weights[s] += weights[s] == 0 ? 1 : 0;
        }
        seam_rans_scale(clusters[i].freqs, weights, 1u << pool->planes);
        for (uint32_t s = 0; s < 1u << pool->planes; s++) {
            clusters[i].costs[s] =
                (uint16_t)(SEAM_RANS_PROB_BITS * LOG2_ONE - seam_rans_log2(clusters[i].freqs[s]));
        }
    }
}

static uint32_t cost_of(const code_cluster *cluster, const uint16_t *counts) {
    int32_t cost = 0;
    /* Both are far below 2^15, so that one instruction makes 8 products; without the pragma gcc
     * unrolls the loop before it looks for vectors. */
#pragma GCC unroll 1
    for (uint32_t s = 0; s < SYMBOLS; s++) {
        cost += (int32_t)(int16_t)cluster->costs[s] * (int16_t)counts[s];
    }
    return (uint32_t)cost;
}

static void clusters_assign(seam_rans_plan *plan, const code_cluster *clusters,
                            const width_pool *pool) {
    const uint32_t *members = plan->members + pool->begin;
    for (uint32_t k = 0; k < pool->count; k++) {
        if (plan->class_of[members[k]] == CLASS_ZERO) {
            continue;
        }
        const uint16_t *counts = plan->counts + (size_t)members[k] * SYMBOLS;
        uint32_t best = 0;
        uint32_t best_cost = UINT32_MAX;
        for (uint32_t i = 0; i < pool->clusters; i++) {
            const uint32_t cost = cost_of(&clusters[i], counts);
            best = cost < best_cost ? i : best;
            best_cost = min_u32(cost, best_cost);
        }
        plan->class_of[members[k]] = (uint8_t)best;
    }
}

/* ---- kinds ---- */

/* The channels of a cluster, while its kind is being chosen. */
typedef struct cluster_members {
    const width_pool *pool;
    uint32_t cluster, count, width_min;
} cluster_members;

static bool is_member(const seam_rans_plan *plan, const cluster_members *of, uint32_t k) {
    return plan->class_of[plan->members[of->pool->begin + k]] == of->cluster;
}

/* Adds the codes' top `planes` bits of the cluster's cells in the group at byte `group_at`. */
static void group_count(uint32_t *ret_sums, const seam_rans_plan *plan, const cluster_members *of,
                        const uint8_t *codes, size_t group_at, uint32_t planes) {
    _Alignas(32) uint8_t units[SEAM_RANS_SLICE_STEPS * SEAM_RANS_LANES];
    uint32_t cells_at[SEAM_RANS_SLICE_STEPS];
    const uint32_t *members = plan->members + of->pool->begin;
    uint32_t k = 0;
    while (k < of->pool->count) {
        uint32_t steps = 0;
        for (; k < of->pool->count && steps < SEAM_RANS_SLICE_STEPS; k++) {
            if (is_member(plan, of, k)) {
                cells_at[steps++] = top_at(plan, members[k], planes);
            }
        }
        plan->tile->read(units, codes + group_at, cells_at, steps, (seam_rans_unit){planes, 1});
        for (size_t i = 0; i < (size_t)steps * SEAM_RANS_LANES; i++) {
            ret_sums[units[i]]++;
        }
    }
}

/* 256 * bits that `count` symbols with these sums need at least. */
static uint64_t entropy_of(const uint32_t *sums, uint32_t count) {
    uint64_t bits = 0;
    uint32_t total = 0;
    for (uint32_t s = 0; s < count; s++) {
        total += sums[s];
    }
    for (uint32_t s = 0; s < count; s++) {
        bits += sums[s] == 0
                    ? 0
                    : (uint64_t)sums[s] * (seam_rans_log2(total) - seam_rans_log2(sums[s]));
    }
    return bits;
}

/* How many planes to model: more than 4 only where that saves a hundredth. */
static uint32_t planes_choose(const seam_rans_plan *plan, const cluster_members *of,
                              const uint8_t *codes) {
    const uint32_t deepest = min_u32(of->width_min, 8);
    uint32_t sums[SEAM_RANS_SYMBOLS_MAX] = {0};
    for (uint32_t i = 0; i < sample_count(plan); i++) {
        group_count(sums, plan, of, codes, sample_at(plan, i), deepest);
    }
    const uint64_t symbols = (uint64_t)of->count * sample_count(plan) * SEAM_RANS_LANES;
    uint64_t bits[9] = {0}; /* of a whole code: with those below that are stored */
    uint32_t best = deepest;
    for (uint32_t planes = deepest;; planes--) {
        bits[planes] = entropy_of(sums, 1u << planes) + symbols * LOG2_ONE * (deepest - planes);
        best = bits[planes] < bits[best] ? planes : best;
        if (planes == FAST) {
            break;
        }
        for (uint32_t s = 0; s < 1u << (planes - 1); s++) {
            sums[s] = sums[2 * s] + sums[2 * s + 1];
        }
    }
    for (uint32_t planes = FAST; planes < best; planes++) {
        if (bits[planes] <= bits[best] + bits[best] / 100) {
            return planes;
        }
    }
    return best;
}

/* Adds the codes' top `planes` bits, at most 4, of all the cluster's cells. */
static void cluster_count(uint32_t *ret_sums, const seam_rans_plan *plan, const cluster_members *of,
                          const uint8_t *codes, uint32_t planes) {
    for (uint32_t k = 0; k < of->pool->count; k++) {
        if (!is_member(plan, of, k)) {
            continue;
        }
        const uint8_t *top = codes + top_at(plan, plan->members[of->pool->begin + k], planes);
        for (uint32_t g = 0; g < plan->groups; g += 2) {
            uint16_t counts[SYMBOLS] = {0};
            const uint8_t *first = top + (size_t)g * plan->group_bytes;
            cells_count(counts, plan, first,
                        g + 1 < plan->groups ? first + plan->group_bytes : NULL, planes);
            for (uint32_t s = 0; s < SYMBOLS; s++) {
                ret_sums[s] += counts[s];
            }
        }
    }
}

/* Frequencies from all cells: 0 for a symbol that does not occur. */
static void exact_freqs(seam_rans_class *cls, const seam_rans_plan *plan, const cluster_members *of,
                        const uint8_t *codes) {
    uint32_t sums[SEAM_RANS_SYMBOLS_MAX] = {0};
    uint32_t weights[SEAM_RANS_SYMBOLS_MAX];
    const uint32_t count = 1u << cls->kind;
    if (cls->kind <= FAST) {
        cluster_count(sums, plan, of, codes, cls->kind);
    } else {
        for (uint32_t g = 0; g < plan->groups; g++) {
            group_count(sums, plan, of, codes, (size_t)g * plan->group_bytes, cls->kind);
        }
    }
    const uint64_t total = (uint64_t)of->count * plan->groups * SEAM_RANS_LANES;
    uint32_t seen = 0;
    SEAM_ASSERT(total > 0);
    for (uint32_t s = 0; s < count; s++) {
        weights[s] = (uint32_t)(((uint64_t)sums[s] << 24) / total);
        weights[s] += weights[s] == 0 && sums[s] != 0 ? 1 : 0;
        seen += sums[s] != 0 ? 1 : 0;
    }
    if (seen == 1) { /* a table needs two */
        weights[weights[0] == 0 ? 0 : 1] = 1;
    }
    seam_rans_scale(cls->freqs, weights, count);
}

/* Many symbols that the sample does not have: if they do not occur at all, a frequency of 1 for
 * each of their combinations would cost some hundredths of a bit. */
static bool is_sparse(const code_cluster *cluster, uint32_t planes) {
    uint32_t missing = 0;
    for (uint32_t s = 0; s < 1u << planes; s++) {
        missing += cluster->sums[s] == 0 ? 1 : 0;
    }
    return 4 * missing >= 1u << planes;
}

/* Kind and frequencies of one cluster that has members. */
static void class_choose(seam_rans_class *ret, const seam_rans_plan *plan,
                         const code_cluster *cluster, const cluster_members *of,
                         const uint8_t *codes) {
    ret->kind = of->width_min > FAST ? planes_choose(plan, of, codes) : of->pool->planes;
    if (ret->kind > FAST) {
        exact_freqs(ret, plan, of, codes);
        return;
    }
    uint64_t cost = 0; /* of the sample, 256 * bits */
    for (uint32_t s = 0; s < SYMBOLS; s++) {
        cost += (uint64_t)cluster->sums[s] * cluster->costs[s];
    }
    const uint64_t samples = (uint64_t)of->count * sample_count(plan) * SEAM_RANS_LANES;
    const uint64_t plain = samples * LOG2_ONE * ret->kind;
    const uint64_t saved = plain > cost ? (plain - cost) / LOG2_ONE : 0; /* bits of the sample */
    if (saved * plan->groups / sample_count(plan) < CLASS_COST_BITS || plain - cost < plain / 100) {
        ret->kind = 0;
    } else if (is_sparse(cluster, ret->kind)) {
        exact_freqs(ret, plan, of, codes);
    } else {
        memcpy(ret->freqs, cluster->freqs, sizeof cluster->freqs);
    }
}

/* ---- all together ---- */

/* Index of a class that has no frequencies, made when first asked for. */
static uint8_t class_without_table(seam_rans_plan *plan, uint32_t kind) {
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (plan->classes[i].kind == kind) {
            return (uint8_t)i;
        }
    }
    plan->classes[plan->class_count].kind = kind;
    return (uint8_t)plan->class_count++;
}

/* Clusters one pool and turns the clusters that have members into classes.  class_of of the
 * pool's channels holds cluster numbers until then. */
static void pool_model(seam_rans_plan *plan, const width_pool *pool, const uint8_t *codes) {
    code_cluster clusters[CLUSTERS_A_POOL];
    const uint32_t *members = plan->members + pool->begin;
    uint8_t final_of[CLUSTERS_A_POOL];
    clusters_start(plan, pool);
    clusters_measure(clusters, plan, pool);
    for (int round = 0; round < ROUNDS && pool->clusters > 1; round++) {
        clusters_assign(plan, clusters, pool);
        clusters_measure(clusters, plan, pool);
    }
    for (uint32_t i = 0; i < pool->clusters; i++) {
        cluster_members of = {.pool = pool, .cluster = i, .width_min = SEAM_BITS_MAX};
        final_of[i] = CLASS_NONE;
        for (uint32_t k = 0; k < pool->count; k++) {
            if (is_member(plan, &of, k)) {
                of.count++;
                of.width_min = min_u32(of.width_min, plan->widths[members[k]]);
            }
        }
        if (of.count == 0) {
            continue;
        }
        seam_rans_class *cls = &plan->classes[plan->class_count];
        class_choose(cls, plan, &clusters[i], &of, codes);
        final_of[i] = cls->kind == 0 ? class_without_table(plan, 0) : (uint8_t)plan->class_count++;
    }
    for (uint32_t k = 0; k < pool->count; k++) {
        uint8_t *at = &plan->class_of[members[k]];
        *at = *at == CLASS_ZERO ? class_without_table(plan, SEAM_RANS_KIND_ZERO) : final_of[*at];
    }
}

void seam_rans_model(seam_rans_plan *plan, const uint8_t *codes) {
    width_pool pools[POOLS];
    SEAM_ASSERT(plan->groups >= 1);
    pools_sort(pools, plan);
    const uint64_t values = (uint64_t)plan->channels * plan->groups * SEAM_RANS_LANES;
    const uint32_t clusters = values / CODES_A_CLUSTER < CLUSTERS_MAX
                                  ? (uint32_t)(values / CODES_A_CLUSTER)
                                  : CLUSTERS_MAX;
    const uint32_t samples = sample_count(plan) * SEAM_RANS_LANES;
    plan->class_count = 0;
    for (uint32_t p = 0; p < POOLS; p++) {
        if (pools[p].count == 0) {
            continue;
        }
        pool_count(plan, &pools[p], codes);
        for (uint32_t k = 0; k < pools[p].count; k++) {
            const uint32_t c = plan->members[pools[p].begin + k];
            const bool maybe = plan->counts[(size_t)c * SYMBOLS] == samples;
            plan->class_of[c] = maybe && channel_is_zero(plan, c, codes) ? CLASS_ZERO : CLASS_NONE;
        }
        const uint64_t share = (uint64_t)clusters * pools[p].count / plan->channels;
        pools[p].clusters = share < CLUSTERS_A_POOL ? (uint32_t)share : CLUSTERS_A_POOL;
        pools[p].clusters += pools[p].clusters == 0 ? 1 : 0;
        pool_model(plan, &pools[p], codes);
    }
    SEAM_ASSERT(plan->class_count <= SEAM_RANS_CLASSES_MAX);
}

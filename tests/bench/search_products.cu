/* Searches cuBLASLt's algorithms for each frozen product of the served shapes and prints the rows
 * of the table kernels/cuda/cuda_algorithms.inc (search_products.sh keeps them):
 *
 *   search_products [SHAPE | NAME=HIDDEN,INTERMEDIATE,Q,KV ...]
 *   search_products --steps SECONDS [--layers N] [--proof N[,N...]] SHAPE
 *
 * The first way, in bf16 and FP8: each candidate (search_candidates.cu) is timed at SEARCH_ROWS
 * rows; the FINALISTS best again in turns, at three row counts.  An algorithm serves every row
 * count, so among those within 1 % of the fastest at SEARCH_ROWS the one with the least sum of
 * relative times is taken, if the bits of its rows are the same at all counts.
 *
 * That is right for small models.  In a step of a large one the card's power sets the clock, so
 * that the fastest product alone can make the step slower: --steps judges by whole steps
 * (search_steps.cu). */
#include "search_products.cuh"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "blocks_step.h"
}

#define FINALISTS  8u
#define PROOFS_MAX 8u

typedef struct shape {
    const char *name;
    uint32_t hidden, intermediate, q, kv;
} shape;
static const shape shapes[] = {{"llama3-8b", 4096, 14336, 4096, 1024},
                               {"qwen2.5-7b", 3584, 18944, 3584, 512},
                               {"qwen2.5-14b", 5120, 13824, 5120, 1024},
                               {"smollm2-135m", 576, 1536, 576, 192}};

static const search_candidate *best_of(const search_list &list, size_t count) {
    float least[SEARCH_FINALS], best_sum = 0.0f;
    const search_candidate *best = NULL;
    for (size_t f = 0; f < SEARCH_FINALS; f++) {
        least[f] = list[0].final_us[f];
        for (size_t i = 0; i < count; i++) {
            least[f] = std::min(least[f], list[i].final_us[f]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        float sum = 0.0f;
        for (size_t f = 0; f < SEARCH_FINALS; f++) {
            sum += list[i].final_us[f] / least[f];
        }
        if (list[i].final_us[0] <= 1.01f * least[0] && (best == NULL || sum < best_sum)) {
            best = &list[i];
            best_sum = sum;
        }
    }
    return best;
}

/* The finalists' bits are checked before they are timed; the library's first is timed with them. */
static void task_search(const search_task *t) {
    size_t taken = 0, uneven = 0;
    search_list list = search_candidates(t);
    if (list.empty()) {
        (void)printf("/* %s: none is taken */\n", t->name);
        return;
    }
    const search_candidate own = list[0];
    search_time(&list, t);
    const size_t ran = list.size();
    for (size_t i = 0; i < ran && taken < FINALISTS; i++) {
        if (search_bits_same(t, &list[i])) {
            list[taken++] = list[i];
        } else {
            uneven++;
        }
    }
    search_must(taken > 0, "search");
    list.resize(taken);
    list.push_back(own);
    search_finals(&list, t);
    char note[64];
    (void)snprintf(note, sizeof note, "of %zu, %zu uneven", ran, uneven);
    search_row_print(t, best_of(list, taken), &list[taken], note);
}

static void product_search(const char *name, seam_weight *w, search_kind kind, bool backward,
                           bool acc, float beta) {
    const search_task t = search_task_of(name, w, kind, backward, acc, beta);
    const uint32_t K = t.product.x_ld;
    if (t.fp8) {
        search_must(seam_cuda_fp8_rows(search.stream, search.x_fp8, 2 * (size_t)K, search.x_scale,
                                       search.x_rows, K, SEARCH_ROWS, K) == SEAM_OK,
                    "rounding");
    }
    if (search_plan(&t, w)->found) {
        task_search(&t);
    }
}

/* The products of a step: o and down add to the residual stream forward; those with LoRA have it in
 * their sum, but in FP8, where they go through a room in f32. */
static void weight_search(const shape *s, const char *part, uint32_t N, uint32_t C) {
    const bool adds = strcmp(part, "o") == 0 || strcmp(part, "down") == 0;
    const bool adapted = strcmp(part, "qkv") == 0;
    char name[64];
    seam_weight *w = NULL;
    const uint32_t pad =
        adapted ? seam_lora_pad(search.ops->join_rank, 3, false, N, C) : 0; /* as blocks have it */
    search_must(seam_cuda_weight_begin(&w, search.backend, N, C, true, true, pad) == SEAM_OK,
                "weight");
    search_random(w->rows, ((size_t)N + w->pad) * (C + w->pad), 0.03f);
    search_must(seam_cuda_weight_end(w, search.backend) == SEAM_OK, "weight");
    (void)snprintf(name, sizeof name, "%s %s", s->name, part);
    for (int backward = 0; backward < 2; backward++) {
        const bool acc = adds && backward == 0;
        product_search(name, w, SEARCH_BF16, backward == 1, acc, acc ? 1.0f : 0.0f);
        product_search(name, w, SEARCH_FP8, backward == 1, acc, acc ? 1.0f : 0.0f);
        if (adapted) {
            product_search(name, w, SEARCH_JOINED, backward == 1, false, 0.0f);
            product_search(name, w, SEARCH_FP8, backward == 1, true, 0.0f);
        }
    }
    search.ops->weight_destroy(w);
}

static void shape_search(const shape &s) {
    weight_search(&s, "qkv", s.q + 2 * s.kv, s.hidden);
    weight_search(&s, "o", s.hidden, s.q);
    weight_search(&s, "gate_up", 2 * s.intermediate, s.hidden);
    weight_search(&s, "down", s.hidden, s.intermediate);
}

/* A known shape by its name, or NAME=HIDDEN,INTERMEDIATE,Q,KV. */
static shape shape_of(char *text) {
    shape s = {};
    char *widths = strchr(text, '=');
    for (const shape &known : shapes) {
        if (strcmp(text, known.name) == 0) {
            return known;
        }
    }
    s.name = text;
    if (widths == NULL ||
        sscanf(widths + 1, "%u,%u,%u,%u", &s.hidden, &s.intermediate, &s.q, &s.kv) != 4) {
        (void)fprintf(
            stderr, "search_products: %s: not a shape, nor NAME=HIDDEN,INTERMEDIATE,Q,KV\n", text);
        exit(2);
    }
    *widths = '\0';
    return s;
}

/* --steps SECONDS and its options; false: not as the usage says. */
static bool steps_read(search_steps_options *ret, uint32_t *proof, int argc, char **argv) {
    const double begin = blocks_now_seconds();
    for (int k = 1; k < argc; k++) {
        char *value = k + 1 < argc ? argv[k + 1] : NULL;
        if (strcmp(argv[k], "--steps") == 0 && value != NULL) {
            ret->until = begin + strtod(value, NULL);
            k++;
        } else if (strcmp(argv[k], "--layers") == 0 && value != NULL) {
            ret->layers = (uint32_t)strtoul(value, NULL, 10);
            k++;
        } else if (strcmp(argv[k], "--proof") == 0 && value != NULL) {
            for (char *n = value; *n != 0 && ret->proof_count < PROOFS_MAX; n += *n == ',') {
                proof[ret->proof_count++] = (uint32_t)strtoul(n, &n, 10);
            }
            k++;
        } else if (ret->shape == NULL && argv[k][0] != '-') {
            ret->shape = argv[k];
        } else {
            return false;
        }
    }
    return ret->shape != NULL && ret->until > 0.0;
}

/* Widths of the widest row of the products of a shape. */
static size_t wide_of(const shape &s) {
    return std::max<size_t>({2 * (size_t)s.intermediate, s.hidden + SEAM_LORA_PAD_STEP,
                             s.q + 2 * (size_t)s.kv + SEAM_LORA_PAD_STEP});
}

static void header_print(void) {
    cudaDeviceProp properties;
    search_must(cudaGetDeviceProperties(&properties, 0) == cudaSuccess, "properties");
    (void)printf("/* %s, cuBLASLt %zu; us at 6144, 2048 and 512 rows (what ran before) */\n",
                 properties.name, cublasLtGetVersion());
}

static int steps_main(int argc, char **argv) {
    uint32_t proof[PROOFS_MAX] = {};
    search_steps_options options = {};
    options.proof = proof;
    if (!steps_read(&options, proof, argc, argv)) {
        (void)fprintf(stderr, "usage: search_products --steps SECONDS [--layers N] "
                              "[--proof N[,N...]] SHAPE\n");
        return 2;
    }
    search_open(wide_of(shape_of((char *)options.shape)), false);
    header_print();
    search_by_steps(&options);
    search_close();
    return 0;
}

int main(int argc, char **argv) {
    std::vector<shape> wanted;
    size_t wide = 0;
    if (argc > 1 && argv[1][0] == '-') {
        return steps_main(argc, argv);
    }
    for (int k = 1; k < argc; k++) {
        wanted.push_back(shape_of(argv[k]));
    }
    if (argc == 1) {
        wanted.assign(shapes, shapes + sizeof shapes / sizeof shapes[0]);
    }
    for (const shape &s : wanted) {
        wide = std::max(wide, wide_of(s));
    }
    search_open(wide, true);
    header_print();
    for (const shape &s : wanted) {
        shape_search(s);
    }
    search_close();
    return 0;
}

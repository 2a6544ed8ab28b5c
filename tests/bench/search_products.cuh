/* What the two searches of search_products share: a product under search and its candidates
 * (search_candidates.cu).  search_products.cu judges them by their times alone, search_steps.cu by
 * the time of a whole step.  C++; whatever fails ends the program; one thread. */
#ifndef SEAM_SEARCH_PRODUCTS_CUH
#define SEAM_SEARCH_PRODUCTS_CUH

#include <vector>

#include "cuda_device.cuh"

#define SEARCH_ROWS   6144u
#define SEARCH_FINALS 3u /* row counts, SEARCH_ROWS first */

typedef struct search_device {
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    /* SEARCH_ROWS rows of the widest product: x in bf16, room for it in FP8, y in f32 */
    void *x_rows, *x_fp8, *y_rows;
    float *x_scale;
} search_device;
extern search_device search;

/* `wide`: the widest row of a product. */
void search_open(size_t wide, bool fp8);
void search_close(void);
void search_must(bool ok, const char *what);
/* Numbers in (-scale, scale): zeros run faster than any data. */
void search_random(void *bf16, size_t count, float scale);

typedef enum search_kind { SEARCH_BF16, SEARCH_FP8, SEARCH_JOINED } search_kind;
typedef struct search_task {
    char name[64];
    seam_cuda_product product;
    float beta;
    bool fp8;
} search_task;
/* The product of `weight` as a step has it; beta 1 where `acc` and not with shares beside it. */
search_task search_task_of(const char *name, seam_weight *weight, search_kind kind, bool backward,
                           bool acc, float beta);
/* The plan of a matrix that is in the task's place. */
seam_cuda_plan *search_plan(const search_task *task, seam_weight *weight);

typedef struct search_candidate {
    cublasLtMatmulAlgo_t algo;
    float us, steady_us, final_us[SEARCH_FINALS]; /* search_time, the caller, search_finals */
} search_candidate;
typedef std::vector<search_candidate> search_list;

/* What cuBLASLt proposes at many row counts and the backend takes, its first at the plan's count
 * first. */
search_list search_candidates(const search_task *task);
/* Leaves those that run, fastest first. */
void search_time(search_list *list, const search_task *task);
/* Whether rows have the same bits at all counts. */
bool search_bits_same(const search_task *task, const search_candidate *candidate);
/* Of one run among runs without a pause, `measure` seconds of them after `settle` seconds: at the
 * clock that the product's own power leaves. */
float search_steady_us(const search_task *task, const search_candidate *candidate, double settle,
                       double measure);
/* Fills in final_us: medians of rounds in which all take turns. */
void search_finals(search_list *list, const search_task *task);

/* A row of the table, of three lines: the times of final_us, in brackets the library's first, and
 * `note`. */
void search_row_print(const search_task *task, const search_candidate *best,
                      const search_candidate *own, const char *note);

/* Searches by whole steps; search_steps.cu. */
typedef struct search_steps_options {
    const char *shape;
    double until;          /* seconds after the program's begin: nothing more is tried */
    uint32_t layers;       /* of the search */
    const uint32_t *proof; /* layers of each proof */
    uint32_t proof_count;
} search_steps_options;
void search_by_steps(const search_steps_options *options);

#endif

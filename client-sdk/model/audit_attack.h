/* Internal to model/: which row of a public table a row of the stream came from.
 *
 * An honest-but-curious operator has the base model's tables and what a client sends.  The attack
 * is a search for the nearest row: of the embedding, or of what the model's first blocks make of
 * it, to a row of activations; of the LM head, seen through the final norm, to a row of gradients.
 * The table comes in pieces, so that a search takes as much memory whatever the vocabulary is (who
 * reads may hold more of it: an untied head is, whole).
 * Knows no session; audit.c has the stream. */
#ifndef SEAM_AUDIT_ATTACK_H
#define SEAM_AUDIT_ATTACK_H

#include <stdbool.h>
#include <stdint.h>

#include "ops.h"
#include "seam_status.h"

#define SEAM_AUDIT_GUESSES    5     /* best rows kept of a search */
#define SEAM_AUDIT_PIECE_ROWS 1024u /* of a table, at most, in one read */

/* V rows v_j of C channels. */
typedef struct seam_audit_table {
    uint32_t count, channels;
    /* ret_rows (count, C): rows begin.. */
    seam_status (*read)(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                        seam_error *err);
    void *user;
    bool (*is_stopped)(void); /* asked once a piece: SEAM_E_CANCELLED; NULL: never */
} seam_audit_table;

/* Rows x (T, C) to be placed: row t prefers table rows with a large
 *   x_t . v_j - 1/2 weight_t (||v_j||^2 - lost_t (across_t . v_j)^2)
 * or, with cosine, x_t . v_j / ||v_j||.  Weight 1 and lost 0 make that the nearest row. */
typedef struct seam_audit_rows {
    const float *x;
    uint32_t rows;
    bool cosine;
    const float *weight;        /* (T); NULL: 1 */
    const float *across, *lost; /* (T, C), (T); both NULL: lost is 0 */
} seam_audit_rows;

/* ret_guesses (T, SEAM_AUDIT_GUESSES): indices into the table, best first; UINT32_MAX where it has
 * fewer rows (or, with cosine, fewer that are not zero).  backend: f32 (act and acc).
 * SEAM_E_MEMORY, SEAM_E_CANCELLED, what read returns, SEAM_E_DEVICE_LOST. */
seam_status seam_audit_search(uint32_t *ret_guesses, seam_backend *backend,
                              const seam_audit_table *table, const seam_audit_rows *rows,
                              seam_error *err);

/* The loss's gradient by the input y of the final norm is J^T (sum_j p_j w_j - w_label), J the
 * norm's Jacobian at y.  The operator has y, so it computes the same for a label of its choice; the
 * difference of the two is J^T (w_label - w_chosen), and no softmax is in it any more.  With v_j =
 * g * w_j (g: the norm's weight) and rstd = 1 / rms(y):
 *   J^T w_j = rstd (v_j - u (u . v_j))        u = y rstd / sqrt(C)
 * so that the label whose J^T w_j is nearest is a search in the table of v_j. */
typedef struct seam_audit_gradients {
    const float *y;          /* (T, C) input of the norm */
    const float *difference; /* (T, C) J^T (w_label - w_chosen), with the codec's error */
    const float *chosen;     /* (C) v_chosen */
    uint32_t rows, channels;
    float rms_eps;
} seam_audit_gradients;
/* What to search for: ret_x, ret_across (T, C), ret_weight, ret_lost (T). */
void seam_audit_gradient_rows(float *ret_x, float *ret_across, float *ret_weight, float *ret_lost,
                              const seam_audit_gradients *gradients);

#endif

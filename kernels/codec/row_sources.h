/* Rows of a tensor that are equal travel once: which row of the tensor each row of a micro-batch
 * is.
 *
 * An embedding gives equal rows for equal tokens.  Codes to nearest and ranges are the same with
 * and without the repetitions, so sending each row once changes no bit (WIRE.md 4, row_sources). It
 * is not codec dictionary, which knows rows from step to step.
 *
 * Terms.  Source of a row: its number among the distinct rows, which are counted in order of first
 * appearance; so no source is above the count of distinct rows before it.
 * Any thread, no allocation. */
#ifndef SEAM_ROW_SOURCES_H
#define SEAM_ROW_SOURCES_H

#include <stddef.h>
#include <stdint.h>

/* Entries of the scratch table of seam_row_sources_find. */
uint32_t seam_row_sources_table_count(uint32_t rows);
/* Rows with equal keys are equal.  ret_sources (rows); returns how many are distinct.  table:
 * scratch of seam_row_sources_table_count(rows); rows at most 2^20. */
uint32_t seam_row_sources_find(uint32_t *ret_sources, uint32_t *table, const uint32_t *keys,
                               uint32_t rows);
/* The distinct rows of x (rows, of row_bytes each), in order; may not alias x. */
void seam_row_sources_gather(void *ret_distinct, const void *x, const uint32_t *sources,
                             uint32_t rows, size_t row_bytes);
/* The same as places among the rows of the micro-batch, for who cannot read x: ret_firsts
 * (distinct) is the row at which each distinct one first appears, ret_origins (rows) that of each
 * row's source, so that row ret_origins[t] is row t. */
void seam_row_sources_places(uint32_t *ret_firsts, uint32_t *ret_origins, const uint32_t *sources,
                             uint32_t rows);
/* In place: x begins with the distinct rows and ends as (rows, channels). */
void seam_row_sources_spread(float *x, const uint32_t *sources, uint32_t rows, uint32_t channels);

#endif

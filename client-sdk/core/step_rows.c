/* The rows of site 0 on their way to the codec: which of them are equal, and in which type they go.
 * WIRE.md 4, row_sources.
 * Read next: step.c, which sends them. */
#include "bytes.h"
#include "core.h"
#include "row_sources.h"
#include "try.h"

/* Bounds what they add to a StepBegin: three bytes a row at most. */
#define SOURCES_ROWS_MAX (1u << 18)

seam_status seam_micro_row_sources_take(seam_micro_state *state, seam_session *s,
                                        const seam_step_micro *micro, uint32_t micro_count) {
    seam_buffer *const sources = &state->row_sources;
    const size_t bytes = (size_t)state->rows * sizeof(uint32_t);
    state->rows_in = state->rows_distinct = state->rows;
    sources->count = 0;
    if (micro->row_keys == NULL || !seam_codec_plan_takes_row_sources(&s->config.codec) ||
        (uint64_t)state->rows * micro_count > SOURCES_ROWS_MAX) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_buffer_reserve(sources, bytes));
    SEAM_TRY(seam_buffer_reserve(&s->key_table,
                                 seam_row_sources_table_count(state->rows) * sizeof(uint32_t)));
    state->rows_distinct =
        seam_row_sources_find((uint32_t *)(void *)sources->data,
                              (uint32_t *)(void *)s->key_table.data, micro->row_keys, state->rows);
    if (s->config.distinct_rows && state->rows_distinct < state->rows) {
        state->rows_in = state->rows_distinct;
        sources->count = bytes;
    }
    return SEAM_OK;
}

const uint32_t *seam_micro_row_sources(const seam_micro_state *micro) {
    return micro->row_sources.count > 0 ? (const uint32_t *)(const void *)micro->row_sources.data
                                        : NULL;
}

seam_status seam_step_rows_in(seam_step_rows *x, seam_session *s, const seam_micro_state *micro) {
    const uint32_t *const sources = seam_micro_row_sources(micro);
    const bool bf16 = x->bf16 != NULL;
    const size_t row_bytes = s->channels * (bf16 ? sizeof *x->bf16 : sizeof *x->f32);
    if (sources != NULL) {
        SEAM_TRY(seam_buffer_reserve(&s->x_distinct, micro->rows_in * row_bytes));
        void *const distinct = s->x_distinct.data;
        seam_row_sources_gather(distinct, bf16 ? (const void *)x->bf16 : x->f32, sources,
                                micro->rows, row_bytes);
        *x = bf16 ? (seam_step_rows){.bf16 = distinct} : (seam_step_rows){.f32 = distinct};
    }
    return SEAM_OK;
}

seam_status seam_step_rows_suit(seam_step_rows *x, seam_session *s, const seam_micro_state *micro) {
    const size_t count = (size_t)micro->rows * s->channels;
    if (seam_codec_has_ranges(s->sites[s->fwd_in].codec) &&
        !seam_codec_plan_is_exact_in(&s->config.codec)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_buffer_reserve(&s->x_wide, count * sizeof(float)));
    float *const wide = (float *)(void *)s->x_wide.data;
    for (size_t i = 0; i < count; i++) {
        wide[i] = seam_bf16_to_f32(x->bf16[i]);
    }
    *x = (seam_step_rows){.f32 = wide};
    return SEAM_OK;
}

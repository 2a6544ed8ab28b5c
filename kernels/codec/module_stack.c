/* Modules to rows to chunks and back: see module_stack.h. */
#include "module_stack.h"

#include <string.h>

#include "try.h"

seam_status seam_module_stack_check(const seam_module_stack *stack, seam_error *err) {
    if (stack->module_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "modules: none");
    }
    if (stack->tensor_rows_max == 0 || stack->tensor_rows_max > SEAM_ROWS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "tensor_rows_max: %u is not in 1..%u",
                              stack->tensor_rows_max, SEAM_ROWS_MAX);
    }
    const uint32_t rank = stack->modules[0].rank;
    for (uint32_t i = 0; i < stack->module_count; i++) {
        const seam_module *m = &stack->modules[i];
        if (m->name == NULL || m->values == NULL || m->rows == 0 || m->rank == 0) {
            return seam_error_set(err, SEAM_E_ARG, "modules[%u] %s: no name, values, rows or rank",
                                  i, m->name != NULL ? m->name : "");
        }
        if (m->order != SEAM_MODULE_ROWS && m->order != SEAM_MODULE_COLUMNS) {
            return seam_error_set(err, SEAM_E_ARG, "modules[%u] %s: order %d is unknown", i,
                                  m->name, (int)m->order);
        }
        if (m->rank != rank || rank > SEAM_CHANNELS_MAX) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "modules[%u] %s: rank %u, the first has %u (at most %u)", i,
                                  m->name, m->rank, rank, SEAM_CHANNELS_MAX);
        }
    }
    const uint32_t tensors = seam_module_stack_tensor_count(stack);
    if (tensors > SEAM_MODULE_TENSORS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "modules: %u tensors, at most %u", tensors,
                              SEAM_MODULE_TENSORS_MAX);
    }
    return SEAM_OK;
}

seam_status seam_module_codec_check(seam_codec_id codec, seam_error *err) {
    if (!seam_codec_is_implemented(codec) || seam_codec_has_state(codec) ||
        codec == SEAM_CODEC_AMAQ_TOKEN) {
        const char *name = seam_codec_name(codec);
        return seam_error_set(err, SEAM_E_ARG, "codec: %s is not for modules",
                              name != NULL ? name : "an unknown one");
    }
    return SEAM_OK;
}

uint64_t seam_module_stack_rows(const seam_module_stack *stack) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < stack->module_count; i++) {
        rows += stack->modules[i].rows;
    }
    return rows;
}

uint32_t seam_module_stack_tensor_count(const seam_module_stack *stack) {
    const uint64_t most = stack->tensor_rows_max;
    return (uint32_t)((seam_module_stack_rows(stack) + most - 1) / most);
}

static uint64_t tensor_begin(const seam_module_stack *stack, uint32_t tensor_idx) {
    return (uint64_t)tensor_idx * stack->tensor_rows_max;
}

uint32_t seam_module_stack_tensor_rows(const seam_module_stack *stack, uint32_t tensor_idx) {
    const uint64_t begin = tensor_begin(stack, tensor_idx), rows = seam_module_stack_rows(stack);
    SEAM_ASSERT(begin < rows);
    return rows - begin < stack->tensor_rows_max ? (uint32_t)(rows - begin)
                                                 : stack->tensor_rows_max;
}

/* ---- rows <-> modules ---- */

/* The part of a module that lies in a tensor: rows from `first` on, to row `at` of the tensor. */
typedef struct module_part {
    uint32_t first, count, at;
} module_part;

/* module_begin: the module's first row in the stack. */
static module_part part_of(const seam_module *module, uint64_t module_begin, uint64_t begin,
                           uint32_t rows) {
    const uint64_t module_end = module_begin + module->rows, end = begin + rows;
    const uint64_t from = module_begin > begin ? module_begin : begin;
    const uint64_t to = module_end < end ? module_end : end;
    if (from >= to) {
        return (module_part){0};
    }
    return (module_part){.first = (uint32_t)(from - module_begin),
                         .count = (uint32_t)(to - from),
                         .at = (uint32_t)(from - begin)};
}

/* In blocks of rows, so that both sides of a transposition stay in the cache. */
#define BLOCK_ROWS 64u

static void columns_copy(float *to, size_t to_row, size_t to_channel, const float *from,
                         size_t from_row, size_t from_channel, uint32_t rows, uint32_t channels) {
    for (uint32_t begin = 0; begin < rows; begin += BLOCK_ROWS) {
        const uint32_t end = rows - begin < BLOCK_ROWS ? rows : begin + BLOCK_ROWS;
        for (uint32_t c = 0; c < channels; c++) {
            for (uint32_t i = begin; i < end; i++) {
                to[i * to_row + c * to_channel] = from[i * from_row + c * from_channel];
            }
        }
    }
}

void seam_module_stack_gather(float *ret_rows, const seam_module_stack *stack,
                              uint32_t tensor_idx) {
    const uint64_t begin = tensor_begin(stack, tensor_idx);
    const uint32_t rows = seam_module_stack_tensor_rows(stack, tensor_idx);
    uint64_t module_begin = 0;
    for (uint32_t i = 0; i < stack->module_count; i++) {
        const seam_module *m = &stack->modules[i];
        const module_part part = part_of(m, module_begin, begin, rows);
        float *const to = ret_rows + (size_t)part.at * m->rank;
        if (m->order == SEAM_MODULE_ROWS) {
            memcpy(to, m->values + (size_t)part.first * m->rank,
                   (size_t)part.count * m->rank * sizeof *to);
        } else {
            columns_copy(to, m->rank, 1, m->values + part.first, 1, m->rows, part.count, m->rank);
        }
        module_begin += m->rows;
    }
}

/* And back. */
static void rows_scatter(const seam_module_stack *stack, const float *rows, uint32_t tensor_idx) {
    const uint64_t begin = tensor_begin(stack, tensor_idx);
    const uint32_t row_count = seam_module_stack_tensor_rows(stack, tensor_idx);
    uint64_t module_begin = 0;
    for (uint32_t i = 0; i < stack->module_count; i++) {
        const seam_module *m = &stack->modules[i];
        const module_part part = part_of(m, module_begin, begin, row_count);
        const float *const from = rows + (size_t)part.at * m->rank;
        if (m->order == SEAM_MODULE_ROWS) {
            memcpy(m->values + (size_t)part.first * m->rank, from,
                   (size_t)part.count * m->rank * sizeof *from);
        } else {
            columns_copy(m->values + part.first, 1, m->rows, from, m->rank, 1, part.count, m->rank);
        }
        module_begin += m->rows;
    }
}

/* ---- chunks ---- */

static seam_status tensor_encode(seam_module_bytes *bytes, const seam_module_stack *stack,
                                 const seam_module_encode_args *args, uint32_t tensor_idx) {
    const uint32_t rows = seam_module_stack_tensor_rows(stack, tensor_idx);
    seam_coder_encode_args tensor = {
        .tensor = {.codec = args->codec, .alloc = args->alloc, .rows = rows},
        .x = args->rows,
        .rounding = args->rounding,
    };
    tensor.rounding.micro = (uint16_t)tensor_idx;
    tensor.rounding.row_ids = NULL;
    tensor.rounding.row_id_begin = 0;
    seam_module_stack_gather(args->rows, stack, tensor_idx);
    SEAM_TRY(seam_coder_encode_begin(args->coder, &tensor));
    while (!seam_coder_is_done(args->coder)) {
        seam_coder_chunk chunk;
        float *const decoded = args->ret_decoded != NULL ? args->rows : NULL;
        SEAM_TRY(seam_coder_encode_chunk(&chunk, args->payload, SEAM_PAYLOAD_BYTES_MAX, decoded,
                                         args->coder));
        SEAM_TRY(args->take(args->user, tensor_idx, rows, &chunk, args->payload));
        bytes->frame_count++;
        bytes->payload_bytes += chunk.payload_bytes;
    }
    seam_coder_commit(args->coder);
    if (args->ret_decoded != NULL) {
        rows_scatter(args->ret_decoded, args->rows, tensor_idx);
    }
    return SEAM_OK;
}

seam_status seam_module_stack_encode(seam_module_bytes *bytes, const seam_module_stack *stack,
                                     const seam_module_encode_args *args) {
    SEAM_ASSERT(seam_module_stack_check(stack, NULL) == SEAM_OK);
    SEAM_ASSERT(seam_module_codec_check(args->codec, NULL) == SEAM_OK);
    const uint32_t count = seam_module_stack_tensor_count(stack);
    for (uint32_t i = 0; i < count; i++) {
        SEAM_TRY(tensor_encode(bytes, stack, args, i));
    }
    return SEAM_OK;
}

seam_status seam_module_stack_decode(bool *ret_complete, const seam_module_stack *stack,
                                     const seam_module_decode_args *args, uint32_t tensor_idx,
                                     const seam_coder_chunk *chunk, const uint8_t *payload,
                                     seam_error *err) {
    SEAM_ASSERT(seam_module_codec_check(args->codec, NULL) == SEAM_OK);
    if (chunk->row_begin == 0) {
        const seam_coder_tensor tensor = {.codec = args->codec,
                                          .alloc = args->alloc,
                                          .rows = seam_module_stack_tensor_rows(stack, tensor_idx)};
        seam_coder_decode_begin(args->coder, &tensor);
    }
    SEAM_TRY(seam_coder_decode_chunk(args->rows, args->coder, chunk, payload, err));
    const bool complete = seam_coder_is_done(args->coder);
    if (complete) {
        seam_coder_commit(args->coder);
        rows_scatter(stack, args->rows, tensor_idx);
    }
    *ret_complete = complete;
    return SEAM_OK;
}

/* An adapter's whole state as bytes: what a checkpoint must hold so that the next step has the
 * same bits.  Gradients are not in it: between two steps they are zero.
 *
 *   "SEAMADPT"  version u32 = 1  bytes of a value u32 (4 or 8)  rank u32  targets u32 (0: rank is a
 * prefix's tokens, or 0: the blocks in full) layer_begin u32  layer_count u32  alpha f32  rslora
 * u32  applied steps u64 then master, first moment, second moment; each: every tensor in order,
 * row-major, LE. */
#include <string.h>

#include "blocks_internal.h"
#include "bytes.h"
#include "try.h"

#define VERSION      1
#define HEADER_BYTES 48

static const uint8_t magic[8] = {'S', 'E', 'A', 'M', 'A', 'D', 'P', 'T'};

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the bulk copies below take memory order for file order"
#endif

static void header_put(uint8_t ret[HEADER_BYTES], const seam_adapter *a) {
    memset(ret, 0, HEADER_BYTES);
    memcpy(ret, magic, sizeof magic);
    seam_put_u32(ret + 8, VERSION);
    seam_put_u32(ret + 12, (uint32_t)seam_dtype_bytes(a->blocks->ops->acc));
    const seam_lora_config *lora = &a->config.lora;
    const bool is_prefix = a->config.kind == SEAM_ADAPTER_PREFIX;
    seam_put_u32(ret + 16, is_prefix ? a->config.prefix.tokens : lora->rank);
    seam_put_u32(ret + 20, lora->targets);
    seam_put_u32(ret + 24, a->blocks->layer_begin);
    seam_put_u32(ret + 28, a->blocks->layer_count);
    seam_put_f32(ret + 32, lora->alpha);
    seam_put_u32(ret + 36, lora->rslora);
    seam_put_u64(ret + 40, a->applied_step_count);
}

static size_t slot_bytes(const seam_adapter *a, uint32_t slot) {
    return (size_t)a->slots[slot].rows * a->slots[slot].cols *
           seam_dtype_bytes(a->blocks->ops->acc);
}

static uint8_t *slot_at(const seam_adapter *a, const void *flat, uint32_t slot) {
    return (uint8_t *)(uintptr_t)flat +
           a->slots[slot].begin * seam_dtype_bytes(a->blocks->ops->acc);
}

size_t seam_adapter_state_bytes(const seam_adapter *adapter) {
    size_t bytes = HEADER_BYTES;
    for (uint32_t i = 0; i < adapter->slot_count; i++) {
        bytes += 3 * slot_bytes(adapter, i);
    }
    return bytes;
}

seam_status seam_adapter_save_state(uint8_t *ret, const seam_adapter *adapter,
                                    seam_stream *stream) {
    const seam_ops *ops = adapter->blocks->ops;
    header_put(ret, adapter);
    uint8_t *cursor = ret + HEADER_BYTES;
    const void *const flats[] = {adapter->param, adapter->m, adapter->v};
    for (size_t f = 0; f < 3; f++) {
        for (uint32_t i = 0; i < adapter->slot_count; i++) {
            const size_t bytes = slot_bytes(adapter, i);
            SEAM_TRY(ops->copy_out(stream, cursor, slot_at(adapter, flats[f], i), bytes));
            cursor += bytes;
        }
    }
    return ops->stream_sync(stream);
}

seam_status seam_adapter_load_state(seam_adapter *adapter, seam_stream *stream,
                                    const uint8_t *bytes, size_t count) {
    const seam_ops *ops = adapter->blocks->ops;
    if (count != seam_adapter_state_bytes(adapter)) {
        return SEAM_E_FORMAT;
    }
    uint8_t expected[HEADER_BYTES];
    header_put(expected, adapter);
    if (memcmp(expected, bytes, 40) != 0) { /* all but the step count */
        return SEAM_E_FORMAT;
    }
    const uint8_t *cursor = bytes + HEADER_BYTES;
    void *const flats[] = {adapter->param, adapter->m, adapter->v};
    for (size_t f = 0; f < 3; f++) {
        for (uint32_t i = 0; i < adapter->slot_count; i++) {
            const size_t slot = slot_bytes(adapter, i);
            SEAM_TRY(ops->copy_in(stream, slot_at(adapter, flats[f], i), cursor, slot));
            cursor += slot;
        }
    }
    if (adapter->copy != NULL) {
        SEAM_TRY(
            ops->cast(stream, adapter->copy, ops->act, adapter->param, ops->acc, adapter->count));
    }
    if (adapter->own != NULL) {
        SEAM_TRY(seam_full_refresh(adapter, stream, 0, adapter->blocks->layer_count));
    }
    SEAM_TRY(ops->zero(stream, adapter->grad, adapter->count * seam_dtype_bytes(ops->acc)));
    SEAM_TRY(ops->stream_sync(stream));
    adapter->applied_step_count = seam_get_u64(bytes + 40);
    return SEAM_OK;
}

seam_status seam_adapter_clear_gradient(seam_adapter *adapter, seam_stream *stream) {
    const seam_ops *ops = adapter->blocks->ops;
    SEAM_TRY(ops->zero(stream, adapter->grad, adapter->count * seam_dtype_bytes(ops->acc)));
    return ops->stream_sync(stream);
}

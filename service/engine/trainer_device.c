/* The rows of a micro-batch that stay on the device: SPEC 3.1 where the backend has a codec of its
 * own (kernels/include/device_codec.h).  train_step.c asks here where a site's rows lie; a site
 * whose codec only the host has goes through the host's rows as without.
 *
 * Gathering the labelled rows and scattering their gradients are row lists here: a decoder writes,
 * an encoder and a gate sum read the rows of t->x in place.  The values are those of the host's
 * way, to the bit.  Read next: kernels/codec/coder_device.c. */
#include <string.h>

#include "device_codec.h"
#include "row_sources.h"
#include "trainer_internal.h"
#include "try.h"

static bool has_codec(const seam_trainer *t) {
    return t->ops != NULL && t->ops->codec != NULL;
}

static size_t row_bytes(const seam_trainer *t) {
    return (size_t)t->config->limits.rows_max * sizeof(uint32_t);
}

static size_t kept_bytes(const seam_trainer *t) {
    const bool kept = seam_session_config_keeps_out(t->config);
    return kept ? (size_t)t->config->limits.rows_max * t->channels * sizeof(float) : 0;
}

static bool codec_on_device(const seam_trainer *t, uint16_t site) {
    return seam_codec_has_device(seam_session_config_codec(t->config, site));
}

/* Payload bytes of the largest tensor of a site that stays on the device. */
static size_t codes_bytes(const seam_trainer *t) {
    size_t largest = 0;
    for (uint32_t site = 0; site < SEAM_SITE_COUNT; site++) {
        const seam_coder_config coder = seam_session_config_coder(t->config, (uint16_t)site);
        const size_t bytes = seam_coder_bytes_max(&coder, t->config->limits.rows_max);
        largest = codec_on_device(t, (uint16_t)site) && bytes > largest ? bytes : largest;
    }
    return largest;
}

void seam_trainer_device_carve(seam_trainer *t, seam_arena *arena) {
    if (has_codec(t)) {
        t->device.wanted_host = seam_arena_take(arena, row_bytes(t));
        t->device.firsts_host = seam_arena_take(arena, row_bytes(t));
        t->device.origins_host = seam_arena_take(arena, row_bytes(t));
        t->device.sums_host = seam_arena_take(arena, t->channels * sizeof(double));
    }
}

void seam_trainer_device_plan(seam_memory_plan *plan, const seam_trainer *t) {
    if (!has_codec(t)) {
        return;
    }
    size_t device_bytes = 0, host_bytes = 0;
    seam_coder_space_bytes(&device_bytes, &host_bytes, t->ops, t->channels, codes_bytes(t));
    plan->device[SEAM_MEMORY_CODEC] += device_bytes + 2 * row_bytes(t) +
                                       t->channels * sizeof(double) +
                                       t->depth * (2 * row_bytes(t) + 2 * kept_bytes(t));
    plan->host[SEAM_MEMORY_CODEC] += host_bytes;
}

static seam_status slot_create(trainer_slot *slot, const seam_trainer *t) {
    const size_t kept = kept_bytes(t);
    SEAM_TRY(t->ops->mem_alloc((void **)&slot->labelled, t->backend, row_bytes(t)));
    SEAM_TRY(t->ops->mem_alloc((void **)&slot->wanted, t->backend, row_bytes(t)));
    if (kept == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(t->ops->mem_alloc((void **)&slot->device_x, t->backend, kept));
    return t->ops->mem_alloc((void **)&slot->device_decoded, t->backend, kept);
}

seam_status seam_trainer_device_create(seam_trainer *t) {
    trainer_device *d = &t->device;
    if (!has_codec(t)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_coder_space_create(&d->space, t->ops, t->backend, t->channels, codes_bytes(t)));
    for (uint32_t i = 0; i < t->depth; i++) {
        SEAM_TRY(slot_create(&t->slots[i], t));
    }
    SEAM_TRY(t->ops->mem_alloc((void **)&d->firsts, t->backend, row_bytes(t)));
    SEAM_TRY(t->ops->mem_alloc((void **)&d->origins, t->backend, row_bytes(t)));
    return t->ops->mem_alloc((void **)&d->sums, t->backend, t->channels * sizeof(double));
}

void seam_trainer_device_destroy(seam_trainer *t) {
    trainer_device *d = &t->device;
    t->ops->mem_free(t->backend, d->sums);
    t->ops->mem_free(t->backend, d->origins);
    t->ops->mem_free(t->backend, d->firsts);
    for (uint32_t i = 0; i < t->depth; i++) {
        trainer_slot *slot = &t->slots[i];
        t->ops->mem_free(t->backend, slot->device_decoded);
        t->ops->mem_free(t->backend, slot->device_x);
        t->ops->mem_free(t->backend, slot->wanted);
        t->ops->mem_free(t->backend, slot->labelled);
    }
    seam_coder_space_destroy(d->space);
}

/* ---- a micro-batch ---- */

bool seam_trainer_on_device(const seam_trainer *t, uint16_t site) {
    return t->device.space != NULL && codec_on_device(t, site);
}

seam_coder_place seam_trainer_place(const seam_trainer *t, uint16_t site, seam_stream *stream) {
    const trainer_device *d = &t->device;
    seam_coder_place place = {.stream = stream, .x = t->x};
    const bool inner = site == SEAM_SITE_FWD_OUT || site == SEAM_SITE_BWD_OUT;
    if (inner && t->config->labelled_rows_only) {
        place.list = t->at->labelled;
    } else if (site == SEAM_SITE_FWD_IN && t->at->micro.layout.row_sources != NULL) {
        place.list = d->firsts;
    } else if (site == SEAM_SITE_BWD_OUT) {
        place.list = t->at->wanted;
    } else if (site == SEAM_SITE_FWD_OUT) {
        place.range_list = t->at->labelled;
        place.range_count = t->at->micro.out_count;
    }
    place.decoded = site == SEAM_SITE_FWD_OUT ? t->at->device_decoded : NULL;
    return place;
}

/* Rows of site 0 that repeat: where each is, and from which row. */
static seam_status sources_put(seam_trainer *t, seam_stream *stream) {
    const trainer_device *d = &t->device;
    const seam_micro_layout *layout = &t->at->micro.layout;
    seam_row_sources_places(d->firsts_host, d->origins_host, layout->row_sources, layout->rows);
    SEAM_TRY(t->ops->copy_in(stream, d->firsts, d->firsts_host,
                             layout->rows_in * sizeof *d->firsts_host));
    return t->ops->copy_in(stream, d->origins, d->origins_host,
                           layout->rows * sizeof *d->origins_host);
}

seam_status seam_trainer_device_spread(seam_trainer *t, seam_stream *stream) {
    const seam_device_rows rows = {.x = t->x,
                                   .type = SEAM_F32,
                                   .list = t->device.origins,
                                   .rows = t->at->micro.layout.rows,
                                   .C = t->channels};
    return t->ops->codec->rows_gather(stream, t->x, &rows);
}

seam_status seam_trainer_device_begin(seam_trainer *t, seam_stream *stream) {
    const trainer_device *d = &t->device;
    const seam_micro_layout *layout = &t->at->micro.layout;
    if (d->space == NULL) {
        return SEAM_OK;
    }
    if (layout->row_sources != NULL) {
        SEAM_TRY(sources_put(t, stream));
    }
    memset(d->wanted_host, 0xff, layout->rows * sizeof *d->wanted_host);
    for (uint32_t i = 0; i < t->at->micro.out_count; i++) {
        d->wanted_host[t->at->micro.out_rows[i]] = t->at->micro.out_rows[i];
    }
    SEAM_TRY(t->ops->copy_in(stream, t->at->wanted, d->wanted_host,
                             layout->rows * sizeof *d->wanted_host));
    return t->ops->copy_in(stream, t->at->labelled, t->at->micro.out_rows,
                           t->at->micro.out_count * sizeof *t->at->labelled);
}

/* Rows of sites 1 and 2 in t->x. */
static seam_device_rows rows_out(const seam_trainer *t) {
    return (seam_device_rows){
        .x = t->x,
        .type = SEAM_F32,
        .list = t->config->labelled_rows_only ? t->at->labelled : NULL,
        .rows = seam_trainer_rows_out(t, &t->at->micro),
        .C = t->channels,
    };
}

seam_status seam_trainer_device_keep(seam_trainer *t, seam_stream *stream) {
    const seam_device_rows rows = rows_out(t);
    return t->ops->codec->rows_gather(stream, t->at->device_x, &rows);
}

static seam_status sums_fetch(seam_trainer *t, seam_stream *stream) {
    const size_t bytes = t->channels * sizeof(double);
    SEAM_TRY(t->ops->copy_out(stream, t->device.sums_host, t->device.sums, bytes));
    return t->ops->stream_sync(stream);
}

seam_status seam_trainer_device_squares(float *ret_sums, seam_trainer *t, bool labelled_only,
                                        seam_stream *stream) {
    seam_device_rows rows = rows_out(t);
    if (!labelled_only) {
        rows.list = NULL;
        rows.rows = t->at->micro.layout.rows;
    }
    SEAM_TRY(t->ops->codec->gate_squares(stream, t->device.sums, &rows));
    SEAM_TRY(sums_fetch(t, stream));
    seam_gates_take_squares(ret_sums, t->device.sums_host, t->channels);
    return SEAM_OK;
}

seam_status seam_trainer_device_exact(float *ret_db, seam_trainer *t, const uint8_t *widths,
                                      seam_stream *stream) {
    const seam_device_rows rows = rows_out(t);
    SEAM_TRY(t->ops->codec->gate_errors(stream, t->device.sums, &rows, t->at->device_x,
                                        t->at->device_decoded));
    SEAM_TRY(sums_fetch(t, stream));
    seam_gates_take_exact(ret_db, t->device.sums_host, widths, t->channels);
    return SEAM_OK;
}

/* Layout of a state file, written and read; see trainer_state.h.
 *
 * Written by hand like kernels/model/safetensors_write.c: names need no escape, and the data
 * section is the adapter's own state with the other parts behind it, so nothing is copied twice. */
#include "trainer_state.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "safetensors.h"
#include "trainer_internal.h"
#include "try.h"

#define ADAPTER_HEADER_BYTES 48 /* of adapter_state.c */
#define SESSION_FORMAT       2
#define SESSION_FORMAT_FNV   1 /* whose state hash was FNV-1a: not compared any more */
#define SESSION_HEAD_BYTES   96
#define HEADER_ENTRY_BYTES   (SEAM_NAME_BYTES + 160)
#define KINDS                3

static const char *const kinds[KINDS] = {"param", "m", "v"};

static size_t session_bytes(const seam_trainer *t) {
    return SESSION_HEAD_BYTES + (t->by_token ? t->width_count * sizeof(float) : 0);
}

static size_t prefix_bytes(const seam_trainer *t) {
    return t->prefix != NULL ? seam_prefix_quantizer_state_bytes(t->config->model->config) : 0;
}

static size_t layers_bytes(const seam_trainer *t) {
    return seam_gate_group_state_bytes(t->layers.count, t->channels);
}

/* ADAPTER_EXCHANGE: the allocations of the modules' sites; else nothing. */
static size_t modules_bytes(const seam_trainer *t) {
    const seam_module_link *link = &t->exchange.link;
    size_t bytes = 0;
    for (uint32_t i = 0; i < link->pair_count; i++) {
        bytes += seam_site_state_bytes(link->sites[i]);
    }
    return bytes;
}

seam_status seam_trainer_state_bytes_max(size_t *ret_bytes, const seam_session_config *config) {
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    const seam_activations_options acts = {
        .adapter = &config->adapter, .rows_max = 1, .seqs_max = 1, .recompute = true};
    seam_memory_plan plan = {0};
    SEAM_TRY(seam_memory_plan_training(&plan, &blocks, &acts));
    const uint64_t moments = plan.device[SEAM_MEMORY_MOMENTS] + plan.host[SEAM_MEMORY_MOMENTS];
    const uint64_t tensors = /* with prefixes */
        (uint64_t)(blocks.layer_end - blocks.layer_begin) * (SEAM_LORA_TARGETS + 1) * 2 * KINDS;
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    const uint32_t pair_count = seam_exchange_pairs(pairs, config);
    uint64_t widths = seam_session_config_width_count(config);
    for (uint32_t i = 0; i < pair_count; i++) {
        widths += pairs[i].channels;
    }
    const size_t layers = seam_gate_group_state_bytes(seam_session_config_layer_sites(config),
                                                      config->model->config->hidden);
    const size_t prefix = seam_session_config_has_prefix_gates(config)
                              ? seam_prefix_quantizer_state_bytes(config->model->config)
                              : 0;
    *ret_bytes = (size_t)(moments / 2 * KINDS + (tensors + 8 + pair_count) * HEADER_ENTRY_BYTES +
                          64 * widths + layers + prefix + SESSION_HEAD_BYTES + 4096);
    return SEAM_OK;
}

/* ---- the session's own part ----
 *   0 format u32, zero u32   8 steps u64   16 rows u64   24 state hash u64   32 budget (24)
 *   56 next budget (24)   80 has next u32   84 zero;  then the shares, f32 */

static void budget_put(uint8_t *ret, const seam_budget *budget) {
    seam_put_u64(ret, budget->effective_step);
    seam_put_f32(ret + 8, budget->width_shift);
    seam_put_f32(ret + 12, budget->beta);
    seam_put_f32(ret + 16, budget->bits_lr);
    /* at most 16 bits for each of 65536 widths */
    seam_put_u32(ret + 20, budget->bits_total | (budget->bits_loss_active ? 1u << 31 : 0));
}

static seam_budget budget_get(const uint8_t *bytes) {
    const uint32_t last = seam_get_u32(bytes + 20);
    return (seam_budget){.effective_step = seam_get_u64(bytes),
                         .width_shift = seam_get_f32(bytes + 8),
                         .beta = seam_get_f32(bytes + 12),
                         .bits_lr = seam_get_f32(bytes + 16),
                         .bits_total = last & ~(1u << 31),
                         .bits_loss_active = last >> 31 != 0};
}

static void session_put(uint8_t *ret, const seam_trainer *t, const seam_trainer_mark *mark) {
    memset(ret, 0, SESSION_HEAD_BYTES);
    seam_put_u32(ret, SESSION_FORMAT);
    seam_put_u64(ret + 8, mark->step_count);
    seam_put_u64(ret + 16, mark->row_count);
    seam_put_u64(ret + 24, t->state_hash);
    budget_put(ret + 32, &t->budget);
    if (t->has_budget_next) {
        budget_put(ret + 56, &t->budget_next);
        seam_put_u32(ret + 80, 1);
    }
    for (uint32_t i = 0; t->by_token && i < t->width_count; i++) {
        seam_put_f32(ret + SESSION_HEAD_BYTES + 4 * (size_t)i, t->weights_out[i]);
    }
}

static void session_get(seam_trainer *t, seam_trainer_mark *ret_mark, const uint8_t *bytes) {
    *ret_mark = (seam_trainer_mark){.step_count = seam_get_u64(bytes + 8),
                                    .row_count = seam_get_u64(bytes + 16)};
    t->budget = budget_get(bytes + 32);
    t->has_budget_next = seam_get_u32(bytes + 80) != 0;
    t->budget_next = budget_get(bytes + 56);
    for (uint32_t i = 0; t->by_token && i < t->width_count; i++) {
        t->weights_out[i] = seam_get_f32(bytes + SESSION_HEAD_BYTES + 4 * (size_t)i);
    }
}

/* ---- the container ---- */

/* One tensor after the other; `visit` gets its name and place. */
typedef struct part {
    char name[SEAM_NAME_BYTES + 8];
    const char *dtype;
    uint64_t rows, cols;
    size_t begin, bytes; /* in the data section */
} part;
typedef seam_status part_fn(void *user, const part *p);

static seam_status part_visit(part *p, part_fn *visit, void *user, const char *dtype,
                              const uint64_t shape[2], size_t value_bytes) {
    p->dtype = dtype;
    p->rows = shape[0];
    p->cols = shape[1];
    p->begin += p->bytes;
    p->bytes = (size_t)shape[0] * (size_t)shape[1] * value_bytes;
    return visit(user, p);
}

static seam_status bytes_visit(part *p, part_fn *visit, void *user, const char *name,
                               size_t count) {
    const uint64_t shape[2] = {1, count};
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    return part_visit(p, visit, user, "U8", shape, 1);
}

static seam_status parts_visit(const seam_trainer *t, part_fn *visit, void *user) {
    const size_t value_bytes = seam_dtype_bytes(t->ops->acc);
    const uint32_t tensors = seam_adapter_tensor_count(t->adapter);
    part p = {.begin = 0};
    SEAM_TRY(bytes_visit(&p, visit, user, "adapter.header", ADAPTER_HEADER_BYTES));
    for (uint32_t k = 0; k < KINDS; k++) {
        for (uint32_t i = 0; i < tensors; i++) {
            seam_adapter_tensor tensor;
            seam_adapter_describe(&tensor, t->adapter, i);
            const uint64_t shape[2] = {tensor.rows, tensor.cols};
            (void)snprintf(p.name, sizeof p.name, "%s.%s", kinds[k], tensor.name);
            SEAM_TRY(
                part_visit(&p, visit, user, value_bytes == 4 ? "F32" : "F64", shape, value_bytes));
        }
    }
    SEAM_ASSERT(p.begin + p.bytes == seam_adapter_state_bytes(t->adapter));
    SEAM_TRY(bytes_visit(&p, visit, user, "site.0", seam_site_state_bytes(t->site_in)));
    SEAM_TRY(bytes_visit(&p, visit, user, "site.1", seam_site_state_bytes(t->site_out)));
    SEAM_TRY(bytes_visit(&p, visit, user, "session", session_bytes(t)));
    if (t->layers.count > 0) {
        SEAM_TRY(bytes_visit(&p, visit, user, "layers", layers_bytes(t)));
    }
    if (t->prefix != NULL) {
        SEAM_TRY(bytes_visit(&p, visit, user, "prefix.gates", prefix_bytes(t)));
    }
    for (uint32_t i = 0; i < t->exchange.link.pair_count; i++) {
        char name[SEAM_NAME_BYTES];
        const seam_site *site = t->exchange.link.sites[i];
        (void)snprintf(name, sizeof name, "site.%u", seam_site_config_of(site)->site_id);
        SEAM_TRY(bytes_visit(&p, visit, user, name, seam_site_state_bytes(site)));
    }
    return t->keeper != NULL ? bytes_visit(&p, visit, user, "caches", SEAM_REDO_PLACE_BYTES)
                             : SEAM_OK;
}

typedef struct header {
    char *text;
    size_t used, capacity;
    size_t data_bytes;
} header;

static seam_status header_add(void *user, const part *p) {
    header *h = user;
    const size_t room = h->capacity - h->used;
    const int chars =
        snprintf(h->text + h->used, room,
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%llu,%llu],\"data_offsets\":[%zu,%zu]}",
                 p->begin == 0 ? "" : ",", p->name, p->dtype, (unsigned long long)p->rows,
                 (unsigned long long)p->cols, p->begin, p->begin + p->bytes);
    if (chars < 0 || (size_t)chars >= room) {
        return SEAM_E_LIMIT;
    }
    h->used += (size_t)chars;
    h->data_bytes = p->begin + p->bytes;
    return SEAM_OK;
}

seam_status seam_trainer_state_save(uint8_t *ret, size_t *ret_count, size_t capacity,
                                    seam_trainer *trainer, const seam_trainer_mark *mark,
                                    seam_stream *stream, seam_error *err) {
    seam_trainer *t = trainer;
    seam_redo_place caches = {.end = 0};
    if (t->keeper != NULL) {
        SEAM_TRY(seam_cache_keeper_save(&caches, t->keeper, mark->step_count, err));
    }
    SEAM_ASSERT(capacity > 64);
    header h = {.text = (char *)ret + 8, .capacity = capacity - 64};
    h.text[h.used++] = '{';
    SEAM_TRY(parts_visit(t, header_add, &h));
    h.text[h.used++] = '}';
    while (h.used % 8 != 0) {
        h.text[h.used++] = ' ';
    }
    seam_put_u64(ret, h.used);
    const size_t count = 8 + h.used + h.data_bytes;
    if (count > capacity) {
        return SEAM_E_LIMIT;
    }
    uint8_t *cursor = ret + 8 + h.used;
    SEAM_TRY(seam_adapter_save_state(cursor, t->adapter, stream));
    cursor += seam_adapter_state_bytes(t->adapter);
    seam_site_save(cursor, t->site_in);
    cursor += seam_site_state_bytes(t->site_in);
    seam_site_save(cursor, t->site_out);
    cursor += seam_site_state_bytes(t->site_out);
    session_put(cursor, t, mark);
    cursor += session_bytes(t);
    if (t->layers.count > 0) {
        seam_gate_group_save(cursor, &t->layers.group);
        cursor += layers_bytes(t);
    }
    if (t->prefix != NULL) {
        seam_gate_group_save(cursor, seam_prefix_quantizer_group(t->prefix));
        cursor += prefix_bytes(t);
    }
    for (uint32_t i = 0; i < t->exchange.link.pair_count; i++) {
        seam_site_save(cursor, t->exchange.link.sites[i]);
        cursor += seam_site_state_bytes(t->exchange.link.sites[i]);
    }
    if (t->keeper != NULL) {
        seam_redo_place_put(cursor, &caches);
    }
    *ret_count = count;
    return SEAM_OK;
}

/* ---- reading ---- */

typedef struct finder {
    const seam_tensor_index *index;
    const uint8_t *data; /* where the parts begin, in order and without gaps */
    const uint8_t *tail; /* site.0 and what follows */
    seam_error *err;
} finder;

/* Every part is there with its size, and stands where the state wants it. */
static seam_status part_find(void *user, const part *p) {
    finder *f = user;
    const seam_tensor_entry *entry = seam_tensor_index_find(f->index, p->name);
    if (entry == NULL || entry->rows != p->rows || entry->cols != p->cols ||
        strcmp(entry->type_name, p->dtype) != 0 || (p->begin > 0 && f->data == NULL) ||
        (p->begin > 0 && entry->bytes != f->data + p->begin)) {
        return seam_error_set(f->err, SEAM_E_FORMAT,
                              "checkpoint: tensor %s is not that of this "
                              "session",
                              p->name);
    }
    f->data = p->begin == 0 ? entry->bytes : f->data;
    f->tail = strcmp(p->name, "site.0") == 0 ? entry->bytes : f->tail;
    return SEAM_OK;
}

static const uint8_t *session_of(const seam_trainer *t, const finder *f) {
    SEAM_ASSERT(f->data != NULL); /* part_find has seen every part */
    SEAM_ASSERT(f->tail != NULL);
    return f->tail + seam_site_state_bytes(t->site_in) + seam_site_state_bytes(t->site_out);
}

/* First, so that another checkpoint can be loaded in place of one whose caches are damaged. */
static seam_status caches_take(const seam_trainer *t, const finder *f) {
    if (t->keeper == NULL) {
        return SEAM_OK;
    }
    const seam_redo_place place = seam_redo_place_get(
        session_of(t, f) + session_bytes(t) + layers_bytes(t) + prefix_bytes(t) + modules_bytes(t));
    return seam_cache_keeper_restore(t->keeper, &place, f->err);
}

SEAM_ON_GPU static seam_status state_take(seam_trainer *t, seam_trainer_mark *ret_mark,
                                          const finder *f, seam_stream *stream) {
    const uint8_t *site_out = f->tail + seam_site_state_bytes(t->site_in);
    const uint8_t *session = session_of(t, f);
    const uint32_t format = seam_get_u32(session);
    if (format != SESSION_FORMAT && format != SESSION_FORMAT_FNV) {
        return SEAM_E_FORMAT;
    }
    SEAM_TRY(seam_trainer_drop_step(t, stream));
    SEAM_TRY(
        seam_adapter_load_state(t->adapter, stream, f->data, seam_adapter_state_bytes(t->adapter)));
    SEAM_TRY(seam_site_load(t->site_in, f->tail, seam_site_state_bytes(t->site_in)));
    SEAM_TRY(seam_site_load(t->site_out, site_out, seam_site_state_bytes(t->site_out)));
    session_get(t, ret_mark, session);
    if (t->layers.count > 0) {
        SEAM_TRY(seam_layers_load(t, session + session_bytes(t), stream));
    }
    if (t->prefix != NULL) {
        SEAM_TRY(seam_gate_group_load(seam_prefix_quantizer_group(t->prefix),
                                      session + session_bytes(t) + layers_bytes(t)));
    }
    const uint8_t *modules = session + session_bytes(t) + layers_bytes(t) + prefix_bytes(t);
    for (uint32_t i = 0; i < t->exchange.link.pair_count; i++) {
        seam_site *site = t->exchange.link.sites[i];
        SEAM_TRY(seam_site_load(site, modules, seam_site_state_bytes(site)));
        modules += seam_site_state_bytes(site);
    }
    SEAM_TRY(seam_trainer_refresh(t, stream));
    const bool same = t->state_hash == seam_get_u64(session + 24);
    return same || format == SESSION_FORMAT_FNV ? SEAM_OK : SEAM_E_FORMAT;
}

seam_status seam_trainer_state_load(seam_trainer *trainer, seam_trainer_mark *ret_mark,
                                    const uint8_t *bytes, size_t count, seam_stream *stream,
                                    seam_error *err) {
    seam_tensor_index index = {0};
    finder f = {.index = &index, .err = err};
    seam_status st = seam_safetensors_parse(&index, bytes, count, "checkpoint", err);
    if (st == SEAM_OK) {
        st = seam_tensor_index_finish(&index, err);
    }
    if (st == SEAM_OK) {
        st = parts_visit(trainer, part_find, &f);
    }
    if (st == SEAM_OK) {
        st = caches_take(trainer, &f);
    }
    if (st == SEAM_OK) {
        st = state_take(trainer, ret_mark, &f, stream);
        st = st == SEAM_OK ? st
                           : seam_error_set(err, st, "checkpoint: not a state of this session: %s",
                                            seam_status_text(st));
    }
    seam_tensor_index_deinit(&index);
    return st;
}

/* The client's whole state between two steps as bytes, and back: what a record of the journal
 * holds.  Everything that the next step depends on and that the server does not know: the
 * allocations and the own site's gates with their moments (or waterfill averages), the arbiter, the
 * rate control, answers that go out with the next step, where the log of the caches stands; of an
 * exchange the allocations and gates of its modules; last what the caller trains (own_part.c).
 * One walk serves both directions, so that they cannot differ.
 *
 * The data cursor and the rounding counters are functions of the step's number. */
#include <string.h>

#include "bytes.h"
#include "core.h"
#include "try.h"

#define FORMAT         5
#define FORMAT_ALL     1 /* of a run whose weights count every row of site 0: it goes on so */
#define FORMAT_DEPTH   3 /* the first that has the pipeline's depth */
#define FORMAT_SETTLED 4 /* the first that has what the depth settles by */
#define FORMAT_CACHES  5 /* and the caches' place */
#define ANSWERS_MAX    (1u << 20)
#define SITE_BYTES_MAX (1u << 24)

/* Writing: bytes grows.  Reading: bytes from `at` on; bad: they end too early or say nonsense. */
typedef struct walk {
    seam_buffer *bytes;
    size_t at;
    bool reads, bad;
} walk;

static void walk_bytes(walk *w, void *value, size_t count) {
    if (!w->reads) {
        w->bad = w->bad || seam_buffer_add(w->bytes, value, count) != SEAM_OK;
    } else if (w->bad || count > w->bytes->count - w->at) {
        w->bad = true;
    } else {
        memcpy(value, w->bytes->data + w->at, count);
        w->at += count;
    }
}

static void walk_u64(walk *w, uint64_t *value) {
    uint8_t raw[8];
    seam_put_u64(raw, *value);
    walk_bytes(w, raw, sizeof raw);
    *value = seam_get_u64(raw);
}

static void walk_u32(walk *w, uint32_t *value) {
    uint64_t wide = *value;
    walk_u64(w, &wide);
    w->bad = w->bad || wide > UINT32_MAX;
    *value = (uint32_t)wide;
}

static void walk_bool(walk *w, bool *value) {
    uint64_t wide = *value ? 1 : 0;
    walk_u64(w, &wide);
    w->bad = w->bad || wide > 1;
    *value = wide == 1;
}

static void walk_f64(walk *w, double *value) {
    uint64_t raw = 0;
    memcpy(&raw, value, sizeof raw);
    walk_u64(w, &raw);
    memcpy(value, &raw, sizeof raw);
}

static void walk_f32(walk *w, float *value) {
    double wide = (double)*value; /* exact both ways */
    walk_f64(w, &wide);
    *value = (float)wide;
}

static void walk_pace_config(walk *w, seam_pace_config *p) {
    uint32_t shape = (uint32_t)p->shape;
    walk_f64(w, &p->bits_start);
    walk_f64(w, &p->bits_target);
    walk_u64(w, &p->steps_to_target);
    walk_u32(w, &shape);
    w->bad = w->bad || (shape != 0 && shape != SEAM_PACE_LINEAR && shape != SEAM_PACE_COSINE);
    p->shape = (seam_pace_shape)shape;
    walk_f64(w, &p->logit_distance);
    walk_f64(w, &p->price_default);
}

/* The client's own options: the server knows the codec's, but not how the client steers. */
static void walk_options(walk *w, seam_session *s) {
    seam_arbiter_config *const a = &s->arbiter.config;
    walk_bool(w, &a->hard);
    walk_bool(w, &a->l1);
    walk_f32(w, &a->bits_target); /* rate control moves it */
    walk_f32(w, &a->beta);
    walk_f32(w, &a->bits_lr);
    walk_f32(w, &a->beta_after);
    walk_f32(w, &a->bits_lr_after);
    walk_u32(w, &a->lag_steps);
    walk_pace_config(w, &a->pace);
    walk_bool(w, &s->config.distinct_rows);
    walk_bool(w, &s->config.rate_auto);
    walk_u32(w, &s->config.lag_steps);
    walk_f64(w, &s->rate.config.bits_min);
    walk_f64(w, &s->rate.config.bits_max);
    walk_f64(w, &s->rate.config.step_seconds);
}

static void walk_arbiter(walk *w, seam_arbiter *a, uint64_t format) {
    seam_budget *const b = &a->budget;
    seam_pace *const p = &a->pace;
    walk_u64(w, &a->values_in);
    walk_u64(w, &a->values_out);
    if (w->reads) { /* a record of before the first step has no weights yet */
        a->counts_all = format == FORMAT_ALL;
    }
    if (format == FORMAT_ALL) {
        a->values_used_in = a->values_in;
    } else {
        walk_u64(w, &a->values_used_in);
        w->bad = w->bad || a->values_used_in < a->values_in;
    }
    walk_f64(w, &a->mean_bits);
    walk_bool(w, &a->target_reached);
    walk_bool(w, &a->changed);
    walk_bool(w, &b->bits_loss_active);
    walk_f32(w, &b->width_shift);
    walk_f32(w, &b->bits_lr);
    walk_f32(w, &b->bits_target);
    walk_f32(w, &b->beta_in);
    walk_f32(w, &b->beta_out);
    walk_u32(w, &b->total_in);
    walk_u32(w, &b->total_out);
    walk_pace_config(w, &p->config);
    walk_bool(w, &p->begun);
    walk_bool(w, &p->reached);
    walk_f64(w, &p->log_price);
    walk_f64(w, &p->error_last);
    walk_f64(w, &p->error_speed);
    walk_f64(w, &p->price);
    walk_f64(w, &p->bits_lr);
}

static void walk_rate(walk *w, seam_rate *r) {
    for (int i = 0; i < SEAM_RATE_STEPS; i++) {
        walk_f64(w, &r->compute_seconds[i]);
        walk_f64(w, &r->wait_seconds[i]);
        walk_f64(w, &r->fixed_bytes[i]);
        walk_f64(w, &r->bytes_a_bit[i]);
    }
    walk_u64(w, &r->step_count);
    walk_f64(w, &r->bytes_per_second);
    walk_f64(w, &r->bits);
    walk_u32(w, &r->rising);
    walk_u32(w, &r->falling);
}

static void walk_depth(walk *w, seam_session *s, uint64_t format) {
    seam_depth *const d = &s->depth;
    walk_bool(w, &s->config.depth_auto);
    walk_u32(w, &d->max);
    walk_u32(w, &d->ahead);
    walk_u32(w, &d->falling);
    for (int i = 0; i < SEAM_DEPTH_STEPS; i++) {
        walk_f64(w, &d->asks[i]);
    }
    walk_u64(w, &d->step_count);
    if (format >= FORMAT_SETTLED) {
        walk_u32(w, &d->below);
        walk_u32(w, &d->below_most);
    }
    w->bad = w->bad || d->ahead < 1 || d->ahead > d->max || d->max > s->config.pipeline_depth;
    if (w->reads && !w->bad && (s->depth_held == 0 || d->max < s->depth_held)) {
        s->depth_held = d->max;
    }
}

/* What was measured and decided: first, so that a replay can take it alone. */
static uint64_t walk_decisions(walk *w, seam_session *s) {
    uint64_t format = FORMAT;
    walk_u64(w, &format);
    w->bad = w->bad || format < FORMAT_ALL || format > FORMAT;
    walk_options(w, s);
    walk_arbiter(w, &s->arbiter, format);
    walk_rate(w, &s->rate);
    if (format >= FORMAT_DEPTH) {
        walk_depth(w, s, format);
    }
    return format;
}

static void walk_caches(walk *w, seam_redo_place *place) {
    walk_u64(w, &place->step);
    walk_u64(w, &place->number);
    walk_u64(w, &place->end);
    walk_u64(w, &place->chain);
}

static seam_status site_put(walk *w, const seam_site *site) {
    const size_t count = seam_site_state_bytes(site);
    uint64_t wide = count;
    walk_u64(w, &wide);
    SEAM_TRY(seam_buffer_reserve(w->bytes, w->bytes->count + count));
    seam_site_save(w->bytes->data + w->bytes->count, site);
    w->bytes->count += count;
    return SEAM_OK;
}

static seam_status site_get(walk *w, seam_site *site) {
    uint64_t count = 0;
    walk_u64(w, &count);
    if (w->bad || count > SITE_BYTES_MAX || count > w->bytes->count - w->at) {
        return SEAM_E_FORMAT;
    }
    SEAM_TRY(seam_site_load(site, w->bytes->data + w->at, (size_t)count));
    w->at += (size_t)count;
    return SEAM_OK;
}

/* What the last step used, for whoever asks before the next one. */
static void walk_widths(walk *w, seam_session *s) {
    seam_exchange *const e = &s->exchange;
    walk_bytes(w, s->widths_used[0], s->width_count);
    walk_bytes(w, s->widths_used[1], s->width_count);
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        walk_bytes(w, e->widths_used[i], e->link.pairs[i].channels);
    }
}

static seam_status walk_answers(walk *w, seam_session *s) {
    uint32_t count = (uint32_t)s->answers_next.count;
    walk_u32(w, &count);
    if (w->bad || count > ANSWERS_MAX) {
        return SEAM_E_FORMAT;
    }
    SEAM_TRY(seam_buffer_reserve(&s->answers_next, count + 1));
    walk_bytes(w, s->answers_next.data, count);
    s->answers_next.count = count;
    return SEAM_OK;
}

seam_status seam_state_save(seam_buffer *ret_bytes, seam_session *session) {
    seam_session *const s = session;
    walk w = {.bytes = ret_bytes};
    ret_bytes->count = 0;
    (void)walk_decisions(&w, s);
    walk_u64(&w, &s->durable_told);
    walk_u64(&w, &s->durable_before);
    SEAM_TRY(site_put(&w, s->site_in));
    SEAM_TRY(site_put(&w, s->site_out));
    for (uint32_t i = 0; i < s->exchange.link.pair_count; i++) {
        SEAM_TRY(site_put(&w, s->exchange.link.sites[i]));
    }
    SEAM_TRY(walk_answers(&w, s));
    walk_widths(&w, s);
    walk_caches(&w, &s->caches);
    SEAM_TRY(w.bad ? SEAM_E_MEMORY : SEAM_OK);
    return seam_own_save(ret_bytes, s);
}

seam_status seam_state_load(seam_session *session, seam_buffer *bytes) {
    seam_session *const s = session;
    walk w = {.bytes = bytes, .reads = true};
    const uint64_t format = walk_decisions(&w, s);
    walk_u64(&w, &s->durable_told);
    walk_u64(&w, &s->durable_before);
    SEAM_TRY(w.bad ? SEAM_E_FORMAT : SEAM_OK);
    SEAM_TRY(site_get(&w, s->site_in));
    SEAM_TRY(site_get(&w, s->site_out));
    for (uint32_t i = 0; i < s->exchange.link.pair_count; i++) {
        SEAM_TRY(site_get(&w, s->exchange.link.sites[i]));
    }
    SEAM_TRY(walk_answers(&w, s));
    walk_widths(&w, s);
    s->caches = (seam_redo_place){.end = 0};
    if (format >= FORMAT_CACHES) {
        walk_caches(&w, &s->caches);
    }
    return w.bad ? SEAM_E_FORMAT : seam_own_load(s, bytes, w.at);
}

seam_status seam_state_load_decisions(seam_session *session, seam_buffer *bytes) {
    walk w = {.bytes = bytes, .reads = true};
    (void)walk_decisions(&w, session);
    return w.bad ? SEAM_E_FORMAT : SEAM_OK;
}

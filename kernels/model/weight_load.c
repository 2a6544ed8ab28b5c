/* One list of pieces in the order of the files, each read by several threads, a slice a time.
 *
 * A piece has a buffer while it is filled and copied.  Whoever finds every buffer on its way waits
 * for the copy that was queued first and goes on with that buffer.  A matrix is begun while the one
 * before is read, by a thread that lets the others go on, and ended by the thread that saw its last
 * piece arrive: taking memory and choosing algorithms cost milliseconds, in which the link would
 * stand still.  Measured: tests/bench/RESULTS.md, bench_load. */
#include "weight_load.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "try.h"

typedef struct piece {
    const seam_load_part *part;
    uint32_t matrix_idx;
    uint64_t offset; /* in the file */
    seam_weight_piece values;
} piece;

typedef enum phase {
    PHASE_CLOSED,  /* not taken yet */
    PHASE_FREE,    /* to be filled */
    PHASE_FILLING, /* threads read into it; the last of them queues the copy */
    PHASE_COPYING, /* queued */
    PHASE_WAITED,  /* a thread waits for its copy */
} phase;

typedef struct buffer {
    uint8_t *bytes;
    seam_stream *stream;
    phase phase;   /* guarded by mu, with all below */
    uint64_t turn; /* the piece's place in the list */
    piece piece;
    size_t piece_bytes, given, left; /* left: not read yet */
} buffer;

typedef struct load {
    seam_backend *backend;
    const seam_ops *ops;
    const seam_load_matrix *matrices;
    uint32_t count, threads, buffer_count, ahead;
    size_t piece_bytes, slice_bytes;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* begun, or a buffer's phase */
    buffer buffers[SEAM_LOAD_BUFFERS_MAX];
    buffer *filling;               /* guarded by mu, with all below: has slices to give, or NULL */
    uint64_t turn;                 /* pieces so far */
    uint32_t begun;                /* matrices that are begun */
    bool beginning;                /* some thread begins the next */
    uint32_t matrix_idx, part_idx; /* the next piece */
    size_t part_done;              /* values of that part that are given out */
    size_t first;                  /* place of the part's first value in the matrix */
    size_t *left;                  /* (count) values of each matrix that are not there yet */
    seam_status st;                /* the first failure: everyone stops */
    seam_error err;
} load;

/* What one thread reads at a time. */
typedef struct slice {
    buffer *to;
    size_t begin, bytes; /* of the piece */
} slice;

typedef struct reader {
    load *l;
    uint32_t idx;
    pthread_t thread;
    bool started;
} reader;

static size_t matrix_values(const seam_load_matrix *m) {
    size_t rows = 0;
    for (uint32_t p = 0; p < m->part_count; p++) {
        rows += m->parts[p].rows;
    }
    return rows * m->C;
}

/* Keeps the first failure; with mu held. */
static void failed(load *l, seam_status st, const seam_error *err) {
    if (st != SEAM_OK && l->st == SEAM_OK) {
        l->st = st;
        l->err = *err;
        (void)pthread_cond_broadcast(&l->changed);
    }
}

/* With mu held; whoever waits looks again. */
static void phase_set(load *l, buffer *b, phase to) {
    b->phase = to;
    (void)pthread_cond_broadcast(&l->changed);
}

/* Begins the next matrix; the mutex is let go meanwhile. */
static void matrix_begin(load *l) {
    const seam_load_matrix *m = &l->matrices[l->begun];
    const uint32_t rows = (uint32_t)(matrix_values(m) / m->C);
    l->beginning = true;
    (void)pthread_mutex_unlock(&l->mu);
    const seam_status st =
        l->ops->weight_begin(m->ret_weight, l->backend, rows, m->C, true, true, m->lora_pad);
    (void)pthread_mutex_lock(&l->mu);
    l->beginning = false;
    l->begun += st == SEAM_OK ? 1 : 0;
    if (st != SEAM_OK && l->st == SEAM_OK) {
        l->st = seam_error_set(&l->err, st, "the device took no more weights");
    }
    (void)pthread_cond_broadcast(&l->changed);
}

/* The piece that is next, and one further. */
static piece piece_next(load *l) {
    const seam_load_matrix *m = &l->matrices[l->matrix_idx];
    const seam_load_part *part = &m->parts[l->part_idx];
    const size_t value_bytes = seam_raw_bytes(part->type);
    const size_t part_values = (size_t)part->rows * m->C;
    const size_t room = l->piece_bytes / value_bytes;
    const size_t left = part_values - l->part_done;
    const piece next = {.part = part,
                        .matrix_idx = l->matrix_idx,
                        .offset = part->offset + l->part_done * value_bytes,
                        .values = {.type = part->type,
                                   .first = l->first + l->part_done,
                                   .count = left < room ? left : room}};
    l->part_done += next.values.count;
    if (l->part_done == part_values) {
        l->first += part_values;
        l->part_done = 0;
        l->part_idx++;
    }
    if (l->part_idx == m->part_count) {
        l->matrix_idx++;
        l->part_idx = 0;
        l->first = 0;
    }
    return next;
}

/* A buffer in this phase, of several the one of the earliest piece; NULL: none. */
static buffer *buffer_in(load *l, phase wanted) {
    buffer *ret = NULL;
    for (uint32_t i = 0; i < l->buffer_count; i++) {
        buffer *b = &l->buffers[i];
        if (b->phase == wanted && (ret == NULL || b->turn < ret->turn)) {
            ret = b;
        }
    }
    return ret;
}

/* Waits for a buffer's copy, which frees it, and ends a matrix that is there with it; the mutex is
 * let go meanwhile. */
static void buffer_wait(load *l, buffer *b) {
    const uint32_t idx = b->piece.matrix_idx;
    seam_error err = {0};
    b->phase = PHASE_WAITED;
    (void)pthread_mutex_unlock(&l->mu);
    seam_status st = l->ops->stream_sync(b->stream);
    (void)pthread_mutex_lock(&l->mu);
    l->left[idx] -= b->piece.values.count;
    phase_set(l, b, PHASE_FREE);
    failed(l, st, &err);
    if (st == SEAM_OK && l->left[idx] == 0) {
        (void)pthread_mutex_unlock(&l->mu);
        st = l->ops->weight_end(*l->matrices[idx].ret_weight, l->backend);
        (void)pthread_mutex_lock(&l->mu);
        failed(l, st, &err);
    }
}

/* Gives the next piece, whose matrix is begun, a free buffer, and begins a matrix after it. */
static void filling_begin(load *l, buffer *b) {
    b->piece = piece_next(l);
    b->piece_bytes = b->left = b->piece.values.count * seam_raw_bytes(b->piece.values.type);
    b->given = 0;
    b->turn = l->turn++;
    l->filling = b;
    phase_set(l, b, PHASE_FILLING);
    if (l->begun <= b->piece.matrix_idx + l->ahead && l->begun < l->count && !l->beginning) {
        matrix_begin(l);
    }
}

/* One thing that has to be done before there is a slice: true; false: there is nothing more to do,
 * or something failed. */
static bool slice_prepare(load *l) {
    const bool listed = l->matrix_idx < l->count;
    buffer *unused = buffer_in(l, PHASE_FREE), *copying = buffer_in(l, PHASE_COPYING);
    if (l->st != SEAM_OK || (!listed && copying == NULL)) {
        return false;
    }
    if (!listed || (unused == NULL && copying != NULL)) {
        buffer_wait(l, copying);
    } else if (l->begun <= l->matrix_idx && !l->beginning) {
        matrix_begin(l);
    } else if (l->begun <= l->matrix_idx || unused == NULL) {
        (void)pthread_cond_wait(&l->changed, &l->mu);
    } else {
        filling_begin(l, unused);
    }
    return true;
}

/* The next slice; false: none is left, or something failed.  Copies that are queued while the last
 * threads leave are waited for by the thread that queued them, which comes back here. */
static bool slice_take(slice *ret, load *l) {
    (void)pthread_mutex_lock(&l->mu);
    bool more = l->st == SEAM_OK;
    while (more && l->filling == NULL) {
        more = slice_prepare(l);
    }
    if (more) {
        buffer *b = l->filling;
        const size_t left = b->piece_bytes - b->given;
        *ret = (slice){b, b->given, left < l->slice_bytes ? left : l->slice_bytes};
        b->given += ret->bytes;
        l->filling = b->given == b->piece_bytes ? NULL : b;
    }
    (void)pthread_mutex_unlock(&l->mu);
    return more;
}

static seam_status slice_read(const slice *s, seam_error *err) {
    const piece *p = &s->to->piece;
    for (size_t done = 0; done < s->bytes;) {
        const uint64_t from = p->offset + s->begin + done;
        const ssize_t got =
            pread(p->part->fd, s->to->bytes + s->begin + done, s->bytes - done, (off_t)from);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return seam_error_set(err, SEAM_E_IO, "%s: byte %llu: %s", p->part->file,
                                  (unsigned long long)from,
                                  got == 0 ? "the file ends" : strerror(errno));
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return SEAM_OK;
}

/* A slice is there; the last one has the piece copied. */
static void slice_done(load *l, const slice *s, seam_status st, const seam_error *err) {
    buffer *b = s->to;
    (void)pthread_mutex_lock(&l->mu);
    failed(l, st, err);
    b->left -= s->bytes;
    if (b->left == 0 && l->st == SEAM_OK) {
        (void)pthread_mutex_unlock(&l->mu);
        b->piece.values.bytes = b->bytes;
        st = l->ops->weight_write(b->stream, *l->matrices[b->piece.matrix_idx].ret_weight,
                                  &b->piece.values);
        (void)pthread_mutex_lock(&l->mu);
        phase_set(l, b, PHASE_COPYING);
        failed(l, st, err); /* err has no text of it */
    }
    (void)pthread_mutex_unlock(&l->mu);
}

static seam_status buffer_open(load *l, buffer *b) {
    void *bytes = NULL;
    SEAM_TRY(l->ops->stream_create(&b->stream, l->backend));
    SEAM_TRY(l->ops->host_alloc(&bytes, l->backend, l->piece_bytes));
    b->bytes = bytes;
    return SEAM_OK;
}

/* Pinning memory takes longer than reading it full: each thread opens its share of the buffers. */
static void buffers_open(const reader *r) {
    load *l = r->l;
    for (uint32_t i = r->idx; i < l->buffer_count; i += l->threads) {
        const seam_error err = {0};
        const seam_status st = buffer_open(l, &l->buffers[i]);
        (void)pthread_mutex_lock(&l->mu);
        phase_set(l, &l->buffers[i], st == SEAM_OK ? PHASE_FREE : PHASE_CLOSED);
        failed(l, st, &err);
        (void)pthread_mutex_unlock(&l->mu);
    }
}

static void *reader_main(void *user) {
    const reader *r = user;
    slice s;
    buffers_open(r);
    while (slice_take(&s, r->l)) {
        seam_error err = {0};
        const seam_status st = slice_read(&s, &err);
        slice_done(r->l, &s, st, &err);
    }
    return NULL;
}

static void buffers_close(load *l) {
    for (uint32_t i = 0; i < l->buffer_count; i++) {
        buffer *b = &l->buffers[i];
        if (b->stream != NULL) {
            (void)l->ops->stream_sync(b->stream); /* after a failure copies may read it */
            l->ops->stream_destroy(b->stream);
        }
        l->ops->host_free(l->backend, b->bytes);
    }
}

/* This thread is the first reader; another that does not start leaves its buffers closed. */
static void load_run(load *l, reader *readers) {
    readers[0] = (reader){.l = l};
    for (uint32_t i = 1; i < l->threads; i++) {
        readers[i] = (reader){.l = l, .idx = i};
        readers[i].started =
            pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]) == 0;
    }
    (void)reader_main(&readers[0]);
    for (uint32_t i = 1; i < l->threads; i++) {
        if (readers[i].started) {
            (void)pthread_join(readers[i].thread, NULL);
        }
    }
    buffers_close(l);
}

static uint32_t threads_of(const seam_load_options *options) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const uint32_t cores = online > 0 ? (uint32_t)online : 1;
    const uint32_t wanted =
        options->threads != 0
            ? options->threads
            : (cores < SEAM_LOAD_THREADS_DEFAULT ? cores : SEAM_LOAD_THREADS_DEFAULT);
    return wanted < SEAM_LOAD_THREADS_MAX ? wanted : SEAM_LOAD_THREADS_MAX;
}

static uint32_t buffers_of(const seam_load_options *options, uint32_t threads) {
    const uint32_t wanted = options->buffers != 0 ? options->buffers : SEAM_LOAD_BUFFERS;
    const uint32_t useful = wanted < threads + 1 ? wanted : threads + 1;
    const uint32_t fit = useful < SEAM_LOAD_BUFFERS_MAX ? useful : SEAM_LOAD_BUFFERS_MAX;
    return fit > 2 ? fit : 2;
}

seam_status seam_weight_load(seam_backend *backend, const seam_load_matrix *matrices,
                             uint32_t count, const seam_load_options *options, seam_error *err) {
    const seam_load_options *o = options;
    reader readers[SEAM_LOAD_THREADS_MAX] = {0};
    load l = {.backend = backend,
              .ops = seam_backend_ops(backend),
              .matrices = matrices,
              .count = count,
              .threads = threads_of(o),
              .buffer_count = buffers_of(o, threads_of(o)),
              .piece_bytes = o->piece_bytes != 0 ? o->piece_bytes : SEAM_LOAD_PIECE_BYTES,
              .slice_bytes = o->slice_bytes != 0 ? o->slice_bytes : SEAM_LOAD_SLICE_BYTES,
              .ahead = o->ahead != 0 ? o->ahead : SEAM_LOAD_AHEAD};
    l.left = seam_mem_zalloc(count, sizeof *l.left);
    if (l.left == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
    }
    for (uint32_t i = 0; i < count; i++) {
        l.left[i] = matrix_values(&matrices[i]);
    }
    (void)pthread_mutex_init(&l.mu, NULL);
    (void)pthread_cond_init(&l.changed, NULL);
    load_run(&l, readers);
    (void)pthread_cond_destroy(&l.changed);
    (void)pthread_mutex_destroy(&l.mu);
    seam_mem_free(l.left);
    if (l.st == SEAM_OK) {
        return SEAM_OK;
    }
    return seam_error_set(err, l.st, "%s",
                          l.err.text[0] != '\0' ? l.err.text : seam_status_text(l.st));
}

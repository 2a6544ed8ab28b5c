/* One list of pieces in the order of the files, from which every thread takes the next.
 *
 * A matrix is begun while the one before is read, by a thread that lets the others go on, and ended
 * by the thread whose sync was the last of its pieces: taking memory and choosing algorithms cost
 * milliseconds, in which the link would stand still.  Measured: tests/bench/RESULTS.md, bench_load.
 */
#include "weight_load.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "try.h"

typedef struct load {
    seam_backend *backend;
    const seam_ops *ops;
    const seam_load_matrix *matrices;
    uint32_t count;
    size_t piece_bytes;
    pthread_mutex_t mu;
    pthread_cond_t begun_more;
    uint32_t begun;                /* guarded by mu, with all below: matrices that are begun */
    bool beginning;                /* some thread begins the next */
    uint32_t matrix_idx, part_idx; /* the next piece */
    size_t part_done;              /* values of that part that are given out */
    size_t first;                  /* place of the part's first value in the matrix */
    size_t *left;                  /* (count) values of each matrix that are not there yet */
    seam_status st;                /* the first failure: everyone stops */
    seam_error err;
} load;

typedef struct piece {
    const seam_load_part *part;
    uint32_t matrix_idx;
    uint64_t offset; /* in the file */
    seam_weight_piece values;
} piece;

typedef struct reader {
    load *l;
    bool first; /* the one that must work; the others help */
    seam_stream *stream;
    uint8_t *buffers[2];
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

/* Keeps the first failure. */
static void fail(load *l, seam_status st, const seam_error *err) {
    (void)pthread_mutex_lock(&l->mu);
    if (l->st == SEAM_OK) {
        l->st = st;
        l->err = *err;
    }
    (void)pthread_mutex_unlock(&l->mu);
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
    (void)pthread_cond_broadcast(&l->begun_more);
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

/* The next piece of the list, its matrix begun; false: none is left, or something failed. */
static bool piece_take(piece *ret, load *l) {
    (void)pthread_mutex_lock(&l->mu);
    while (l->st == SEAM_OK && l->matrix_idx < l->count && l->begun <= l->matrix_idx) {
        if (l->beginning) {
            (void)pthread_cond_wait(&l->begun_more, &l->mu);
        } else {
            matrix_begin(l);
        }
    }
    const bool taken = l->st == SEAM_OK && l->matrix_idx < l->count;
    if (taken) {
        *ret = piece_next(l);
    }
    if (taken && l->begun == ret->matrix_idx + 1 && l->begun < l->count && !l->beginning) {
        matrix_begin(l);
    }
    (void)pthread_mutex_unlock(&l->mu);
    return taken;
}

static seam_status piece_read(uint8_t *ret, const piece *p, seam_error *err) {
    const size_t bytes = p->values.count * seam_raw_bytes(p->values.type);
    for (size_t done = 0; done < bytes;) {
        const ssize_t got = pread(p->part->fd, ret + done, bytes - done, (off_t)(p->offset + done));
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return seam_error_set(err, SEAM_E_IO, "%s: byte %llu: %s", p->part->file,
                                  (unsigned long long)(p->offset + done),
                                  got == 0 ? "the file ends" : strerror(errno));
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return SEAM_OK;
}

/* The piece is on the device; its matrix is ended by the last one. */
static seam_status piece_done(load *l, const piece *p) {
    (void)pthread_mutex_lock(&l->mu);
    l->left[p->matrix_idx] -= p->values.count;
    const bool last = l->left[p->matrix_idx] == 0;
    (void)pthread_mutex_unlock(&l->mu);
    return last ? l->ops->weight_end(*l->matrices[p->matrix_idx].ret_weight, l->backend) : SEAM_OK;
}

static seam_status reader_open(reader *r) {
    const load *l = r->l;
    SEAM_TRY(l->ops->stream_create(&r->stream, l->backend));
    for (int i = 0; i < 2; i++) {
        void *buffer = NULL;
        SEAM_TRY(l->ops->host_alloc(&buffer, l->backend, l->piece_bytes));
        r->buffers[i] = buffer;
    }
    return SEAM_OK;
}

static void reader_close(reader *r) {
    const load *l = r->l;
    for (int i = 0; i < 2; i++) {
        l->ops->host_free(l->backend, r->buffers[i]);
    }
    if (r->stream != NULL) {
        l->ops->stream_destroy(r->stream);
    }
}

/* Two buffers in turn.  The sync before a write waits for the copy from the other buffer, which has
 * had the time of a read. */
static seam_status pieces_load(const reader *r, seam_error *err) {
    load *l = r->l;
    piece now, before;
    bool pending = false;
    for (uint32_t turn = 0; piece_take(&now, l); turn++) {
        uint8_t *buffer = r->buffers[turn % 2];
        SEAM_TRY(piece_read(buffer, &now, err));
        if (pending) {
            SEAM_TRY(l->ops->stream_sync(r->stream));
            SEAM_TRY(piece_done(l, &before));
        }
        now.values.bytes = buffer;
        SEAM_TRY(
            l->ops->weight_write(r->stream, *l->matrices[now.matrix_idx].ret_weight, &now.values));
        before = now;
        pending = true;
    }
    if (pending) {
        SEAM_TRY(l->ops->stream_sync(r->stream));
        SEAM_TRY(piece_done(l, &before));
    }
    return SEAM_OK;
}

/* Pinning memory takes longer than reading it full: each thread pins its own and begins. */
static void *reader_main(void *user) {
    reader *r = user;
    load *l = r->l;
    seam_error err = {0};
    seam_status st = reader_open(r);
    if (st == SEAM_OK) {
        st = pieces_load(r, &err);
    } else if (!r->first) {
        st = SEAM_OK;
    }
    if (st != SEAM_OK) {
        fail(l, st, &err);
    }
    if (st != SEAM_OK && r->stream != NULL) {
        (void)l->ops->stream_sync(r->stream); /* no copy reads the buffers any more */
    }
    reader_close(r);
    return NULL;
}

/* This thread is the first reader; another that does not start is not needed. */
static seam_status load_run(load *l, reader *readers, uint32_t threads) {
    for (uint32_t i = 0; i < threads; i++) {
        readers[i].l = l;
        readers[i].first = i == 0;
        readers[i].started =
            i > 0 && pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]) == 0;
    }
    (void)reader_main(&readers[0]);
    for (uint32_t i = 1; i < threads; i++) {
        if (readers[i].started) {
            (void)pthread_join(readers[i].thread, NULL);
        }
    }
    return l->st;
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

seam_status seam_weight_load(seam_backend *backend, const seam_load_matrix *matrices,
                             uint32_t count, const seam_load_options *options, seam_error *err) {
    reader readers[SEAM_LOAD_THREADS_MAX] = {0};
    load l = {.backend = backend,
              .ops = seam_backend_ops(backend),
              .matrices = matrices,
              .count = count,
              .piece_bytes =
                  options->piece_bytes != 0 ? options->piece_bytes : SEAM_LOAD_PIECE_BYTES};
    l.left = seam_mem_zalloc(count, sizeof *l.left);
    if (l.left == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory to read the model's layers");
    }
    for (uint32_t i = 0; i < count; i++) {
        l.left[i] = matrix_values(&matrices[i]);
    }
    (void)pthread_mutex_init(&l.mu, NULL);
    (void)pthread_cond_init(&l.begun_more, NULL);
    const seam_status st = load_run(&l, readers, threads_of(options));
    (void)pthread_cond_destroy(&l.begun_more);
    (void)pthread_mutex_destroy(&l.mu);
    seam_mem_free(l.left);
    if (st == SEAM_OK) {
        return SEAM_OK;
    }
    return seam_error_set(err, st, "%s", l.err.text[0] != '\0' ? l.err.text : seam_status_text(st));
}

/* The adapter's files: from the server to a directory, and back.
 *
 * Export never harms what stands in the directory: every file goes to a temporary name, is flushed
 * to the disk, and all are renamed only after the server has ended the transfer well and
 * they, read back, have the server's hashes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "core.h"
#include "directory.h"
#include "try.h"

#define PATH_BYTES  4096
#define CHUNK_BYTES (512u << 10)

#define FILES 2
static const char *const peft_names[FILES] = {"adapter_model.safetensors", "adapter_config.json"};
static const char *const layers_names[FILES] = {"trained_layers.safetensors",
                                                "trained_layers.json"};

static const char *const *names_of(const seam_session *session) {
    return session->config.full ? layers_names : peft_names;
}

typedef struct outfile {
    int fd;                        /* -1: not begun */
    uint64_t bytes, written, hash; /* hash: as the server says */
    char path[PATH_BYTES], temporary[PATH_BYTES];
} outfile;

typedef struct export_job {
    seam_session *session;
    seam_stream_call *call;
    outfile files[FILES];
    uint64_t state_hash;
} export_job;

static seam_status files_open(seam_stream_call **ret_call, seam_session *session,
                              const char *method, seam_error *err);
static void files_close(seam_session *session, seam_stream_call *gift_call);
static seam_status export_run(export_job *job, seam_error *err);
static seam_status export_chunk(export_job *job, const Seam__V1__ExportAdapterResponse *r,
                                seam_error *err);
static seam_status file_verify(const outfile *f, seam_error *err);
static seam_status export_publish(export_job *job, seam_error *err);
/* Where an import reads from: a directory, or memory. */
typedef struct import_source {
    const char *directory; /* or NULL */
    seam_adapter_bytes bytes;
    const char *const *names;
} import_source;

static seam_status import_call(seam_session *session, const import_source *source,
                               uint64_t *ret_state_hash, seam_error *err);
static seam_status import_run(seam_session *session, seam_stream_call *call,
                              const import_source *source, uint64_t *ret_state_hash,
                              seam_error *err);
static seam_status import_open(FILE **ret_file, uint64_t *ret_bytes, const import_source *source,
                               int file_idx, seam_error *err);
static seam_status import_file(seam_session *session, seam_stream_call *call,
                               const import_source *source, int file_idx, seam_error *err);

seam_status seam_session_export(seam_session *session, const char *directory,
                                uint64_t *ret_state_hash, seam_error *err) {
    if (session == NULL || directory == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or directory is NULL");
    }
    if (strlen(directory) > PATH_BYTES - 96) {
        return seam_error_set(err, SEAM_E_ARG, "directory: too long");
    }
    SEAM_TRY(seam_session_check_cancel(session, err));
    SEAM_TRY(seam_directory_make(directory, err));
    export_job *const job = seam_mem_zalloc(1, sizeof *job);
    if (job == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    job->session = session;
    for (int i = 0; i < FILES; i++) {
        outfile *const f = &job->files[i];
        f->fd = -1;
        snprintf(f->path, sizeof f->path, "%.4000s/%s", directory, names_of(session)[i]);
        snprintf(f->temporary, sizeof f->temporary, "%.4000s/.%s.%ld", directory,
                 names_of(session)[i], (long)getpid());
    }
    seam_status st = export_run(job, err);
    if (st == SEAM_OK) {
        st = export_publish(job, err);
    }
    for (int i = 0; i < FILES; i++) {
        if (job->files[i].fd >= 0) {
            close(job->files[i].fd);
            unlink(job->files[i].temporary);
        }
    }
    if (st == SEAM_OK && ret_state_hash != NULL) {
        *ret_state_hash = job->state_hash;
    }
    seam_mem_free(job);
    return st;
}

static seam_status export_run(export_job *job, seam_error *err) {
    seam_session *const s = job->session;
    const seam_transport_ops *const net = s->client->net;
    Seam__V1__ExportAdapterRequest request = SEAM__V1__EXPORT_ADAPTER_REQUEST__INIT;
    request.session_id = s->id;
    request.session_secret.data = s->secret;
    request.session_secret.len = SEAM_SECRET_BYTES;
    seam_buffer bytes = {0};
    if (seam_message_pack(&bytes, &request.base) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    bool message = true;
    seam_status st = files_open(&job->call, s, "ExportAdapter", err);
    if (st == SEAM_OK) {
        st = net->stream_send(job->call, bytes.data, bytes.count, NULL, 0, err);
    }
    if (st == SEAM_OK) {
        st = net->stream_end(job->call, err);
    }
    while (st == SEAM_OK) {
        st = net->stream_receive(job->call, &bytes, &message, err);
        if (st != SEAM_OK || !message) {
            break;
        }
        Seam__V1__ExportAdapterResponse *const r =
            seam__v1__export_adapter_response__unpack(NULL, bytes.count, bytes.data);
        st = r != NULL ? export_chunk(job, r, err)
                       : seam_error_set(err, SEAM_E_FORMAT, "ExportAdapter: malformed message");
        if (r != NULL) {
            seam__v1__export_adapter_response__free_unpacked(r, NULL);
        }
    }
    files_close(s, job->call);
    seam_buffer_deinit(&bytes);
    const seam_status cancelled =
        st == SEAM_OK ? SEAM_OK : seam_session_check_cancel(s, err); /* it says so better */
    return cancelled == SEAM_OK ? st : cancelled;
}

/* The call, where a cancel finds it. */
static seam_status files_open(seam_stream_call **ret_call, seam_session *session,
                              const char *method, seam_error *err) {
    seam_session *const s = session;
    SEAM_TRY(s->client->net->stream_open(ret_call, s->client->transport, method, err));
    pthread_mutex_lock(&s->mu);
    s->files = *ret_call;
    pthread_mutex_unlock(&s->mu);
    return seam_session_check_cancel(s, err); /* one that came before */
}

static void files_close(seam_session *session, seam_stream_call *gift_call) {
    seam_session *const s = session;
    pthread_mutex_lock(&s->mu);
    s->files = NULL;
    pthread_mutex_unlock(&s->mu);
    s->client->net->stream_close(gift_call);
}

static seam_status export_chunk(export_job *job, const Seam__V1__ExportAdapterResponse *r,
                                seam_error *err) {
    outfile *file = NULL;
    for (int i = 0; i < FILES; i++) {
        file = strcmp(r->file_name, names_of(job->session)[i]) == 0 ? &job->files[i] : file;
    }
    if (file == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "ExportAdapter: file_name '%.64s'", r->file_name);
    }
    if (file->fd < 0) {
        file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (file->fd < 0) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", file->temporary, strerror(errno));
        }
        file->bytes = r->file_bytes;
    }
    if (r->offset != file->written || r->file_bytes != file->bytes ||
        r->data.len > file->bytes - file->written) {
        return seam_error_set(err, SEAM_E_FORMAT, "ExportAdapter: %s: offset or file_bytes",
                              r->file_name);
    }
    for (size_t at = 0; at < r->data.len;) {
        const ssize_t n = write(file->fd, r->data.data + at, r->data.len - at);
        if (n < 0 && errno != EINTR) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", file->path, strerror(errno));
        }
        at += n > 0 ? (size_t)n : 0;
    }
    file->written += r->data.len;
    file->hash = r->file_hash;
    job->state_hash = r->state_hash;
    return SEAM_OK;
}

static seam_status export_publish(export_job *job, seam_error *err) {
    for (int i = 0; i < FILES; i++) {
        outfile *const f = &job->files[i];
        if (f->fd < 0 || f->written != f->bytes) {
            return seam_error_set(err, SEAM_E_FORMAT, "ExportAdapter: %s is missing or cut",
                                  names_of(job->session)[i]);
        }
        if (fsync(f->fd) != 0) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", f->path, strerror(errno));
        }
    }
    for (int i = 0; i < FILES; i++) {
        SEAM_TRY(file_verify(&job->files[i], err));
    }
    for (int i = 0; i < FILES; i++) {
        outfile *const f = &job->files[i];
        if (rename(f->temporary, f->path) != 0) {
            return seam_error_set(err, SEAM_E_IO, "%.400s: %s", f->path, strerror(errno));
        }
        close(f->fd);
        f->fd = -1;
    }
    return SEAM_OK;
}

/* The file as it stands on the disk has the bytes that the server sent. */
static seam_status file_verify(const outfile *f, seam_error *err) {
    uint8_t *const block = seam_mem_alloc(CHUNK_BYTES);
    FILE *const file = block != NULL ? fopen(f->temporary, "rbe") : NULL;
    uint64_t hash = SEAM_HASH64_INIT;
    seam_status st = SEAM_OK;
    for (size_t n = CHUNK_BYTES; file != NULL && n == CHUNK_BYTES;) {
        n = fread(block, 1, CHUNK_BYTES, file);
        hash = seam_hash64(hash, block, n);
    }
    if (block == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    } else if (file == NULL || ferror(file) != 0) {
        st = seam_error_set(err, SEAM_E_IO, "%.400s: cannot be read back", f->path);
    } else if (hash != f->hash) {
        st = seam_error_set(err, SEAM_E_FORMAT, "%.400s: read back, it is not what was sent",
                            f->path);
    }
    if (file != NULL) {
        fclose(file);
    }
    seam_mem_free(block);
    return st;
}

/* ---- Import ---- */

seam_status seam_session_import(seam_session *session, const char *directory,
                                uint64_t *ret_state_hash, seam_error *err) {
    if (session == NULL || directory == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or directory is NULL");
    }
    const import_source source = {.directory = directory, .names = names_of(session)};
    return import_call(session, &source, ret_state_hash, err);
}

seam_status seam_session_import_bytes(seam_session *session, const seam_adapter_bytes *bytes,
                                      uint64_t *ret_state_hash, seam_error *err) {
    if (session == NULL || bytes == NULL || bytes->weights == NULL || bytes->config == NULL ||
        bytes->weights_bytes == 0 || bytes->config_bytes == 0) {
        return seam_error_set(err, SEAM_E_ARG, "session or bytes is NULL or empty");
    }
    const import_source source = {.bytes = *bytes, .names = names_of(session)};
    return import_call(session, &source, ret_state_hash, err);
}

static seam_status import_call(seam_session *session, const import_source *source,
                               uint64_t *ret_state_hash, seam_error *err) {
    const seam_transport_ops *const net = session->client->net;
    SEAM_TRY(seam_session_check_cancel(session, err));
    seam_repeat repeat = {.method = "ImportAdapter", .session = session, .begin_ms = seam_now_ms()};
    for (;;) { /* the same files again make the same state */
        seam_stream_call *call = NULL;
        seam_status st = files_open(&call, session, "ImportAdapter", err);
        st = st == SEAM_OK ? import_run(session, call, source, ret_state_hash, err) : st;
        const uint64_t asked_ms =
            st == SEAM_OK || call == NULL ? 0 : net->stream_retry_after_ms(call);
        files_close(session, call);
        if (st != SEAM_OK) {
            SEAM_TRY(seam_session_check_cancel(session, err));
        }
        if (asked_ms == 0) {
            return st;
        }
        SEAM_TRY(seam_repeat_wait(&repeat, session->client, st, asked_ms, err));
    }
}

static seam_status import_run(seam_session *session, seam_stream_call *call,
                              const import_source *source, uint64_t *ret_state_hash,
                              seam_error *err) {
    const seam_transport_ops *const net = session->client->net;
    for (int i = FILES - 1; i >= 0; i--) { /* the config first: it names the shapes */
        SEAM_TRY(import_file(session, call, source, i, err));
    }
    SEAM_TRY(net->stream_end(call, err));
    seam_buffer bytes = {0};
    bool message = false;
    seam_status st = net->stream_receive(call, &bytes, &message, err);
    if (st == SEAM_OK && message) {
        Seam__V1__ImportAdapterResponse *const r =
            seam__v1__import_adapter_response__unpack(NULL, bytes.count, bytes.data);
        message = r != NULL;
        if (r != NULL && ret_state_hash != NULL) {
            *ret_state_hash = r->state_hash;
        }
        if (r != NULL) {
            seam__v1__import_adapter_response__free_unpacked(r, NULL);
        }
    }
    if (st == SEAM_OK && !message) {
        st = seam_error_set(err, SEAM_E_FORMAT, "ImportAdapter: the server sent no valid answer");
    }
    seam_buffer_deinit(&bytes);
    return st;
}

static seam_status import_open(FILE **ret_file, uint64_t *ret_bytes, const import_source *source,
                               int file_idx, seam_error *err) {
    if (source->directory == NULL) {
        const bool weights = file_idx == 0;
        const void *const data = weights ? source->bytes.weights : source->bytes.config;
        const size_t count = weights ? source->bytes.weights_bytes : source->bytes.config_bytes;
        *ret_bytes = count;
        *ret_file = fmemopen((void *)(uintptr_t)data, count, "rb");
        return *ret_file != NULL ? SEAM_OK : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.4000s/%s", source->directory, source->names[file_idx]);
    struct stat info;
    FILE *const file = fopen(path, "rb");
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        const int reason = errno;
        if (file != NULL) {
            fclose(file);
        }
        return seam_error_set(err, SEAM_E_IO, "%.400s: %s", path, strerror(reason));
    }
    *ret_file = file;
    *ret_bytes = (uint64_t)info.st_size;
    return SEAM_OK;
}

static seam_status import_file(seam_session *session, seam_stream_call *call,
                               const import_source *source, int file_idx, seam_error *err) {
    FILE *file = NULL;
    uint64_t bytes = 0;
    SEAM_TRY(import_open(&file, &bytes, source, file_idx, err));
    seam_status st = SEAM_OK;
    seam_buffer packed = {0};
    uint8_t *const data = seam_mem_alloc(CHUNK_BYTES);
    uint64_t offset = 0;
    while (data != NULL && st == SEAM_OK && offset < bytes) {
        const size_t count = fread(data, 1, CHUNK_BYTES, file);
        if (count == 0) {
            st = seam_error_set(err, SEAM_E_IO, "%s: cannot be read", source->names[file_idx]);
            break;
        }
        Seam__V1__ImportAdapterRequest request = SEAM__V1__IMPORT_ADAPTER_REQUEST__INIT;
        request.session_id = session->id;
        request.session_secret.data = session->secret;
        request.session_secret.len = SEAM_SECRET_BYTES;
        request.file_name = (char *)(uintptr_t)source->names[file_idx];
        request.file_bytes = bytes;
        request.offset = offset;
        request.data.data = data;
        request.data.len = count;
        st = seam_message_pack(&packed, &request.base);
        if (st == SEAM_OK) {
            st = session->client->net->stream_send(call, packed.data, packed.count, NULL, 0, err);
        }
        offset += count;
    }
    if (data == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    seam_mem_free(data);
    seam_buffer_deinit(&packed);
    fclose(file);
    return st;
}

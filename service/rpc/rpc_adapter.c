/* ExportAdapter and ImportAdapter: PEFT's two files in chunks (kernels/model/peft.h), or those of
 * full fine-tuning (layers_files.h). */
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "layers_files.h"
#include "log.h"
#include "rpc_methods.h"
#include "rpc_server.h"
#include "session_park.h"
#include "try.h"

#define CHUNK_DATA_BYTES SEAM_CHUNK_BYTES_MAX
#define CONFIG_BYTES_MAX (1u << 20)

typedef struct adapter_call {
    seam_session *session; /* a reference */
    seam_peft_files files;
    const char *file_names[2]; /* weights, config */
    seam_memory_plan reserved; /* of the files */
    /* Export: what is sent next.  Import: what has come. */
    uint32_t file_idx; /* 0 weights, 1 config */
    size_t offset;
    size_t received[2];
    uint64_t state_hash;
    uint64_t file_hash[2];  /* export */
    seam_trainer_mark mark; /* import: of the checkpoint that it leaves */
} adapter_call;

SEAM_ON_LOOP static void adapter_free(seam_call *call) {
    adapter_call *a = call->state;
    call->state = NULL;
    seam_peft_files_deinit(&a->files);
    if (a->session != NULL) {
        seam_sessions_unreserve(seam_server_sessions(call->server), &a->reserved);
        seam_session_unref(a->session);
    }
    seam_mem_free(a);
}

void seam_on_adapter_close(seam_call *call) {
    if (call->state != NULL && !call->job_running) {
        adapter_free(call);
    }
}

/* Room for both files in the memory budget: the parameters in f32 and their names. */
SEAM_ON_LOOP static seam_status files_reserve(adapter_call *a, const seam_call *call,
                                              seam_error *err) {
    const seam_adapter *adapter = seam_trainer_adapter(a->session->trainer);
    const seam_adapter_file_names names = seam_adapter_files_of(adapter);
    a->file_names[0] = names.weights;
    a->file_names[1] = names.config;
    uint64_t *bytes = &a->reserved.host[SEAM_MEMORY_ADAPTER];
    *bytes = CONFIG_BYTES_MAX;
    for (uint32_t i = 0; i < seam_adapter_tensor_count(adapter); i++) {
        seam_adapter_tensor tensor;
        seam_adapter_describe(&tensor, adapter, i);
        *bytes += (uint64_t)tensor.rows * tensor.cols * sizeof(float) + 2 * sizeof tensor.name;
    }
    const seam_status st =
        seam_sessions_reserve(seam_server_sessions(call->server), &a->reserved, "adapter", err);
    if (st != SEAM_OK) {
        a->reserved = (seam_memory_plan){0};
    }
    return st;
}

/* *ret_adapter NULL with SEAM_OK: the session is woken first, the message comes again. */
SEAM_ON_LOOP static seam_status adapter_open(adapter_call **ret_adapter, seam_call *call,
                                             grpc_byte_buffer *message, const char *session_id,
                                             const ProtobufCBinaryData *secret, seam_error *err) {
    seam_session *session = NULL;
    *ret_adapter = NULL;
    SEAM_TRY(seam_sessions_find(&session, seam_server_sessions(call->server), session_id,
                                secret->data, secret->len, err));
    if (session->config.codec.topology == SEAM_TOPOLOGY_ADAPTER_EXCHANGE) {
        seam_session_unref(session);
        return seam_error_set(err, SEAM_E_STATE,
                              "session_id: the adapter of topology ADAPTER_EXCHANGE is the "
                              "client's");
    }
    if (seam_call_wakes(call, message, session)) {
        seam_session_unref(session);
        return SEAM_OK;
    }
    adapter_call *a = seam_mem_zalloc(1, sizeof *a);
    if (a == NULL) {
        seam_session_unref(session);
        return SEAM_E_MEMORY;
    }
    a->session = session;
    call->state = a;
    SEAM_TRY(files_reserve(a, call, err));
    *ret_adapter = a;
    return SEAM_OK;
}

SEAM_ON_LOOP static void job_post(seam_call *call,
                                  seam_status (*run)(seam_job *job, seam_stream *stream)) {
    const adapter_call *a = call->state;
    call->job.run = run;
    call->job.user = call;
    a->session->busy = true;
    if (seam_call_post(call) != SEAM_OK) {
        a->session->busy = false;
    }
}

/* The job has run: others of the session go on. */
SEAM_ON_LOOP static void job_end(seam_call *call) {
    const adapter_call *a = call->state;
    seam_session *session = a->session;
    session->busy = false;
    seam_session_ref(session);
    if (call->closed) {
        adapter_free(call);
    }
    seam_train_session_idle(call->server, session);
    seam_session_unref(session);
}

/* ---- export ---- */

SEAM_ON_GPU static seam_status export_run(seam_job *job, seam_stream *stream) {
    adapter_call *a = ((seam_call *)job->user)->state;
    seam_trainer *trainer = a->session->trainer;
    a->state_hash = seam_trainer_state_hash(trainer);
    SEAM_TRY(seam_adapter_export(&a->files, seam_trainer_adapter(trainer), stream,
                                 a->session->config.model->id, &job->err));
    a->file_hash[0] = seam_hash64(SEAM_HASH64_INIT, a->files.weights, a->files.weights_bytes);
    a->file_hash[1] = seam_hash64(SEAM_HASH64_INIT, a->files.config, a->files.config_bytes);
    return SEAM_OK;
}

void seam_on_export(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    adapter_call *a = NULL;
    Seam__V1__ExportAdapterRequest *request = (Seam__V1__ExportAdapterRequest *)seam_message_unpack(
        &seam__v1__export_adapter_request__descriptor, message);
    seam_status st = SEAM_E_FORMAT;
    if (request != NULL) {
        st = adapter_open(&a, call, message, request->session_id, &request->session_secret, &err);
        seam__v1__export_adapter_request__free_unpacked(request, NULL);
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else if (a == NULL) {
        return;
    } else if (a->session->busy) {
        seam_call_await(call, a->session);
    } else {
        job_post(call, export_run);
    }
}

void seam_on_export_idle(seam_call *call) {
    job_post(call, export_run);
}

/* The next chunks, as many as the outbox takes; then OK. */
SEAM_ON_LOOP static void export_pump(seam_call *call) {
    adapter_call *a = call->state;
    while (!call->finishing && !call->closed && a->file_idx < 2 && call->outbox_count < 2) {
        uint8_t *bytes = a->file_idx == 0 ? a->files.weights : a->files.config;
        const size_t count = a->file_idx == 0 ? a->files.weights_bytes : a->files.config_bytes;
        const size_t left = count - a->offset;
        Seam__V1__ExportAdapterResponse response = SEAM__V1__EXPORT_ADAPTER_RESPONSE__INIT;
        response.file_name = (char *)(uintptr_t)a->file_names[a->file_idx];
        response.file_bytes = count;
        response.offset = a->offset;
        response.state_hash = a->state_hash;
        response.file_hash = a->file_hash[a->file_idx];
        response.data.data = bytes + a->offset;
        response.data.len = left < CHUNK_DATA_BYTES ? left : CHUNK_DATA_BYTES;
        (void)seam_call_send_message(call, &response.base);
        a->offset += response.data.len;
        if (a->offset == count) {
            a->file_idx++;
            a->offset = 0;
        }
    }
    if (a->file_idx == 2) {
        seam_call_finish(call);
    }
}

void seam_on_export_job(seam_call *call) {
    if (call->job.status != SEAM_OK) {
        seam_call_fail(call, call->job.status, &call->job.err);
    } else {
        export_pump(call);
    }
    job_end(call);
}

void seam_on_export_sent(seam_call *call) {
    const adapter_call *a = call->state;
    if (a != NULL && a->files.weights != NULL) {
        export_pump(call);
    }
}

/* ---- import ---- */

SEAM_ON_GPU static seam_status import_run(seam_job *job, seam_stream *stream) {
    adapter_call *a = ((seam_call *)job->user)->state;
    seam_trainer *trainer = a->session->trainer;
    SEAM_TRY(seam_adapter_import(seam_trainer_adapter(trainer), stream, &a->files, &job->err));
    SEAM_TRY(seam_trainer_refresh(trainer, stream));
    a->state_hash = seam_trainer_state_hash(trainer);
    if (!seam_session_is_kept(a->session)) {
        return SEAM_OK;
    }
    /* The start of all that follows: on the disk before it is told. */
    return seam_session_image_write(a->session, &a->mark, stream, &job->err);
}

/* The start of a session only: an attached client's steps must not change under it. */
SEAM_ON_LOOP static seam_status importable(const seam_session *session, seam_error *err) {
    uint32_t micro = 0;
    const uint64_t committed = seam_server_proto_committed_count(&session->proto);
    if (session->deleted) { /* nothing may come back into its folder */
        return seam_error_set(err, SEAM_E_GONE, "the session was deleted");
    }
    if (session->disk.spoiled || !seam_session_is_resident(session)) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE,
                              "import: the session's checkpoint could not be read: call again");
    }
    if (committed > 0) {
        return seam_error_set(err, SEAM_E_STATE,
                              "session_id: the session has committed %llu steps, an adapter is the "
                              "start of one",
                              (unsigned long long)committed);
    }
    if (session->disk.writing) { /* over in a moment; the client tries again */
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "import: a checkpoint is being written");
    }
    if (session->stream != NULL || session->stream_waiting != NULL ||
        seam_server_proto_phase(&micro, &session->proto) != SEAM_SERVER_READY) {
        return seam_error_set(err, SEAM_E_STATE,
                              "import: a Train stream is attached or a step is in flight");
    }
    return SEAM_OK;
}

static seam_status file_begin(adapter_call *a, uint32_t idx, uint64_t file_bytes, seam_error *err) {
    const uint64_t files_bytes = a->reserved.host[SEAM_MEMORY_ADAPTER];
    const uint64_t bytes_max = idx == 0 ? files_bytes - CONFIG_BYTES_MAX : CONFIG_BYTES_MAX;
    if (file_bytes == 0 || file_bytes > bytes_max) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "file_bytes: %llu is not in 1..%llu for %s: more than the session's "
                              "adapter takes, so it is of another rank, of other targets or of "
                              "another kind",
                              (unsigned long long)file_bytes, (unsigned long long)bytes_max,
                              a->file_names[idx]);
    }
    uint8_t *bytes = seam_mem_alloc((size_t)file_bytes);
    if (bytes == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "import: out of memory");
    }
    if (idx == 0) {
        a->files.weights = bytes;
        a->files.weights_bytes = (size_t)file_bytes;
    } else {
        a->files.config = bytes;
        a->files.config_bytes = (size_t)file_bytes;
    }
    return SEAM_OK;
}

static seam_status chunk_take(adapter_call *a, const Seam__V1__ImportAdapterRequest *request,
                              seam_error *err) {
    uint32_t idx = 0;
    while (idx < 2 && strcmp(request->file_name, a->file_names[idx]) != 0) {
        idx++;
    }
    if (idx == 2) {
        return seam_error_set(err, SEAM_E_ARG, "file_name: \"%.60s\" is not %s or %s",
                              request->file_name, a->file_names[0], a->file_names[1]);
    }
    uint8_t *bytes = idx == 0 ? a->files.weights : a->files.config;
    if (bytes == NULL) {
        SEAM_TRY(file_begin(a, idx, request->file_bytes, err));
        bytes = idx == 0 ? a->files.weights : a->files.config;
    }
    const size_t count = idx == 0 ? a->files.weights_bytes : a->files.config_bytes;
    if (request->file_bytes != count || request->offset != a->received[idx]) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "offset: %llu of %s, expected %zu",
                              (unsigned long long)request->offset, a->file_names[idx],
                              a->received[idx]);
    }
    if (request->data.len == 0 || request->data.len > count - a->received[idx]) {
        return seam_error_set(err, SEAM_E_ARG, "data: %zu bytes, %zu of %s are left",
                              request->data.len, count - a->received[idx], a->file_names[idx]);
    }
    memcpy(bytes + a->received[idx], request->data.data, request->data.len);
    a->received[idx] += request->data.len;
    return SEAM_OK;
}

void seam_on_import(seam_call *call, grpc_byte_buffer *message) {
    seam_error err = {0};
    adapter_call *a = call->state;
    Seam__V1__ImportAdapterRequest *request = (Seam__V1__ImportAdapterRequest *)seam_message_unpack(
        &seam__v1__import_adapter_request__descriptor, message);
    seam_status st = SEAM_OK;
    if (request == NULL) {
        st = seam_error_set(&err, SEAM_E_FORMAT, "ImportAdapterRequest: malformed protobuf");
    } else if (a == NULL) {
        st = adapter_open(&a, call, message, request->session_id, &request->session_secret, &err);
    }
    if (st == SEAM_OK && a != NULL) {
        st = chunk_take(a, request, &err);
    }
    if (request != NULL) {
        seam__v1__import_adapter_request__free_unpacked(request, NULL);
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else if (a != NULL) {
        seam_call_receive(call);
    }
}

void seam_on_import_idle(seam_call *call) {
    seam_on_import_end(call);
}

void seam_on_import_end(seam_call *call) {
    adapter_call *a = call->state;
    seam_error err = {0};
    if (a == NULL || a->files.weights == NULL || a->files.config == NULL ||
        a->received[0] != a->files.weights_bytes || a->received[1] != a->files.config_bytes) {
        const bool named = a != NULL && a->file_names[0] != NULL;
        (void)seam_error_set(&err, SEAM_E_FORMAT, "import: %s and %s must come whole",
                             named ? a->file_names[0] : "weights",
                             named ? a->file_names[1] : "config");
        seam_call_fail(call, SEAM_E_FORMAT, &err);
        return;
    }
    if (a->session->busy) {
        seam_call_await(call, a->session);
        return;
    }
    const seam_status st = importable(a->session, &err);
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
    } else {
        a->mark =
            (seam_trainer_mark){.step_count = seam_server_proto_committed_count(&a->session->proto),
                                .row_count = a->session->row_count};
        job_post(call, import_run);
    }
}

void seam_on_import_job(seam_call *call) {
    const adapter_call *a = call->state;
    seam_error err = {0};
    if (a->session->deleted) {
        (void)seam_error_set(&err, SEAM_E_GONE, "the session was deleted");
        seam_call_fail(call, SEAM_E_GONE, &err);
    } else if (call->job.status == SEAM_OK) {
        if (seam_session_is_kept(a->session)) {
            (void)seam_server_proto_durable_add(&a->session->proto, a->mark.step_count);
        }
        Seam__V1__ImportAdapterResponse response = SEAM__V1__IMPORT_ADAPTER_RESPONSE__INIT;
        response.state_hash = a->state_hash;
        seam_log(SEAM_LOG_INFO, "adapter_imported", "session=%s", a->session->id);
        seam_call_reply(call, &response.base);
    } else {
        seam_call_fail(call, call->job.status, &call->job.err);
    }
    job_end(call);
}

/* Forward and Generate: rows in, the blocks' output back, one request at a time.  WIRE.md
 * section 5.
 *
 * A stream that is lost is opened again for as long as a session is attached again.  A request of
 * Forward is then repeated, since nothing hangs on an earlier one; what Generate's slots held is
 * gone with the stream, and its caller is told.  A session that the server has lost is made anew
 * where it is there for inference alone (renewal.h).
 *
 * Both calls have messages of the same shape on the wire, so one type serves for both. */
#include <string.h>
#include <time.h>

#include "arena.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"

#define QUANTIZED_ROWS_MIN 64u /* below it the ranges would cost more than bf16 */
#define ROWS_DEFAULT       4096u
#define BARREN_MAX         16u /* streams that are lost without an answer between them */
#define NAP_MS             50u /* a cancel is seen this soon while backing off */

struct seam_inference {
    seam_session *session;
    seam_inference_kind kind;
    seam_codec_id codec_in, codec_out; /* of requests, of answers */
    uint32_t slot_count, positions_max, rows_max;
    bool base_model;
    uint64_t request;              /* number of the next one on this stream */
    uint64_t committed_step_count; /* of the session, as the first stream found it */
    uint32_t stream_count, barren_count;
    bool failed;
    bool net_failed; /* the last error is the stream's, and may pass */
    seam_buffer packed, frames, inbox;
};

static seam_status codecs_pick(seam_inference *inf, const seam_session *session, const char *name,
                               seam_error *err);
static seam_codec_id codec_usable(const seam_session *session, seam_codec_id codec);
static seam_coder *coder_of(const seam_session *session, uint32_t site_idx);
static seam_status connect_until_answered(seam_inference *inf, seam_error *err);
static seam_status open_exchange(seam_inference *inf, seam_error *err);
static seam_status net_result(seam_inference *inf, seam_status st);
static void stream_drop(seam_inference *inf);
static seam_status request_check(uint32_t *ret_rows, uint32_t *ret_rows_out,
                                 const seam_inference *inf, const seam_rows_request *request,
                                 seam_error *err);
static seam_status request_encode(seam_inference *inf, const float *x,
                                  const seam_rows_request *request, uint32_t rows, seam_error *err);
static seam_status request_send(seam_inference *inf, seam_error *err);
static seam_status answer_receive(seam_inference *inf, float *ret_y, uint32_t rows_out,
                                  seam_error *err);
static seam_status message_receive(seam_inference *inf, seam_walk *ret_walk, seam_error *err);

seam_status seam_inference_open(seam_inference **ret_inference, seam_session *session,
                                const seam_inference_options *options, seam_error *err) {
    if (ret_inference == NULL || session == NULL || options == NULL ||
        options->struct_bytes != sizeof *options ||
        (options->kind != SEAM_INFERENCE_FORWARD && options->kind != SEAM_INFERENCE_GENERATE)) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL or options lack their _INIT");
    }
    SEAM_TRY(seam_session_check_cancel(session, err));
    if (session->inference != NULL || session->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "an inference or a step of the session is open");
    }
    seam_inference picked = {0};
    SEAM_TRY(codecs_pick(&picked, session, options->codec, err));
    seam_inference *const inf = seam_mem_zalloc(1, sizeof *inf);
    if (inf == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    inf->session = session;
    inf->kind = options->kind;
    inf->codec_in = picked.codec_in;
    inf->codec_out = picked.codec_out;
    inf->rows_max = options->rows_max != 0 ? options->rows_max : ROWS_DEFAULT;
    inf->slot_count = options->slot_count;
    inf->positions_max = options->positions_max;
    inf->base_model = options->base_model;
    const seam_status st = connect_until_answered(inf, err);
    if (st != SEAM_OK) {
        seam_inference_close(inf);
        return st;
    }
    *ret_inference = inf;
    return SEAM_OK;
}

void seam_inference_close(seam_inference *gift_inference) {
    if (gift_inference == NULL) {
        return;
    }
    stream_drop(gift_inference);
    seam_buffer_deinit(&gift_inference->inbox);
    seam_buffer_deinit(&gift_inference->frames);
    seam_buffer_deinit(&gift_inference->packed);
    seam_mem_free(gift_inference);
}

void seam_inference_describe(seam_inference_options *ret_options, const seam_inference *inference) {
    if (ret_options == NULL) {
        return;
    }
    if (inference == NULL) {
        *ret_options = (seam_inference_options)SEAM_INFERENCE_OPTIONS_INIT;
        return;
    }
    *ret_options = (seam_inference_options){
        .struct_bytes = sizeof *ret_options,
        .kind = inference->kind,
        .base_model = inference->base_model,
        .codec = seam_codec_name(inference->codec_out),
        .slot_count = inference->slot_count,
        .positions_max = inference->positions_max,
        .rows_max = inference->rows_max,
    };
}

uint32_t seam_inference_channels(const seam_inference *inference) {
    return inference != NULL ? inference->session->channels : 0;
}

seam_status seam_inference_run(seam_inference *inference, float *ret_y, const float *x,
                               const seam_rows_request *request, seam_error *err) {
    if (inference == NULL || ret_y == NULL || x == NULL || request == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL");
    }
    if (inference->failed) {
        return seam_error_set(err, SEAM_E_STATE, "the inference has failed: open another");
    }
    SEAM_TRY(seam_session_check_cancel(inference->session, err));
    uint32_t rows = 0, rows_out = 0;
    SEAM_TRY(request_check(&rows, &rows_out, inference, request, err));
    seam_status st = SEAM_OK;
    do { /* a stream that is opened again has numbers of its own */
        SEAM_TRY(request_encode(inference, x, request, rows, err));
        seam_error local = {0};
        inference->net_failed = false;
        st = request_send(inference, &local);
        st = st == SEAM_OK ? answer_receive(inference, ret_y, rows_out, &local) : st;
        if (st == SEAM_OK) {
            inference->barren_count = 0;
            inference->request++;
            return SEAM_OK;
        }
        inference->failed = true;
        SEAM_TRY(seam_session_check_cancel(inference->session, err));
        if (!inference->net_failed || ++inference->barren_count > BARREN_MAX) {
            return seam_error_set(err, st, "%s", local.text);
        }
        seam_client_log(inference->session->client, "stream lost, trying again: %s", local.text);
        SEAM_TRY(connect_until_answered(inference, err));
        inference->failed = false;
    } while (inference->kind == SEAM_INFERENCE_FORWARD);
    return seam_error_set(err, SEAM_E_ROLLED_BACK, "the slots are empty: the stream was lost");
}

/* ---- The stream ---- */

static void stream_drop(seam_inference *inf) {
    seam_session *const s = inf->session;
    pthread_mutex_lock(&s->mu);
    seam_stream_call *const call = s->inference;
    s->inference = NULL;
    pthread_mutex_unlock(&s->mu);
    s->client->net->stream_close(call);
}

/* A result of the transport.  A limit that may pass is no fault of the stream: the caller has asked
 * for it, and can ask for less. */
static seam_status net_result(seam_inference *inf, seam_status st) {
    inf->net_failed = st != SEAM_OK && seam_is_cured_by_repetition(st, 0);
    return st;
}

static seam_status stream_connect(seam_inference *inf, seam_error *err) {
    seam_session *const s = inf->session;
    const char *const method = inf->kind == SEAM_INFERENCE_FORWARD ? "Forward" : "Generate";
    seam_stream_call *call = NULL;
    stream_drop(inf);
    inf->request = 0;
    inf->net_failed = false;
    SEAM_TRY(
        net_result(inf, s->client->net->stream_open(&call, s->client->transport, method, err)));
    pthread_mutex_lock(&s->mu);
    s->inference = call;
    pthread_mutex_unlock(&s->mu);
    return open_exchange(inf, err);
}

/* Whether another stream may do.  Room that an inference had and others have now comes back; what a
 * first stream asks for may be too much, and its caller can ask for less. */
static bool may_pass(const seam_inference *inf, seam_status st, uint64_t asked_ms) {
    return inf->net_failed ||
           (inf->stream_count > 0 && asked_ms > 0 && seam_is_cured_by_repetition(st, asked_ms));
}

static bool is_lost(const seam_inference *inf, seam_status st) {
    return inf->session->renewal != NULL && (st == SEAM_E_NOT_FOUND || st == SEAM_E_GONE);
}

/* Never before the server wants it, and not after the user's limit. */
static seam_status connect_until_answered(seam_inference *inf, seam_error *err) {
    seam_session *const s = inf->session;
    const uint64_t begin_ms = seam_now_ms();
    for (uint32_t failures = 1;; failures++) {
        seam_error local = {0};
        const seam_status st = stream_connect(inf, &local);
        if (st == SEAM_OK) {
            return SEAM_OK;
        }
        SEAM_TRY(seam_session_check_cancel(s, err));
        if (is_lost(inf, st) && failures <= BARREN_MAX) {
            seam_client_log(s->client, "the session is made anew: %s", local.text);
            SEAM_TRY(seam_session_renew(s, err));
            continue;
        }
        const uint64_t asked_ms =
            s->inference != NULL ? s->client->net->stream_retry_after_ms(s->inference) : 0;
        const uint64_t back_off_ms = seam_back_off_ms(failures, seam_random_u32());
        const uint64_t wait_ms = back_off_ms > asked_ms ? back_off_ms : asked_ms;
        const uint64_t until_ms = seam_now_ms() + wait_ms;
        if (!may_pass(inf, st, asked_ms) ||
            until_ms - begin_ms >= s->client->reconnect_timeout_ms) {
            return seam_error_set(err, st, "%s", local.text);
        }
        seam_client_log(s->client, "no stream, trying again: %s", local.text);
        while (seam_now_ms() < until_ms) {
            const struct timespec nap = {.tv_nsec = (long)NAP_MS * 1000000};
            (void)nanosleep(&nap, NULL);
            SEAM_TRY(seam_session_check_cancel(s, err));
        }
    }
}

static seam_status codecs_pick(seam_inference *inf, const seam_session *session, const char *name,
                               seam_error *err) {
    const seam_codec_plan *const own = &session->config.codec;
    /* Modules have a codec of their own. */
    const seam_codec_id boundary = seam_codec_plan_codec(own, false);
    const bool has_in = seam_codec_plan_has_in(own);
    seam_codec_id codec = has_in ? own->codec_out : boundary;
    if (name != NULL) {
        if (!seam_codec_from_name(&codec, name)) {
            return seam_error_set(err, SEAM_E_ARG, "codec: '%s' is unknown", name);
        }
        if (codec != SEAM_CODEC_F32 && codec != SEAM_CODEC_BF16 &&
            (!has_in || codec != own->codec_out)) {
            return seam_error_set(err, SEAM_E_ARG, "codec: '%s' is not the session's", name);
        }
    }
    inf->codec_in =
        codec_usable(session, has_in && codec == own->codec_out ? own->codec_in : codec);
    inf->codec_out = codec_usable(session, codec);
    return SEAM_OK;
}

/* bf16 in the place of a codec that has no form for requests, or that goes by what this process
 * does not know: widths beyond version 1 (only the process that trained knows them). */
static seam_codec_id codec_usable(const seam_session *session, seam_codec_id codec) {
    const seam_codec_plan *const plan = &session->config.codec;
    const bool unknown = session->attached_foreign && seam_codec_has_gates(codec);
    const seam_codec_id coded =
        codec == plan->codec_out ? seam_codec_plan_codec(plan, false) : codec;
    return unknown || !seam_codec_has_requests(coded) ? SEAM_CODEC_BF16 : codec;
}

/* aqsgd codes requests as it codes gradients, with the coder of those: its cache is the training's.
 */
static seam_coder *coder_of(const seam_session *session, uint32_t site_idx) {
    const bool cached = session->sites[site_idx].codec == SEAM_CODEC_AQSGD;
    SEAM_ASSERT(!cached || session->sites[session->bwd_out].codec == SEAM_CODEC_AQSGD);
    return session->sites[cached ? session->bwd_out : site_idx].coder;
}

/* A server that lost steps would answer for another adapter.  Where this process trains the session
 * it knows the step, else the first stream says it. */
static seam_status opened_take(seam_inference *inf, seam_error *err) {
    Seam__V1__GenerateResponse *const r =
        seam__v1__generate_response__unpack(NULL, inf->inbox.count, inf->inbox.data);
    if (r == NULL || r->body_case != SEAM__V1__GENERATE_RESPONSE__BODY_OPENED) {
        if (r != NULL) {
            seam__v1__generate_response__free_unpacked(r, NULL);
        }
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "the server's first message is no GenerateOpened");
    }
    const seam_session *const s = inf->session;
    const bool is_ours = s->journal != NULL || seam_client_proto_epoch(&s->proto) > 0;
    const bool is_known = is_ours || inf->stream_count > 0;
    const uint64_t count = r->opened->committed_step_count;
    const uint64_t before = is_ours ? seam_session_committed_steps(s) : inf->committed_step_count;
    seam__v1__generate_response__free_unpacked(r, NULL);
    if (is_known && !inf->base_model && count != before) {
        return seam_error_set(err, SEAM_E_STATE,
                              "the server's session is at step %llu now, and was at step %llu",
                              (unsigned long long)count, (unsigned long long)before);
    }
    inf->committed_step_count = count;
    inf->stream_count++;
    return SEAM_OK;
}

static seam_status open_exchange(seam_inference *inf, seam_error *err) {
    seam_session *const s = inf->session;
    Seam__V1__GenerateOpen open = SEAM__V1__GENERATE_OPEN__INIT;
    open.session_id = s->id;
    open.session_secret.data = s->secret;
    open.session_secret.len = SEAM_SECRET_BYTES;
    open.base_model = inf->base_model;
    open.slot_count = inf->slot_count;
    open.positions_max = inf->positions_max;
    open.rows_max = inf->rows_max;
    Seam__V1__GenerateRequest request = SEAM__V1__GENERATE_REQUEST__INIT;
    request.body_case = SEAM__V1__GENERATE_REQUEST__BODY_OPEN;
    request.open = &open;
    if (seam_message_pack(&inf->packed, &request.base) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    SEAM_TRY(net_result(inf, s->client->net->stream_send(s->inference, inf->packed.data,
                                                         inf->packed.count, NULL, 0, err)));
    seam_walk walk;
    SEAM_TRY(message_receive(inf, &walk, err));
    return opened_take(inf, err);
}

static seam_status request_check(uint32_t *ret_rows, uint32_t *ret_rows_out,
                                 const seam_inference *inf, const seam_rows_request *request,
                                 seam_error *err) {
    if (request->sequence_count == 0 || request->sequence_rows == NULL ||
        (inf->kind == SEAM_INFERENCE_GENERATE) != (request->slots != NULL)) {
        return seam_error_set(err, SEAM_E_ARG, "request: sequence_rows or slots");
    }
    uint64_t rows = 0;
    for (uint32_t i = 0; i < request->sequence_count; i++) {
        rows += request->sequence_rows[i];
    }
    if (rows == 0 || rows > inf->rows_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "request: %llu rows, the inference allows %u",
                              (unsigned long long)rows, inf->rows_max);
    }
    uint32_t rows_out = request->sequence_count, counted = 0;
    if (request->labelled_rows != NULL) {
        rows_out = 0;
        for (uint32_t t = 0; t < (rows + 7) / 8 * 8; t++) {
            rows_out += (uint32_t)request->labelled_rows[t / 8] >> (t % 8) & 1u;
            if (t + 1 == rows) {
                counted = rows_out;
            }
        }
        if (rows_out != counted) {
            return seam_error_set(err, SEAM_E_ARG, "request: labelled_rows: a bit beyond row %llu",
                                  (unsigned long long)rows - 1);
        }
    }
    if (rows_out == 0) {
        return seam_error_set(err, SEAM_E_ARG, "request: no row is wanted back");
    }
    *ret_rows = (uint32_t)rows;
    *ret_rows_out = rows_out;
    return SEAM_OK;
}

/* Into inf->packed and inf->frames: what is wrong with x shows before anything is sent. */
static seam_status request_encode(seam_inference *inf, const float *x,
                                  const seam_rows_request *request, uint32_t rows,
                                  seam_error *err) {
    seam_session *const s = inf->session;
    Seam__V1__GenerateRows message = SEAM__V1__GENERATE_ROWS__INIT;
    message.request = inf->request;
    message.n_sequence_rows = request->sequence_count;
    message.sequence_rows = (uint32_t *)(uintptr_t)request->sequence_rows;
    message.n_slots = request->slots != NULL ? request->sequence_count : 0;
    message.slots = (uint32_t *)(uintptr_t)request->slots;
    message.n_first_positions = request->first_positions != NULL ? request->sequence_count : 0;
    message.first_positions = (uint32_t *)(uintptr_t)request->first_positions;
    message.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LAST;
    if (request->labelled_rows != NULL) {
        message.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LABELLED;
        message.labelled_rows.data = (uint8_t *)(uintptr_t)request->labelled_rows;
        message.labelled_rows.len = ((size_t)rows + 7) / 8;
    }
    message.codec_out = (Seam__V1__Codec)inf->codec_out;
    Seam__V1__GenerateRequest envelope = SEAM__V1__GENERATE_REQUEST__INIT;
    envelope.body_case = SEAM__V1__GENERATE_REQUEST__BODY_ROWS;
    envelope.rows = &message;
    if (seam_message_pack(&inf->packed, &envelope.base) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    const seam_alloc *alloc = NULL;
    const bool widths = seam_codec_has_widths(inf->codec_in);
    const bool quantized = widths && rows >= QUANTIZED_ROWS_MIN;
    if (quantized) {
        SEAM_TRY(seam_site_alloc_at(&alloc, s->site_in, seam_session_committed_steps(s)));
    }
    const seam_tensor_args args = {
        .site_idx = s->fwd_in,
        .phase = SEAM_PHASE_GENERATE,
        .step = inf->request,
        .codec = quantized || !widths ? inf->codec_in : SEAM_CODEC_BF16,
        .coder = coder_of(s, s->fwd_in),
        .alloc = alloc,
        .rows = rows,
    };
    uint64_t payload_bytes = 0;
    inf->frames.count = 0;
    return seam_tensor_encode(&inf->frames, NULL, &payload_bytes, s, &args, x, err);
}

static seam_status request_send(seam_inference *inf, seam_error *err) {
    seam_session *const s = inf->session;
    SEAM_TRY(net_result(inf, s->client->net->stream_send(s->inference, inf->packed.data,
                                                         inf->packed.count, NULL, 0, err)));
    for (size_t at = 0; at < inf->frames.count;) {
        const size_t frame_bytes = seam_frame_bytes_at(&inf->frames, at);
        SEAM_TRY(net_result(
            inf, seam_frame_send(s, s->inference, inf->frames.data + at, frame_bytes, err)));
        at += frame_bytes;
    }
    return SEAM_OK;
}

static seam_status answer_receive(seam_inference *inf, float *ret_y, uint32_t rows_out,
                                  seam_error *err) {
    seam_session *const s = inf->session;
    const seam_tensor_expect expect = {
        .kind = SEAM_FRAME_TENSOR,
        .phase = SEAM_PHASE_GENERATE,
        .site = s->sites[s->fwd_out].id,
        .step = inf->request,
        .rows = rows_out,
        .channels = s->channels,
        .codec_mask = 1u << inf->codec_out | 1u << SEAM_CODEC_BF16,
        .coding_max = seam_codec_plan_coding_max(&s->config.codec),
    };
    seam_tensor_rx rx;
    seam_tensor_rx_init(&rx, &expect);
    bool complete = false;
    while (!complete) {
        seam_walk walk;
        seam_frame_header header;
        const uint8_t *payload = NULL;
        const seam_alloc *alloc = NULL;
        SEAM_TRY(message_receive(inf, &walk, err));
        if (walk.field != SEAM_MESSAGE_FRAME_FIELD) {
            return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "the server sent no frame");
        }
        SEAM_TRY(seam_frame_open(&header, &payload, walk.body, walk.body_bytes, err));
        SEAM_TRY(seam_tensor_rx_add(&complete, &rx, &header, seam_frame_crc(walk.body), err));
        SEAM_TRY(seam_tensor_alloc(&alloc, s->site_out, &header, err));
        const seam_coder_tensor tensor = {
            .codec = (seam_codec_id)header.codec, .alloc = alloc, .rows = rows_out};
        SEAM_TRY(
            seam_tensor_decode(ret_y, coder_of(s, s->fwd_out), &tensor, &header, payload, err));
    }
    return SEAM_OK;
}

static seam_status message_receive(seam_inference *inf, seam_walk *ret_walk, seam_error *err) {
    seam_session *const s = inf->session;
    bool message = false;
    SEAM_TRY(
        net_result(inf, s->client->net->stream_receive(s->inference, &inf->inbox, &message, err)));
    if (!message) {
        inf->net_failed = true;
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "server %s ended the stream",
                              s->client->address);
    }
    return seam_walk_message(ret_walk, inf->inbox.data, inf->inbox.count, err);
}

/* One message from the server in the Train stream: judged, decoded where it is awaited, reported to
 * the protocol machine.
 * What waits for it: step.c. */
#include <string.h>

#include "aqsgd.h"
#include "bytes.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"

#define BARREN_MAX 16u /* attaches that end an outage, without a reply between them */

static seam_status control_take(seam_session *s, seam_error *err);
static seam_status attached_take(seam_session *s, const Seam__V1__Attached *attached,
                                 seam_error *err);
static seam_status commit_take(seam_session *s, const Seam__V1__Commit *commit, seam_error *err);
static seam_status proposal_take(seam_session *s, const Seam__V1__AllocPropose *propose,
                                 seam_error *err);
static seam_status answer_queue(seam_session *s, const Seam__V1__TrainRequest *request);
static seam_status ack_take(seam_session *s, uint32_t site, uint32_t version, seam_error *err);
static seam_status nack_take(seam_session *s, const Seam__V1__AllocNack *nack, seam_error *err);
static seam_status frame_take(seam_session *s, const uint8_t *frame, size_t frame_bytes,
                              seam_error *err);
static seam_status reception_begin(seam_session *s, const seam_frame_header *header,
                                   seam_error *err);
static void forward_begin(seam_session *s, uint32_t micro);
static void forward_end(seam_session *s, const seam_frame_header *header);
static seam_status reception_end(seam_session *s, const seam_frame_header *header, seam_error *err);

seam_status seam_receive_one(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    bool message = false;
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    const double begin = seam_now_seconds();
    seam_status st = s->client->net->stream_receive(s->stream, &s->inbox, &message, err);
    s->waited_seconds += s->first_seconds == 0.0 ? seam_now_seconds() - begin : 0.0;
    if (st == SEAM_OK && !message) {
        st = seam_error_set(err, SEAM_E_UNAVAILABLE, "server %s ended the stream",
                            s->client->address);
    }
    s->net_failed = st != SEAM_OK;
    SEAM_TRY(st);
    seam_session_span_end(s, "wait", s->micro_next, begin_ns);
    seam_walk walk;
    SEAM_TRY(seam_walk_message(&walk, s->inbox.data, s->inbox.count, err));
    if (walk.field != SEAM_MESSAGE_FRAME_FIELD) {
        return control_take(s, err);
    }
    SEAM_TRY(seam_credit_rx_take(&s->credit_rx, walk.body_bytes, err));
    SEAM_TRY(frame_take(s, walk.body, walk.body_bytes, err));
    seam_credit_rx_consume(&s->credit_rx, walk.body_bytes);
    return seam_link_grant(s, err);
}

static seam_status control_take(seam_session *s, seam_error *err) {
    Seam__V1__TrainResponse *const r =
        seam__v1__train_response__unpack(NULL, s->inbox.count, s->inbox.data);
    if (r == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "Train: the server's message is malformed");
    }
    seam_status st = SEAM_OK;
    switch (r->body_case) {
    case SEAM__V1__TRAIN_RESPONSE__BODY_ATTACHED:
        st = attached_take(s, r->attached, err);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_COMMIT:
        st = commit_take(s, r->commit, err);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_PROPOSE:
        st = proposal_take(s, r->alloc_propose, err);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_ACK:
        st = ack_take(s, r->alloc_ack->site, r->alloc_ack->version, err);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_ALLOC_NACK:
        st = nack_take(s, r->alloc_nack, err);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_CREDIT:
        seam_credit_tx_grant(&s->credit_tx, r->credit->limit_bytes);
        break;
    case SEAM__V1__TRAIN_RESPONSE__BODY_BUDGET: /* a link estimate: this client has no use for it */
        break;
    default:
        st = seam_error_set(err, SEAM_E_FORMAT, "Train: the server's message is of no known kind");
        break;
    }
    seam__v1__train_response__free_unpacked(r, NULL);
    return st;
}

/* Every tensor here is encoded for a peer that takes all of this. */
static seam_status capabilities_check(const seam_session *s, const Seam__V1__Capabilities *theirs,
                                      seam_error *err) {
    if (theirs == NULL) {
        return SEAM_OK;
    }
    if (theirs->protocol_version != 1) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "attached.capabilities.protocol_version: %u, this client speaks 1",
                              theirs->protocol_version);
    }
    const struct {
        const char *field;
        uint32_t stated, needed;
    } least[] = {{"bits_max", theirs->bits_max, SEAM_BITS_MAX},
                 {"chunk_bytes_max", theirs->chunk_bytes_max, SEAM_CHUNK_BYTES_MAX},
                 {"pipeline_depth_max", theirs->pipeline_depth_max, s->config.pipeline_depth}};
    for (size_t i = 0; i < sizeof least / sizeof *least; i++) {
        if (least[i].stated != 0 && least[i].stated < least[i].needed) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "attached.capabilities.%s: %u, this session needs %u",
                                  least[i].field, least[i].stated, least[i].needed);
        }
    }
    return theirs->bits_min <= 1
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                "attached.capabilities.bits_min: %u, this session needs 1",
                                theirs->bits_min);
}

/* A version that both sides hold must have the same widths. */
static seam_status allocations_check(const seam_session *s, const Seam__V1__Attached *attached,
                                     seam_error *err) {
    for (size_t i = 0; i < attached->n_allocations; i++) {
        const Seam__V1__AllocVersion *const theirs = attached->allocations[i];
        const seam_alloc *ours = NULL;
        const seam_site *site = NULL;
        for (uint32_t f = 0; (site = seam_forward_site(s, f)) != NULL; f++) {
            if (seam_site_config_of(site)->site_id == theirs->site &&
                seam_site_alloc_find(&ours, site, theirs->version, theirs->hash) ==
                    SEAM_E_CONFLICT) {
                return seam_error_set(
                    err, SEAM_E_CONFLICT,
                    "attached.allocations[%zu]: version %u of site %u has other widths here", i,
                    theirs->version, theirs->site);
            }
        }
    }
    return SEAM_OK;
}

static seam_status attached_take(seam_session *s, const Seam__V1__Attached *attached,
                                 seam_error *err) {
    SEAM_TRY(capabilities_check(s, attached->capabilities, err));
    SEAM_TRY(allocations_check(s, attached, err));
    const seam_attached_args args = {
        .action = (seam_attach_action)attached->action,
        .epoch = attached->epoch,
        .committed_step_count = attached->committed_step_count,
        .rollback_step = attached->rollback_step,
        .now_ms = seam_now_ms(),
    };
    if (attached->credit_bytes != 0 && attached->credit_bytes < SEAM_CREDIT_BYTES_MIN) {
        return seam_error_set(err, SEAM_E_FORMAT, "attached.credit_bytes: %llu, at least %u",
                              (unsigned long long)attached->credit_bytes, SEAM_CREDIT_BYTES_MIN);
    }
    s->rtt_seconds = seam_now_seconds() - s->attach_seconds;
    seam_credit_tx_open(&s->credit_tx, attached->credit_bytes);
    if (s->barren_count < BARREN_MAX) {
        s->barren_count++;
        s->lost_since_ms = 0;
    }
    s->went_back = args.action == SEAM_ATTACH_ROLLBACK;
    return seam_client_proto_attached(&s->proto, &args, err);
}

static seam_status commit_take(seam_session *s, const Seam__V1__Commit *commit, seam_error *err) {
    bool is_new = false;
    uint64_t known = 0;
    SEAM_TRY(seam_client_proto_commit(&is_new, &s->proto, commit->step, commit->state_hash,
                                      seam_record_hash(&known, s, commit->step), seam_now_ms(),
                                      err));
    s->lost_since_ms = 0;
    s->barren_count = 0;
    seam_record_durable(s, commit->durable_step_count);
    return is_new ? seam_step_settle(s, commit, err) : SEAM_OK;
}

/* ---- Allocations ---- */

static seam_status proposal_take(seam_session *s, const Seam__V1__AllocPropose *propose,
                                 seam_error *err) {
    if (propose->site != s->sites[s->fwd_out].id) {
        return seam_error_set(err, SEAM_E_FORMAT, "AllocPropose: site %u is not the server's",
                              propose->site);
    }
    seam_error why = {0};
    const seam_status st = seam_site_judge(s->site_out, propose->version, propose->effective_step,
                                           propose->widths.data, (uint32_t)propose->widths.len,
                                           propose->hash, seam_session_committed_steps(s), &why);
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    Seam__V1__AllocAck ack = SEAM__V1__ALLOC_ACK__INIT;
    Seam__V1__AllocNack nack = SEAM__V1__ALLOC_NACK__INIT;
    if (st == SEAM_OK) {
        ack.site = propose->site;
        ack.version = propose->version;
        request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_ACK;
        request.alloc_ack = &ack;
    } else if (st == SEAM_E_ARG) {
        nack.site = propose->site;
        nack.version = propose->version;
        nack.reason = why.text;
        nack.bits_min = 1;
        nack.bits_max = SEAM_BITS_MAX;
        request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_NACK;
        request.alloc_nack = &nack;
    } else {
        return seam_error_set(err, st, "AllocPropose of site %u, version %u: %s", propose->site,
                              propose->version, why.text);
    }
    return answer_queue(s, &request) == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
}

/* Answers go out with the next StepBegin: WIRE.md section 4, point 2. */
static seam_status answer_queue(seam_session *s, const Seam__V1__TrainRequest *request) {
    const size_t count = protobuf_c_message_get_packed_size(&request->base);
    uint8_t head[4];
    seam_put_u32(head, (uint32_t)count);
    SEAM_TRY(seam_buffer_reserve(&s->answers_next, s->answers_next.count + count + sizeof head));
    SEAM_TRY(seam_buffer_add(&s->answers_next, head, sizeof head));
    (void)protobuf_c_message_pack(&request->base, s->answers_next.data + s->answers_next.count);
    s->answers_next.count += count;
    return SEAM_OK;
}

static seam_status ack_take(seam_session *s, uint32_t site, uint32_t version, seam_error *err) {
    const uint32_t owned = seam_owned_idx(s, site);
    if (owned == SEAM_OWNED_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, "AllocAck: site %u is not this client's", site);
    }
    const seam_status st = seam_site_acked(seam_owned_site(s, owned), version);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "AllocAck: version %u of site %u was not proposed", version,
                              site);
    }
    s->proposals[owned].count = 0;
    return SEAM_OK;
}

static seam_status nack_take(seam_session *s, const Seam__V1__AllocNack *nack, seam_error *err) {
    const uint32_t owned = seam_owned_idx(s, nack->site);
    if (owned == SEAM_OWNED_MAX || nack->bits_min < 1 || nack->bits_max > SEAM_BITS_MAX ||
        nack->bits_min > nack->bits_max) {
        return seam_error_set(err, SEAM_E_FORMAT, "AllocNack: site %u, bounds %u..%u", nack->site,
                              nack->bits_min, nack->bits_max);
    }
    seam_client_log(s->client, "the server refused allocation version %u: %s", nack->version,
                    nack->reason);
    const seam_status st = seam_site_nacked(seam_owned_site(s, owned), nack->version,
                                            (uint8_t)nack->bits_min, (uint8_t)nack->bits_max);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "AllocNack: version %u was not proposed", nack->version);
    }
    s->proposals[owned].count = 0;
    return SEAM_OK;
}

/* ---- Frames ---- */

static seam_status frame_take(seam_session *s, const uint8_t *frame, size_t frame_bytes,
                              seam_error *err) {
    seam_frame_header header;
    const uint8_t *payload = NULL;
    SEAM_TRY(seam_frame_open(&header, &payload, frame, frame_bytes, err));
    const bool one_pass = seam_codec_plan_is_one_pass(&s->config.codec);
    if (!s->rx_active) {
        SEAM_TRY(one_pass ? seam_answer_begin(s, &header, err) : reception_begin(s, &header, err));
    }
    bool complete = false;
    SEAM_TRY(seam_tensor_rx_add(&complete, &s->rx, &header, seam_frame_crc(frame), err));
    if (one_pass) {
        SEAM_TRY(s->rx_wanted ? seam_answer_take(s, &header, payload, err) : SEAM_OK);
        return complete ? seam_answer_end(s, &header, err) : SEAM_OK;
    }
    if (s->rx_wanted && s->rx_stored) {
        if (seam_buffer_add(&s->micros[header.micro].came, frame, frame_bytes) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
    } else if (s->rx_wanted) {
        SEAM_TRY(seam_receive_chunk(s, &header, payload, err));
    }
    return complete ? reception_end(s, &header, err) : SEAM_OK;
}

/* The key of the answer to a backward tensor is that of its last part. */
static seam_step_key answer_key(const seam_session *s, const seam_frame_header *header) {
    seam_step_key key = seam_step_key_of(header);
    if (header->phase == SEAM_PHASE_BACKWARD && seam_codec_plan_has_signal(&s->config.codec)) {
        key.site = s->sites[s->fwd_in].id;
    }
    return key;
}

/* What a first frame must belong to: fwd_out, or the answer to a backward tensor, which is bwd_in,
 * a gate signal, or one after the other. */
static seam_status reception_begin(seam_session *s, const seam_frame_header *header,
                                   seam_error *err) {
    const uint64_t step = seam_session_committed_steps(s);
    if (!s->step_open || header->step != step || header->micro >= s->micro_count) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "a frame of step %llu, micro-batch %u is not awaited",
                              (unsigned long long)header->step, header->micro);
    }
    const seam_micro_state *const micro = &s->micros[header->micro];
    const bool forward = header->phase == SEAM_PHASE_FORWARD && !s->rx_signal_due;
    const bool signal =
        s->rx_signal_due || (!forward && !seam_codec_plan_has_input_gradient(&s->config.codec));
    const uint32_t site = forward ? s->fwd_out : signal ? s->fwd_in : s->bwd_in;
    const seam_tensor_expect expect = {
        .kind = signal ? SEAM_FRAME_GATE_SIGNAL : SEAM_FRAME_TENSOR,
        .phase = forward ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD,
        .site = s->sites[site].id,
        .step = step,
        .micro = header->micro,
        .rows = forward  ? seam_micro_rows_out(s, micro)
                : signal ? 1
                         : micro->rows,
        .channels = signal ? s->width_count : s->channels,
        .codec_mask = 1u << s->sites[site].codec,
        .coding_max = seam_codec_plan_coding_max(&s->config.codec),
    };
    const uint64_t digest = s->rx.digest;
    seam_tensor_rx_init(&s->rx, &expect);
    s->rx.digest = s->rx_signal_due ? digest : s->rx.digest; /* of the whole answer */
    s->rx_active = true;
    s->rx_payload_bytes = 0;
    s->rx_wanted = seam_client_proto_awaits(&s->proto, answer_key(s, header));
    s->rx_stored = false;
    if (forward) {
        forward_begin(s, header->micro);
    } else if (!signal) { /* which may be of a micro-batch that the caller has left behind */
        s->rx_wanted = s->rx_wanted && header->micro == s->micro_next;
    }
    return SEAM_OK;
}

/* A forward reply: to who waits for it, kept for who will, or known already. */
static void forward_begin(seam_session *s, uint32_t micro) {
    const bool due = micro > s->micro_next || (micro == s->micro_next && !s->backward_due);
    const bool awaited = micro == s->micro_next && s->y != NULL && !s->y_received;
    s->rx_wanted = s->rx_wanted && due && !s->micros[micro].has_come;
    s->rx_stored = s->rx_wanted && !awaited;
    s->micros[micro].came.count = s->rx_stored ? 0 : s->micros[micro].came.count;
}

seam_status seam_receive_stored(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    const seam_buffer *const came = &s->micros[s->micro_next].came;
    seam_frame_header header = {0};
    s->rx_payload_bytes = 0;
    for (size_t at = 0; at < came->count;) {
        const size_t frame_bytes = seam_frame_bytes_at(came, at);
        const uint8_t *payload = NULL;
        SEAM_TRY(seam_frame_open(&header, &payload, came->data + at, frame_bytes, err));
        SEAM_TRY(seam_receive_chunk(s, &header, payload, err));
        at += frame_bytes;
    }
    forward_end(s, &header);
    return SEAM_OK;
}

/* All of a forward reply has been decoded. */
static void forward_end(seam_session *s, const seam_frame_header *header) {
    seam_site_row *const row = &s->sites[s->fwd_out];
    row->payload_bytes += s->rx_payload_bytes;
    seam_coder_commit(row->coder);
    seam_site_row_count(row, header->rows, header->alloc_version, header->alloc_bits_total);
    s->y_received = true;
}

/* A run that is kept goes on to the bit or not at all. */
static seam_status cache_check(const seam_session *s, seam_error *err) {
    return s->keeper == NULL ||
                   seam_aqsgd_forgotten_count(seam_coder_cache(s->sites[s->fwd_out].coder)) == 0
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_STATE,
                                "aqsgd: the server has forgotten its cache (it keeps none without "
                                "--state-dir): the run cannot go on to the bit");
}

seam_status seam_receive_chunk(seam_session *session, const seam_frame_header *header,
                               const uint8_t *payload, seam_error *err) {
    seam_session *const s = session;
    s->rx_payload_bytes += header->payload_bytes;
    const bool forward = header->phase == SEAM_PHASE_FORWARD;
    const seam_alloc *alloc = NULL;
    SEAM_TRY(seam_tensor_alloc(&alloc, forward ? s->site_out : s->site_in, header, err));
    if (header->kind == SEAM_FRAME_GATE_SIGNAL) {
        if (header->payload_bytes != s->width_count * sizeof(float)) {
            return seam_error_set(err, SEAM_E_FORMAT, "gate signal: payload_bytes is %u",
                                  header->payload_bytes);
        }
        for (uint32_t c = 0; c < s->width_count; c++) {
            s->gate_signal[c] = seam_get_f32(payload + 4 * (size_t)c);
        }
        return SEAM_OK;
    }
    if (forward && alloc != NULL) {
        memcpy(s->widths_used[1], alloc->widths, s->width_count);
    }
    const seam_micro_state *const micro = &s->micros[header->micro];
    const seam_coder_tensor tensor = {
        .codec = (seam_codec_id)header->codec,
        .alloc = alloc,
        .rows = header->rows,
        .sequences = seam_micro_sequences(micro, !forward),
        .range_rows = forward ? seam_micro_range_rows(s, micro) : NULL,
        .row_gates = seam_micro_row_gates(micro, !forward),
    };
    const double begin = seam_now_seconds();
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    SEAM_TRY(seam_tensor_decode(forward ? s->y : seam_session_dx(s, header->micro),
                                s->sites[forward ? s->fwd_out : s->bwd_in].coder, &tensor, header,
                                payload, err));
    s->decode_seconds += seam_now_seconds() - begin;
    seam_session_span_end(s, "decode", header->micro, begin_ns);
    return forward ? cache_check(s, err) : SEAM_OK;
}

/* A part of the answer to a backward tensor has come.  It counts with the last one: a stream that
 * breaks between them brings the first again. */
static void backward_count(seam_site_row *row, const seam_session *s,
                           const seam_frame_header *header) {
    if (header->kind == SEAM_FRAME_TENSOR) {
        seam_coder_commit(row->coder);
        row->coming_bytes = s->rx_payload_bytes;
        row->coming_rows = header->rows;
        row->coming_version = header->alloc_version;
        row->coming_bits = header->alloc_bits_total;
    } else {
        row->coming_bytes += s->rx_payload_bytes;
    }
    if (s->rx_signal_due) {
        return;
    }
    row->payload_bytes += row->coming_bytes;
    if (row->coming_rows > 0) {
        seam_site_row_count(row, row->coming_rows, row->coming_version, row->coming_bits);
    }
    row->coming_bytes = 0;
    row->coming_rows = 0;
}

static seam_status reception_end(seam_session *s, const seam_frame_header *header,
                                 seam_error *err) {
    const bool forward = header->phase == SEAM_PHASE_FORWARD;
    const bool signal = header->kind == SEAM_FRAME_GATE_SIGNAL;
    bool is_new = true;
    s->rx_active = false;
    s->rx_signal_due = !forward && !signal && seam_codec_plan_has_signal(&s->config.codec);
    if (!s->rx_signal_due) { /* else the answer goes on */
        SEAM_TRY(seam_client_proto_reply(&is_new, &s->proto, answer_key(s, header), s->rx.digest,
                                         seam_now_ms(), err));
    }
    if (!is_new || !s->rx_wanted) {
        return SEAM_OK;
    }
    s->lost_since_ms = 0;
    s->barren_count = 0;
    if (forward && header->micro == 0 && s->first_begin_seconds > 0.0) {
        s->first_seconds = seam_now_seconds() - s->first_begin_seconds;
    }
    if (s->rx_stored) {
        s->micros[header->micro].has_come = true;
        return SEAM_OK;
    }
    if (forward) {
        forward_end(s, header);
        return SEAM_OK;
    }
    backward_count(&s->sites[s->bwd_in], s, header);
    if (!s->rx_signal_due) {
        s->dx_received = header->micro == s->micro_next;
        if (seam_codec_has_gates(s->config.codec.codec_in)) {
            seam_step_add_signal(s);
        }
    }
    return SEAM_OK;
}

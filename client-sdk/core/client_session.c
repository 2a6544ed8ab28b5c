/* A session: created or taken up, described, deleted.  seam.h documents every function. */
#include "core.h"

#include <string.h>

#include "arena.h"
#include "config_hash.h"
#include "try.h"

static seam_status session_start(seam_session **ret_session, seam_client *client,
                                 const Seam__V1__Session *message, const uint8_t *secret,
                                 const seam_core_config *config, seam_error *err);
static seam_status model_identity(uint64_t *ret_identity, seam_client *client, const char *model,
                                  seam_error *err);
static const char *direction_name(Seam__V1__SiteDirection direction);
static const char *module_site_name(uint16_t id);

seam_status seam_session_create(seam_session **ret_session, seam_client *client,
                                const seam_session_options *options, seam_error *err) {
    if (ret_session == NULL || client == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_session or client is NULL");
    }
    seam_config_message config;
    seam_core_config core;
    SEAM_TRY(seam_config_from_options(&config, &core, options, err));
    seam_model_info only;
    if (options->model == NULL) {
        uint32_t count = 0;
        SEAM_TRY(seam_client_models(&only, &count, client, 1, err));
        if (count != 1) {
            return seam_error_set(err, SEAM_E_ARG, "model: the server has %u; name one", count);
        }
        config.config.model = only.id;
    }
    Seam__V1__CreateSessionRequest request = SEAM__V1__CREATE_SESSION_REQUEST__INIT;
    char request_id[33];
    seam_request_id(request_id);
    request.request_id = request_id;
    request.config = &config.config;
    request.model_identity = options->model_identity;
    const uint64_t hash = seam_config_hash(&config.config);
    ProtobufCMessage *message = NULL;
    const seam_client_request asked = {.method = "CreateSession",
                                       .message = &request.base,
                                       .answer = &seam__v1__create_session_response__descriptor,
                                       .at_once =
                                           options->pipeline_auto && options->pipeline_depth > 1};
    SEAM_TRY(seam_client_ask(&message, client, &asked, err));
    const Seam__V1__CreateSessionResponse *const r =
        (const Seam__V1__CreateSessionResponse *)message;
    seam_status st = SEAM_OK;
    if (r->session == NULL || r->session_secret.len != SEAM_SECRET_BYTES) {
        st = seam_error_set(err, SEAM_E_FORMAT, "CreateSession: session or secret is missing");
    } else if (r->session->config_hash != hash) {
        st = seam_error_set(err, SEAM_E_FORMAT,
                            "CreateSession: session.config_hash: %016llx, not that of the config "
                            "that was asked for (%016llx)",
                            (unsigned long long)r->session->config_hash, (unsigned long long)hash);
    } else {
        st = session_start(ret_session, client, r->session, r->session_secret.data, &core, err);
        if (st != SEAM_OK) { /* nobody has it */
            (void)seam_client_delete_session(client, r->session->id, r->session_secret.data, NULL);
        }
    }
    if (st == SEAM_OK) {
        (*ret_session)->consent = (uint32_t)config.config.consent;
    }
    protobuf_c_message_free_unpacked(message, NULL);
    return st;
}

/* session: whose cancel ends it, or NULL. */
static seam_status fetch(Seam__V1__GetSessionResponse **ret_response, seam_client *client,
                         seam_session *session, const char *session_id, const uint8_t *secret,
                         seam_error *err) {
    Seam__V1__GetSessionRequest request = SEAM__V1__GET_SESSION_REQUEST__INIT;
    request.session_id = (char *)(uintptr_t)session_id;
    request.session_secret.data = (uint8_t *)(uintptr_t)secret;
    request.session_secret.len = SEAM_SECRET_BYTES;
    ProtobufCMessage *message = NULL;
    const seam_client_request asked = {.method = "GetSession",
                                       .message = &request.base,
                                       .answer = &seam__v1__get_session_response__descriptor,
                                       .session = session};
    SEAM_TRY(seam_client_ask(&message, client, &asked, err));
    Seam__V1__GetSessionResponse *const r = (Seam__V1__GetSessionResponse *)message;
    if (r->session == NULL || r->session->config == NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
        return seam_error_set(err, SEAM_E_FORMAT, "GetSession: session or config is missing");
    }
    *ret_response = r;
    return SEAM_OK;
}

seam_status seam_session_fetch(Seam__V1__GetSessionResponse **ret_response, seam_session *session,
                               seam_error *err) {
    SEAM_TRY(seam_session_check_cancel(session, err));
    return fetch(ret_response, session->client, session, session->id, session->secret, err);
}

/* What the server says of the config decides what it is sent: the hash is made here, never taken.
 */
static seam_status stated_config(seam_core_config *ret_config, const Seam__V1__Session *message,
                                 seam_error *err) {
    const uint64_t hash = seam_config_hash(message->config);
    if (hash != message->config_hash) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "GetSession: session.config_hash: %016llx, not that of "
                              "session.config (%016llx)",
                              (unsigned long long)message->config_hash, (unsigned long long)hash);
    }
    return seam_config_from_message(ret_config, message->config, err);
}

seam_status seam_session_attach(seam_session **ret_session, seam_client *client,
                                const char *session_id, const uint8_t *secret, seam_error *err) {
    if (ret_session == NULL || client == NULL || session_id == NULL || secret == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_session, client, id or secret is NULL");
    }
    Seam__V1__GetSessionResponse *r = NULL;
    seam_core_config core;
    SEAM_TRY(fetch(&r, client, NULL, session_id, secret, err));
    seam_status st = stated_config(&core, r->session, err);
    if (st == SEAM_OK) {
        st = session_start(ret_session, client, r->session, secret, &core, err);
    }
    if (st == SEAM_OK) {
        (*ret_session)->attached_foreign =
            (seam_codec_has_gates(core.codec.codec_out) || core.sample_ids_needed) &&
            r->session->committed_step_count > 0;
    }
    protobuf_c_message_free_unpacked(&r->base, NULL);
    return st;
}

static seam_status session_start(seam_session **ret_session, seam_client *client,
                                 const Seam__V1__Session *message, const uint8_t *secret,
                                 const seam_core_config *config, seam_error *err) {
    seam_session *const s = seam_mem_zalloc(1, sizeof *s);
    if (s == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    if (strlen(message->id) >= sizeof s->id) {
        seam_mem_free(s);
        return seam_error_set(err, SEAM_E_FORMAT, "the server's session id is too long");
    }
    s->client = client;
    s->config = *config;
    memcpy(s->id, message->id, strlen(message->id) + 1);
    memcpy(s->secret, secret, SEAM_SECRET_BYTES);
    s->config_hash = message->config_hash;
    pthread_mutex_init(&s->mu, NULL);
    seam_status st = seam_session_plan(s, message, err);
    if (st == SEAM_OK) {
        st = model_identity(&s->model_identity, client,
                            message->config != NULL ? message->config->model : "", err);
    }
    if (st == SEAM_OK) { /* where a server that comes back without a step sends us */
        s->record_step_count = message->committed_step_count;
        st = seam_state_save(&s->record, s);
    }
    if (st != SEAM_OK) {
        seam_session_close(s);
        return st;
    }
    *ret_session = s;
    return SEAM_OK;
}

#define MODELS_MAX 1024

/* Every attach names the model: as the server lists it, whether or not the caller compared it. */
static seam_status model_identity(uint64_t *ret_identity, seam_client *client, const char *model,
                                  seam_error *err) {
    seam_model_info *const models = seam_mem_zalloc(MODELS_MAX, sizeof *models);
    if (models == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    uint32_t count = 0;
    seam_status st = seam_client_models(models, &count, client, MODELS_MAX, err);
    if (st == SEAM_OK) {
        count = count < MODELS_MAX ? count : MODELS_MAX;
        uint32_t i = 0;
        while (i < count && strcmp(models[i].id, model) != 0) {
            i++;
        }
        if (i < count) {
            *ret_identity = models[i].identity;
        } else {
            st = seam_error_set(err, SEAM_E_NOT_FOUND, "the server lists no model '%s'", model);
        }
    }
    seam_mem_free(models);
    return st;
}

void seam_session_close(seam_session *gift_session) {
    if (gift_session == NULL) {
        return;
    }
    seam_link_close(gift_session);
    seam_session_unplan(gift_session);
    seam_trace_destroy(gift_session->trace);
    pthread_mutex_destroy(&gift_session->mu);
    seam_mem_free(gift_session);
}

seam_status seam_session_delete(seam_session *gift_session, seam_error *err) {
    if (gift_session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL");
    }
    seam_link_close(gift_session);
    const seam_status st = seam_client_delete_session(gift_session->client, gift_session->id,
                                                      gift_session->secret, err);
    seam_session_close(gift_session);
    return st;
}

seam_status seam_session_save_checkpoint(uint64_t *ret_step_count, seam_session *session,
                                         seam_error *err) {
    if (ret_step_count == NULL || session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_step_count or session is NULL");
    }
    SEAM_TRY(seam_session_check_cancel(session, err));
    Seam__V1__SaveCheckpointRequest request = SEAM__V1__SAVE_CHECKPOINT_REQUEST__INIT;
    char request_id[33];
    seam_request_id(request_id);
    request.request_id = request_id;
    request.session_id = session->id;
    request.session_secret.data = session->secret;
    request.session_secret.len = SEAM_SECRET_BYTES;
    ProtobufCMessage *message = NULL;
    const seam_client_request asked = {.method = "SaveCheckpoint",
                                       .message = &request.base,
                                       .answer = &seam__v1__save_checkpoint_response__descriptor,
                                       .session = session};
    SEAM_TRY(seam_client_ask(&message, session->client, &asked, err));
    *ret_step_count = ((const Seam__V1__SaveCheckpointResponse *)message)->durable_step_count;
    protobuf_c_message_free_unpacked(message, NULL);
    return SEAM_OK;
}

seam_status seam_session_info_get(seam_session_info *ret_info, seam_session *session,
                                  seam_error *err) {
    if (ret_info == NULL || session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_info or session is NULL");
    }
    Seam__V1__GetSessionResponse *r = NULL;
    SEAM_TRY(seam_session_fetch(&r, session, err));
    seam_session_info_fill(ret_info, r->session);
    protobuf_c_message_free_unpacked(&r->base, NULL);
    return SEAM_OK;
}

void seam_session_cancel(seam_session *session) {
    if (session == NULL) {
        return;
    }
    pthread_mutex_lock(&session->mu);
    session->cancelled = true;
    if (session->stream != NULL) {
        session->client->net->stream_cancel(session->stream);
    }
    if (session->inference != NULL) {
        session->client->net->stream_cancel(session->inference);
    }
    if (session->files != NULL) {
        session->client->net->stream_cancel(session->files);
    }
    pthread_mutex_unlock(&session->mu);
}

seam_status seam_session_check_cancel(seam_session *session, seam_error *err) {
    pthread_mutex_lock(&session->mu);
    const bool cancelled = session->cancelled;
    pthread_mutex_unlock(&session->mu);
    return cancelled ? seam_error_set(err, SEAM_E_CANCELLED, "the session was cancelled") : SEAM_OK;
}

seam_status seam_session_check(seam_session *session, seam_error *err) {
    SEAM_TRY(seam_session_check_cancel(session, err));
    if (session->commit_runs) {
        return seam_error_set(err, SEAM_E_STATE, "seam_step_commit has called: it goes on first");
    }
    if (seam_client_proto_is_stopped(&session->proto)) {
        const seam_error *const why = seam_client_proto_error(&session->proto);
        return seam_error_set(err, why->status, "%s", why->text);
    }
    return SEAM_OK;
}

/* ---- Reading ---- */

const char *seam_session_id(const seam_session *session) {
    return session != NULL ? session->id : NULL;
}

const uint8_t *seam_session_secret(const seam_session *session) {
    return session != NULL ? session->secret : NULL;
}

uint32_t seam_session_ahead_max(const seam_session *session) {
    if (!session->config.depth_auto) {
        return session->config.pipeline_depth;
    }
    const uint32_t held = session->depth_held;
    return held > 0 && held < session->depth.max ? held : session->depth.max;
}

uint32_t seam_session_ahead(const seam_session *session) {
    if (session == NULL) {
        return 0;
    }
    const uint32_t most = seam_session_ahead_max(session);
    return session->config.depth_auto && session->depth.ahead < most ? session->depth.ahead : most;
}

uint32_t seam_session_pipeline_depth(const seam_session *session) {
    return session != NULL ? session->config.pipeline_depth : 0;
}

uint32_t seam_session_channels(const seam_session *session) {
    return session != NULL ? session->channels : 0;
}

uint64_t seam_session_committed_steps(const seam_session *session) {
    return session != NULL ? seam_client_proto_committed_count(&session->proto) : 0;
}

uint32_t seam_session_site_count(const seam_session *session) {
    return session != NULL ? session->site_count : 0;
}

seam_status seam_session_site(seam_site_state *ret_state, const seam_session *session,
                              uint32_t site_idx) {
    if (ret_state == NULL || session == NULL || site_idx >= session->site_count) {
        return SEAM_E_ARG;
    }
    const seam_site_row *const row = &session->sites[site_idx];
    *ret_state = (seam_site_state){
        .site = row->id,
        .name = row->name[0] != '\0' ? row->name
                : row->rows_all > 0  ? module_site_name(row->id)
                                     : direction_name(row->direction),
        .channels = row->channels,
        .rows = row->rows,
        .payload_bytes = row->payload_bytes,
        .width_count = !seam_codec_has_widths(row->codec)          ? 0
                       : row->rows_all > 0 || row->name[0] != '\0' ? row->channels
                                                                   : session->width_count,
        .mean_bits = row->mean_bits,
        .alloc_version = row->alloc_version,
        .bits_min = row->bits_min,
        .bits_max = row->bits_max,
    };
    return SEAM_OK;
}

/* WIRE.md 1.1. */
static const char *module_site_name(uint16_t id) {
    static const char *const names[] = {"lora_a",          "lora_b",          "prefix",
                                        "lora_a_gradient", "lora_b_gradient", "prefix_gradient"};
    return id >= SEAM_SITE_LORA_A && id <= SEAM_SITE_PREFIX_GRADIENT ? names[id - SEAM_SITE_LORA_A]
                                                                     : "module";
}

static const char *direction_name(Seam__V1__SiteDirection direction) {
    static const char *const names[] = {"unknown", "fwd_in", "fwd_out", "bwd_out", "bwd_in"};
    return names[direction >= 1 && direction <= 4 ? direction : 0];
}

seam_status seam_session_site_widths(uint8_t *ret_widths, const seam_session *session,
                                     uint32_t site_idx) {
    if (ret_widths == NULL || session == NULL || site_idx >= session->site_count) {
        return SEAM_E_ARG;
    }
    if (session->sites[site_idx].rows_all > 0) {
        const seam_site_row *const row = &session->sites[site_idx];
        const uint32_t pair = seam_owned_idx(session, row->paired_id);
        if (row->rows == 0 || !seam_codec_has_widths(row->codec)) {
            return SEAM_E_STATE;
        }
        memcpy(ret_widths, session->exchange.widths_used[pair], row->channels);
        return SEAM_OK;
    }
    if (session->sites[site_idx].name[0] != '\0') {
        return SEAM_E_STATE; /* the server's own, of which it tells no more than the state has */
    }
    const bool in = session->sites[site_idx].paired_id == session->sites[session->fwd_in].id;
    const uint8_t *const widths = session->widths_used[in ? 0 : 1];
    if (widths[0] == 0) { /* no step yet, or a codec without widths */
        return SEAM_E_STATE;
    }
    memcpy(ret_widths, widths, session->width_count);
    return SEAM_OK;
}

uint32_t seam_site_idx(const seam_session *session, uint16_t site_id) {
    uint32_t i = 0;
    while (i < session->site_count && session->sites[i].id != site_id) {
        i++;
    }
    return i;
}

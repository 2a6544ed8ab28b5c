/* Life of one session and its description; who may use it is session_table.c, what a stream does
 * with it rpc/rpc_train.c. */
#include "session.h"

#include <openssl/crypto.h>
#include <string.h>

#include "exchange.h"
#include "session_disk.h"
#include "session_table.h"
#include "try.h"

/* A StepBegin of M bytes unpacks to at most this: each varint becomes a word, each micro-batch a
 * struct.  Bounded besides, so that a hostile message costs a bounded copy. */
#define STEP_BYTES_MAX (8u << 20)
#define STEP_BYTES_MIN (64u << 10)

static size_t step_bytes(const seam_session_config *config) {
    const seam_layout_limits *limits = &config->limits;
    const uint64_t micro = sizeof(Seam__V1__MicroBatch) + 64 + limits->rows_max / 8 +
                           (limits->labels_needed ? 12 : 8) * (uint64_t)limits->rows_max +
                           24 * (uint64_t)limits->sequences_max;
    const uint64_t bytes = STEP_BYTES_MIN + 2 * micro * limits->micros_max;
    return bytes < STEP_BYTES_MAX ? (size_t)bytes : STEP_BYTES_MAX;
}

seam_status seam_session_plan(seam_memory_plan *ret_plan, const seam_session_config *config,
                              bool is_kept, uint64_t inbox_bytes) {
    seam_memory_plan plan = {0};
    plan.host[SEAM_MEMORY_CODEC] = sizeof(seam_session) + 2 * step_bytes(config) + inbox_bytes;
    if (is_kept) {
        size_t image_bytes = 0;
        SEAM_TRY(seam_trainer_state_bytes_max(&image_bytes, config));
        plan.host[SEAM_MEMORY_MOMENTS] = image_bytes;
    }
    SEAM_TRY(seam_trainer_plan(&plan, config));
    const seam_memory_blocks blocks = seam_session_config_blocks(config);
    if (blocks.ops->repeat != NULL) { /* taken by steps, not with the trainer */
        seam_memory_plan_repeats(&plan, &blocks, &config->adapter);
    }
    *ret_plan = plan;
    return SEAM_OK;
}

/* The budget had room and the device did not: another process has taken its memory. */
static seam_status no_memory(const seam_session *session, seam_error *err) {
    const seam_memory_blocks blocks = seam_session_config_blocks(&session->config);
    const uint64_t room = blocks.ops->mem_room(seam_blocks_backend(session->config.model->blocks));
    char needed_text[SEAM_MEMORY_TEXT_BYTES], room_text[SEAM_MEMORY_TEXT_BYTES] = "less";
    seam_memory_text(needed_text, session->memory.device);
    if (room != SEAM_MEM_ROOM_HOST) {
        seam_memory_bytes_text(room_text, room);
    }
    return seam_error_set(err, SEAM_E_MEMORY, "session needs %s, the device has %s", needed_text,
                          room_text);
}

seam_status seam_session_build(seam_session *session, seam_stream *stream, seam_error *err) {
    const size_t bytes = step_bytes(&session->config);
    seam_session_disk *d = &session->disk;
    d->image_capacity_bytes = 0;
    if (seam_session_is_kept(session)) {
        SEAM_TRY(seam_trainer_state_bytes_max(&d->image_capacity_bytes, &session->config));
    }
    if (seam_arena_init(&session->arena, 2 * (bytes + 64) + d->image_capacity_bytes + 64) !=
        SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "session: out of memory");
    }
    d->image = seam_arena_take(&session->arena, d->image_capacity_bytes);
    for (int i = 0; i < 2; i++) {
        session->steps[i].bytes = seam_arena_take(&session->arena, bytes);
        session->steps[i].capacity_bytes = bytes;
    }
    const seam_status st = seam_trainer_create(&session->trainer, &session->config, stream, err);
    SEAM_TRY(st == SEAM_E_MEMORY ? no_memory(session, err) : st);
    return seam_session_keep_caches(session, err);
}

void seam_session_unbuild(seam_session *session) {
    seam_session_image_drop(session);
    seam_trainer_destroy(session->trainer);
    session->trainer = NULL;
    seam_arena_deinit(&session->arena);
    session->disk.image = NULL;
    for (int i = 0; i < 2; i++) {
        session->steps[i] = (seam_step_memory){.bytes = NULL};
    }
    session->commit_bytes = 0;
}

/* ---- work ---- */

bool seam_session_is_idle(const seam_session *session) {
    return !session->busy && session->queue_count == 0;
}

bool seam_session_staging_free(uint32_t *ret_idx, const seam_session *session) {
    uint32_t idx = 0;
    const uint32_t count = seam_trainer_staging_count(session->trainer);
    for (; idx < count; idx++) {
        bool taken = session->busy && session->work.staging_idx == idx;
        for (uint32_t i = 0; i < session->queue_count; i++) {
            taken = taken || session->queue[i].staging_idx == idx;
        }
        if (!taken) {
            *ret_idx = idx;
            return true;
        }
    }
    return false;
}

/* ---- references ---- */

void seam_session_ref(seam_session *session) {
    session->refs++;
}

static void session_free(seam_session *session) {
    seam_session_unbuild(session);
    if (session->message != NULL) {
        seam__v1__session_config__free_unpacked(session->message, NULL);
    }
    OPENSSL_cleanse(session->secret, sizeof session->secret);
    seam_mem_free(session);
}

SEAM_ON_GPU static seam_status destroy_run(seam_job *job, seam_stream *stream) {
    (void)job;
    (void)stream;
    return SEAM_OK;
}

SEAM_ON_GPU static void destroy_finished(seam_job *job) {
    session_free(job->user);
}

void seam_session_unref(seam_session *session) {
    SEAM_ASSERT(session->refs > 0);
    if (--session->refs > 0) {
        return;
    }
    SEAM_ASSERT(!session->busy);
    SEAM_ASSERT(session->stream == NULL);
    seam_engine *engine = seam_sessions_release(session->sessions, session);
    session->destroy_job =
        (seam_job){.run = destroy_run, .finished = destroy_finished, .user = session};
    if (engine == NULL || seam_engine_post(engine, &session->destroy_job) != SEAM_OK) {
        session_free(session); /* the engine has ended, or its queue is full: free here */
    }
}

/* ---- StepBegin ---- */

/* protobuf-c's allocator over a step's memory: a bump pointer, freed as a whole. */
static void *step_alloc(void *user, size_t bytes) {
    seam_step_memory *memory = user;
    const size_t rounded = (bytes + 15) / 16 * 16;
    if (rounded < bytes || rounded > memory->capacity_bytes - memory->used_bytes) {
        return NULL;
    }
    void *ret = memory->bytes + memory->used_bytes;
    memory->used_bytes += rounded;
    return ret;
}

static void step_free(void *user, void *ptr) {
    (void)user;
    (void)ptr;
}

seam_status seam_session_step_unpack(const Seam__V1__StepBegin **ret_begin, seam_session *session,
                                     const uint8_t *bytes, size_t count, seam_error *err) {
    seam_step_memory *memory = &session->steps[1 - session->step_idx];
    ProtobufCAllocator allocator = {
        .alloc = step_alloc, .free = step_free, .allocator_data = memory};
    memory->used_bytes = 0;
    memory->begin = NULL;
    const Seam__V1__StepBegin *begin = seam__v1__step_begin__unpack(&allocator, count, bytes);
    if (begin == NULL) {
        const bool full = memory->capacity_bytes - memory->used_bytes < count;
        return full ? seam_error_set(err, SEAM_E_LIMIT, "step_begin: larger than the limits allow")
                    : seam_error_set(err, SEAM_E_FORMAT, "step_begin: malformed protobuf");
    }
    memory->begin = begin;
    *ret_begin = begin;
    return SEAM_OK;
}

void seam_session_step_adopt(seam_session *session) {
    session->step_idx = 1 - session->step_idx;
    SEAM_ASSERT(session->steps[session->step_idx].begin != NULL);
}

const Seam__V1__StepBegin *seam_session_step(const seam_session *session) {
    return session->steps[session->step_idx].begin;
}

/* ---- description ---- */

static Seam__V1__SessionState state_of(const seam_session *session) {
    switch (seam_server_proto_link(&session->proto)) {
    case SEAM_LINK_DETACHED:
        return SEAM__V1__SESSION_STATE__SESSION_STATE_DETACHED;
    case SEAM_LINK_PARKED:
        return SEAM__V1__SESSION_STATE__SESSION_STATE_PARKED;
    case SEAM_LINK_EXPIRED:
        return SEAM__V1__SESSION_STATE__SESSION_STATE_EXPIRED;
    case SEAM_LINK_FROZEN:
        return SEAM__V1__SESSION_STATE__SESSION_STATE_FROZEN;
    case SEAM_LINK_ATTACHED:
        break;
    }
    uint32_t micro = 0;
    return seam_server_proto_phase(&micro, &session->proto) == SEAM_SERVER_READY
               ? SEAM__V1__SESSION_STATE__SESSION_STATE_READY
               : SEAM__V1__SESSION_STATE__SESSION_STATE_STEPPING;
}

/* Behind the boundaries' rows: of each pair of module sites two. */
static void modules_describe(seam_session_storage *storage, const seam_session_config *config) {
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    const uint32_t count = seam_exchange_pairs(pairs, config);
    for (uint32_t i = 0; i < 2 * count; i++) { /* all parameters, then all gradients */
        const bool gradient = i >= count;
        const seam_module_pair *pair = &pairs[gradient ? i - count : i];
        const size_t row = storage->session.n_sites++;
        Seam__V1__Site *site = &storage->sites[row];
        seam__v1__site__init(site);
        site->id = gradient ? pair->gradient_site : pair->site;
        site->direction = gradient ? SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_GRADIENTS
                                   : SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_PARAMETERS;
        site->channels = pair->channels;
        site->paired_forward_site = pair->site;
        site->codec = (Seam__V1__Codec)seam_codec_plan_module_codec(&config->codec, gradient);
        site->rows = pair->rows;
        storage->site_list[row] = site;
    }
}

/* Behind them: what the server quantizes between its blocks, of which nothing travels. */
static void layers_describe(seam_session_storage *storage, const seam_session_config *config) {
    const uint32_t count = seam_session_config_layer_sites(config);
    for (uint32_t i = 0; i < count; i++) {
        const size_t row = storage->session.n_sites++;
        Seam__V1__Site *site = &storage->sites[row];
        seam__v1__site__init(site);
        site->boundary = config->front_layers + i;
        site->id = SEAM_SITE_LAYER_FIRST + site->boundary;
        site->direction = SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_LAYER;
        site->channels = config->model->config->hidden;
        site->paired_forward_site = site->id;
        site->codec = SEAM__V1__CODEC__CODEC_AMAQ;
        storage->site_list[row] = site;
    }
}

/* Likewise keys and values of a quantized prefix. */
static void prefix_describe(seam_session_storage *storage, const seam_session_config *config) {
    const seam_model_config *model = config->model->config;
    const uint32_t count = seam_session_config_has_prefix_gates(config) ? SEAM_PREFIX_GATES : 0;
    for (uint32_t i = 0; i < count; i++) {
        const size_t row = storage->session.n_sites++;
        Seam__V1__Site *site = &storage->sites[row];
        seam__v1__site__init(site);
        site->id = SEAM_SITE_PREFIX_KEYS + i;
        site->boundary = i;
        site->direction = SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_PREFIX;
        site->channels = model->kv_heads * model->head_dim;
        site->paired_forward_site = site->id;
        site->codec = SEAM__V1__CODEC__CODEC_AMAQ;
        storage->site_list[row] = site;
    }
}

static void updates_describe(seam_session_storage *storage, const seam_session_updates *updates) {
    for (uint32_t i = 0; i < updates->count; i++) {
        Seam__V1__OptimizerUpdate *const update = &storage->updates[i];
        seam__v1__optimizer_update__init(update);
        seam_optimizer_config_write(&storage->optimizers[i], &updates->items[i].optimizer);
        update->effective_step = updates->items[i].effective_step;
        update->optimizer = &storage->optimizers[i];
        storage->update_list[i] = update;
    }
    storage->session.n_updates = updates->count;
    storage->session.updates = storage->update_list;
}

void seam_session_describe(seam_session_storage *ret_storage, seam_session *session) {
    static const Seam__V1__SiteDirection directions[SEAM_SITE_COUNT] = {
        SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_FWD_IN,
        SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_FWD_OUT,
        SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_BWD_OUT,
        SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_BWD_IN,
    };
    Seam__V1__Session *ret = &ret_storage->session;
    seam__v1__session__init(ret);
    ret->id = session->id;
    ret->config = session->message;
    ret->config_hash = session->config.hash;
    ret->state = state_of(session);
    ret->committed_step_count = seam_server_proto_committed_count(&session->proto);
    ret->memory_bytes = session->disk.resident ? seam_memory_plan_device_bytes(&session->memory) +
                                                     seam_memory_plan_host_bytes(&session->memory)
                                               : 0;
    ret->tokens = session->row_count;
    updates_describe(ret_storage, &session->updates);
    ret->n_sites = SEAM_SITE_COUNT;
    ret->sites = ret_storage->site_list;
    for (uint32_t i = 0; i < SEAM_SITE_COUNT; i++) {
        Seam__V1__Site *site = &ret_storage->sites[i];
        const bool outer = i == SEAM_SITE_FWD_IN || i == SEAM_SITE_BWD_IN;
        seam__v1__site__init(site);
        site->id = i;
        site->direction = directions[i];
        site->boundary = outer ? 0 : 1;
        site->channels = session->config.model->config->hidden;
        site->paired_forward_site = outer ? SEAM_SITE_FWD_IN : SEAM_SITE_FWD_OUT;
        site->codec = (Seam__V1__Codec)seam_session_config_codec(&session->config, (uint16_t)i);
        ret_storage->site_list[i] = site;
    }
    modules_describe(ret_storage, &session->config);
    layers_describe(ret_storage, &session->config);
    prefix_describe(ret_storage, &session->config);
}

/* See plan_client.h.  The sums are client-sdk/model/client_plan.c's; the backend is made for its
 * types and panels alone. */
#include "plan_client.h"

#include <stdio.h>
#include <string.h>

#include "memory_plan.h"
#include "ops.h"
#include "try.h"
#include "weights.h"

#define TEXT_BYTES 256

seam_status seam_plan_model_read(seam_model_config *ret_model, bool *ret_bf16_table,
                                 const char *path, seam_error *err) {
    seam_weights *weights = NULL;
    seam_weights_place place;
    SEAM_TRY(seam_weights_open(&weights, path, err));
    *ret_model = *seam_weights_config(weights);
    *ret_bf16_table = seam_weights_find(&place, weights, "model.embed_tokens.weight",
                                        ret_model->vocab_count, ret_model->hidden) &&
                      place.type == SEAM_TENSOR_BF16;
    seam_weights_close(weights);
    return SEAM_OK;
}

seam_status seam_plan_client_make(seam_plan_client *ret_plan, const seam_plan_client_args *args,
                                  seam_error *err) {
    const seam_backend_options options = {
        .device = "cpu", .act = args->f32 ? SEAM_F32 : 0, .threads = 1};
    seam_backend *backend = NULL;
    seam_plan_client plan;
    SEAM_TRY(seam_backend_create(&backend, &options, err));
    const seam_client_shape shape = {.model = args->model,
                                     .ops = seam_backend_ops(backend),
                                     .bf16_table = args->bf16_table,
                                     .rows = args->session->rows_per_micro_max};
    snprintf(plan.backend, sizeof plan.backend, "%s", seam_backend_describe(backend));
    const seam_status st = seam_client_plan(&plan.memory, &shape, args->session, err);
    seam_backend_destroy(backend);
    SEAM_TRY(st);
    *ret_plan = plan;
    return SEAM_OK;
}

/* What is printed, in this order. */
typedef struct part {
    const char *key, *name;
    uint64_t bytes;
} part;
#define PARTS 11

static void parts_of(part ret[PARTS], const seam_client_memory *m) {
    const part parts[PARTS] = {
        {"embedding", "embedding", m->embedding},
        {"head", "head", m->head},
        {"blocks", "blocks", m->blocks},
        {"adapter", "adapter", m->adapter},
        {"moments", "moments", m->moments},
        {"modules", "modules that travel", m->modules},
        {"activations", "activations", m->activations},
        {"rows", "rows", m->rows},
        {"session", "session", m->session},
        {"cache", "cache", m->caches},
        {"tensors", "tensors on their way", m->tensors},
    };
    memcpy(ret, parts, sizeof parts);
}

json_t *seam_plan_client_json(const seam_plan_client *plan) {
    json_t *const kinds = json_object();
    part parts[PARTS];
    parts_of(parts, &plan->memory);
    for (uint32_t i = 0; i < PARTS; i++) {
        if (parts[i].bytes > 0) {
            json_object_set_new(kinds, parts[i].key, json_integer((json_int_t)parts[i].bytes));
        }
    }
    return json_pack("{s:s,s:o,s:I,s:I}", "backend", plan->backend, "memory", kinds, "bytes",
                     (json_int_t)seam_client_memory_bytes(&plan->memory), "record_bytes",
                     (json_int_t)plan->memory.record_bytes);
}

void seam_plan_client_print(const seam_plan_client *plan) {
    char total[SEAM_MEMORY_TEXT_BYTES], bytes[SEAM_MEMORY_TEXT_BYTES], text[TEXT_BYTES] = "";
    part parts[PARTS];
    const char *before = "";
    parts_of(parts, &plan->memory);
    seam_memory_bytes_text(total, seam_client_memory_bytes(&plan->memory));
    for (uint32_t i = 0; i < PARTS; i++) {
        if (parts[i].bytes >= UINT64_C(1) << 16) { /* what would read as 0.0 is left out */
            const size_t used = strlen(text);
            seam_memory_bytes_text(bytes, parts[i].bytes);
            snprintf(text + used, sizeof text - used, "%s%s %s", before, parts[i].name, bytes);
            before = ", ";
        }
    }
    printf("the client       %s (%s)\n", total, text);
    if (plan->memory.record_bytes > 0) {
        seam_memory_bytes_text(bytes, plan->memory.record_bytes);
        printf(
            "its journal      %s on the disk, each step until the server confirms a checkpoint\n",
            bytes);
    }
}

/* The table of all methods: the place to start reading about any call.  on_message and its
 * like are called by rpc_call.c. */
#include <string.h>

#include "rpc_methods.h"
#include "rpc_server.h"

#define SEAM(name)     "/seam.v1.SeamService/" name
#define HEALTH(name)   "/grpc.health.v1.Health/" name
#define REFLECT(pkg)   "/grpc.reflection." pkg ".ServerReflection/ServerReflectionInfo"
#define UNARY(handler) .on_message = handler, .on_half_close = seam_no_request

#define GENERATE                                                                                   \
    .on_message = seam_on_generate, .on_half_close = seam_call_finish,                             \
    .on_sent = seam_on_generate_sent, .on_job = seam_on_generate_job,                              \
    .on_idle = seam_on_generate_idle, .on_drain = seam_on_generate_drain,                          \
    .on_close = seam_on_generate_close

static const seam_method methods[] = {
    /* rpc_unary.c */
    {.path = SEAM("GetServerInfo"), UNARY(seam_on_get_server_info)},
    {.path = SEAM("ListModels"), UNARY(seam_on_list_models)},
    {.path = SEAM("CreateSession"),
     UNARY(seam_on_create_session),
     .on_job = seam_on_create_session_job,
     .on_close = seam_on_create_session_close},
    {.path = SEAM("GetSession"), UNARY(seam_on_get_session)},
    {.path = SEAM("ListSessions"), UNARY(seam_on_list_sessions)},
    /* rpc_delete.c */
    {.path = SEAM("DeleteSession"),
     UNARY(seam_on_delete_session),
     .on_idle = seam_on_delete_idle,
     .on_close = seam_on_delete_close},
    /* rpc_update.c */
    {.path = SEAM("UpdateSession"),
     UNARY(seam_on_update_session),
     .on_job = seam_on_update_job,
     .on_idle = seam_on_update_idle,
     .on_close = seam_on_update_close},
    /* rpc_checkpoint.c */
    {.path = SEAM("SaveCheckpoint"),
     UNARY(seam_on_save_checkpoint),
     .on_job = seam_on_save_job,
     .on_idle = seam_on_save_idle,
     .on_close = seam_on_save_close},
    /* rpc_train.c, train_attach.c, train_control.c */
    {.path = SEAM("Train"),
     .on_message = seam_on_train,
     .on_half_close = seam_on_train_half_close,
     .on_sent = seam_on_train_sent,
     .on_job = seam_on_train_job,
     .on_drain = seam_on_train_drain,
     .on_close = seam_on_train_close},
    /* rpc_generate.c */
    {.path = SEAM("Forward"), GENERATE},
    {.path = SEAM("Generate"), GENERATE},
    /* rpc_adapter.c */
    {.path = SEAM("ExportAdapter"),
     UNARY(seam_on_export),
     .on_sent = seam_on_export_sent,
     .on_job = seam_on_export_job,
     .on_idle = seam_on_export_idle,
     .on_close = seam_on_adapter_close},
    {.path = SEAM("ImportAdapter"),
     .on_message = seam_on_import,
     .on_half_close = seam_on_import_end,
     .on_job = seam_on_import_job,
     .on_idle = seam_on_import_idle,
     .on_close = seam_on_adapter_close},
    /* rpc_health.c, rpc_reflection.c */
    {.path = HEALTH("Check"), .open = true, UNARY(seam_on_health_check)},
    {.path = HEALTH("Watch"),
     .open = true,
     UNARY(seam_on_health_watch),
     .on_drain = seam_on_health_drain,
     .on_close = seam_on_health_close},
    {.path = REFLECT("v1"),
     .on_message = seam_on_reflection,
     .on_half_close = seam_call_finish,
     .on_sent = seam_on_reflection_sent,
     .on_drain = seam_on_reflection_drain},
    {.path = REFLECT("v1alpha"),
     .on_message = seam_on_reflection,
     .on_half_close = seam_call_finish,
     .on_sent = seam_on_reflection_sent,
     .on_drain = seam_on_reflection_drain},
};

const seam_method *seam_method_find(const char *path, size_t count) {
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strlen(methods[i].path) == count && memcmp(methods[i].path, path, count) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

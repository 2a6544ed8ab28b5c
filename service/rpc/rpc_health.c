/* grpc.health.v1: "" and "seam.v1.SeamService" are SERVING until the server drains. */
#include <string.h>

#include "arena.h"
#include "grpc/health/v1/health.pb-c.h"
#include "rpc_methods.h"
#include "rpc_server.h"

typedef Grpc__Health__V1__HealthCheckResponse health_response;

static bool service_is_known(const char *service) {
    return service[0] == '\0' || strcmp(service, "seam.v1.SeamService") == 0;
}

SEAM_ON_LOOP static Grpc__Health__V1__HealthCheckRequest *
request_unpack(seam_call *call, grpc_byte_buffer *message) {
    Grpc__Health__V1__HealthCheckRequest *request =
        (Grpc__Health__V1__HealthCheckRequest *)seam_message_unpack(
            &grpc__health__v1__health_check_request__descriptor, message);
    if (request == NULL) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_FORMAT, "HealthCheckRequest: malformed protobuf");
        seam_call_fail(call, SEAM_E_FORMAT, &err);
    }
    return request;
}

SEAM_ON_LOOP static health_response response_of(const seam_call *call) {
    health_response response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = seam_server_is_draining(call->server)
                          ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
                          : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    return response;
}

void seam_on_health_check(seam_call *call, grpc_byte_buffer *message) {
    Grpc__Health__V1__HealthCheckRequest *request = request_unpack(call, message);
    if (request == NULL) {
        return;
    }
    if (service_is_known(request->service)) {
        const health_response response = response_of(call);
        seam_call_reply(call, &response.base);
    } else {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_NOT_FOUND, "service: \"%.100s\" is not served here",
                             request->service);
        seam_call_fail(call, SEAM_E_NOT_FOUND, &err);
    }
    grpc__health__v1__health_check_request__free_unpacked(request, NULL);
}

void seam_on_health_watch(seam_call *call, grpc_byte_buffer *message) {
    Grpc__Health__V1__HealthCheckRequest *request = request_unpack(call, message);
    if (request == NULL) {
        return;
    }
    health_response response = response_of(call);
    if (service_is_known(request->service)) {
        call->state = call; /* any mark: on_drain sends the change */
    } else {
        response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    }
    (void)seam_call_send_message(call, &response.base);
    grpc__health__v1__health_check_request__free_unpacked(request, NULL);
}

void seam_on_health_drain(seam_call *call) {
    if (call->state != NULL) {
        const health_response response = response_of(call);
        (void)seam_call_send_message(call, &response.base);
    }
}

void seam_on_health_close(seam_call *call) {
    if (!call->finishing) {
        seam_call_finish(call); /* the client left: nothing is sent, the call just ends */
    }
}

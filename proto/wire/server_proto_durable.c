/* The durable checkpoints of the server's machine: a short rising list; see server_proto.h. */
#include "server_proto.h"
#include "try.h"

static void durable_remove(seam_server_proto *sp, uint32_t idx) {
    for (uint32_t i = idx; i + 1 < sp->durable_count; i++) {
        sp->durable[i] = sp->durable[i + 1];
    }
    sp->durable_count--;
}

seam_status seam_server_proto_durable_add(seam_server_proto *sp, uint64_t step_count) {
    if (step_count > sp->committed || step_count < sp->confirmed) {
        return SEAM_E_STATE;
    }
    uint32_t at = sp->durable_count;
    while (at > 0 && sp->durable[at - 1] >= step_count) {
        if (sp->durable[at - 1] == step_count) {
            return SEAM_OK; /* written again, for instance after a rollback */
        }
        at--;
    }
    if (sp->durable_count == SEAM_DURABLE_MAX) {
        if (at == 0 || sp->durable[0] >= sp->confirmed) {
            return SEAM_E_LIMIT;
        }
        durable_remove(sp, 0);
        at--;
    }
    for (uint32_t i = sp->durable_count; i > at; i--) {
        sp->durable[i] = sp->durable[i - 1];
    }
    sp->durable[at] = step_count;
    sp->durable_count++;
    return SEAM_OK;
}

seam_status seam_server_proto_durable_confirm(uint64_t *ret_keep_from, seam_server_proto *sp,
                                              uint64_t step_count, seam_error *err) {
    uint64_t found = 0;
    if (!seam_server_proto_durable_find(&found, sp, step_count) || found != step_count) {
        return seam_error_set(err, SEAM_E_ARG,
                              "checkpoint_confirm.step: %llu is not a durable checkpoint",
                              (unsigned long long)step_count);
    }
    if (step_count > sp->confirmed) {
        sp->confirmed = step_count;
    }
    while (sp->durable_count > 0 && sp->durable[0] < sp->confirmed) {
        durable_remove(sp, 0);
    }
    *ret_keep_from = sp->confirmed;
    return SEAM_OK;
}

bool seam_server_proto_durable_make_room(uint64_t *ret_gone, seam_server_proto *sp) {
    if (seam_server_proto_durable_has_room(sp)) {
        return false;
    }
    *ret_gone = sp->durable[1];
    durable_remove(sp, 1);
    return true;
}

bool seam_server_proto_durable_has_room(const seam_server_proto *sp) {
    return sp->durable_count < SEAM_DURABLE_MAX || sp->durable[0] < sp->confirmed;
}

uint32_t seam_server_proto_durable_list(uint64_t ret_step_counts[SEAM_DURABLE_MAX],
                                        const seam_server_proto *sp) {
    for (uint32_t i = 0; i < sp->durable_count; i++) {
        ret_step_counts[i] = sp->durable[i];
    }
    return sp->durable_count;
}

void seam_server_proto_durable_lost(seam_server_proto *sp, uint64_t step_count) {
    for (uint32_t i = 0; i < sp->durable_count; i++) {
        if (sp->durable[i] == step_count) {
            durable_remove(sp, i);
            sp->confirmed = sp->confirmed == step_count ? 0 : sp->confirmed;
            return;
        }
    }
}

bool seam_server_proto_durable_newest(uint64_t *ret_step_count, const seam_server_proto *sp) {
    if (sp->durable_count == 0) {
        return false;
    }
    *ret_step_count = sp->durable[sp->durable_count - 1];
    return true;
}

bool seam_server_proto_durable_find(uint64_t *ret_step_count, const seam_server_proto *sp,
                                    uint64_t step_count) {
    for (uint32_t i = sp->durable_count; i > 0; i--) {
        if (sp->durable[i - 1] <= step_count) {
            *ret_step_count = sp->durable[i - 1];
            return true;
        }
    }
    return false;
}

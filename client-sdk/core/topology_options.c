/* The topology of a session, and what may be shown to the server by it.
 *
 * Who says so is the caller, in the process that shows it: what a server states of a session that
 * is taken up, and what hashes to the same number, allows nothing. */
#include <string.h>

#include "core.h"
#include "try.h"

static const char *const topologies[] = {"u_shaped", "vanilla", "adapter_exchange"};
/* By what a topology shows: each more than the one before. */
static const char *const consents[] = {"none", "labels", "text"};
static const char *const shown[] = {"nothing", "labels", "text and labels"};
#define NAMES 3

/* The index of a name; NULL is the first. */
static seam_status name_find(uint32_t *ret_idx, const char *field, const char *name,
                             const char *const *names, seam_error *err) {
    for (uint32_t i = 0; i < NAMES; i++) {
        if (name == NULL || strcmp(name, names[i]) == 0) {
            *ret_idx = i;
            return SEAM_OK;
        }
    }
    return seam_error_set(err, SEAM_E_ARG, "%s: '%s' is not %s, %s or %s", field, name, names[0],
                          names[1], names[2]);
}

seam_status seam_config_topology_fill(seam_config_message *m, const seam_session_options *o,
                                      seam_error *err) {
    uint32_t topology = 0, consent = 0;
    SEAM_TRY(name_find(&topology, "topology", o->topology, topologies, err));
    SEAM_TRY(name_find(&consent, "consent", o->consent, consents, err));
    if (consent < topology) { /* before anything is sent */
        return seam_error_set(err, SEAM_E_ARG,
                              "consent: topology %s shows %s to the server; say '%s' if it may",
                              topologies[topology], shown[topology], consents[topology]);
    }
    m->config.topology = (Seam__V1__Topology)(topology + 1);
    m->config.consent = (Seam__V1__Consent)consent;
    m->config.resend_parameters = o->resend_parameters;
    return SEAM_OK;
}

static uint32_t topology_idx(const seam_session *session) {
    const uint32_t topology = session->config.codec.topology; /* 0 counts as the first */
    return topology >= 1 && topology <= NAMES ? topology - 1 : 0;
}

const char *seam_session_topology(const seam_session *session) {
    return session != NULL ? topologies[topology_idx(session)] : NULL;
}

seam_status seam_session_consent(seam_session *session, const char *consent, seam_error *err) {
    if (session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL");
    }
    return name_find(&session->consent, "consent", consent, consents, err);
}

seam_status seam_session_check_consent(const seam_session *session, seam_error *err) {
    const uint32_t idx = topology_idx(session);
    if (session->consent >= idx) {
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_DENIED,
                          "consent: topology %s shows %s to the server, and this process was told "
                          "'%s'",
                          topologies[idx], shown[idx], consents[session->consent]);
}

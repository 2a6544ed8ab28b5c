/* A session to ask questions of (eval, generate): that of a run, or a new one that holds the base
 * model or an imported adapter and goes away afterwards. */
#ifndef SEAM_USE_SESSION_H
#define SEAM_USE_SESSION_H

#include "cli.h"
#include "renewal.h"
#include "seam_model.h"
#include "tokenizer.h"

typedef struct seam_use_options {
    seam_common_options common;
    seam_server_options server;
    const char *model, *run, *adapter, *server_model, *codec, *device;
    uint32_t threads;
    bool f32;
} seam_use_options;
extern const seam_arg_spec seam_use_specs[]; /* of the fields from `model` on */

typedef struct seam_use {
    seam_tokenizer *tokenizer;
    seam_model *model;
    seam_client *client;
    seam_session *session;
    seam_trainer *trainer; /* of a run that trained on this end too: has that part; else NULL */
    bool temporary;        /* the session is deleted at the end */
    seam_renewal renewal;  /* of a temporary session */
    char model_id[128];    /* that its options name */
    bool base_model;       /* neither run nor adapter */
} seam_use;

/* What does not go together, before anything is loaded: SEAM_E_ARG (--run and --adapter). */
seam_status seam_use_check(const seam_use_options *options, seam_error *err);
/* What opening can give.  Close it in any case. */
seam_status seam_use_open(seam_use *ret_use, seam_use_options *options, seam_error *err);
void seam_use_close(seam_use *use);
/* Of a text of the session: the model's, less those of a prefix. */
uint32_t seam_use_positions(const seam_model *model, const seam_session *session);
/* The model of a session that is there, which must have the shape of this one.  SEAM_E_ARG, and the
 * errors of seam_session_info_get. */
seam_status seam_model_of_session(char ret_id[128], seam_client *client, seam_session *session,
                                  const seam_model *model, seam_error *err);
/* The server's model with this identity, or with this name if one is given; ret_id: 128 bytes.
 * SEAM_E_NOT_FOUND lists what the server has.  SEAM_E_ARG: the one with the name has another shape,
 * or several have this one (an identity says nothing of weights), so that a name is needed. */
seam_status seam_model_find(char ret_id[128], seam_client *client, const char *name,
                            const seam_model_facts *facts, seam_error *err);

#endif

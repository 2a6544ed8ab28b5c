/* How many micro-batches of a step a session has room for, where --pipeline-depth leaves it to us.
 * Part of train_run.c. */
#include <string.h>

#include "train_options.h"
#include "try.h"

#define DEPTH_NEAR 2     /* the server works on one while the client is at the head of another */
#define DEPTH_FAR  4     /* and others are on their way */
#define DEPTH_AFAR 8     /* which a tenth of a second holds more of */
#define RTT_FAR    0.005 /* seconds */
#define RTT_AFAR   0.1

seam_status seam_train_depth_choose(uint32_t *ret_depth, bool *ret_auto,
                                    const seam_train_options *options, seam_client *client,
                                    seam_error *err) {
    const seam_train_options *const o = options;
    const bool exact = o->gate_signal != NULL && strcmp(o->gate_signal, "exact") == 0;
    SEAM_TRY(seam_train_depth_read(ret_depth, o, err));
    *ret_auto = *ret_depth == 0;
    if (!*ret_auto) {
        return SEAM_OK;
    }
    seam_server_info info; /* the connection stands: this call takes a round trip */
    SEAM_TRY(seam_client_server_info(&info, client, err));
    /* The server keeps activations for all of it, used or not: no more than the distance wants. */
    const double rtt = seam_client_rtt_seconds(client);
    const uint32_t depth = rtt >= RTT_AFAR ? DEPTH_AFAR : rtt >= RTT_FAR ? DEPTH_FAR : DEPTH_NEAR;
    *ret_depth = exact || !o->elide_input_gradient ? 1 : depth;
    return SEAM_OK;
}

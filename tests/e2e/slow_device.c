/* seamd whose device takes its time: the linker puts these functions in front of the server's own
 * (link.cmake).  It sleeps, so that a machine of few cores can have a server that is as busy as a
 * wire; inside of what the server counts as its work, so that clients see a slow server.
 *
 *   SLOW_FORWARD_MS, SLOW_BACKWARD_MS  longer than the work itself, of each micro-batch
 *   SLOW_HOLD                          a forward waits while it exists, and makes SLOW_HOLD.held */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "blocks.h"

seam_status __real_seam_blocks_forward(const seam_blocks *blocks, seam_adapter *adapter,
                                       seam_activations *acts, seam_stream *stream, void *x,
                                       const seam_batch *batch);
seam_status __wrap_seam_blocks_forward(const seam_blocks *blocks, seam_adapter *adapter,
                                       seam_activations *acts, seam_stream *stream, void *x,
                                       const seam_batch *batch);
seam_status __real_seam_blocks_backward(const seam_blocks *blocks, seam_adapter *adapter,
                                        seam_activations *acts, seam_stream *stream, void *dx,
                                        const seam_batch *batch, bool skip_input_gradient);
seam_status __wrap_seam_blocks_backward(const seam_blocks *blocks, seam_adapter *adapter,
                                        seam_activations *acts, seam_stream *stream, void *dx,
                                        const seam_batch *batch, bool skip_input_gradient);

static void pause_for(double ms) {
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000.0),
                                   .tv_nsec = (long)(ms * 1e6) % 1000000000L};
    (void)nanosleep(&pause, NULL);
}

static double ms_of(const char *variable) {
    const char *text = getenv(variable);
    return text != NULL ? strtod(text, NULL) : 0.0;
}

static void say_held(const char *hold) {
    char name[PATH_MAX];
    (void)snprintf(name, sizeof(name), "%s.held", hold);
    FILE *file = fopen(name, "w");
    if (file == NULL || fclose(file) != 0) {
        abort(); /* a test would wait for it */
    }
}

seam_status __wrap_seam_blocks_forward(const seam_blocks *blocks, seam_adapter *adapter,
                                       seam_activations *acts, seam_stream *stream, void *x,
                                       const seam_batch *batch) {
    const char *hold = getenv("SLOW_HOLD");
    if (hold != NULL && access(hold, F_OK) == 0) {
        say_held(hold);
    }
    while (hold != NULL && access(hold, F_OK) == 0) {
        pause_for(5.0);
    }
    pause_for(ms_of("SLOW_FORWARD_MS"));
    return __real_seam_blocks_forward(blocks, adapter, acts, stream, x, batch);
}

seam_status __wrap_seam_blocks_backward(const seam_blocks *blocks, seam_adapter *adapter,
                                        seam_activations *acts, seam_stream *stream, void *dx,
                                        const seam_batch *batch, bool skip_input_gradient) {
    pause_for(ms_of("SLOW_BACKWARD_MS"));
    return __real_seam_blocks_backward(blocks, adapter, acts, stream, dx, batch,
                                       skip_input_gradient);
}

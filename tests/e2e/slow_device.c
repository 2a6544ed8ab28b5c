/* seamd whose device takes its time: the linker puts these functions in front of the server's own
 * (link.cmake).  It sleeps, so that a machine of few cores can have a server that is as busy as a
 * wire.
 *
 *   SLOW_FORWARD_MS, SLOW_BACKWARD_MS  longer than the work itself, of each micro-batch */
#include <stdlib.h>
#include <time.h>

#include "trainer.h"

seam_status __real_seam_trainer_forward(seam_trainer *trainer, seam_stream *stream,
                                        seam_error *err) SEAM_ON_GPU;
seam_status __wrap_seam_trainer_forward(seam_trainer *trainer, seam_stream *stream,
                                        seam_error *err) SEAM_ON_GPU;
seam_status __real_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) SEAM_ON_GPU;
seam_status __wrap_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) SEAM_ON_GPU;

static void pause_for(const char *variable) {
    const char *text = getenv(variable);
    const double ms = text != NULL ? strtod(text, NULL) : 0.0;
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000.0),
                                   .tv_nsec = (long)(ms * 1e6) % 1000000000L};
    (void)nanosleep(&pause, NULL);
}

seam_status __wrap_seam_trainer_forward(seam_trainer *trainer, seam_stream *stream,
                                        seam_error *err) {
    pause_for("SLOW_FORWARD_MS");
    return __real_seam_trainer_forward(trainer, stream, err);
}

seam_status __wrap_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) {
    pause_for("SLOW_BACKWARD_MS");
    return __real_seam_trainer_backward(ret_result, trainer, stream, err);
}

/* seamd whose device fails, or that makes no checkpoint by itself: the linker puts these functions
 * in front of the server's own (service.cmake), so that the server is built as it is.
 *
 *   FAULT_BACKWARD=N  the Nth backward, from 0, and every later one, find a device that is lost
 *   FAULT_CREATE=N    the Nth session finds no memory when its own is taken, after admission
 *   FAULT_LOG=N       the Nth record of a redo log finds no room on the disk, the next one does
 *   FAULT_CADENCE     whatever its value: no checkpoint between those of a session's creation, of a
 *                     SaveCheckpoint and of parking, however long a busy machine takes for a step
 */
#include <stdlib.h>

#include "arena.h"
#include "redo_log.h"
#include "session.h"
#include "session_disk.h"
#include "trainer.h"

seam_status __real_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) SEAM_ON_GPU;
seam_status __wrap_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) SEAM_ON_GPU;
seam_status __real_seam_trainer_create(seam_trainer **ret_trainer,
                                       const seam_session_config *config, seam_stream *stream,
                                       seam_error *err) SEAM_ON_GPU;
seam_status __wrap_seam_trainer_create(seam_trainer **ret_trainer,
                                       const seam_session_config *config, seam_stream *stream,
                                       seam_error *err) SEAM_ON_GPU;
const char *__wrap_seam_backend_fault(const seam_backend *backend);
seam_status __real_seam_redo_log_add(seam_redo_log *log, const seam_redo_record *record,
                                     seam_error *err);
seam_status __wrap_seam_redo_log_add(seam_redo_log *log, const seam_redo_record *record,
                                     seam_error *err);
bool __real_seam_session_image_is_due(const seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;
bool __wrap_seam_session_image_is_due(const seam_session *session, uint64_t now_ms) SEAM_ON_LOOP;

/* Has the variable's count of calls gone by?  Engine thread alone. */
static bool is_due(const char *variable, long *calls) {
    const char *text = getenv(variable);
    const long call = (*calls)++;
    return text != NULL && call >= strtol(text, NULL, 10);
}

seam_status __wrap_seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                         seam_stream *stream, seam_error *err) {
    static long calls;
    return is_due("FAULT_BACKWARD", &calls)
               ? SEAM_E_DEVICE_LOST
               : __real_seam_trainer_backward(ret_result, trainer, stream, err);
}

seam_status __wrap_seam_trainer_create(seam_trainer **ret_trainer,
                                       const seam_session_config *config, seam_stream *stream,
                                       seam_error *err) {
    static long calls;
    seam_mem_fail_after(is_due("FAULT_CREATE", &calls) ? 3 : -1);
    const seam_status st = __real_seam_trainer_create(ret_trainer, config, stream, err);
    seam_mem_fail_after(-1);
    return st;
}

seam_status __wrap_seam_redo_log_add(seam_redo_log *log, const seam_redo_record *record,
                                     seam_error *err) {
    static long calls;
    const char *text = getenv("FAULT_LOG");
    const long call = calls++;
    return text != NULL && call == strtol(text, NULL, 10)
               ? seam_error_set(err, SEAM_E_IO, "caches: No space left on device")
               : __real_seam_redo_log_add(log, record, err);
}

bool __wrap_seam_session_image_is_due(const seam_session *session, uint64_t now_ms) {
    const bool asked = getenv("FAULT_CADENCE") == NULL || session->disk.save_call_count > 0;
    return asked && __real_seam_session_image_is_due(session, now_ms);
}

const char *__wrap_seam_backend_fault(const seam_backend *backend) {
    (void)backend;
    return "kernels/cuda/cuda_linear.cu:7: an illegal memory access was encountered";
}

/* Whole steps of the fixture's session, and the state that they leave: what the tests of gates that
 * the server has for itself share.  For test programs only. */
#ifndef SEAM_TEST_STEPS_FIXTURE_H
#define SEAM_TEST_STEPS_FIXTURE_H

#include <stdio.h>

#include "trainer_fixture.h"
#include "trainer_internal.h"
#include "trainer_state.h"

enum { STATE_BYTES = 1 << 20 };

/* Tells why it is not; a device that is here and fails is a failed test. */
static inline bool device_is_here(const char *device) {
    const seam_backend_options options = {.device = device};
    seam_backend *backend = NULL;
    seam_error err = {0};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED) {
        (void)printf("skipped: %s\n", err.text);
        return false;
    }
    seam_test_check(st, device, &err);
    seam_backend_destroy(backend);
    return true;
}

/* A whole step of two micro-batches.  The fixture's forward passes have step number 0, which makes
 * no difference to them; the step's end gets its own. */
SEAM_ON_GPU static inline seam_step_result
step_run(fixture *f, seam_trainer *trainer, const seam_session_config *config, uint64_t step) {
    pass p = pass_new();
    float *x = values_new(step % 2 == 0 ? "x" : "z", 0.5f), *g = values_new("g", 0.02f);
    const bool ahead = config->pipeline_depth > 1;
    for (uint32_t micro = 0; micro < 2 && ahead; micro++) { /* both forwards first */
        run_forward(&p, f, trainer, config, micro == 0 ? x : g, micro, 2);
    }
    for (uint32_t micro = 0; micro < 2; micro++) {
        if (!ahead) {
            run_forward(&p, f, trainer, config, micro == 0 ? x : g, micro, 2);
        }
        seam_trainer_select(trainer, micro, 0);
        seam_trainer_micro(trainer)->step = step;
        run_backward(&p, f, trainer, config, g, micro);
    }
    pass_free(&p);
    test_free(x);
    test_free(g);
    return p.result;
}

typedef struct image {
    uint8_t *bytes;
    size_t count;
} image;

SEAM_ON_GPU static inline image image_of(const fixture *f, seam_trainer *trainer) {
    image ret = {.bytes = test_calloc(1, STATE_BYTES)};
    size_t planned = 0;
    const seam_trainer_mark mark = {.step_count = 3};
    seam_error err = {0};
    assert_int_equal(seam_trainer_state_bytes_max(&planned, trainer->config), SEAM_OK);
    assert_true(planned <= STATE_BYTES);
    assert_int_equal(seam_trainer_state_save(ret.bytes, &ret.count, planned, trainer, &mark,
                                             f->engine.stream, &err),
                     SEAM_OK);
    return ret;
}

/* What `steps` steps leave; with a load, from half of them on in another trainer. */
SEAM_ON_GPU static inline image steps_image(fixture *f, const seam_session_config *config,
                                            uint32_t steps, bool reload) {
    seam_trainer *trainer = trainer_open(f, config);
    for (uint32_t i = 0; i < steps; i++) {
        if (reload && i == steps / 2) {
            image half = image_of(f, trainer);
            seam_trainer_mark mark = {0};
            seam_error err = {0};
            seam_trainer_destroy(trainer);
            trainer = trainer_open(f, config);
            seam_test_check(seam_trainer_state_load(trainer, &mark, half.bytes, half.count,
                                                    f->engine.stream, &err),
                            "load", &err);
            test_free(half.bytes);
        }
        const seam_step_result result = step_run(f, trainer, config, i);
        assert_true(!result.skipped);
    }
    const image ret = image_of(f, trainer);
    seam_trainer_destroy(trainer);
    return ret;
}

static inline void same_image(image found, const image *expected) {
    assert_int_equal(found.count, expected->count);
    assert_memory_equal(found.bytes, expected->bytes, expected->count);
    test_free(found.bytes);
}

#endif

/* Fine-tuning from an edge device with libseam alone: this program holds a toy "model" (a random
 * embedding, and a squared-error head towards random targets), the Seam server the real blocks.
 *
 *   cc edge_train.c $(pkg-config --cflags --libs seam) -o edge_train
 *   ./edge_train 127.0.0.1:50051 20 adapter-out */
#include <seam.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS 64 /* two sequences of 32 tokens; every row is labelled */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != SEAM_OK) {                                                                   \
            fprintf(stderr, "edge_train: %s\n", err.text);                                         \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static float *random_values(size_t count, float scale) {
    float *const values = malloc(count * sizeof *values);
    for (size_t i = 0; values != NULL && i < count; i++) {
        values[i] = scale * ((float)(random() % 2001) / 1000.0f - 1.0f);
    }
    return values != NULL ? values : (exit(1), NULL);
}

int main(int argc, char **argv) {
    static const uint32_t sequence_rows[] = {ROWS / 2, ROWS / 2};
    static const uint8_t all_labelled[ROWS / 8] = {255, 255, 255, 255, 255, 255, 255, 255};
    const seam_step_micro micro = {
        .sequence_count = 2, .sequence_rows = sequence_rows, .labelled_rows = all_labelled};
    seam_client_options where = SEAM_CLIENT_OPTIONS_INIT;
    seam_session_options what = SEAM_SESSION_OPTIONS_INIT;
    seam_error err = {SEAM_OK, ""};
    seam_client *client = NULL;
    seam_session *session = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: edge_train HOST:PORT STEPS ADAPTER_DIR\n");
        return 2;
    }
    where.address = argv[1];
    where.plaintext = true; /* accepted on the loopback only; elsewhere give ca_file */
    what.codec = "amaq";    /* 8 bits at the start, 4 at the end */
    what.lr = 1e-3f;
    what.rows_per_micro_max = ROWS;
    TRY(seam_client_open(&client, &where, &err));
    TRY(seam_session_create(&session, client, &what, &err));
    const size_t values = (size_t)ROWS * seam_session_channels(session);
    float *const x = random_values(values, 1.0f), *const target = random_values(values, 0.5f);
    float *const y = random_values(values, 0.0f);
    for (long step = 0; step < strtol(argv[2], NULL, 10); step++) {
        seam_step_report report = SEAM_STEP_REPORT_INIT;
        double loss = 0.0;
        TRY(seam_step_begin(session, &micro, 1, &err));
        TRY(seam_step_forward(session, y, 0, x, &err)); /* embeddings go, features come */
        for (size_t i = 0; i < values; i++) {           /* y becomes d(loss)/dy */
            y[i] = (y[i] - target[i]) / ROWS;
            loss += 0.5 * ROWS * (double)(y[i] * y[i]);
        }
        TRY(seam_step_backward(session, NULL, 0, y, &err));
        TRY(seam_step_commit(session, &report, &err));
        printf("step %ld  loss %.4f  gates %.2f bits  %llu bytes\n", step, loss,
               report.gate_mean_bits,
               (unsigned long long)(report.bytes_sent + report.bytes_received));
    }
    TRY(seam_session_export(session, argv[3], NULL, &err)); /* a PEFT adapter */
    TRY(seam_session_delete(session, &err));
    seam_client_close(client);
    free(y);
    free(target);
    free(x);
    return 0;
}

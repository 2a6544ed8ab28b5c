/* The C client on given tokens: test_python_client.py and test_python_stateful.py compare the
 * Python client with it.
 *
 *   train_tokens ADDRESS MODEL_DIR MODEL_ID SEED STEPS_FILE [CODEC[/FWD_IN] CACHE_BITS]
 *
 * STEPS_FILE, little-endian u32: step count; for each step: micro count; for each micro-batch:
 * sequence count, rows of each sequence, T ids, T labels (0 or 1), and with a CODEC the sample id
 * of each sequence.  CACHE_BITS: of codec aqsgd, 0: fp16.  Prints one line a step: step, loss, mean
 * bits of the gates, state hash.  The session's settings are those of test_python_client.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seam.h"
#include "seam_model.h"

enum { ROWS_MAX = 512, SEQUENCES_MAX = 16, MICROS_MAX = 2 };

typedef struct micro_data {
    uint32_t sequence_rows[SEQUENCES_MAX];
    uint32_t ids[ROWS_MAX], targets[ROWS_MAX];
    uint8_t bitmap[ROWS_MAX / 8];
    uint64_t sample_ids[SEQUENCES_MAX];
} micro_data;

static uint32_t read_u32(FILE *file) {
    uint8_t bytes[4] = {0};
    if (fread(bytes, 1, sizeof bytes, file) != sizeof bytes) {
        (void)fprintf(stderr, "train_tokens: the steps file is too short\n");
        exit(2);
    }
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint32_t read_count(FILE *file, uint32_t max) {
    const uint32_t count = read_u32(file);
    if (count < 1 || count > max) {
        (void)fprintf(stderr, "train_tokens: count %u is not in 1..%u\n", count, max);
        exit(2);
    }
    return count;
}

static seam_token_batch read_micro(micro_data *ret, FILE *file, bool sample_ids) {
    memset(ret, 0, sizeof *ret);
    seam_token_batch batch = {.sequence_count = read_count(file, SEQUENCES_MAX),
                              .sequence_rows = ret->sequence_rows,
                              .ids = ret->ids,
                              .labelled_rows = ret->bitmap,
                              .targets = ret->targets};
    uint32_t rows = 0;
    for (uint32_t i = 0; i < batch.sequence_count; i++) {
        ret->sequence_rows[i] = read_count(file, ROWS_MAX - rows);
        rows += ret->sequence_rows[i];
    }
    for (uint32_t t = 0; t < rows; t++) {
        ret->ids[t] = read_u32(file);
    }
    uint32_t labelled = 0;
    for (uint32_t t = 0; t < rows; t++) {
        if (read_u32(file) != 0 && t + 1 < rows) {
            ret->bitmap[t / 8] |= (uint8_t)(1u << t % 8);
            ret->targets[labelled++] = ret->ids[t + 1];
        }
    }
    for (uint32_t i = 0; sample_ids && i < batch.sequence_count; i++) {
        ret->sample_ids[i] = read_u32(file);
        batch.sample_ids = ret->sample_ids;
    }
    return batch;
}

static seam_status session_open(seam_session **ret_session, seam_client *client,
                                const seam_model *model, char **argv, seam_error *err) {
    seam_model_facts facts;
    seam_session_options options = SEAM_SESSION_OPTIONS_INIT;
    seam_model_describe(&facts, model);
    options.model = argv[3];
    if (argv[6] != NULL) {
        char *fwd_in = argv[6];
        options.codec = strsep(&fwd_in, "/");
        options.codec_fwd_in = fwd_in;
        options.cache_bytes_max = 1 << 20;
        options.cache_bits = (uint32_t)strtoul(argv[7], NULL, 10);
        options.cache_format = options.cache_bits != 0 ? "quantized" : "fp16";
    }
    options.model_identity = facts.identity;
    options.seed = strtoull(argv[4], NULL, 10);
    options.lora_rank = 4;
    options.lora_alpha = 8.0f;
    options.lr = 1e-3f;
    options.rows_per_micro_max = ROWS_MAX;
    options.sequences_per_micro_max = SEQUENCES_MAX;
    options.micros_per_step_max = MICROS_MAX;
    return seam_session_create(ret_session, client, &options, err);
}

static seam_status train(seam_session *session, seam_model *model, FILE *file, bool sample_ids,
                         seam_error *err) {
    static micro_data data[MICROS_MAX];
    seam_trainer *trainer = NULL;
    seam_status st = seam_trainer_create(&trainer, session, model, err);
    const uint32_t steps = read_u32(file);
    for (uint32_t step = 0; step < steps && st == SEAM_OK; step++) {
        seam_token_batch micros[MICROS_MAX];
        seam_train_report report = SEAM_TRAIN_REPORT_INIT;
        const uint32_t count = read_count(file, MICROS_MAX);
        for (uint32_t m = 0; m < count; m++) {
            micros[m] = read_micro(&data[m], file, sample_ids);
        }
        st = seam_trainer_step(trainer, micros, count, &report, err);
        if (st == SEAM_OK) {
            (void)printf("%u %.9f %.6f %016llx\n", step, report.loss, report.step.gate_mean_bits,
                         (unsigned long long)report.step.state_hash);
        }
    }
    seam_trainer_destroy(trainer);
    return st;
}

int main(int argc, char **argv) {
    if (argc != 6 && argc != 8) {
        (void)fprintf(stderr, "usage: train_tokens ADDRESS MODEL_DIR MODEL_ID SEED STEPS_FILE "
                              "[CODEC[/FWD_IN] CACHE_BITS]\n");
        return 2;
    }
    seam_client *client = NULL;
    seam_model *model = NULL;
    seam_session *session = NULL;
    seam_error err = {0};
    seam_client_options client_options = SEAM_CLIENT_OPTIONS_INIT;
    client_options.address = argv[1];
    client_options.plaintext = true;
    seam_model_options model_options = SEAM_MODEL_OPTIONS_INIT;
    model_options.path = argv[2];
    model_options.threads = 1;
    model_options.f32 = true;
    FILE *const file = fopen(argv[5], "rb");
    if (file == NULL) {
        perror(argv[5]);
        return 2;
    }
    seam_status st = seam_client_open(&client, &client_options, &err);
    st = st == SEAM_OK ? seam_model_open(&model, &model_options, &err) : st;
    st = st == SEAM_OK ? session_open(&session, client, model, argv, &err) : st;
    st = st == SEAM_OK ? train(session, model, file, argc == 8, &err) : st;
    seam_session_close(session);
    seam_model_close(model);
    seam_client_close(client);
    (void)fclose(file);
    if (st != SEAM_OK) {
        (void)fprintf(stderr, "train_tokens: %s\n", err.text);
    }
    return st != SEAM_OK;
}

/* seam_model_generate of given prompts, for test_families.py: tokens in, tokens out, codec f32.
 *
 *   generate_tokens ADDRESS MODEL_DIR MODEL_ID TARGETS ROWS_MAX NEW_TOKENS ID...
 *
 * Each ID is a prompt of one token; as many slots less one as there are prompts, so that one prompt
 * waits for a slot.  TARGETS: of LoRA, bits of SEAM_TARGET_...  Prints a line a prompt: its tokens.
 * Exit code 3 and the error's text on stdout where a call refuses. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "seam.h"
#include "seam_model.h"

enum { PROMPTS_MAX = 8, TOKENS_MAX = 256 };

typedef struct texts {
    uint32_t ids[PROMPTS_MAX][TOKENS_MAX];
    uint32_t count[PROMPTS_MAX];
} texts;

static void check(bool holds, const seam_error *err) {
    if (!holds) {
        (void)printf("%s\n", err->text);
        exit(3);
    }
}

static void token_take(void *user, uint32_t prompt_idx, const uint32_t *tokens,
                       uint32_t token_count, bool last) {
    texts *const t = user;
    (void)last;
    for (uint32_t i = 0; i < token_count && t->count[prompt_idx] < TOKENS_MAX; i++) {
        t->ids[prompt_idx][t->count[prompt_idx]++] = tokens[i];
    }
}

/* Options that are no numbers, or too little: said before anything is asked of the server. */
static bool bad_options_are_refused(seam_model *model, seam_inference *inference,
                                    const seam_prompt *prompt) {
    enum { BAD = 6 };
    seam_generation_options bad[BAD];
    texts none = {.count = {0}};
    bool refused = true;
    for (int i = 0; i < BAD; i++) {
        bad[i] = (seam_generation_options)SEAM_GENERATION_OPTIONS_INIT;
    }
    bad[0].new_tokens_max = 0;
    bad[1].temperature = NAN;
    bad[2].temperature = -1.0f;
    bad[3].top_p = NAN;
    bad[4].top_p = 1.5f;
    bad[5].stop_count = 1;
    for (int i = 0; i < BAD; i++) {
        refused = refused && seam_model_generate(model, inference, prompt, 1, &bad[i], token_take,
                                                 &none, NULL) == SEAM_E_ARG;
    }
    return refused && none.count[0] == 0;
}

static uint32_t number(const char *text) {
    return (uint32_t)strtoul(text, NULL, 0);
}

int main(int argc, char **argv) {
    if (argc < 9 || argc > 7 + PROMPTS_MAX) {
        (void)fprintf(stderr, "usage: see the head of generate_tokens.c\n");
        return 2;
    }
    seam_client *client = NULL;
    seam_model *model = NULL;
    seam_session *session = NULL;
    seam_inference *inference = NULL;
    seam_error err = {0};
    static texts results;
    uint32_t ids[PROMPTS_MAX];
    seam_prompt prompts[PROMPTS_MAX];
    const uint32_t count = (uint32_t)(argc - 7);
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = number(argv[7 + i]);
        prompts[i] = (seam_prompt){.ids = &ids[i], .count = 1};
    }
    seam_client_options client_options = SEAM_CLIENT_OPTIONS_INIT;
    client_options.address = argv[1];
    client_options.plaintext = true;
    seam_model_options model_options = SEAM_MODEL_OPTIONS_INIT;
    model_options.path = argv[2];
    model_options.threads = 1;
    model_options.f32 = true;
    seam_session_options session_options = SEAM_SESSION_OPTIONS_INIT;
    session_options.model = argv[3];
    session_options.codec = "f32";
    session_options.lora_targets = number(argv[4]);
    session_options.rows_per_micro_max = 64;
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    options.kind = SEAM_INFERENCE_GENERATE;
    options.base_model = true;
    options.slot_count = count - 1;
    options.rows_max = number(argv[5]);
    options.positions_max = TOKENS_MAX;
    seam_generation_options generation = SEAM_GENERATION_OPTIONS_INIT;
    generation.new_tokens_max = number(argv[6]);
    check(seam_client_open(&client, &client_options, &err) == SEAM_OK, &err);
    check(seam_model_open(&model, &model_options, &err) == SEAM_OK, &err);
    seam_model_facts facts;
    seam_model_describe(&facts, model);
    session_options.model_identity = facts.identity;
    check(seam_session_create(&session, client, &session_options, &err) == SEAM_OK, &err);
    check(seam_inference_open(&inference, session, &options, &err) == SEAM_OK, &err);
    if (!bad_options_are_refused(model, inference, prompts)) {
        (void)fprintf(stderr, "generate_tokens: bad options were taken\n");
        return 1;
    }
    check(seam_model_generate(model, inference, prompts, count, &generation, token_take, &results,
                              &err) == SEAM_OK,
          &err);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < results.count[i]; k++) {
            (void)printf("%u ", results.ids[i][k]);
        }
        (void)printf("\n");
    }
    seam_inference_close(inference);
    check(seam_session_delete(session, &err) == SEAM_OK, &err);
    seam_model_close(model);
    seam_client_close(client);
    return 0;
}

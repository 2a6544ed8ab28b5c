/* `seam generate`: continues one prompt, printing tokens as they come. */
#include <stdio.h>
#include <string.h>

#include "chat.h"
#include "sampling.h"
#include "try.h"
#include "use_session.h"

#define NEW_TOKENS_DEFAULT 128u

typedef struct generate_options {
    seam_use_options use;
    const char *prompt;
    uint32_t new_tokens;
    seam_sampling sampling;
    bool chat;
} generate_options;

static const seam_arg_spec generate_specs[] = {
    {"prompt", SEAM_ARG_TEXT, offsetof(generate_options, prompt), "TEXT",
     "the text to continue (or as the only argument)"},
    {"chat", SEAM_ARG_FLAG, offsetof(generate_options, chat), NULL,
     "the prompt is a user's message: use the model's chat template"},
    {"new-tokens", SEAM_ARG_COUNT, offsetof(generate_options, new_tokens), "N",
     "longest continuation [128]"},
    SEAM_OPTION_TEMPERATURE(generate_options, "[0]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

typedef struct continuation {
    const seam_tokenizer *tokenizer;
    bool stream; /* print as it comes */
    seam_ids ids;
    seam_status st;
} continuation;

static void token_visit(void *user, uint32_t prompt_idx, const uint32_t *tokens,
                        uint32_t token_count, bool last) {
    (void)prompt_idx;
    (void)last;
    continuation *const c = user;
    for (uint32_t i = 0; c->st == SEAM_OK && i < token_count; i++) {
        size_t bytes = 0;
        const char *const text = seam_tokenizer_token(&bytes, c->tokenizer, tokens[i]);
        if (text == NULL) {
            continue; /* an id that only pads the vocabulary */
        }
        c->st = seam_ids_append(&c->ids, &tokens[i], 1);
        if (c->stream) {
            fwrite(text, 1, bytes, stdout);
            fflush(stdout);
        }
    }
}

static seam_status prompt_encode(seam_ids *ids, const generate_options *o,
                                 const seam_tokenizer *tokenizer, seam_error *err) {
    size_t prefix_count = 0;
    const uint32_t *const prefix = seam_tokenizer_prefix(&prefix_count, tokenizer);
    if (!o->chat) {
        if (seam_ids_append(ids, prefix, prefix_count) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
        return seam_tokenizer_encode(ids, tokenizer, o->prompt, strlen(o->prompt),
                                     SEAM_SPECIAL_PARSE, err);
    }
    seam_chat chat;
    SEAM_TRY(seam_chat_detect(&chat, tokenizer, err));
    const seam_chat_message message = {
        .role = "user", .content = o->prompt, .content_bytes = strlen(o->prompt)};
    return seam_chat_encode(ids, NULL, &chat, tokenizer, &message, 1, true, err);
}

static seam_status run(const generate_options *o, const seam_use *use, const seam_ids *prompt,
                       continuation *c, seam_error *err) {
    const uint32_t positions = seam_use_positions(use->model, use->session);
    if (prompt->count >= positions) {
        return seam_error_set(err, SEAM_E_ARG, "the prompt has %zu tokens; the context has %u",
                              prompt->count, positions);
    }
    const uint32_t new_tokens = o->new_tokens != 0 ? o->new_tokens : NEW_TOKENS_DEFAULT;
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    options.kind = SEAM_INFERENCE_GENERATE;
    options.codec = o->use.codec;
    options.base_model = use->base_model;
    options.slot_count = 1;
    options.rows_max = (uint32_t)prompt->count + 1;
    options.positions_max = seam_sampling_positions(prompt->count, new_tokens, positions);
    uint32_t stop_ids[SEAM_STOP_IDS_MAX];
    seam_generation_options generation;
    seam_sampling_generation(&generation, stop_ids, &o->sampling, use->tokenizer, new_tokens);
    seam_inference *inference = NULL;
    SEAM_TRY(seam_inference_open(&inference, use->session, &options, err));
    const seam_prompt prompts[] = {{.ids = prompt->ids, .count = (uint32_t)prompt->count}};
    const seam_status st =
        seam_model_generate(use->model, inference, prompts, 1, &generation, token_visit, c, err);
    seam_inference_close(inference);
    SEAM_TRY(st);
    return c->st == SEAM_OK ? SEAM_OK : seam_error_set(err, c->st, "out of memory");
}

static seam_status generate(const generate_options *o, const seam_use *use, seam_error *err) {
    continuation c = {.tokenizer = use->tokenizer, .stream = !o->use.common.json};
    seam_ids prompt = {.count = 0};
    seam_text text = {.count = 0};
    seam_status st = prompt_encode(&prompt, o, use->tokenizer, err);
    if (st == SEAM_OK && prompt.count == 0) {
        st = seam_error_set(err, SEAM_E_ARG, "the prompt is empty");
    }
    if (st == SEAM_OK) {
        st = run(o, use, &prompt, &c, err);
    }
    if (st == SEAM_OK && c.stream) {
        printf("\n");
    } else if (st == SEAM_OK) {
        st = seam_tokenizer_decode(&text, use->tokenizer, c.ids.ids, c.ids.count, SEAM_DECODE_REPLY,
                                   err);
        if (st == SEAM_OK) {
            json_t *const value =
                json_pack("{s:s,s:s%,s:i,s:i}", "prompt", o->prompt, "text",
                          text.bytes != NULL ? text.bytes : "", text.count, "prompt_tokens",
                          (int)prompt.count, "new_tokens", (int)c.ids.count);
            seam_cli_print_json(value);
            json_decref(value);
        }
    }
    seam_text_deinit(&text);
    seam_ids_deinit(&prompt);
    seam_ids_deinit(&c.ids);
    return st;
}

int seam_cmd_generate(int argc, char **argv, int first) {
    generate_options o = {.sampling = SEAM_SAMPLING_INIT};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.use.common},
                                     {seam_server_specs, &o.use.server},
                                     {seam_use_specs, &o.use},
                                     {generate_specs, &o},
                                     {seam_sampling_specs, &o.sampling}};
    uint32_t count = 0;
    const char *positional[1];
    seam_status st = seam_args_parse(&count, positional, 1, tables, 5, argc, argv, first, &err);
    if (st == SEAM_OK && o.use.common.help) {
        printf("usage: seam generate --model PATH [--run DIR | --adapter DIR] PROMPT\n\n");
        seam_args_help(generate_specs);
        seam_args_help(seam_sampling_specs);
        seam_args_help(seam_use_specs);
        seam_args_help(seam_server_specs);
        seam_args_help(seam_common_specs);
        return SEAM_EXIT_OK;
    }
    o.prompt = count == 1 ? positional[0] : o.prompt;
    if (st == SEAM_OK && (o.use.model == NULL || o.prompt == NULL)) {
        st = seam_error_set(&err, SEAM_E_ARG, "--model and a prompt are needed");
    }
    if (st == SEAM_OK) {
        st = seam_use_check(&o.use, &err);
    }
    if (st == SEAM_OK) {
        st = seam_sampling_settle(&o.sampling, 0.0f, &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "generate");
    }
    seam_use use;
    st = seam_use_open(&use, &o.use, &err);
    if (st == SEAM_OK) {
        st = generate(&o, &use, &err);
    }
    seam_use_close(&use);
    return seam_cli_finish(st, &err, &o.use.common);
}

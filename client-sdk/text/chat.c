/* The ChatML family; see chat.h. */
#include "chat.h"

#include <string.h>

#include "try.h"

/* System messages that templates of the family put in front; found in the template's own text. */
static const char *const DEFAULT_SYSTEMS[] = {
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
};

/* Parts of templates that render otherwise than this file does. */
static const char *const FOREIGN[] = {"<think>", "reasoning_content", "| trim", "|trim", ".strip("};

seam_status seam_chat_detect(seam_chat *ret_chat, const seam_tokenizer *tokenizer,
                             seam_error *err) {
    const char *text = seam_tokenizer_chat_template(tokenizer);
    seam_chat chat = {0};
    if (text == NULL) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "the model has no chat template");
    }
    if (strstr(text, "<|im_start|>") == NULL || strstr(text, "<|im_end|>") == NULL ||
        !seam_tokenizer_find_added(&chat.start_id, tokenizer, "<|im_start|>") ||
        !seam_tokenizer_find_added(&chat.end_id, tokenizer, "<|im_end|>")) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "the model's chat template (\"%.40s...\") is not ChatML", text);
    }
    for (size_t i = 0; i < sizeof(FOREIGN) / sizeof(FOREIGN[0]); i++) {
        if (strstr(text, FOREIGN[i]) != NULL) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "the model's chat template uses %s, which is not supported",
                                  FOREIGN[i]);
        }
    }
    for (size_t i = 0; i < sizeof(DEFAULT_SYSTEMS) / sizeof(DEFAULT_SYSTEMS[0]); i++) {
        if (chat.default_system == NULL && strstr(text, DEFAULT_SYSTEMS[i]) != NULL) {
            chat.default_system = DEFAULT_SYSTEMS[i];
        }
    }
    if (chat.default_system == NULL && strstr(text, "<|im_start|>system") != NULL) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "the model's chat template has a default system message that is not "
                              "known");
    }
    *ret_chat = chat;
    return SEAM_OK;
}

typedef struct writer {
    seam_ids *ids;
    seam_text *is_reply;
    const seam_chat *chat;
    const seam_tokenizer *tokenizer;
    seam_error *err;
} writer;

/* Marks every id that has no mark yet. */
static seam_status mark(const writer *w, size_t begin, char value) {
    while (w->is_reply != NULL && begin < w->ids->count) {
        SEAM_TRY(seam_text_append(w->is_reply, &value, 1));
        begin++;
    }
    return SEAM_OK;
}

static seam_status id_put(const writer *w, uint32_t id, char value) {
    const size_t begin = w->ids->count;
    SEAM_TRY(seam_ids_append(w->ids, &id, 1));
    return mark(w, begin, value);
}

static seam_status text_put(const writer *w, const seam_text *text, char value) {
    const size_t begin = w->ids->count;
    SEAM_TRY(seam_tokenizer_encode(w->ids, w->tokenizer, text->count == 0 ? "" : text->bytes,
                                   text->count, SEAM_SPECIAL_PARSE, w->err));
    return mark(w, begin, value);
}

static seam_status head_put(const writer *w, const char *role, const char *content,
                            size_t content_bytes) {
    seam_text text = {0};
    seam_status st = SEAM_OK;
    SEAM_TRY_GOTO(seam_text_append_string(&text, role), st, done);
    SEAM_TRY_GOTO(seam_text_append_string(&text, "\n"), st, done);
    SEAM_TRY_GOTO(seam_text_append(&text, content, content_bytes), st, done);
    SEAM_TRY_GOTO(id_put(w, w->chat->start_id, 0), st, done);
    st = text_put(w, &text, 0);
done:
    seam_text_deinit(&text);
    return st;
}

static seam_status message_put(const writer *w, const seam_chat_message *m) {
    static const char NEWLINE[] = "\n";
    const seam_text newline = {.bytes = (char *)(uintptr_t)NEWLINE, .count = 1}; /* only read */
    const bool is_assistant = strcmp(m->role, "assistant") == 0;
    if (!is_assistant && strcmp(m->role, "user") != 0 && strcmp(m->role, "system") != 0) {
        return seam_error_set(w->err, SEAM_E_ARG, "role \"%.40s\" is not supported", m->role);
    }
    if (is_assistant) {
        const seam_text content = {.bytes = (char *)(uintptr_t)m->content, /* only read */
                                   .count = m->content_bytes};
        SEAM_TRY(head_put(w, m->role, "", 0));
        SEAM_TRY(text_put(w, &content, 1));
    } else {
        SEAM_TRY(head_put(w, m->role, m->content, m->content_bytes));
    }
    SEAM_TRY(id_put(w, w->chat->end_id, is_assistant ? 1 : 0));
    return text_put(w, &newline, 0);
}

static seam_status messages_put(const writer *w, const seam_chat_message *messages,
                                size_t message_count, bool opens_reply) {
    const char *system = w->chat->default_system;
    if (message_count > 0 && strcmp(messages[0].role, "system") != 0 && system != NULL) {
        const seam_chat_message first = {"system", system, strlen(system)};
        SEAM_TRY(message_put(w, &first));
    }
    for (size_t i = 0; i < message_count; i++) {
        SEAM_TRY(message_put(w, &messages[i]));
    }
    return opens_reply ? head_put(w, "assistant", "", 0) : SEAM_OK;
}

seam_status seam_chat_encode(seam_ids *ids, seam_text *is_reply, const seam_chat *chat,
                             const seam_tokenizer *tokenizer, const seam_chat_message *messages,
                             size_t message_count, bool opens_reply, seam_error *err) {
    const writer w = {ids, is_reply, chat, tokenizer, err};
    const seam_status st = messages_put(&w, messages, message_count, opens_reply);
    return st == SEAM_E_MEMORY ? seam_error_set(err, st, "no memory for a conversation") : st;
}

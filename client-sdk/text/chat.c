/* Rendering of a conversation; see chat.h.  Which template is which: chat_detect.c. */
#include "chat.h"

#include <string.h>

#include "arena.h"
#include "try.h"

/* What stands around the parts of a message. */
typedef struct frame {
    const char *head, *after_role, *end, *after_end;
} frame;

static const frame FRAMES[] = {
    [SEAM_CHAT_CHATML] = {"<|im_start|>", "\n", "<|im_end|>", "\n"},
    [SEAM_CHAT_LLAMA3] = {"<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", ""},
    [SEAM_CHAT_LLAMA31] = {"<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", ""},
    [SEAM_CHAT_PHI3] = {"<|", "|>\n", "<|end|>", "\n"},
};
/* Of Llama-3.1's system message; the second is the template's own default, so that a row renders
 * the same on every day. */
static const char LLAMA31_DATES[] =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

typedef struct rendering {
    const seam_chat *chat;
    seam_text text;
    size_t *cuts; /* two a reply: where its content begins, and where its end token has ended */
    size_t cut_count;
    seam_error *err;
} rendering;

/* White space as Python's str.strip sees it: Unicode's, and U+001C to U+001F. */
static size_t strip_at(const char *text, size_t bytes) {
    return bytes > 0 && text[0] >= 0x1c && text[0] <= 0x1f ? 1 : seam_space_at(text, bytes);
}

static size_t strip_before(const char *text, size_t bytes) {
    return bytes > 0 && text[bytes - 1] >= 0x1c && text[bytes - 1] <= 0x1f
               ? 1
               : seam_space_before(text, bytes);
}

static void content_trim(seam_chat_message *m) {
    for (size_t n = 1; n > 0;) {
        n = strip_at(m->content, m->content_bytes);
        m->content += n;
        m->content_bytes -= n;
    }
    for (size_t n = 1; n > 0;) {
        n = strip_before(m->content, m->content_bytes);
        m->content_bytes -= n;
    }
}

static seam_status head_render(rendering *r, const char *role) {
    const frame *const f = &FRAMES[r->chat->family];
    SEAM_TRY(seam_text_append_string(&r->text, f->head));
    SEAM_TRY(seam_text_append_string(&r->text, role));
    return seam_text_append_string(&r->text, f->after_role);
}

static seam_status message_render(rendering *r, seam_chat_message m, const char *before) {
    const frame *const f = &FRAMES[r->chat->family];
    const bool is_reply = strcmp(m.role, "assistant") == 0;
    if (!is_reply && strcmp(m.role, "user") != 0 && strcmp(m.role, "system") != 0) {
        return seam_error_set(r->err, SEAM_E_ARG, "role \"%.40s\" is not supported", m.role);
    }
    if (r->chat->family == SEAM_CHAT_LLAMA3 || r->chat->family == SEAM_CHAT_LLAMA31) {
        content_trim(&m);
    }
    SEAM_TRY(head_render(r, m.role));
    SEAM_TRY(seam_text_append_string(&r->text, before));
    if (is_reply) {
        r->cuts[r->cut_count++] = r->text.count;
    }
    SEAM_TRY(seam_text_append(&r->text, m.content, m.content_bytes));
    SEAM_TRY(seam_text_append_string(&r->text, f->end));
    if (is_reply) {
        r->cuts[r->cut_count++] = r->text.count;
    }
    return seam_text_append_string(&r->text, f->after_end);
}

static bool is_system(const seam_chat_message *m) {
    return strcmp(m->role, "system") == 0;
}

/* User and assistant one after the other, and a user's message before a reply that is opened. */
static seam_status turns_check(const rendering *r, const seam_chat_message *messages, size_t count,
                               bool opens_reply) {
    for (size_t i = 0; i < count; i++) {
        const char *const due = i % 2 == 0 ? "user" : "assistant";
        if (strcmp(messages[i].role, due) != 0) {
            return seam_error_set(r->err, SEAM_E_ARG,
                                  "messages[%zu].role: is \"%.40s\", but the model's chat template "
                                  "takes user and assistant in turn and has no system message: "
                                  "here it needs %s",
                                  i, messages[i].role, due);
        }
    }
    if (opens_reply == (count % 2 == 0)) {
        return seam_error_set(r->err, SEAM_E_ARG,
                              opens_reply
                                  ? "messages: the last must be the user's, to be replied to"
                                  : "messages: the last must be the assistant's, since the "
                                    "model's chat template opens a reply to a user's");
    }
    return SEAM_OK;
}

static seam_status messages_render(rendering *r, const seam_chat_message *messages, size_t count,
                                   bool opens_reply) {
    const seam_chat *const chat = r->chat;
    const bool has_system = count > 0 && is_system(&messages[0]);
    const bool dates = chat->family == SEAM_CHAT_LLAMA31;
    size_t begin = 0;
    if (chat->takes_turns) {
        SEAM_TRY(turns_check(r, messages, count, opens_reply));
    }
    if (dates) {
        const seam_chat_message empty = {"system", "", 0};
        SEAM_TRY(message_render(r, has_system ? messages[0] : empty, LLAMA31_DATES));
        begin = has_system ? 1 : 0;
    } else if (count > 0 && !has_system && chat->default_system != NULL) {
        const seam_chat_message first = {"system", chat->default_system,
                                         strlen(chat->default_system)};
        SEAM_TRY(message_render(r, first, ""));
    }
    for (size_t i = begin; i < count; i++) {
        const bool is_skipped =
            chat->skips_empty_system && is_system(&messages[i]) && messages[i].content_bytes == 0;
        if (!is_skipped) {
            SEAM_TRY(message_render(r, messages[i], ""));
        }
    }
    return opens_reply ? head_render(r, "assistant") : SEAM_OK;
}

/* Marks every id that has no mark yet: 1 between the cuts of a reply. */
static seam_status replies_mark(seam_text *is_reply, size_t first, size_t id_count,
                                const size_t *ends, size_t end_count) {
    size_t passed = 0;
    for (size_t i = first; is_reply != NULL && i < id_count; i++) {
        while (passed < end_count && ends[passed] <= i) {
            passed++;
        }
        const char mark = (char)(passed % 2);
        SEAM_TRY(seam_text_append(is_reply, &mark, 1));
    }
    return SEAM_OK;
}

seam_status seam_chat_encode(seam_ids *ids, seam_text *is_reply, const seam_chat *chat,
                             const seam_tokenizer *tokenizer, const seam_chat_message *messages,
                             size_t message_count, bool opens_reply, seam_error *err) {
    const size_t first = ids->count;
    rendering r = {.chat = chat, .err = err};
    size_t *const places = seam_mem_zalloc(4 * message_count + 1, sizeof *places);
    seam_status st = places != NULL ? SEAM_OK : SEAM_E_MEMORY;
    r.cuts = places;
    if (st == SEAM_OK && chat->writes_bos) {
        const uint32_t bos = (uint32_t)seam_tokenizer_bos(tokenizer);
        st = seam_ids_append(ids, &bos, 1);
    }
    if (st == SEAM_OK) {
        st = messages_render(&r, messages, message_count, opens_reply);
    }
    if (st == SEAM_OK) {
        const seam_encode_args args = {.text = r.text.count > 0 ? r.text.bytes : "",
                                       .bytes = r.text.count,
                                       .cuts = r.cuts,
                                       .cut_count = r.cut_count,
                                       .ret_ends = r.cuts + 2 * message_count};
        st = seam_tokenizer_encode_with(ids, tokenizer, &args, err);
    }
    if (st == SEAM_OK) {
        st = replies_mark(is_reply, first, ids->count, r.cuts + 2 * message_count, r.cut_count);
    }
    seam_text_deinit(&r.text);
    seam_mem_free(places);
    return st == SEAM_E_MEMORY ? seam_error_set(err, st, "no memory for a conversation") : st;
}

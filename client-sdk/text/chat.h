/* Chat messages in the model's own format.  Jinja is not interpreted (there is no library for it in
 * C): the templates of these families are known by their text and rendered here; any other is
 * refused with its beginning.
 *
 *   ChatML     <|im_start|>ROLE\nCONTENT<|im_end|>\n        one a message: SmolLM2, Qwen2.5
 *   Llama-3    <|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>, contents trimmed
 *   Llama-3.1  the same; always a system message, which begins with the template's two dates
 *   Phi-3      <|ROLE|>\nCONTENT<|end|>\n;  Phi-3.5 leaves an empty system message out
 *
 * ChatML's members differ in the system message that stands in front when the conversation has
 * none. A begin token stands where the template writes one, and only there. */
#ifndef SEAM_CHAT_H
#define SEAM_CHAT_H

#include "tokenizer.h"

typedef enum seam_chat_family {
    SEAM_CHAT_CHATML = 0,
    SEAM_CHAT_LLAMA3,
    SEAM_CHAT_LLAMA31,
    SEAM_CHAT_PHI3,
} seam_chat_family;

typedef struct seam_chat {
    seam_chat_family family;
    bool writes_bos;
    bool skips_empty_system;
    bool
        takes_turns; /* the template opens a reply after every user message and has no system one */
    const char *default_system; /* static text; NULL: none is put in */
} seam_chat;

typedef struct seam_chat_message {
    const char *role; /* "system", "user" or "assistant" */
    const char *content;
    size_t content_bytes;
} seam_chat_message;

/* The renderer for this tokenizer's template.  SEAM_E_UNIMPLEMENTED (another family, or one whose
 * default system message is not known), SEAM_E_NOT_FOUND (no template), SEAM_E_FORMAT (a token of
 * the template is not in the vocabulary). */
seam_status seam_chat_detect(seam_chat *ret_chat, const seam_tokenizer *tokenizer, seam_error *err);
/* Appends messages and, with `opens_reply`, the head of an assistant message to be generated.
 * is_reply (may be NULL) gets one byte a new id: 1 for the content of assistant messages and the
 * token that ends each.  The rendered text is encoded as one, but that no token goes across the
 * beginning of an assistant's content: it is encoded as it is generated.
 * SEAM_E_ARG (a role, or messages out of turn where the template takes turns), SEAM_E_FORMAT
 * (UTF-8), SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_chat_encode(seam_ids *ids, seam_text *is_reply, const seam_chat *chat,
                             const seam_tokenizer *tokenizer, const seam_chat_message *messages,
                             size_t message_count, bool opens_reply, seam_error *err);

#endif

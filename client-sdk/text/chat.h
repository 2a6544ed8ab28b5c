/* Chat messages in the model's own format: a fixed renderer for the ChatML family.
 *
 *   <|im_start|>ROLE\nCONTENT<|im_end|>\n        one a message
 *
 * SmolLM2, Qwen2.5 and their like use it; they differ only in the system message that stands in
 * front when the conversation has none.  Jinja is not interpreted: a template that is not known to
 * be of this family is refused by name. */
#ifndef SEAM_CHAT_H
#define SEAM_CHAT_H

#include "tokenizer.h"

typedef struct seam_chat {
    uint32_t start_id, end_id;  /* <|im_start|>, <|im_end|> */
    const char *default_system; /* static text; NULL: none is put in */
} seam_chat;

typedef struct seam_chat_message {
    const char *role; /* "system", "user" or "assistant" */
    const char *content;
    size_t content_bytes;
} seam_chat_message;

/* The renderer for this tokenizer's template.  SEAM_E_UNIMPLEMENTED (another family, or one whose
 * default system message is not known), SEAM_E_NOT_FOUND (no template). */
seam_status seam_chat_detect(seam_chat *ret_chat, const seam_tokenizer *tokenizer, seam_error *err);
/* Appends messages and, with `opens_reply`, the head of an assistant message to be generated.
 * is_reply (may be NULL) gets one byte a new id: 1 for the content of assistant messages and the
 * <|im_end|> after it.  Role and content of a message are encoded as one text, but for assistant
 * messages, whose content is encoded alone: as it is generated.
 * SEAM_E_ARG (a role), SEAM_E_FORMAT (UTF-8), SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_chat_encode(seam_ids *ids, seam_text *is_reply, const seam_chat *chat,
                             const seam_tokenizer *tokenizer, const seam_chat_message *messages,
                             size_t message_count, bool opens_reply, seam_error *err);

#endif

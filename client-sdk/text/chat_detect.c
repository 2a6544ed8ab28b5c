/* Which family a chat template is of; see chat.h.
 *
 * A template's text without white space and with one kind of quotes is searched for what makes the
 * family's text.  What would render otherwise is refused by its name. */
#include <string.h>

#include "chat.h"
#include "try.h"

/* System messages that templates of ChatML's family put in front; found in the template's text. */
static const char *const DEFAULT_SYSTEMS[] = {
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "You are a helpful assistant.",
};

/* Parts of templates that render otherwise than chat.c does. */
static const char *const FOREIGN[] = {"<think>", "reasoning_content", "| trim", "|trim", ".strip("};

#define LLAMA3_MESSAGE                                                                             \
    "'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+"     \
    "'<|eot_id|>'"
#define PHI3_MESSAGE(role) "'<|" role "|>\\n'+message['content']+'<|end|>\\n'"
/* Phi-3-medium's, and Phi-3-mini's of before July 2024: a user message opens the reply to it. */
#define PHI3_TURN                                                                                  \
    "{{'<|user|>'+'\\n'+message['content']+'<|end|>'+'\\n'+'<|assistant|>'+'\\n'}}"                \
    "{%elif(message['role']=='assistant')%}{{message['content']+'<|end|>'+'\\n'}}{%endif%}"        \
    "{%endfor%}"

static seam_status refuse(seam_error *err, const char *template_text, const char *what) {
    return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                          "the model's chat template (\"%.40s...\") %s; known are those of ChatML "
                          "(SmolLM2, Qwen2.5), Llama-3, Llama-3.1 and Phi-3",
                          template_text, what);
}

/* Every token of the list is in the vocabulary as one. */
static seam_status tokens_check(const seam_tokenizer *tokenizer, const char *const *tokens,
                                seam_error *err) {
    for (; *tokens != NULL; tokens++) {
        uint32_t id;
        if (!seam_tokenizer_find_added(&id, tokenizer, *tokens)) {
            return seam_error_set(err, SEAM_E_FORMAT,
                                  "the chat template writes %s, which is no token of the model",
                                  *tokens);
        }
    }
    return SEAM_OK;
}

/* Where the reader of a template is. */
typedef struct place {
    bool in_code; /* between {{ and }} or {% and %} */
    char quote;   /* that of the string literal it is in; 0: in none */
    bool escaped; /* by a backslash in a literal */
} place;

static void place_step(place *p, const char *at) {
    const bool escaped = p->escaped;
    p->escaped = p->quote != 0 && !escaped && *at == '\\';
    if (p->quote != 0) {
        p->quote = *at == p->quote && !escaped ? '\0' : p->quote;
    } else if (p->in_code) {
        p->quote = *at == '\'' || *at == '"' ? *at : '\0';
        p->in_code = strncmp(at, "}}", 2) != 0 && strncmp(at, "%}", 2) != 0;
    } else {
        p->in_code = strncmp(at, "{{", 2) == 0 || strncmp(at, "{%", 2) == 0;
    }
}

/* A line break in a literal is text that is written: it stays, as \n, which is how other files of
 * the same template have it. */
static seam_status squeeze(seam_text *ret, const char *text) {
    place p = {0};
    for (; *text != '\0'; text++) {
        const char c = *text == '"' ? '\'' : *text;
        place_step(&p, text);
        if (p.quote != 0 && c == '\n') {
            SEAM_TRY(seam_text_append(ret, "\\n", 2));
        } else if (strchr(" \t\r\n", c) == NULL) {
            SEAM_TRY(seam_text_append(ret, &c, 1));
        }
    }
    return seam_text_append(ret, "", 1);
}

static seam_status bos_check(const seam_chat *chat, const seam_tokenizer *tokenizer,
                             seam_error *err) {
    return chat->writes_bos && seam_tokenizer_bos(tokenizer) < 0
               ? seam_error_set(
                     err, SEAM_E_NOT_FOUND,
                     "the chat template writes bos_token, which the model does not state")
               : SEAM_OK;
}

static seam_status chatml_detect(seam_chat *chat, const char *text, const char *squeezed,
                                 const seam_tokenizer *tokenizer, seam_error *err) {
    static const char *const TOKENS[] = {"<|im_start|>", "<|im_end|>", NULL};
    SEAM_TRY(tokens_check(tokenizer, TOKENS, err));
    for (size_t i = 0; i < sizeof(FOREIGN) / sizeof(FOREIGN[0]); i++) {
        if (strstr(text, FOREIGN[i]) != NULL) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "the model's chat template uses %s, which is not supported",
                                  FOREIGN[i]);
        }
    }
    for (size_t i = 0; i < sizeof(DEFAULT_SYSTEMS) / sizeof(DEFAULT_SYSTEMS[0]); i++) {
        if (chat->default_system == NULL && strstr(text, DEFAULT_SYSTEMS[i]) != NULL) {
            chat->default_system = DEFAULT_SYSTEMS[i];
        }
    }
    if (chat->default_system == NULL && strstr(text, "<|im_start|>system") != NULL) {
        return refuse(err, text, "has a default system message that is not known");
    }
    chat->family = SEAM_CHAT_CHATML;
    chat->writes_bos =
        strncmp(squeezed, "{{bos_token}}", 13) == 0 || strncmp(squeezed, "{{-bos_token}}", 14) == 0;
    return strstr(squeezed, "bos_token") != NULL && !chat->writes_bos
               ? refuse(err, text, "writes bos_token in another place than its beginning")
               : SEAM_OK;
}

static seam_status llama3_detect(seam_chat *chat, const char *text, const char *squeezed,
                                 const seam_tokenizer *tokenizer, seam_error *err) {
    static const char *const TOKENS[] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                         NULL};
    const bool dates = strstr(squeezed, "CuttingKnowledgeDate") != NULL;
    SEAM_TRY(tokens_check(tokenizer, TOKENS, err));
    if (strstr(squeezed, "strftime_now") != NULL) {
        return refuse(err, text, "writes the date of today (strftime_now)");
    }
    if (strstr(squeezed, LLAMA3_MESSAGE) == NULL ||
        (dates ? strstr(squeezed, "'CuttingKnowledgeDate:December2023\\n'") == NULL ||
                     strstr(squeezed, "'26Jul2024'") == NULL ||
                     strstr(squeezed, "'TodayDate:'+date_string+'\\n\\n'") == NULL
               : strstr(squeezed, "bos_token+content") == NULL)) {
        return refuse(err, text, "is like Llama-3's, but not one that is known");
    }
    chat->family = dates ? SEAM_CHAT_LLAMA31 : SEAM_CHAT_LLAMA3;
    chat->writes_bos = true;
    return SEAM_OK;
}

static seam_status phi3_turns_detect(seam_chat *chat, const char *text, const char *squeezed,
                                     const seam_tokenizer *tokenizer, seam_error *err) {
    static const char *const TOKENS[] = {"<|user|>", "<|assistant|>", "<|end|>", NULL};
    static const char BOS[] = "{{bos_token}}",
                      BODY[] = "{%formessageinmessages%}{%if(message['role']=='user')%}" PHI3_TURN;
    chat->writes_bos = strncmp(squeezed, BOS, strlen(BOS)) == 0;
    if (strcmp(squeezed + (chat->writes_bos ? strlen(BOS) : 0), BODY) != 0) {
        return refuse(err, text, "is like Phi-3's, but not one that is known");
    }
    chat->family = SEAM_CHAT_PHI3;
    chat->takes_turns = true;
    return tokens_check(tokenizer, TOKENS, err);
}

static seam_status phi3_detect(seam_chat *chat, const char *text, const char *squeezed,
                               const seam_tokenizer *tokenizer, seam_error *err) {
    static const char *const TOKENS[] = {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
                                         NULL};
    SEAM_TRY(tokens_check(tokenizer, TOKENS, err));
    if (strstr(squeezed, PHI3_MESSAGE("system")) == NULL ||
        strstr(squeezed, PHI3_MESSAGE("user")) == NULL ||
        strstr(squeezed, PHI3_MESSAGE("assistant")) == NULL ||
        strstr(squeezed, "bos_token") != NULL) {
        return refuse(err, text, "is like Phi-3's, but not one that is known");
    }
    chat->family = SEAM_CHAT_PHI3;
    chat->skips_empty_system =
        strstr(squeezed, "message['role']=='system'andmessage['content']") != NULL;
    return SEAM_OK;
}

static seam_status family_detect(seam_chat *chat, const char *text, const char *squeezed,
                                 const seam_tokenizer *tokenizer, seam_error *err) {
    if (strstr(text, "<|im_start|>") != NULL && strstr(text, "<|im_end|>") != NULL &&
        strstr(text, "<|im_sep|>") == NULL) {
        return chatml_detect(chat, text, squeezed, tokenizer, err);
    }
    if (strstr(text, "<|start_header_id|>") != NULL) {
        return llama3_detect(chat, text, squeezed, tokenizer, err);
    }
    if (strstr(squeezed, PHI3_TURN) != NULL) {
        return phi3_turns_detect(chat, text, squeezed, tokenizer, err);
    }
    if (strstr(text, "<|assistant|>") != NULL && strstr(text, "<|end|>") != NULL) {
        return phi3_detect(chat, text, squeezed, tokenizer, err);
    }
    return refuse(err, text, "is of no known family");
}

seam_status seam_chat_detect(seam_chat *ret_chat, const seam_tokenizer *tokenizer,
                             seam_error *err) {
    const char *text = seam_tokenizer_chat_template(tokenizer);
    seam_chat chat = {0};
    seam_text squeezed = {0};
    if (text == NULL) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "the model has no chat template");
    }
    seam_status st = squeeze(&squeezed, text);
    if (st == SEAM_OK) {
        st = family_detect(&chat, text, squeezed.bytes, tokenizer, err);
    } else {
        (void)seam_error_set(err, st, "no memory for a chat template");
    }
    seam_text_deinit(&squeezed);
    if (st == SEAM_OK) {
        st = bos_check(&chat, tokenizer, err);
    }
    if (st == SEAM_OK) {
        *ret_chat = chat;
    }
    return st;
}

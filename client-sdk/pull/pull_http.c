/* Downloads by libcurl: resume, retries, readable errors.  See pull_file.h. */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "pull_file.h"
#include "try.h"

#define TRIES_MAX         4
#define TEXT_BYTES_MAX    (64u << 20)
#define CONNECT_TIMEOUT_S 20L
#define SILENCE_TIMEOUT_S 30L
#define TICK_US           100000

typedef struct transfer {
    const seam_pull_request *request;
    CURL *curl;
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    FILE *file; /* or text */
    char *text; /* grows; zero-terminated at the end */
    size_t text_bytes;
    uint64_t begin_bytes; /* of the file before this try */
    curl_off_t told_us;   /* time of the latest call of the watch */
    int write_errno;
    bool cancelled, too_long;
} transfer;

/* ---- callbacks ---- */

static size_t on_file_bytes(char *bytes, size_t one, size_t count, void *context) {
    (void)one;
    transfer *t = context;
    const size_t written = fwrite(bytes, 1, count, t->file);
    if (written != count) {
        t->write_errno = errno;
    }
    return written;
}

static size_t on_text_bytes(char *bytes, size_t one, size_t count, void *context) {
    (void)one;
    transfer *t = context;
    if (count > TEXT_BYTES_MAX - t->text_bytes) {
        t->too_long = true;
        return 0;
    }
    char *grown = seam_mem_realloc(t->text, t->text_bytes + count + 1);
    if (grown == NULL) {
        t->write_errno = ENOMEM;
        return 0;
    }
    memcpy(grown + t->text_bytes, bytes, count);
    t->text = grown;
    t->text_bytes += count;
    t->text[t->text_bytes] = '\0';
    return count;
}

static bool watch_tell(const transfer *t, uint64_t done_bytes, uint64_t total_bytes) {
    const seam_pull_watch *watch = t->request->watch;
    return watch == NULL || watch->call == NULL ||
           watch->call(watch->context, t->request->label, done_bytes, total_bytes);
}

static int on_progress(void *context, curl_off_t total, curl_off_t done, curl_off_t up_total,
                       curl_off_t up_done) {
    (void)up_total;
    (void)up_done;
    transfer *t = context;
    curl_off_t now_us = 0;
    (void)curl_easy_getinfo(t->curl, CURLINFO_TOTAL_TIME_T, &now_us);
    if (t->file == NULL || done == 0 || now_us - t->told_us < TICK_US) {
        return 0;
    }
    t->told_us = now_us;
    const uint64_t whole = total > 0 ? t->begin_bytes + (uint64_t)total : t->request->bytes;
    t->cancelled = !watch_tell(t, t->begin_bytes + (uint64_t)done, whole);
    return t->cancelled ? 1 : 0;
}

/* ---- one transfer ---- */

static seam_status headers_make(transfer *t, seam_error *err) {
    char line[4096];
    if (t->request->token == NULL) {
        return SEAM_OK;
    }
    const int count = snprintf(line, sizeof line, "Authorization: Bearer %s", t->request->token);
    if (count < 0 || (size_t)count >= sizeof line || strpbrk(line, "\r\n") != NULL) {
        return seam_error_set(err, SEAM_E_ARG, "HF_TOKEN: not a token");
    }
    t->headers =
        curl_slist_append(NULL, line); /* libcurl drops it when a redirect leaves the host */
    return t->headers != NULL ? SEAM_OK
                              : seam_error_set(err, SEAM_E_MEMORY, "no memory for a request");
}

static void options_set(transfer *t) {
    const char *url = t->request->url;
    CURL *curl = t->curl;
    const char *bundle = getenv("CURL_CA_BUNDLE");
    if (bundle == NULL || bundle[0] == '\0') {
        bundle = getenv("SSL_CERT_FILE");
    }
    if (bundle != NULL && bundle[0] != '\0') {
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, bundle);
    }
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "seam/" SEAM_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, t->headers);
    (void)curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 8L);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    const bool secure = strncmp(url, "https:", 6) == 0; /* no way back to plain text */
    (void)curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_TIMEOUT_S);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, t->why);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION,
                           t->file != NULL ? on_file_bytes : on_text_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->begin_bytes);
}

/* What a failed transfer means; *ret_again when another try may pass, *ret_restart when the bytes
 * that are there cannot be continued. */
static seam_status failure_name(const transfer *t, CURLcode code, bool *ret_again,
                                bool *ret_restart, seam_error *err) {
    const char *url = t->request->url;
    long http = 0;
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &http);
    *ret_again = false;
    *ret_restart = false;
    if (t->cancelled) {
        return seam_error_set(err, SEAM_E_CANCELLED, "%s: stopped", t->request->label);
    }
    if (t->too_long) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: the answer is longer than %u bytes", url,
                              TEXT_BYTES_MAX);
    }
    if (t->write_errno != 0) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot store it: %s", t->request->label,
                              strerror(t->write_errno));
    }
    if (code == CURLE_RANGE_ERROR || (http == 416 && t->begin_bytes > 0)) {
        *ret_again = *ret_restart = true;
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "%s: cannot be resumed", url);
    }
    if (code == CURLE_HTTP_RETURNED_ERROR) {
        const seam_status st = http == 401   ? SEAM_E_UNAUTHENTICATED
                               : http == 403 ? SEAM_E_DENIED
                               : http == 404 ? SEAM_E_NOT_FOUND
                                             : SEAM_E_UNAVAILABLE;
        *ret_again = http >= 500 || http == 429 || http == 408;
        return seam_error_set(err, st, "%s: HTTP %ld%s", url, http,
                              http == 401 || http == 403 ? " (a gated model needs HF_TOKEN)" : "");
    }
    *ret_again = code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST &&
                 code != CURLE_COULDNT_RESOLVE_PROXY && code != CURLE_URL_MALFORMAT &&
                 code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_PEER_FAILED_VERIFICATION &&
                 code != CURLE_SSL_CACERT_BADFILE && code != CURLE_TOO_MANY_REDIRECTS;
    return seam_error_set(err, SEAM_E_UNAVAILABLE, "%s: %s", url,
                          t->why[0] != '\0' ? t->why : curl_easy_strerror(code));
}

/* One try with what `t` holds open. */
static seam_status transfer_once(transfer *t, bool *ret_again, bool *ret_restart, seam_error *err) {
    *ret_again = false;
    *ret_restart = false;
    t->why[0] = '\0';
    t->told_us = 0;
    t->curl = curl_easy_init();
    if (t->curl == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for a request");
    }
    seam_status st = headers_make(t, err);
    if (st == SEAM_OK) {
        options_set(t);
        const CURLcode code = curl_easy_perform(t->curl);
        if (code != CURLE_OK) {
            st = failure_name(t, code, ret_again, ret_restart, err);
        }
    }
    curl_slist_free_all(t->headers);
    curl_easy_cleanup(t->curl);
    t->headers = NULL;
    t->curl = NULL;
    return st;
}

static void pause_before(int attempt) {
    if (attempt > 0) {
        (void)sleep(1u << (attempt - 1)); /* 1, 2, 4 s */
    }
}

seam_status seam_pull_http_file(const seam_pull_request *request, const char *path,
                                seam_error *err) {
    bool again = true, restart = false;
    seam_status st = SEAM_OK;
    for (int attempt = 0; attempt < TRIES_MAX && again; attempt++) {
        transfer t = {.request = request};
        pause_before(restart ? 0 : attempt);
        t.begin_bytes = restart ? 0 : seam_pull_file_bytes(path);
        if (request->bytes != 0 && t.begin_bytes == request->bytes) {
            return SEAM_OK; /* whole; the caller checks its hash */
        }
        if (request->bytes != 0 && t.begin_bytes > request->bytes) {
            t.begin_bytes = 0;
        }
        t.file = fopen(path, t.begin_bytes > 0 ? "ab" : "wb");
        if (t.file == NULL) {
            return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(errno));
        }
        st = transfer_once(&t, &again, &restart, err);
        if (fclose(t.file) != 0 && st == SEAM_OK) {
            return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(errno));
        }
        if (st == SEAM_OK) {
            const uint64_t bytes = seam_pull_file_bytes(path);
            (void)watch_tell(&t, bytes, bytes);
            return SEAM_OK;
        }
    }
    return st;
}

seam_status seam_pull_http_text(char **ret_text, const seam_pull_request *request,
                                seam_error *err) {
    bool again = true, restart = false;
    seam_status st = SEAM_OK;
    for (int attempt = 0; attempt < TRIES_MAX && again; attempt++) {
        transfer t = {.request = request};
        pause_before(attempt);
        st = transfer_once(&t, &again, &restart, err);
        if (st == SEAM_OK && t.text == NULL) {
            return seam_error_set(err, SEAM_E_FORMAT, "%s: the answer is empty", request->url);
        }
        if (st == SEAM_OK) {
            *ret_text = t.text;
            return SEAM_OK;
        }
        seam_mem_free(t.text);
    }
    return st;
}

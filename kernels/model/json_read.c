/* Capped JSON parsing; see json_read.h. */
#include "json_read.h"

#include <stdbool.h>

#include "file_map.h"
#include "try.h"

/* Brackets outside strings, counted before jansson recurses into them. */
static bool depth_ok(const uint8_t *bytes, size_t count) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < count; i++) {
        const uint8_t c = bytes[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SEAM_JSON_DEPTH_MAX) {
                return false;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

seam_status seam_json_parse(json_t **ret_json, const void *bytes, size_t count, size_t bytes_max,
                            const char *name, seam_error *err) {
    if (count > bytes_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: JSON of %zu bytes is over the limit of %zu",
                              name, count, bytes_max);
    }
    if (!depth_ok(bytes, count)) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: JSON is nested deeper than %d", name,
                              SEAM_JSON_DEPTH_MAX);
    }
    json_error_t reason;
    json_t *json = json_loadb(count == 0 ? "" : bytes, count, JSON_REJECT_DUPLICATES, &reason);
    if (json == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: line %d: %s", name, reason.line,
                              reason.text);
    }
    *ret_json = json;
    return SEAM_OK;
}

seam_status seam_json_read_file(json_t **ret_json, const char *path, size_t bytes_max,
                                seam_error *err) {
    seam_file_map map;
    SEAM_TRY(seam_file_map_open(&map, path, err));
    json_t *json = NULL;
    seam_status st = seam_json_parse(&json, map.bytes, map.count, bytes_max, path, err);
    seam_file_map_close(&map);
    if (st == SEAM_OK && !json_is_object(json)) {
        json_decref(json);
        st = seam_error_set(err, SEAM_E_FORMAT, "%s: not a JSON object", path);
    }
    if (st == SEAM_OK) {
        *ret_json = json;
    }
    return st;
}

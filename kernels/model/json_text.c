/* See json_text.h. */
#include "json_text.h"

#include "arena.h"
#include "try.h"

char *seam_json_text(size_t *ret_bytes, const json_t *root, size_t flags) {
    const size_t bytes = root != NULL ? json_dumpb(root, NULL, 0, flags) : 0;
    char *const text = bytes != 0 ? seam_mem_alloc(bytes) : NULL;
    if (text != NULL) {
        const size_t again = json_dumpb(root, text, bytes, flags);
        SEAM_ASSERT(again == bytes);
    }
    *ret_bytes = text != NULL ? bytes : 0;
    return text;
}

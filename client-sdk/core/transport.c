/* The parts of a transport that no network library is needed for: buffers and addresses. */
#include "transport.h"

#include <string.h>

#include "arena.h"
#include "try.h"

seam_status seam_buffer_reserve(seam_buffer *buffer, size_t capacity_bytes) {
    if (capacity_bytes <= buffer->capacity_bytes) {
        return SEAM_OK;
    }
    uint8_t *const data = seam_mem_realloc(buffer->data, capacity_bytes);
    if (data == NULL) {
        return SEAM_E_MEMORY;
    }
    buffer->data = data;
    buffer->capacity_bytes = capacity_bytes;
    return SEAM_OK;
}

seam_status seam_buffer_add(seam_buffer *buffer, const void *bytes, size_t count) {
    if (count > buffer->capacity_bytes - buffer->count) {
        if (count > SIZE_MAX / 2 - buffer->count) {
            return SEAM_E_MEMORY;
        }
        const size_t wanted = buffer->count + count;
        const size_t doubled = buffer->capacity_bytes * 2;
        SEAM_TRY(seam_buffer_reserve(buffer, wanted > doubled ? wanted : doubled));
    }
    if (count > 0) {
        memcpy(buffer->data + buffer->count, bytes, count);
        buffer->count += count;
    }
    return SEAM_OK;
}

void seam_buffer_deinit(seam_buffer *buffer) {
    seam_mem_free(buffer->data);
    *buffer = (seam_buffer){0};
}

bool seam_address_is_loopback(const char *address) {
    static const char *const names[] = {"localhost:", "[::1]:", "unix:", "ipv6:[::1]:"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(address, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    const char *host = strncmp(address, "ipv4:", 5) == 0 ? address + 5 : address;
    if (strncmp(host, "127.", 4) != 0) {
        return false;
    }
    /* A name such as 127.example.org is no loopback address. */
    return strspn(host, "0123456789.") == strcspn(host, ":");
}

/* See record_file.h. */
#include "record_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"
#include "try.h"

#define HEAD_BYTES SEAM_RECORD_HEAD_BYTES
#define MAGIC      UINT32_C(0x31524a53) /* "SJR1" */

uint64_t seam_record_file_bytes(const seam_record_place *p) {
    return HEAD_BYTES + (uint64_t)p->body_bytes + p->note_bytes + 4;
}

seam_status seam_record_file_read(int fd, uint8_t *ret, size_t count, uint64_t at) {
    while (count > 0) {
        const ssize_t n = pread(fd, ret, count, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? SEAM_E_IO : SEAM_E_DATA_LOSS;
        }
        ret += n;
        at += (uint64_t)n;
        count -= (size_t)n;
    }
    return SEAM_OK;
}

seam_status seam_record_file_pack(seam_buffer *ret, const seam_journal_record *r) {
    const size_t count = HEAD_BYTES + r->body_bytes + r->note_bytes;
    if (r->body_bytes > SEAM_JOURNAL_RECORD_BYTES_MAX ||
        r->note_bytes > SEAM_JOURNAL_RECORD_BYTES_MAX) {
        return SEAM_E_LIMIT;
    }
    ret->count = 0;
    SEAM_TRY(seam_buffer_reserve(ret, count + 4));
    uint8_t *bytes = ret->data;
    seam_put_u32(bytes, MAGIC);
    seam_put_u32(bytes + 4, (uint32_t)r->body_bytes);
    seam_put_u32(bytes + 8, (uint32_t)r->note_bytes);
    seam_put_u32(bytes + 12, 0);
    seam_put_u64(bytes + 16, r->step_count);
    seam_put_u64(bytes + 24, r->state_hash);
    if (r->body_bytes > 0) {
        memcpy(bytes + HEAD_BYTES, r->body, r->body_bytes);
    }
    if (r->note_bytes > 0) {
        memcpy(bytes + HEAD_BYTES + r->body_bytes, r->note, r->note_bytes);
    }
    seam_put_u32(bytes + count, seam_crc32c(0, bytes, count));
    ret->count = count + 4;
    return SEAM_OK;
}

seam_status seam_record_file_load(seam_record_place *ret, seam_buffer *scratch, int fd, uint64_t at,
                                  uint64_t end) {
    uint8_t head[HEAD_BYTES];
    if (end - at < HEAD_BYTES + 4) {
        return SEAM_E_DATA_LOSS;
    }
    SEAM_TRY(seam_record_file_read(fd, head, HEAD_BYTES, at));
    const seam_record_place p = {.step_count = seam_get_u64(head + 16),
                                 .state_hash = seam_get_u64(head + 24),
                                 .begin = at,
                                 .body_bytes = seam_get_u32(head + 4),
                                 .note_bytes = seam_get_u32(head + 8)};
    if (seam_get_u32(head) != MAGIC || p.body_bytes > SEAM_JOURNAL_RECORD_BYTES_MAX ||
        p.note_bytes > SEAM_JOURNAL_RECORD_BYTES_MAX || seam_record_file_bytes(&p) > end - at) {
        return SEAM_E_DATA_LOSS;
    }
    const size_t count = (size_t)seam_record_file_bytes(&p);
    SEAM_TRY(seam_buffer_reserve(scratch, count));
    SEAM_TRY(seam_record_file_read(fd, scratch->data, count, at));
    if (seam_get_u32(scratch->data + count - 4) != seam_crc32c(0, scratch->data, count - 4)) {
        return SEAM_E_DATA_LOSS;
    }
    scratch->count = count;
    *ret = p;
    return SEAM_OK;
}

/* The next place from *at on that begins as a record does, or `end`. */
static seam_status magic_find(uint64_t *at, int fd, uint64_t end) {
    uint8_t block[4096];
    while (end - *at >= 4) {
        const size_t count = end - *at < sizeof block ? (size_t)(end - *at) : sizeof block;
        SEAM_TRY(seam_record_file_read(fd, block, count, *at));
        for (size_t i = 0; i + 4 <= count; i++) {
            if (seam_get_u32(block + i) == MAGIC) {
                *at += i;
                return SEAM_OK;
            }
        }
        *at += count - 3; /* it may lie across two blocks */
    }
    *at = end;
    return SEAM_OK;
}

seam_status seam_record_file_next(seam_record_place *ret, seam_buffer *scratch, int fd,
                                  uint64_t *at, uint64_t end) {
    while (*at < end) {
        const seam_status st = seam_record_file_load(ret, scratch, fd, *at, end);
        if (st == SEAM_OK) {
            *at += seam_record_file_bytes(ret);
        }
        if (st != SEAM_E_DATA_LOSS) {
            return st;
        }
        (*at)++;
        SEAM_TRY(magic_find(at, fd, end));
    }
    return SEAM_E_NOT_FOUND;
}

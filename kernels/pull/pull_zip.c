/* One member of a zip archive, by its central directory (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12
 * and 4.3.16).  Enough for wheels; no zip64, no encryption. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "arena.h"
#include "bytes.h"
#include "pull_file.h"
#include "try.h"

#define END_BYTES           22u
#define END_SIGNATURE       0x06054b50u
#define ENTRY_BYTES         46u
#define ENTRY_SIGNATURE     0x02014b50u
#define LOCAL_BYTES         30u
#define LOCAL_SIGNATURE     0x04034b50u
#define COMMENT_BYTES_MAX   65535u
#define DIRECTORY_BYTES_MAX (16u << 20)
#define BLOCK_BYTES         65536u

typedef struct zip_member {
    uint32_t method, crc, packed_bytes, bytes;
    uint64_t begin; /* of the local header, then of the data */
} zip_member;

typedef struct zip_job {
    FILE *in, *out;
    const char *archive, *member;
    seam_error *err;
} zip_job;

static seam_status damaged(const zip_job *job, const char *what) {
    return seam_error_set(job->err, SEAM_E_FORMAT, "%s: not a readable zip archive: %s",
                          job->archive, what);
}

static bool read_at(const zip_job *job, void *ret, uint64_t begin, size_t count) {
    return fseeko(job->in, (off_t)begin, SEEK_SET) == 0 && fread(ret, 1, count, job->in) == count;
}

/* The end record stands before a comment of unknown length: search backwards. */
static seam_status end_find(uint8_t ret_end[END_BYTES], uint64_t *ret_at, const zip_job *job) {
    const uint64_t total = seam_pull_file_bytes(job->archive);
    if (total < END_BYTES) {
        return damaged(job, "too short");
    }
    const uint64_t span =
        total < END_BYTES + COMMENT_BYTES_MAX ? total : END_BYTES + COMMENT_BYTES_MAX;
    uint8_t *tail = seam_mem_alloc((size_t)span);
    if (tail == NULL) {
        return seam_error_set(job->err, SEAM_E_MEMORY, "no memory to unpack %s", job->archive);
    }
    seam_status st = damaged(job, "no end record");
    if (read_at(job, tail, total - span, (size_t)span)) {
        for (size_t at = (size_t)span - END_BYTES + 1; at-- > 0;) {
            if (seam_get_u32(tail + at) == END_SIGNATURE) {
                memcpy(ret_end, tail + at, END_BYTES);
                *ret_at = total - span + at;
                st = SEAM_OK;
                break;
            }
        }
    }
    seam_mem_free(tail);
    return st;
}

static seam_status entry_find(zip_member *ret, const uint8_t *directory, size_t directory_bytes,
                              const zip_job *job) {
    const size_t wanted = strlen(job->member);
    for (size_t at = 0; directory_bytes - at >= ENTRY_BYTES;) {
        const uint8_t *entry = directory + at;
        const size_t name_bytes = seam_get_u16(entry + 28);
        const size_t rest = name_bytes + seam_get_u16(entry + 30) + seam_get_u16(entry + 32);
        if (seam_get_u32(entry) != ENTRY_SIGNATURE || rest > directory_bytes - at - ENTRY_BYTES) {
            return damaged(job, "its directory");
        }
        if (name_bytes == wanted && memcmp(entry + ENTRY_BYTES, job->member, wanted) == 0) {
            *ret = (zip_member){.method = seam_get_u16(entry + 10),
                                .crc = seam_get_u32(entry + 16),
                                .packed_bytes = seam_get_u32(entry + 20),
                                .bytes = seam_get_u32(entry + 24),
                                .begin = seam_get_u32(entry + 42)};
            const bool encrypted = (seam_get_u16(entry + 8) & 1) != 0;
            const bool zip64 = ret->packed_bytes == UINT32_MAX || ret->bytes == UINT32_MAX;
            return encrypted || zip64 ? damaged(job, "encrypted or zip64") : SEAM_OK;
        }
        at += ENTRY_BYTES + rest;
    }
    return seam_error_set(job->err, SEAM_E_NOT_FOUND, "%s: no member %s", job->archive,
                          job->member);
}

static seam_status member_find(zip_member *ret, const zip_job *job) {
    uint8_t end[END_BYTES] = {0}, local[LOCAL_BYTES] = {0};
    uint64_t end_at = 0;
    SEAM_TRY(end_find(end, &end_at, job));
    const uint32_t directory_bytes = seam_get_u32(end + 12), begin = seam_get_u32(end + 16);
    if (directory_bytes > DIRECTORY_BYTES_MAX || (uint64_t)begin + directory_bytes > end_at) {
        return damaged(job, "its directory");
    }
    uint8_t *directory = seam_mem_alloc(directory_bytes);
    if (directory == NULL) {
        return seam_error_set(job->err, SEAM_E_MEMORY, "no memory to unpack %s", job->archive);
    }
    const seam_status st = read_at(job, directory, begin, directory_bytes)
                               ? entry_find(ret, directory, directory_bytes, job)
                               : damaged(job, "its directory");
    seam_mem_free(directory);
    SEAM_TRY(st);
    if (!read_at(job, local, ret->begin, LOCAL_BYTES) || seam_get_u32(local) != LOCAL_SIGNATURE) {
        return damaged(job, "a local header");
    }
    ret->begin += LOCAL_BYTES + (uint64_t)seam_get_u16(local + 26) + seam_get_u16(local + 28);
    if (ret->begin + ret->packed_bytes > end_at) {
        return damaged(job, "a member beyond the end");
    }
    return SEAM_OK;
}

static seam_status block_write(const zip_job *job, const uint8_t *block, size_t count,
                               const zip_member *member, uint64_t *written, uint32_t *crc) {
    if (count > member->bytes - *written) {
        return damaged(job, "a member longer than it says");
    }
    if (fwrite(block, 1, count, job->out) != count) {
        return seam_error_set(job->err, SEAM_E_IO, "%s: cannot store it: %s", job->member,
                              strerror(errno));
    }
    *written += count;
    *crc = (uint32_t)crc32(*crc, block, (uInt)count);
    return SEAM_OK;
}

/* Inflate or copy; the stream is set up for raw deflate also where it is not used. */
static seam_status data_copy(const zip_job *job, const zip_member *member, z_stream *stream,
                             uint8_t *in, uint8_t *out) {
    uint64_t left = member->packed_bytes, written = 0;
    uint32_t crc = 0;
    int state = Z_OK;
    while (left > 0 && state != Z_STREAM_END) {
        const size_t count = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        if (fread(in, 1, count, job->in) != count) {
            return damaged(job, "cut off");
        }
        left -= count;
        if (member->method == 0) {
            SEAM_TRY(block_write(job, in, count, member, &written, &crc));
            continue;
        }
        stream->next_in = in;
        stream->avail_in = (uInt)count;
        do { /* every round takes input or gives output */
            stream->next_out = out;
            stream->avail_out = BLOCK_BYTES;
            state = inflate(stream, Z_NO_FLUSH);
            if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR) {
                return damaged(job, "its deflate data");
            }
            SEAM_TRY(
                block_write(job, out, BLOCK_BYTES - stream->avail_out, member, &written, &crc));
        } while (stream->avail_out == 0);
    }
    if (written != member->bytes || crc != member->crc) {
        return seam_error_set(job->err, SEAM_E_CHECKSUM, "%s: %s: wrong size or CRC", job->archive,
                              job->member);
    }
    return SEAM_OK;
}

static seam_status member_unpack(const zip_job *job) {
    zip_member member = {0};
    SEAM_TRY(member_find(&member, job));
    if (member.method != 0 && member.method != 8) {
        return damaged(job, "a compression that is not deflate");
    }
    if (fseeko(job->in, (off_t)member.begin, SEEK_SET) != 0) {
        return damaged(job, "cut off");
    }
    z_stream stream = {0};
    uint8_t *blocks = seam_mem_alloc(2 * BLOCK_BYTES);
    if (blocks == NULL || inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
        seam_mem_free(blocks);
        return seam_error_set(job->err, SEAM_E_MEMORY, "no memory to unpack %s", job->archive);
    }
    const seam_status st = data_copy(job, &member, &stream, blocks, blocks + BLOCK_BYTES);
    (void)inflateEnd(&stream);
    seam_mem_free(blocks);
    return st;
}

seam_status seam_pull_unzip(const char *path, const char *archive, const char *member,
                            seam_error *err) {
    zip_job job = {.archive = archive, .member = member, .err = err};
    job.in = fopen(archive, "rb");
    if (job.in == NULL) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot read: %s", archive, strerror(errno));
    }
    job.out = fopen(path, "wb");
    if (job.out == NULL) {
        (void)fclose(job.in);
        return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    seam_status st = member_unpack(&job);
    (void)fclose(job.in);
    if (fclose(job.out) != 0 && st == SEAM_OK) {
        st = seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    return st;
}

/* Lines through zlib, which passes plain files through; see line_reader.h. */
#include "line_reader.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "file_map.h"
#include "try.h"

seam_status seam_line_reader_open(seam_line_reader *reader, const char *path, seam_error *err) {
    *reader = (seam_line_reader){.path = path};
    if (seam_path_is_dir(path)) {
        return seam_error_set(err, SEAM_E_IO, "%s: is a directory", path);
    }
    errno = 0;
    gzFile stream = gzopen(path, "rb");
    if (stream == NULL) {
        return seam_error_set(err, errno == ENOENT ? SEAM_E_NOT_FOUND : SEAM_E_IO, "%s: %s", path,
                              errno == 0 ? "out of memory" : strerror(errno));
    }
    (void)gzbuffer(stream, 1U << 17);
    reader->stream = stream;
    return SEAM_OK;
}

void seam_line_reader_close(seam_line_reader *reader) {
    if (reader->stream != NULL) {
        (void)gzclose_r(reader->stream);
    }
    seam_text_deinit(&reader->buffer);
    reader->stream = NULL;
}

/* zlib reports a cut file only as an error code at its end. */
static seam_status chunk_fill(seam_line_reader *reader, seam_error *err) {
    const int count = gzread(reader->stream, reader->chunk, sizeof(reader->chunk));
    int code = Z_OK;
    const char *text = gzerror(reader->stream, &code);
    if (count < 0 || (count == 0 && code != Z_OK && code != Z_STREAM_END)) {
        return seam_error_set(err, SEAM_E_IO, "%s: after line %llu: %s", reader->path,
                              (unsigned long long)reader->line,
                              code == Z_ERRNO ? strerror(errno) : text);
    }
    reader->chunk_begin = 0;
    reader->chunk_end = (size_t)count;
    return SEAM_OK;
}

seam_status seam_line_reader_next(bool *ret_more, seam_line_reader *reader, size_t bytes_max,
                                  seam_error *err) {
    bool any = false;
    reader->buffer.count = 0;
    for (bool ended = false; !ended;) {
        if (reader->chunk_begin == reader->chunk_end) {
            SEAM_TRY(chunk_fill(reader, err));
            if (reader->chunk_end == 0) {
                break;
            }
        }
        const char *begin = reader->chunk + reader->chunk_begin;
        const size_t left = reader->chunk_end - reader->chunk_begin;
        const char *end = memchr(begin, '\n', left);
        const size_t count = end == NULL ? left : (size_t)(end - begin);
        any = true;
        ended = end != NULL;
        if (count > bytes_max - reader->buffer.count) {
            return seam_error_set(err, SEAM_E_LIMIT, "%s:%llu: line is over %zu bytes",
                                  reader->path, (unsigned long long)reader->line + 1, bytes_max);
        }
        if (seam_text_append(&reader->buffer, begin, count) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", reader->path);
        }
        reader->chunk_begin += count + (ended ? 1 : 0);
    }
    reader->line += any ? 1 : 0;
    *ret_more = any;
    return SEAM_OK;
}

/* Lines of a text file, plain or gzipped, one at a time. */
#ifndef SEAM_LINE_READER_H
#define SEAM_LINE_READER_H

#include <stdbool.h>

#include "text_buffer.h"

typedef struct seam_line_reader {
    void *stream; /* gzFile */
    const char *path;
    uint64_t line; /* number of the line that was read last, from 1 */
    seam_text buffer;
    char chunk[1 << 16]; /* inflated bytes [chunk_begin, chunk_end) are not yet taken */
    size_t chunk_begin, chunk_end;
} seam_line_reader;

/* `path` is borrowed until close.  SEAM_E_NOT_FOUND, SEAM_E_IO. */
seam_status seam_line_reader_open(seam_line_reader *reader, const char *path, seam_error *err);
void seam_line_reader_close(seam_line_reader *reader);
/* The next line without its end, in reader->buffer; *ret_more false after the last.
 * SEAM_E_LIMIT (longer than bytes_max), SEAM_E_IO (also a truncated or damaged gzip file),
 * SEAM_E_MEMORY; with file and line. */
seam_status seam_line_reader_next(bool *ret_more, seam_line_reader *reader, size_t bytes_max,
                                  seam_error *err);

#endif

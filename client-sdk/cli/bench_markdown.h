/* The document of `seam bench codecs` (bench_table.h) as Markdown: for people, and for
 * tests/bench/RESULTS.md. */
#ifndef SEAM_BENCH_MARKDOWN_H
#define SEAM_BENCH_MARKDOWN_H

#include <jansson.h>

#include "text_buffer.h"

/* Appends.  Figures that a row lacks are "-".  SEAM_E_MEMORY. */
seam_status seam_bench_markdown(seam_text *ret_text, const json_t *document, seam_error *err);

#endif

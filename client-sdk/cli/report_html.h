/* One self-contained HTML page from a run's report.json: plots as inline SVG, tables, no scripts
 * and nothing fetched; follows the reader's light or dark setting.
 *
 * Read of the report (every field may be missing; the page then leaves its part out):
 *   steps[]   step, loss, tokens, labelled_tokens, seconds, bytes_sent, bytes_received, bf16_bytes,
 *             sites.<site>.{mean_bits, payload_bytes}
 *   eval      <name> -> {number fields, groups: <group> -> {number fields}}: before, after, ...
 *   widths    <site> -> array: how many channels have width 0, 1, 2, ... (the last allocation)
 *   prediction.grade   <what> -> {predicted, measured, ratio}: run_prediction.h
 *   config    any object; it and the report's other scalar fields are listed as they are */
#ifndef SEAM_REPORT_HTML_H
#define SEAM_REPORT_HTML_H

#include "seam_status.h"

/* Tables, here and on the terminal, leave out the groups of an evaluation when there are more. */
#define SEAM_REPORT_GROUPS_MAX 16

/* Writes html_path (through a temporary file and rename: the old page or the whole new one).
 * SEAM_E_IO: a file cannot be read or written.  SEAM_E_FORMAT: the report is not a JSON object, or
 * a field has the wrong type (err names it).  SEAM_E_MEMORY. */
seam_status seam_report_html_write(const char *html_path, const char *report_json_path,
                                   seam_error *err);

#endif

/* Line and bar plots as inline SVG, for the HTML report.  Not a plotting library: one size, no
 * scripts.  Colours are CSS classes (s0..s5) that the page defines for light and dark.
 * Read next: report_html.c, the only user. */
#ifndef SEAM_SVG_PLOT_H
#define SEAM_SVG_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SEAM_PLOT_SERIES_MAX 6

typedef struct seam_plot_series {
    const char *name;     /* in the legend; borrowed */
    const double *values; /* (point_count) of the plot; NaN is a gap; borrowed */
} seam_plot_series;

typedef struct seam_plot {
    const char *title;
    const char *x_label, *y_label;
    const double *x; /* (point_count), rising */
    uint32_t point_count;
    seam_plot_series series[SEAM_PLOT_SERIES_MAX];
    uint32_t series_count;
    bool y_from_zero;
} seam_plot;

/* Writes a figure with the series as lines.  Without a finite value: a figure that says so. */
void seam_plot_write_lines(FILE *out, const seam_plot *plot);
/* The same as groups of bars, one group at each x, from zero. */
void seam_plot_write_bars(FILE *out, const seam_plot *plot);
/* Text with the five characters that HTML reserves replaced. */
void seam_html_write_text(FILE *out, const char *text);
/* A number for people: 12.3k, 4.56M, 0.0123; "-" for a value that is not finite. */
void seam_number_format(char *ret_text, size_t text_bytes, double value);

#endif

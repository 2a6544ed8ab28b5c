/* SVG figures: a frame with ticks at round numbers, then the series.  Points beyond what 640 pixels
 * can show are thinned to every n-th.  Read next: report_html.c. */
#include "svg_plot.h"

#include <math.h>

/* Of the SVG, in pixels: the whole, and the margins around the plotted area. */
#define WIDTH      640.0
#define HEIGHT     300.0
#define LEFT       62.0
#define RIGHT      14.0
#define TOP        14.0
#define BOTTOM     40.0
#define POINTS_MAX 600u
#define TICKS_MAX  12

typedef struct axes {
    double x_min, x_max, y_min, y_max;
    double x_step, y_step; /* between ticks */
} axes;

static bool axes_fit(axes *ret, const seam_plot *plot, bool bars);
static void write_frame(FILE *out, const seam_plot *plot, const axes *ax);
static void write_end(FILE *out, const seam_plot *plot);
static double pixel_x(const axes *ax, double x);
static double pixel_y(const axes *ax, double y);

void seam_plot_write_lines(FILE *out, const seam_plot *plot) {
    axes ax;
    const bool any = axes_fit(&ax, plot, false);
    write_frame(out, plot, any ? &ax : NULL);
    const uint32_t stride = (plot->point_count + POINTS_MAX - 1) / POINTS_MAX;
    for (uint32_t s = 0; any && s < plot->series_count; s++) {
        bool pen_down = false;
        fprintf(out, "<path class=\"line s%u\" d=\"", s);
        for (uint32_t i = 0; i < plot->point_count; i += stride) {
            const double y = plot->series[s].values[i];
            if (isfinite(y)) {
                fprintf(out, "%s%.1f %.1f", pen_down ? "L" : "M", pixel_x(&ax, plot->x[i]),
                        pixel_y(&ax, y));
            }
            pen_down = isfinite(y);
        }
        fputs("\"/>\n", out);
    }
    write_end(out, plot);
}

void seam_plot_write_bars(FILE *out, const seam_plot *plot) {
    axes ax;
    const bool any = axes_fit(&ax, plot, true);
    write_frame(out, plot, any ? &ax : NULL);
    const double slot = any ? (WIDTH - LEFT - RIGHT) / (ax.x_max - ax.x_min) : 0;
    const double bar = 0.8 * slot / (plot->series_count > 0 ? plot->series_count : 1);
    for (uint32_t s = 0; any && s < plot->series_count; s++) {
        for (uint32_t i = 0; i < plot->point_count; i++) {
            const double y = plot->series[s].values[i];
            if (!isfinite(y) || y <= 0) {
                continue;
            }
            const double left = pixel_x(&ax, plot->x[i]) - 0.4 * slot + s * bar;
            fprintf(out,
                    "<rect class=\"bar s%u\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"><title>%g: %g</title></rect>\n",
                    s, left, pixel_y(&ax, y), bar, pixel_y(&ax, 0) - pixel_y(&ax, y), plot->x[i],
                    y);
        }
    }
    write_end(out, plot);
}

void seam_html_write_text(FILE *out, const char *text) {
    for (const char *c = text; *c != '\0'; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*c, out);
        }
    }
}

void seam_number_format(char *ret_text, size_t text_bytes, double value) {
    const double size = fabs(value);
    if (!isfinite(value)) {
        snprintf(ret_text, text_bytes, "-");
    } else if (size >= 1e9) {
        snprintf(ret_text, text_bytes, "%.3gG", value / 1e9);
    } else if (size >= 1e6) {
        snprintf(ret_text, text_bytes, "%.3gM", value / 1e6);
    } else if (size >= 1e4) {
        snprintf(ret_text, text_bytes, "%.3gk", value / 1e3);
    } else {
        snprintf(ret_text, text_bytes, "%.4g", value);
    }
}

/* The next of 1, 2, 5, 10, ... times a power of ten that gives at most `ticks` steps. */
static double round_step(double range, int ticks) {
    const double raw = range / ticks;
    const double power = pow(10, floor(log10(raw)));
    const double part = raw / power;
    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

/* false: nothing finite to show. */
static bool axes_fit(axes *ret, const seam_plot *plot, bool bars) {
    double y_min = INFINITY, y_max = -INFINITY;
    for (uint32_t s = 0; s < plot->series_count; s++) {
        for (uint32_t i = 0; i < plot->point_count; i++) {
            const double y = plot->series[s].values[i];
            if (isfinite(y)) {
                y_min = fmin(y_min, y);
                y_max = fmax(y_max, y);
            }
        }
    }
    if (!isfinite(y_min)) {
        return false;
    }
    if (plot->y_from_zero || bars) {
        y_min = fmin(y_min, 0);
        y_max = fmax(y_max, 0);
    }
    if (y_max - y_min < 1e-12 * (1 + fabs(y_max))) {
        y_max = y_min + 1;
    }
    ret->y_step = round_step(y_max - y_min, 6);
    ret->y_min = ret->y_step * floor(y_min / ret->y_step);
    ret->y_max = ret->y_step * ceil(y_max / ret->y_step);
    ret->x_min = plot->x[0] - (bars ? 0.5 : 0);
    ret->x_max = plot->x[plot->point_count - 1] + (bars ? 0.5 : 0);
    if (ret->x_max <= ret->x_min) {
        ret->x_max = ret->x_min + 1;
    }
    ret->x_step = fmax(round_step(ret->x_max - ret->x_min, 9), 1); /* x counts things */
    return true;
}

static double pixel_x(const axes *ax, double x) {
    return LEFT + (x - ax->x_min) / (ax->x_max - ax->x_min) * (WIDTH - LEFT - RIGHT);
}

static double pixel_y(const axes *ax, double y) {
    return HEIGHT - BOTTOM - (y - ax->y_min) / (ax->y_max - ax->y_min) * (HEIGHT - TOP - BOTTOM);
}

static void write_ticks(FILE *out, const axes *ax) {
    char text[32];
    for (int i = 0; i <= TICKS_MAX; i++) {
        const double y = ax->y_min + i * ax->y_step;
        if (y > ax->y_max + 0.5 * ax->y_step) {
            break;
        }
        seam_number_format(text, sizeof text, fabs(y) < 1e-9 * ax->y_step ? 0 : y);
        fprintf(out,
                "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"ty\" x=\"%.1f\" "
                "y=\"%.1f\">%s</text>\n",
                LEFT, pixel_y(ax, y), WIDTH - RIGHT, LEFT - 6, pixel_y(ax, y) + 4, text);
    }
    const double first = ax->x_step * ceil(ax->x_min / ax->x_step);
    for (int i = 0; i <= TICKS_MAX; i++) {
        const double x = first + i * ax->x_step;
        if (x > ax->x_max) {
            break;
        }
        seam_number_format(text, sizeof text, x);
        fprintf(out, "<text class=\"tx\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", pixel_x(ax, x),
                HEIGHT - BOTTOM + 17, text);
    }
}

/* ax NULL: there is nothing to show. */
static void write_frame(FILE *out, const seam_plot *plot, const axes *ax) {
    fputs("<figure><figcaption>", out);
    seam_html_write_text(out, plot->title);
    fputs("</figcaption>\n", out);
    fprintf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    seam_html_write_text(out, plot->title);
    fputs("\">\n", out);
    if (ax == NULL) {
        fprintf(out, "<text class=\"tx\" x=\"%.0f\" y=\"%.0f\">not in this report</text>\n",
                WIDTH / 2, HEIGHT / 2);
        return;
    }
    write_ticks(out, ax);
    fprintf(out, "<text class=\"tx\" x=\"%.1f\" y=\"%.1f\">", (LEFT + WIDTH - RIGHT) / 2,
            HEIGHT - 5);
    seam_html_write_text(out, plot->x_label);
    fprintf(out, "</text>\n<text class=\"tx\" transform=\"translate(14 %.1f) rotate(-90)\">",
            (TOP + HEIGHT - BOTTOM) / 2);
    seam_html_write_text(out, plot->y_label);
    fputs("</text>\n", out);
}

static void write_end(FILE *out, const seam_plot *plot) {
    fputs("</svg>\n<p class=\"legend\">", out);
    for (uint32_t s = 0; s < plot->series_count; s++) {
        fprintf(out, "<span><i class=\"s%u\"></i>", s);
        seam_html_write_text(out, plot->series[s].name);
        fputs("</span> ", out);
    }
    fputs("</p></figure>\n", out);
}

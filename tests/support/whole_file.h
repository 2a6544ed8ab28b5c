/* Files of tests, read and written whole; and those of proto/golden with what the manifest says of
 * them.  Paths and names as printf makes them.  What fails here fails the test. */
#ifndef SEAM_WHOLE_FILE_H
#define SEAM_WHOLE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

/* Returns how many bytes the file has, which are fewer than bytes_max. */
__attribute__((format(printf, 3, 4))) size_t seam_test_file_read(void *ret, size_t bytes_max,
                                                                 const char *path, ...);
__attribute__((format(printf, 3, 4))) void seam_test_file_write(const void *bytes, size_t count,
                                                                const char *path, ...);

#define SEAM_GOLDEN_FILE_MAX 16384u

typedef struct seam_golden_file {
    uint8_t bytes[SEAM_GOLDEN_FILE_MAX];
    size_t count;
} seam_golden_file;

__attribute__((format(printf, 2, 3))) void seam_golden_read(seam_golden_file *ret, const char *name,
                                                            ...);
/* Of NAME.bin the file NAME.suffix. */
void seam_golden_read_beside(seam_golden_file *ret, const char *name, const char *suffix);
/* These values have the bits of NAME.values beside NAME.bin, which has as many. */
void seam_golden_check_values(const char *name, const float *values, size_t count);
/* The manifest expects this status, and its text to begin so; names in it end where they end there.
 */
void seam_golden_check_status(const char *name, const char *expected, seam_status st,
                              const seam_error *err);

#endif

/* A disk whose files cannot be read when told: fopen and fread of the code under test, by the
 * linker's --wrap (durable.cmake names them).  For test programs only. */
#ifndef SEAM_TEST_READ_FAULTS_H
#define SEAM_TEST_READ_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* The call with this number (from 0) fails with that errno.  UINT64_MAX: none. */
void read_fault_at(uint64_t number, int error);
bool read_fault_happened(void);

#endif

/* A disk that fails when told: write, fsync, fdatasync, rename and open of the code under test, by
 * the linker's --wrap (durable.cmake names them).  For test programs only. */
#ifndef SEAM_TEST_DISK_FAULTS_H
#define SEAM_TEST_DISK_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum disk_fault {
    DISK_FULL,  /* a write takes half and then none: ENOSPC; open and rename: ENOSPC */
    DISK_ERROR, /* EIO */
    DISK_FAULTS
} disk_fault;

/* The call with this number (from 0, of all wrapped calls) fails, and every later write too when
 * the disk is full.  UINT64_MAX: none. */
void disk_fault_at(uint64_t number, disk_fault fault);
/* Wrapped calls since disk_fault_at. */
uint64_t disk_call_count(void);
bool disk_fault_happened(void);
/* The calls so far, one letter each: o open for writing, w write, s fsync of a file, d of a folder,
 * r rename. */
const char *disk_calls(void);

#endif

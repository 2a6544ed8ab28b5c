/* What the process asks of its host before any library starts. */
#ifndef SEAM_HOST_H
#define SEAM_HOST_H

#include <signal.h>
#include <stdint.h>

/* glibc malloc tuned for 1 MiB messages (otherwise each is an mmap, measured at half the
 * throughput), as many file descriptors as allowed (gRPC 1.51.1's listener dies for ever when
 * they run out, CVE-2023-4785), no core file with adapters in it. */
void seam_host_tune(void);
/* Block SIGTERM, SIGINT and SIGHUP for all threads to come (before grpc_init) and ignore SIGPIPE;
 * *ret_set is what the main thread waits for. */
void seam_host_block_signals(sigset_t *ret_set);
/* Ask the main thread to end the process, as SIGTERM from outside does. */
void seam_host_stop(void);
/* Physical memory that is available now, in bytes; 0 if unknown. */
uint64_t seam_host_memory_available(void);
/* Monotonic clock in ms. */
uint64_t seam_host_now_ms(void);

#endif

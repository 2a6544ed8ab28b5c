/* The two thread roles of seamd, as words in declarations.
 *
 * loop: whoever holds the server's mutex (rpc/rpc_server.c): network events, sessions, admission.
 *       Changes state and copies bytes; never computes and never waits.
 * gpu:  the engine's one thread (engine/engine.c): everything that touches the device.
 * State crosses between them only inside a seam_job, which belongs to one role at a time. */
#ifndef SEAM_ROLES_H
#define SEAM_ROLES_H

#ifdef __clang__
#define SEAM_ON_LOOP __attribute__((annotate("loop")))
#define SEAM_ON_GPU  __attribute__((annotate("gpu")))
#else
#define SEAM_ON_LOOP
#define SEAM_ON_GPU
#endif

#endif

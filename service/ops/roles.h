/* The two thread roles of seamd, as capabilities that clang checks (-Wthread-safety -Werror).
 *
 * loop: whoever holds the server's mutex (rpc/rpc_server.c): network events, sessions, admission.
 *       Changes state and copies bytes; never computes and never waits.
 * gpu:  the engine's one thread (engine/engine.c): everything that touches the device.
 * State crosses between them only inside a seam_job, which belongs to one role at a time.
 *
 * A declaration ends with the role that its caller must have; a static function without one begins
 * with it.  A function without a role may run on any thread.  A role is taken at the two places
 * above and nowhere else.  What the check cannot see is a call through a pointer (seam_job.run,
 * seam_method.on_message): the functions in such tables carry their role themselves.  Empty for
 * gcc. tests/roles.sh runs the check over service/ and shows that wrong calls do not compile. */
#ifndef SEAM_ROLES_H
#define SEAM_ROLES_H

#ifdef __clang__
#define SEAM_ROLE_ATTRIBUTE(x) __attribute__((x))
#else
#define SEAM_ROLE_ATTRIBUTE(x)
#endif

#define SEAM_ON_LOOP SEAM_ROLE_ATTRIBUTE(requires_capability(seam_loop_role))
#define SEAM_ON_GPU  SEAM_ROLE_ATTRIBUTE(requires_capability(seam_gpu_role))

/* Names for the attributes only: never defined, never read. */
typedef struct SEAM_ROLE_ATTRIBUTE(capability("role")) seam_role {
    char name;
} seam_role;
extern seam_role seam_loop_role, seam_gpu_role;

/* In front of a function that runs before the threads have started, or after all have ended. */
#define SEAM_WITHOUT_THREADS SEAM_ROLE_ATTRIBUTE(no_thread_safety_analysis)
/* In front of a function that gives its caller a role, or takes it away. */
#define SEAM_ROLE_BEGINS(role)                                                                     \
    SEAM_ROLE_ATTRIBUTE(acquire_capability(role)) SEAM_ROLE_ATTRIBUTE(no_thread_safety_analysis)
#define SEAM_ROLE_ENDS(role)                                                                       \
    SEAM_ROLE_ATTRIBUTE(release_capability(role)) SEAM_ROLE_ATTRIBUTE(no_thread_safety_analysis)

#endif

/* Which transitions of the two protocol machines a test takes, held against the table of all
 * (transition_table.c).
 *
 * A test that links this has its calls of the machines wrapped (--wrap, tests/CMakeLists.txt), so
 * neither the machines nor the tests know of it.  A call is noted as (state, event, outcome ->
 * state).  The server's two variables move nearly apart, so they are two machines here: its link
 * and its phase.  The client's state is its mode, and whether a step is in flight, begun, or
 * committed.
 *
 * The table says of each who takes it for certain: the worlds of tests/sim, or, when only misuse or
 * a defect of the peer leads there or the worlds meet it too seldom, a case of tests/unit.  One
 * that is not taken by who is to take it, and one that is taken and not in the table, is an error.
 */
#ifndef SEAM_TRANSITIONS_H
#define SEAM_TRANSITIONS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum transition_machine {
    TRANSITION_LINK,   /* server_proto.h: link */
    TRANSITION_PHASE,  /* server_proto.h: phase */
    TRANSITION_CLIENT, /* client_proto.h */
    TRANSITION_MACHINES,
} transition_machine;

typedef enum transition_taker {
    TAKEN_BY_WORLDS = 1,
    TAKEN_BY_UNIT = 2,
} transition_taker;

typedef struct transition {
    transition_machine machine;
    const char *from, *event, *outcome, *to;
    uint32_t takers; /* bits of transition_taker */
} transition;

/* All of them; ends with a NULL `from`. */
extern const transition transition_table[];

/* While paused, calls are not noted. */
void transitions_pause(bool paused);
/* Checks the machines `first` to `last`: every transition of this taker is taken, every one taken
 * is in the table.  Prints what is wrong; returns how many are, and forgets what was taken. */
uint32_t transitions_check(transition_machine first, transition_machine last,
                           transition_taker taker);

#endif

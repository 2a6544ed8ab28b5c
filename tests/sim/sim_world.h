/* A world in which the two protocol machines meet: a server process, a client process, and streams
 * between them that lose, repeat and cut, all driven by one seed.
 *
 * The processes do the least that a real one does around a machine.  "State" is one 64-bit number a
 * side that every step folds its messages into, so a step applied twice, skipped, or computed from
 * other bytes leaves another number than the fault-free history, which the world knows beforehand.
 * What a process keeps on disk survives its crash; all else is lost.  Writes to it fail, are torn
 * by a crash, and rot afterwards.  In half of the worlds a codec keeps a table at both ends, so
 * that the same values have other bytes when the sender's table is another.  Few worlds end before
 * their last step: without a store, deleted, parked for too long, or with no intact checkpoint.
 *
 * A long world has fewer faults a step in two of three cases, so that it gets on between them.
 *
 * A bug can be planted (the canary): a simulation that finds none of them proves nothing. */
#ifndef SEAM_SIM_WORLD_H
#define SEAM_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_DEPTH_MAX 3  /* pipeline depths are 1 to this, a third of the worlds each */
#define SIM_STEPS     12 /* of a world, unless told */
#define SIM_STEPS_MAX 400

typedef enum sim_bug {
    SIM_BUG_NONE = 0,
    SIM_BUG_RUN_AGAIN,     /* the server computes a repetition again instead of using its cache */
    SIM_BUG_KEEP_STEP,     /* the server keeps the partial step that attach told it to drop */
    SIM_BUG_EARLY_DURABLE, /* the server tells a checkpoint durable before it is on disk */
    SIM_BUG_LATE_JOURNAL,  /* the client goes on before its record is flushed */
    SIM_BUG_NO_FENCE,      /* the server takes messages of fenced streams */
    SIM_BUG_DELETE_EARLY,  /* the server deletes checkpoints that nobody has confirmed */
    SIM_BUG_NO_REWIND,     /* the server does not say that it has loaded a checkpoint */
    SIM_BUG_RESEND_STATE,  /* the server asks a client without its codec's state to send again */
    SIM_BUG_LOAD_ROTTEN,   /* the server loads a damaged checkpoint */
    SIM_BUG_FORGET_WORK,   /* the server forgets waiting tensors and does not say so */
    SIM_BUG_KEEP_WORK,     /* the server says that waiting tensors are forgotten and keeps them */
    SIM_BUG_ONE_REPLY,     /* the server keeps one forward reply, whatever the depth */
    SIM_BUG_ENCODE_AGAIN,  /* the client encodes again what it repeats */
    SIM_BUG_CREDIT_ADDS,   /* the client adds grants up, as if each came once */
    SIM_BUG_CREDIT_STAYS,  /* the client counts on over a new stream */
    SIM_BUG_COUNT,
} sim_bug;

typedef struct sim_result {
    bool finished;      /* all steps are committed at both ends */
    bool ended;         /* as the rules allow: without a store, deleted, parked too long, or lost */
    const char *broken; /* the invariant that was found broken, or NULL */
    uint32_t depth;     /* of its pipeline */
    uint32_t cuts, server_crashes, client_crashes, parks, rollbacks, resends, cached, fenced;
    uint32_t grants, credit_waits;   /* both ends' */
    uint32_t ahead, withdrawn;       /* steps begun with several on their way; tensors forgotten */
    uint32_t lowered;                /* times that a client needs less of the depth from then on */
    uint32_t write_failures, aborts; /* of the disk, of the engine */
    uint64_t steps_in_trouble;       /* committed by the client while faults came */
    uint32_t rotten, rotten_live;    /* damaged checkpoints met; by a session that was running */
} sim_result;

/* One world from birth to its last step. */
sim_result sim_run(uint64_t seed, uint32_t steps, sim_bug bug);
const char *sim_bug_name(sim_bug bug);

#endif

/* Where the time of a step of the blocks goes: wrappers in front of the backend's ops, which wait
 * for the stream before and after each.  One profile at a time; any thread, but always the same. */
#ifndef SEAM_BLOCKS_PROFILE_H
#define SEAM_BLOCKS_PROFILE_H

#include "blocks.h"

void blocks_profile_begin(seam_blocks *blocks);
/* Puts the ops back and prints a table of what `steps` steps took. */
void blocks_profile_end(seam_blocks *blocks, uint32_t steps);

#endif

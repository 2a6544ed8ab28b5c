/* What the numbers of a session's config may be, judged once by the same code at both ends: who
 * makes a config asks here first, in the names of its own options.  Not here: what an operator
 * limits (rows, caches), and what codecs ask of each other (codec_plan.h, gates.h). */
#ifndef SEAM_CONFIG_RANGE_H
#define SEAM_CONFIG_RANGE_H

#include "seam_status.h"

/* field: of SessionConfig, "optimizer.lr"; one that has no range is asserted.  SEAM_E_ARG: value is
 * outside, or no number; *err says so of `name`. */
seam_status seam_config_range_check(const char *name, const char *field, double value,
                                    seam_error *err);

#endif

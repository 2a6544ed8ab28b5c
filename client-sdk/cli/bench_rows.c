/* The rows of the table of `seam bench codecs`: one line a codec (bench_options.h).
 *
 * A row that this build or the server does not implement stays in the table, with the reason. */
#include "bench_options.h"

const seam_bench_row seam_bench_rows[] = {
    {"bf16", NULL, "--codec bf16"},
    {"tensor", "bits", "--codec tensor"},
    {"channel", "bits", "--codec channel"},
    {"group", "bits", "--codec group"},
    {"affine", "bits", "--codec affine"},
    {"aqsgd", "bits", "--codec aqsgd"},
    {"amaq-gates", "target", "--codec amaq --allocator gates"},
    {"amaq-waterfill", "target", "--codec amaq --allocator waterfill"},
    /* A width a position instead of a channel: to compare with amaq-gates. */
    {"amaq-token", "target", "--codec amaq --allocator gates --granularity token"},
    /* The exact savings, beside a row that has none of them.  Same losses, fewer bytes. */
    {"amaq-plain", "target",
     "--codec amaq --labelled-rows-only off --elide-input-gradient off --distinct-rows-only off"},
    {"amaq-savings", "target", "--codec amaq --labelled-rows-only on --entropy rans"},
    {"amaq-dictionary", "target",
     "--codec amaq --labelled-rows-only on --entropy rans --dictionary on"},
};
const uint32_t seam_bench_row_count = sizeof seam_bench_rows / sizeof *seam_bench_rows;

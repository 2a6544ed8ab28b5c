#!/usr/bin/env bash
# Run every libFuzzer target of the fuzz preset for SECONDS each, from its committed corpus.
#
#   tests/fuzz.sh SECONDS
#
# New inputs go to build/fuzz/corpus (kept between runs); a crash leaves its input beside the log
# in build/fuzz and fails.  Add the minimized input to tests/fuzz/corpus/<target> with the fix.
# Writes a JUnit file to build/results, so that the summary of `make test` counts the targets.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
seconds=${1:?usage: tests/fuzz.sh SECONDS}
[ -d build/fuzz/bin ] || { cmake --preset fuzz && cmake --build --preset fuzz; } || exit 1
mkdir -p build/results
cases=''
status=0
for target in build/fuzz/bin/fuzz_*; do
    [ -x "$target" ] || { echo "no fuzz targets in build/fuzz/bin" >&2; exit 1; }
    name=$(basename "$target")
    corpus=build/fuzz/corpus/$name
    seeds=tests/fuzz/corpus/${name#fuzz_}
    mkdir -p "$corpus"
    [ -d "$seeds" ] || seeds=
    if "$target" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$name-" "$corpus" ${seeds:+"$seeds"} \
        >"build/fuzz/$name.log" 2>&1; then
        result=run
    else
        result=fail
        status=1
        tail -30 "build/fuzz/$name.log"
    fi
    printf '%-28s %-5s %s executions\n' "$name" "$result" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log")"
    cases+="<testcase name=\"$name\" status=\"$result\"/>"
done
printf '<testsuite>%s</testsuite>\n' "$cases" >build/results/fuzz.xml
exit $status

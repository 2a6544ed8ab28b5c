#!/usr/bin/env bash
# The link matrix: the overlap of wire and server, a minute of silence, rates, round trips and loss,
# then runs through cuts.  See links.py.
#
#   tests/bench/links.sh BIN OUT JOBS
#     BIN    folder with seam, seamd, seamd_slow and link_shim (build/release/bin)
#     OUT    results.jsonl, links.md, a log a call
#     JOBS   cells at once: they share the cores, each has its own link
#   Variables: PYTHON [python3], RATES ["10 50 100"], RTTS ["20 80 300"], LOSSES ["0 1"],
#     CUT_RATES ["10"]
set -euo pipefail
[ $# -eq 3 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$1 out=$2 jobs=$3 failed=0
python=${PYTHON:-python3}
mkdir -p "$out"
rm -f "$out/results.jsonl"

start() { # NAME ARGS...
    local name=$1
    shift
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || failed=$((failed + 1)); done
    "$python" "$here/links.py" "$bin" "$out" "$@" >"$out/$name.log" 2>&1 &
}

start overlap overlap
start idle idle
for kind in cell cuts; do
    rates=${RATES:-10 50 100}
    [ $kind = cell ] || rates=${CUT_RATES-10}
    for mbit in $rates; do
        for rtt in ${RTTS:-20 80 300}; do
            for loss in ${LOSSES:-0 1}; do
                start "$kind-$mbit-$rtt-$loss" $kind "$mbit" "$rtt" "$loss"
            done
        done
    done
done
while [ -n "$(jobs -rp)" ]; do wait -n || failed=$((failed + 1)); done
"$python" "$here/links.py" "$bin" "$out" table | tee "$out/links.md"
echo "$failed failed"
[ "$failed" -eq 0 ]

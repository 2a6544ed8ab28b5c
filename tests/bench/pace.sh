#!/usr/bin/env bash
# Does the mean width reach its target at the step that was asked for?  `seam train` with gates and
# the pace controller, every run with a seamd of its own, then a table (pace_table.py).
#
#   tests/bench/pace.sh BIN MODEL GSM8K CODE_ALPACA OUT JOBS
#     BIN         folder with seam and seamd; nothing else of the build is needed
#     MODEL       folder or .gguf
#     GSM8K, CODE_ALPACA   training rows, JSONL or .gz
#     OUT         a folder a run, and pace.md; runs that are complete there are kept
#     JOBS        runs at once; they share the cores
#   Variables: STEPS [180], AT: the requested step [120], BATCH [4], TOKENS [256], SEEDS ["1"],
#     TARGETS ["4 3"], TRAIN_ARGS: further options of `seam train`
#
# Nothing is installed or built: LD_LIBRARY_PATH is the caller's.  Needs python3 for the table.
set -euo pipefail
[ $# -eq 6 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$1 model=$2 gsm8k=$3 code_alpaca=$4 out=$5 jobs=$6
steps=${STEPS:-180} at=${AT:-120}
threads=$((($(nproc) + jobs - 1) / jobs))
mkdir -p "$out"

# One run: NAME DATA TARGET SEED.  Its server ends with it.
run_one() {
    local folder=$out/$1 server status=0
    rm -rf "$folder"
    mkdir -p "$folder"
    "$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$folder/address" --model "$model" \
        --threads "$threads" >"$folder/seamd.log" 2>&1 &
    server=$!
    while [ ! -s "$folder/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.2; done
    # shellcheck disable=SC2086  # TRAIN_ARGS is several words
    "$bin/seam" train --server "$(cat "$folder/address")" --model "$model" --data "$2" \
        --out "$folder" --allocator gates --target "$3" --steps-to-target "$at" --steps "$steps" \
        --batch "${BATCH:-4}" --tokens-max "${TOKENS:-256}" --truncate --seed "$4" \
        --threads "$threads" --quiet ${TRAIN_ARGS:-} >"$folder/seam.log" 2>&1 || status=$?
    kill "$server" 2>/dev/null || true
    wait "$server" || true
    [ "$status" -eq 0 ] && touch "$folder/done" || { echo "$1: exit $status"; tail -3 "$folder"/*.log; }
    return "$status"
}

names=()
for seed in ${SEEDS:-1}; do
    for target in ${TARGETS:-4 3}; do
        for data in gsm8k code_alpaca; do
            name=$data-$target-$seed
            names+=("$name")
            [ ! -e "$out/$name/done" ] || continue
            while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
            run_one "$name" "${!data}" "$target" "$seed" &
        done
    done
done
while [ -n "$(jobs -rp)" ]; do wait -n || true; done
python3 "$here/pace_table.py" "$at" "$out" "${names[@]}" | tee "$out/pace.md"

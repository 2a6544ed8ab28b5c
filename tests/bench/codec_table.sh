#!/usr/bin/env bash
# The table of `seam bench codecs` by several runs at once against one seamd: for a GPU, which a single
# run leaves idle most of the time.
#
#   tests/bench/codec_table.sh BIN MODEL TRAIN EVAL OUT DEVICE JOBS [SEAM_BENCH_ARGS...]
#     BIN      folder with seam and seamd; nothing else of the build is needed
#     MODEL    folder or .gguf
#     TRAIN, EVAL   rows, JSONL or .gz
#     OUT      bench.json, bench.md, and a folder a run; runs that are complete there are kept
#     DEVICE   of seamd and of every run's head: cpu, cuda:0
#     JOBS     runs at once
#   Variables: CODECS [bf16 affine aqsgd amaq-gates amaq-waterfill amaq-savings], BITS ["4 3"],
#     SEEDS ["1 2"], STEPS [1000], LIMIT: seconds after which no further run begins, and the
#     table waits for a next call [no limit]
#
# A run is a call of `seam bench codecs` for one codec, width and seed; the last call names them all,
# finds their folders and writes the table.  LD_LIBRARY_PATH is the caller's.
set -euo pipefail
[ $# -ge 7 ] || { sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2; }
bin=$1 model=$2 train=$3 eval_rows=$4 out=$5 device=$6 jobs=$7
shift 7
codecs=${CODECS:-bf16 affine aqsgd amaq-gates amaq-waterfill amaq-savings}
bits=${BITS:-4 3} seeds=${SEEDS:-1 2} limit=${LIMIT:-0}
mkdir -p "$out/one"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
rm -f "$out/address" "$out/left"
"$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/address" --model "$model" \
    --device "$device" --rows-max 4096 >"$out/seamd.log" 2>&1 &
server=$!
while [ ! -s "$out/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.1; done
[ -s "$out/address" ] || { tail -5 "$out/seamd.log"; exit 1; }
bench() { # CODECS BITS SEEDS OUT ARGS...
    local codecs=$1 bits=$2 seeds=$3 folder=$4
    shift 4
    "$bin/seam" bench codecs --server "$(cat "$out/address")" --model "$model" --data "$train" \
        --eval-data "$eval_rows" --out "$folder" --codecs "${codecs// /,}" --bits "${bits// /,}" \
        --seeds "${seeds// /,}" --steps "${STEPS:-1000}" --train-rows 640 --eval-rows 400 --batch 8 \
        --tokens-max 384 --truncate --rows-max 3072 --lr 1e-4 --device "$device" --threads 2 \
        --quiet "$@"
}

# Each run writes a table of its own run, so it has a folder of its own; its run folder is the table's.
one() { # CODEC BITS SEED ARGS...
    local name=$1-$2-$3 folder=$out/one/$1-$2-$3
    [ "$limit" -eq 0 ] || [ "$SECONDS" -lt "$limit" ] || { echo "$name: not begun" | tee "$out/left"; return 0; }
    mkdir -p "$folder"
    bench "$1" "$2" "$3" "$folder" "${@:4}" >"$folder/log" 2>&1 ||
        { echo "$name: failed"; tail -2 "$folder/log"; return 0; }
    echo "$name: ends after $SECONDS s"
}
for seed in $seeds; do
    for codec in $codecs; do
        for width in $bits; do
            [ "$codec" != bf16 ] || [ "$width" = "${bits%% *}" ] || continue
            while [ "$(jobs -pr | wc -l)" -gt "$jobs" ]; do sleep 0.2; done # seamd is one
            one "$codec" "$width" "$seed" "$@" &
        done
    done
done
while [ "$(jobs -pr | wc -l)" -gt 1 ]; do sleep 0.2; done
for folder in "$out"/one/*/; do
    for run in "$folder"*/; do [ ! -f "$run/report.json" ] || cp -r "$run" "$out/"; done
done
[ ! -e "$out/left" ] || exit 0
bench "$codecs" "$bits" "$seeds" "$out" "$@" >"$out/log" 2>&1 || tail -3 "$out/log"
cat "$out/bench.md"

#!/usr/bin/env bash
# Where a step's time goes over loopback gRPC: seamd and seam on one host, beside the blocks alone in
# the same run; the table by end_to_end.py, a timeline of the last step by timeline.py.
#
#   tests/bench/end_to_end.sh BIN MODEL OUT DEVICE [HEAD_DEVICES [SEAM_TRAIN_ARGS...]]
#     BIN      folder with seam, seamd and bench_blocks; nothing else of the build is needed
#     MODEL    folder or .gguf; random_model.py writes one of a large shape
#     DEVICE, HEAD_DEVICES   of seamd, and of seam in one run after the other: cpu, cuda:0 [cpu]
#   Variables: STEPS [8], BATCH [16], TOKENS [384], ROWS [BATCH * TOKENS]: tokens of a micro-batch;
#     SHAPE [llama3-8b]: of the model, as bench_blocks names it; BLOCKS_MS: do not measure the blocks
#     alone, a step of them takes this
#
# Text: rows of words that fill TOKENS tokens, all but the first few in the loss, so that a step is
# BATCH full rows.  LD_LIBRARY_PATH is the caller's.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$1 model=$2 out=$3 device=$4 heads=${5:-cpu}
shift $(($# < 5 ? $# : 5))
steps=${STEPS:-8} batch=${BATCH:-16} tokens=${TOKENS:-384} shape=${SHAPE:-llama3-8b}
rows=${ROWS:-$((batch * tokens))}
micro=$((rows / tokens < batch ? rows / tokens : batch)) # sequences of a micro-batch
mkdir -p "$out"
python3 - "$tokens" >"$out/rows.jsonl" <<'PY'
import json, random, sys
words = "red green blue lamp door seven nine open the of a to and light river stone".split()
draw = random.Random(1)
for _ in range(64):
    text = " ".join(draw.choice(words) for _ in range(int(sys.argv[1]) + 8))
    print(json.dumps({"prompt": "Say:", "completion": " " + text}))
PY
blocks_ms=${BLOCKS_MS:-}
if [ -z "$blocks_ms" ]; then # before the server takes the device's memory
    "$bin/bench_blocks" --device "$device" --shape "$shape" --work "${micro}x$tokens" --iters 8 |
        tee "$out/blocks.txt"
    blocks_ms=$(awk -v n=$((batch / micro)) '/tokens\/s/ {print n * $2; exit}' "$out/blocks.txt")
fi
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
rm -f "$out/address"
begin=$(date +%s%N)
"$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/address" --model "$model" \
    --device "$device" --rows-max "$rows" --trace "$out/server.json" >"$out/seamd.log" 2>&1 &
server=$!
while [ ! -s "$out/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.05; done
[ -s "$out/address" ] || { tail -5 "$out/seamd.log"; exit 1; }
ms=$((($(date +%s%N) - begin) / 1000000))
echo "seamd ready after $((ms / 1000)).$(printf %03d $((ms % 1000))) s"
for head in $heads; do
    "$bin/seam" train --server "$(cat "$out/address")" --model "$model" --data "$out/rows.jsonl" \
        --out "$out/$head" --steps "$steps" --batch "$batch" --tokens-max "$tokens" --truncate \
        --rows-max "$rows" --device "$head" --trace "$out/$head.json" --delete-session --quiet "$@" \
        >"$out/seam.log" 2>&1 || { tail -5 "$out/seam.log" "$out/seamd.log"; exit 1; }
done
kill "$server"
wait "$server" || true
server=
for head in $heads; do
    echo "--- head on $head"
    python3 "$here/end_to_end.py" --blocks-ms "$blocks_ms" "$out/$head/report.json"
    python3 "$here/timeline.py" "$out/$head.json" "$out/server.json" --out "$out/$head.both.json" ||
        echo "no timeline"
done

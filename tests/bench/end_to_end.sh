#!/usr/bin/env bash
# Where a step's time goes over loopback gRPC: seamd and seam on one host, the table by end_to_end.py.
#
#   tests/bench/end_to_end.sh BIN MODEL OUT DEVICE [HEAD_DEVICE [SEAM_TRAIN_ARGS...]]
#     BIN      folder with seam and seamd; nothing else of the build is needed
#     MODEL    folder or .gguf; random_model.py writes one of a large shape
#     DEVICE, HEAD_DEVICE   of seamd and of seam: cpu, cuda:0 [cpu]
#   Variables: STEPS [8], BATCH [16], TOKENS [384], ROWS [BATCH * TOKENS]: tokens of a micro-batch
#
# Text: rows of words that fill TOKENS tokens, all but the first few in the loss, so that a step is
# BATCH full rows.  LD_LIBRARY_PATH is the caller's.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$1 model=$2 out=$3 device=$4 head=${5:-cpu}
shift $(($# < 5 ? $# : 5))
steps=${STEPS:-8} batch=${BATCH:-16} tokens=${TOKENS:-384}
rows=${ROWS:-$((batch * tokens))}
mkdir -p "$out"
python3 - "$tokens" >"$out/rows.jsonl" <<'EOF'
import json, random, sys
words = "red green blue lamp door seven nine open the of a to and light river stone".split()
draw = random.Random(1)
for _ in range(64):
    text = " ".join(draw.choice(words) for _ in range(int(sys.argv[1]) + 8))
    print(json.dumps({"prompt": "Say:", "completion": " " + text}))
EOF
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
rm -f "$out/address"
begin=$(date +%s.%N)
"$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/address" --model "$model" \
    --device "$device" --rows-max "$rows" >"$out/seamd.log" 2>&1 &
server=$!
while [ ! -s "$out/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.05; done
[ -s "$out/address" ] || { tail -5 "$out/seamd.log"; exit 1; }
echo "seamd ready after $(echo "$(date +%s.%N) - $begin" | bc | cut -c1-5) s"
"$bin/seam" train --server "$(cat "$out/address")" --model "$model" --data "$out/rows.jsonl" \
    --out "$out" --steps "$steps" --batch "$batch" --tokens-max "$tokens" --truncate \
    --rows-max "$rows" --device "$head" --quiet "$@" >"$out/seam.log" 2>&1 ||
    { tail -5 "$out/seam.log" "$out/seamd.log"; exit 1; }
python3 "$here/end_to_end.py" "$out/report.json"

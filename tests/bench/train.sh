#!/usr/bin/env bash
# What a user sees: `seam train` against seamd over loopback gRPC, and the same step in PyTorch, in
# turn on the same cores.  Client, codec, network and server are all in our figure.
#
#   tests/bench/train.sh [ROUNDS [STEPS [CODEC]]]      after `make build` and deploy/setup.sh oracle
#
# Text: GSM8K's training rows, batch 8; PyTorch's batch has lengths of such rows.  LoRA of rank 16
# on all projections in both.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
steps=${2:-24}
codec=${3:-amaq}
bin=build/release/bin
python=${SEAM_ORACLE_PYTHON:-.venv-oracle/bin/python}
data=${SEAM_SHARED_DIR:-../shared}/data/gsm8k/train.jsonl.gz
text=147:82,121:49,209:106,180:108,102:55,239:131,168:71,155:94
[ -r "$data" ] || { echo "skipped: no shared data at $data"; exit 77; }
work=$(mktemp -d)
server=
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
model=${MODEL:-$($bin/seam model pull demo)}

# Tokens a second over the steps after the first four (warm-up), from report.json.
rate() {
    "$python" - "$1" <<'PY'
import json, sys
steps = json.load(open(sys.argv[1]))["steps"][4:]
print(f'{sum(s["tokens"] for s in steps) / sum(s["seconds"] for s in steps):.0f}')
PY
}

for ((round = 1; round <= rounds; round++)); do
    rm -f "$work/address"
    "$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$work/address" --model "$model" \
        >"$work/seamd.log" 2>&1 &
    server=$!
    until [ -s "$work/address" ]; do sleep 0.2; done
    "$bin/seam" train --server "$(cat "$work/address")" --model "$model" --data "$data" --quiet \
        --tokens-max 384 --truncate --rank 16 --targets q,k,v,o,gate,up,down --seed "$round" \
        --steps "$steps" --batch 8 --codec "$codec" --save-every "$steps" --out "$work/run" >/dev/null
    kill "$server"
    wait "$server" || true
    echo "round $round: seam train + seamd, $codec: $(rate "$work/run/report.json") tokens/s"
    "$python" tests/bench/peer_torch_cpu.py "${variants:-all}" "$(nproc)" 3 "$text" 2>/dev/null |
        tee "$work/peer"
    variants=$(sed -n "s/^torch's best: \([a-z0-9-]*\),.*/\1/p" "$work/peer")
done

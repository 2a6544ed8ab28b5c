#!/usr/bin/env bash
# Training speed against PyTorch on the same step, in turn on the same cores: `make bench`.
#
#   tests/bench/bench.sh [THREADS [ROUNDS [LENGTH:PROMPT,...]]]
#
# Machines change their speed by the second, so the two take turns and the lines of all rounds
# count.  The default text is a batch of 8 GSM8K rows (lengths and prompt lengths of real ones).
set -euo pipefail
cd "$(dirname "$0")/../.."
threads=${1:-$(nproc)}
rounds=${2:-3}
text=${3:-147:82,121:49,209:106,180:108,102:55,239:131,168:71,155:94}
python=.venv-oracle/bin/python
for ((round = 1; round <= rounds; round++)); do
    echo "== round $round of $rounds, $threads threads"
    for type in bf16 f32; do
        build/release/bin/bench_step "$type" "$threads" 5 "$text" ||
            [ $? -eq 77 ] || exit 1
    done
    if [ "$round" -eq 1 ]; then
        variants=all
    else
        variants=$best
    fi
    "$python" tests/bench/peer_torch_cpu.py "$variants" "$threads" 3 "$text" 2>/dev/null |
        tee build/release/peer.log
    best=$(sed -n "s/^torch's best: \([a-z0-9-]*\),.*/\1/p" build/release/peer.log)
done

#!/usr/bin/env bash
# codec_sim on a machine with one GPU and no network, from the repository's root:
#
#   tests/bench/codec_sim/codec_sim.sh bench [ARGS...]   speed on random weights; needs tokens.npz
#   tests/bench/codec_sim/codec_sim.sh run [ARGS...]     the table's runs
#
# ARGS go to codec_sim.py.
#
# .simdata/ is what prepare.py wrote; results go to $OUT (default: .).  A second machine or call
# takes other jobs by --tasks and --seeds; codec_sim_table.py reads any number of result files.
set -euo pipefail
cd "$(dirname "$0")/../../.."
verb=${1:?bench or run}
shift
out=${OUT:-.}
export PYTHONUNBUFFERED=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
sim=tests/bench/codec_sim
case $verb in
bench)
    nvidia-smi --query-gpu=name,memory.total --format=csv,noheader
    python3 "$sim/check_codec_sim.py" | tail -n 1
    python3 "$sim/codec_sim.py" --random --steps 30 --test-rows 64 --quick --seeds 1 --minutes 2 \
        --log-every 10 --out "$out/bench.jsonl" "$@"
    ;;
run)
    python3 "$sim/codec_sim.py" --out "$out/codec_sim.jsonl" "$@" 2>&1 | tee -a "$out/codec_sim.log"
    ;;
*)
    echo "codec_sim.sh: '$verb' is neither bench nor run" >&2
    exit 2
    ;;
esac

#!/usr/bin/env bash
# Scores before and after training: accuracy of multiple choice, exact match of generated answers,
# AMAQ 4 beside bf16.  One seamd, all runs at once.
#
#   tests/bench/scores.sh BIN MODEL DATA OUT DEVICE [SEAM_TRAIN_ARGS...]
#     BIN      folder with seam and seamd; nothing else of the build is needed
#     MODEL    folder or .gguf
#     DATA     folder with TASK/train.jsonl.gz and TASK/test.jsonl.gz
#     OUT      a run folder a task and codec; scores.md
#     DEVICE   of seamd and of every run's head: cpu, cuda:0
#   Variables: TASKS [boolq commonsense_qa gsm8k], CODECS [bf16 amaq], STEPS [500], EVAL_ROWS [500]
#
# LD_LIBRARY_PATH is the caller's.
set -euo pipefail
[ $# -ge 5 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
bin=$1 model=$2 data=$3 out=$4 device=$5
shift 5
tasks=${TASKS:-boolq commonsense_qa gsm8k} codecs=${CODECS:-bf16 amaq} steps=${STEPS:-500}
mkdir -p "$out"
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT
rm -f "$out/address"
"$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/address" --model "$model" \
    --device "$device" --rows-max 4096 >"$out/seamd.log" 2>&1 &
server=$!
while [ ! -s "$out/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.1; done
[ -s "$out/address" ] || { tail -5 "$out/seamd.log"; exit 1; }
runs=()
for task in $tasks; do
    texts=off # a choice is scored by likelihood; its letter need not be generated too
    zcat "$data/$task/test.jsonl.gz" | grep -qm1 '"choices"' || texts=on
    for codec in $codecs; do
        rm -rf "$out/$task-$codec"
        "$bin/seam" train --server "$(cat "$out/address")" --model "$model" --codec "$codec" \
            --data "$data/$task/train.jsonl.gz" --eval-data "$data/$task/test.jsonl.gz" \
            --eval-rows "${EVAL_ROWS:-500}" --out "$out/$task-$codec" --steps "$steps" \
            --batch 16 --tokens-max 512 --truncate --rows-max 4096 --lr 5e-4 --schedule cosine \
            --warmup $((steps / 25)) --seed 1 --exact-match $texts --eval-new-tokens 200 --device "$device" --threads 2 --quiet "$@" \
            >"$out/$task-$codec.log" 2>&1 &
        runs+=($!)
    done
done
failed=0
for run in "${runs[@]}"; do wait "$run" || failed=1; done
python3 - "$out" "$tasks" "$codecs" <<'PY' | tee "$out/scores.md"
import json
import sys

out, tasks, codecs = sys.argv[1], sys.argv[2].split(), sys.argv[3].split()


def score(part):
    """Of one evaluation: accuracy or exact match in per cent, and the loss."""
    for name in ("accuracy", "exact_match"):
        if part.get(name) is not None:
            return f"{name.replace('_', ' ')} {100 * part[name]:.1f} % (loss {part['loss']:.4f})"
    return f"loss {part['loss']:.4f}"


print("| task | codec | before | after, without quantizers | after, through them | KB a step up, down |")
print("|---|---|---|---|---|---|")
for task in tasks:
    for codec in codecs:
        try:
            report = json.load(open(f"{out}/{task}-{codec}/report.json"))
        except OSError as missing:
            print(f"| {task} | {codec} | no report: {missing.strerror} |")
            continue
        evals = report["eval"]
        cells = [score(evals[k]) if evals.get(k) else "-" for k in ("before", "after", "after_quantized")]
        steps = report["steps"]
        up, down = (sum(s[k] for s in steps) / len(steps) / 1e3
                    for k in ("bytes_sent", "bytes_received"))
        print(f"| {task} | {codec} | " + " | ".join(cells) + f" | {up:.1f}, {down:.1f} |")
PY
exit $failed

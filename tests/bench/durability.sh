#!/usr/bin/env bash
# What durability costs a run that nothing disturbs: `seam train` against a seamd with a state
# directory and against one without, in turn; the journal's part from the client's timeline.  Processor
# seconds of both ends stand beside the wall's: on a machine that is not quiet they are what repeats.
#
#   tests/bench/durability.sh BIN MODEL ROWS OUT PAIRS
#     BIN    folder with seam and seamd     MODEL  folder or .gguf     ROWS   training rows, JSONL or .gz
#     OUT    durability.md and the runs     PAIRS  of runs
#   Variables: STEPS [16], BATCH [4], TOKENS [128], CHECKPOINT_SECONDS [10: six times as often as by
#     default], PYTHON [python3]
set -euo pipefail
[ $# -eq 5 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
bin=$1 model=$2 rows=$3 out=$4 pairs=$5
mkdir -p "$out"

run_one() { # NAME SEAMD_ARGS...
    local folder=$out/$1 server
    shift
    rm -rf "$folder" "$out/state"
    mkdir -p "$folder" "$out/state"
    "$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$folder/address" --model "$model" \
        "$@" >"$folder/seamd.log" 2>&1 &
    server=$!
    while [ ! -s "$folder/address" ] && kill -0 "$server" 2>/dev/null; do sleep 0.2; done
    "$bin/seam" train --server "$(cat "$folder/address")" --model "$model" --data "$rows" \
        --out "$folder" --steps "${STEPS:-16}" --batch "${BATCH:-4}" --tokens-max "${TOKENS:-128}" \
        --truncate --quiet --trace "$folder/client.json" >"$folder/seam.log" 2>&1
    cp "$(find "$out/state" -name '*.manifest' | head -1)" "$folder/" 2>/dev/null || true
    kill "$server"
    wait "$server" || true
}

for ((i = 0; i < pairs; i++)); do # each in a shell of its own, whose children's times are the run's
    (run_one "durable-$i" --state-dir "$out/state" --checkpoint-seconds "${CHECKPOINT_SECONDS:-10}"
        times >"$out/durable-$i/times")
    (run_one "plain-$i"
        times >"$out/plain-$i/times")
done
"${PYTHON:-python3}" - "$out" "$pairs" <<'PYTHON_END' | tee "$out/durability.md"
import json, pathlib, re, statistics, sys
out, pairs = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def steps(name):
    return json.loads((out / name / "report.json").read_text())["steps"][2:]

def record_share(name):
    events = json.loads((out / name / "client.json").read_text())["traceEvents"]
    sums = {kind: sum(e["dur"] for e in events if e.get("name") == kind) for kind in ("record", "step")}
    return sums["record"] / sums["step"], sums["record"] / 1e3 / len(steps(name))

def cpu_seconds(name):  # user and system, of the children
    line = (out / name / "times").read_text().split("\n")[1]
    return sum(60 * float(m) + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", line))

ratios, cpu = [], []
for i in range(pairs):
    durable, plain = steps(f"durable-{i}"), steps(f"plain-{i}")
    assert [s["state_hash"] for s in durable] == [s["state_hash"] for s in plain]
    assert list((out / f"durable-{i}").glob("*.manifest")), "no checkpoint was written"
    total = [sum(s["seconds"] for s in run) for run in (durable, plain)]
    ratios.append(total[0] / total[1])
    used = [cpu_seconds(f"{kind}-{i}") for kind in ("durable", "plain")]
    cpu.append(used[0] / used[1])
    print(f"pair {i}: steps {total[0]:.2f} s with checkpoints, {total[1]:.2f} s without: {ratios[-1]:.4f}; "
          f"processor {used[0]:.2f} and {used[1]:.2f} s: {cpu[-1]:.4f}")
shares = [record_share(f"{kind}-{i}") for i in range(pairs) for kind in ("durable", "plain")]
print(f"checkpoints: median {100 * (statistics.median(ratios) - 1):+.2f} % of step time")
print(f"processor time of both ends: median {100 * (statistics.median(cpu) - 1):+.2f} %")
print(f"journal: median {100 * statistics.median(s[0] for s in shares):.3f} % of step time")
PYTHON_END

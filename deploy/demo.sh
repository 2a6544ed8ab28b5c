#!/usr/bin/env bash
# The whole job on a small model: set up, build, fetch the model, serve it, fine-tune it, report.
#
#   make demo        or  deploy/demo.sh        variables (all optional):
#     OUT=DIR        run folder [demo-run]: adapter/, report.json, report.html, seamd.log
#     MODEL=PATH     Hugging Face directory or GGUF file [SmolLM2-135M-Instruct, fetched once]
#     DATA=FILE      training rows, JSONL or .gz [spoken requests to JSON commands]
#     EVAL_DATA=FILE evaluation rows [those of the demo; with DATA=: none]
#     STEPS=N BATCH=N LR=X SEED=N CODEC=amaq|affine|tensor|channel|group|aqsgd|bf16|f32
#     TARGET=N       bits a value: the mean width of amaq (4 or 3), the width of another codec [4]
#     TRAIN_ARGS=    further options of `seam train`; --allocator gates: the paper's gates, not waterfill
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'demo: error: %s\n' "$*" >&2; exit 1; }
absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s/%s' "$caller" "$1" ;; esac; }

out=$(absolute "${OUT:-demo-run}")
steps=${STEPS:-200}
server=
log=$out/seamd.log
mkdir -p "$out"

stop_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true # SIGTERM: it drains
    wait "$server" 2>/dev/null || true
    server=
}
trap stop_server EXIT
trap 'exit 130' INT TERM

say "packages"
deploy/setup.sh build

say "build"
{ cmake --preset release -DSEAM_TESTS="${SEAM_TESTS:-OFF}" && cmake --build --preset release; } \
    >"$out/build.log" 2>&1 || { tail -30 "$out/build.log"; die "the build failed: $out/build.log"; }
seam=$PWD/build/release/bin/seam
seamd=$PWD/build/release/bin/seamd
"$seamd" --version

say "model"
if [ -n "${MODEL:-}" ]; then
    model=$(absolute "$MODEL")
    [ -e "$model" ] || die "MODEL=$MODEL: no such file or directory"
else
    model=$("$seam" model pull)
fi
echo "$model"

say "server"
rm -f "$out/seamd.address"
"$seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/seamd.address" --model "$model" \
    >"$log" 2>&1 &
server=$!
for _ in $(seq 1200); do
    [ ! -s "$out/seamd.address" ] || break
    kill -0 "$server" 2>/dev/null || { tail -5 "$log"; die "seamd ended: $log"; }
    sleep 0.1
done
[ -s "$out/seamd.address" ] || die "seamd was not ready after two minutes: $log"
address=$(cat "$out/seamd.address")
echo "seamd $address, process $server"

say "train"
asked=
if [ -z "${DATA:-}" ]; then
    asked="it is dark outside, so the blind in the bedroom should be closed" # of eval.jsonl
    DATA=$PWD/deploy/demo/train.jsonl
    EVAL_DATA=${EVAL_DATA:-$PWD/deploy/demo/eval.jsonl}
fi
data=(--data "$(absolute "$DATA")")
[ -z "${EVAL_DATA:-}" ] || data+=(--eval-data "$(absolute "$EVAL_DATA")")
rm -f "$out/session.json" # of a demo that was cut: its session ended with its server
codec=${CODEC:-amaq}
case $codec in # TARGET is of amaq's mean width, of the others' every width
    amaq) width=(--target "${TARGET:-4}") ;;
    bf16 | f32)
        [ -z "${TARGET:-}" ] || die "TARGET=$TARGET: CODEC=$codec has no widths"
        width=() ;;
    *) width=(--bits "${TARGET:-4}") ;;
esac
# shellcheck disable=SC2086  # TRAIN_ARGS is several words
"$seam" train --server "$address" --model "$model" "${data[@]}" --out "$out" \
    --steps "$steps" --batch "${BATCH:-8}" --lr "${LR:-1e-3}" --schedule linear --warmup $((steps / 20)) \
    --seed "${SEED:-1}" --codec "$codec" "${width[@]}" ${TRAIN_ARGS:-}

# answer OPTION...: the first line that the model adds to the request.
answer() {
    "$seam" generate --server "$address" --model "$model" --new-tokens 40 --quiet "$@" \
        "Request: $asked"$'\nCommand:' | sed -n 1p
}
if [ -n "$asked" ]; then
    say "a request of a kind that training never showed"
    echo "request:  $asked"
    echo "before:  $(answer)"
    echo "after:   $(answer --adapter "$out/adapter")"
fi
stop_server

say "files"
for name in adapter report.json report.html; do
    [ -e "$out/$name" ] || die "$out/$name is missing"
    echo "$out/$name"
done

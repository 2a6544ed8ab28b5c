#!/usr/bin/env bash
# Everything that a GPU has to show, by one script: the tests on the device, the sanitizers, the step
# beside PyTorch, the codec, loading, the real model's curve and loss, a step over loopback gRPC.
#
#   tests/bench/device.sh BIN OUT PART[:SECONDS]...
#     BIN    bin/ of a build with SEAM_CUDA=ON; test binaries find golden files where they were built
#     OUT    a log a part, results.txt with the lines that count
#     PART   in the order given, each ended after SECONDS [600]:
#       tests      every test binary that takes a device, f32 and bf16
#       sanitize   compute-sanitizer on test_ops: memcheck, racecheck, initcheck; memcheck on the codec
#       peer floor step           16 x 384: PyTorch eager, checkpointed, compiled; its products and
#                                 attention alone; bench_blocks in bf16, recompute, FP8
#       steady                    products at the card's power limit (steady_products.py)
#       warm                      compiles the peers of the shapes in WARM, so that they compile once
#       16x384 4x1024 1x2048 rank64 7b 14b   the compiled peer of a shape, then bench_blocks
#       codec load                bench_codec_cuda, bench_load
#       curve      60 steps of AMAQ twice on the device and once on the CPU: losses and state hashes
#       loss       300 steps in bf16 and in FP8, a run a seed, all at once
#       inner      gates between the server's blocks, and on a prefix of 30: STEPS [300] beside the
#                  same run without, a run a seed and width, all at once
#       e2e e2e_micro e2e_cpu     a step over gRPC: head on the device, in micro-batches, on the CPU
#   Variables: PEERS folder of lora_step_torch.py and gemm_floor.py; MODEL and GSM8K (folder with
#     train.jsonl.gz, test.jsonl.gz) for curve and loss; TOKENIZER for e2e's random model; SEEDS [1] of
#     loss and inner; DEVICE [cuda:0] of curve, loss, inner and e2e; WARM [4x1024 1x2048 rank64];
#     INNER [all-layer prefix]
#
# A part that fails does not stop the others; the exit code tells.  LD_LIBRARY_PATH is the caller's.
set -uo pipefail
[ $# -ge 3 ] || { sed -n '2,27s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
export bin=$1 out=$2 here device=${DEVICE:-cuda:0}
shift 2
mkdir -p "$out/log"
export TORCHINDUCTOR_CACHE_DIR=$out/cache TORCHINDUCTOR_FX_GRAPH_CACHE=1 PYTHONUNBUFFERED=1

# ---- tests ----
# What counts the memory that the device has left runs with nothing beside it.
alone=("test_repeat" "test_memory_plan cuda:0")
tests=("test_ops cuda:0 bf16" "test_ops cuda:0 f32" "test_ops cuda:0 bf16 trained"
    "test_cuda_algorithms" "test_full" "test_device_codec" "test_device_raw"
    "test_coder_device cuda:0" "test_trainer_device" "test_layer_gates cuda:0"
    "test_prefix_gates cuda:0" "test_weight_load" "test_recompute"
    "test_cuda_fault" "test_blocks_fp8" "test_model_golden" "test_optimizer")
one_test() { # a line: passed or FAILED (77: it found no device), the test, what it says last
    local log code
    log=$out/log/test_$(tr -c 'a-z0-9\n' _ <<<"$1").txt
    # shellcheck disable=SC2086 # a binary and its arguments
    (cd "$bin" && timeout 240 ./$1) >"$log" 2>&1
    code=$?
    case $code in
    0) echo "passed: $1: $(grep -o '[0-9]* SKIPPED TEST\|PASSED.*\|[0-9]* failed.*' "$log" | paste -sd' ')" ;;
    *)
        echo "FAILED ($code): $1: $(grep -m1 FAILED "$log" || tail -1 "$log")"
        return 1
        ;;
    esac
}
part_tests() {
    local failed=0
    printf '%s\n' "${alone[@]}" | xargs -I{} bash -c 'one_test "$1"' _ {} || failed=1
    printf '%s\n' "${tests[@]}" | xargs -P 6 -I{} bash -c 'one_test "$1"' _ {} || failed=1
    return "$failed"
}

# ---- sanitizers ----
# racecheck's tracing fails in cuBLASLt's kernels, and beside them where it follows ours alone
# (--kernel-name; 13.0); initcheck does not see what they store by the tensor copy engine: linear
# and trained are for memcheck alone.
sanitized() { # TOOL GROUP
    local log=$out/log/$1_$2.txt which=() program=(./test_ops cuda:0 bf16 "$2")
    [ "$2" != codec ] || program=(./test_device_codec)
    [ "$1" != racecheck ] || [ "$2" != fp8 ] || which=(--kernel-name-exclude kns=nvjet)
    (cd "$bin" && timeout "${SANITIZE_SECONDS:-200}" compute-sanitizer --tool "$1" "${which[@]}" \
        "${program[@]}") >"$log" 2>&1
    local code=$?
    echo "$1 $2: exit $code: $(grep '= .*SUMMARY' "$log" | tail -1)"
    [ "$code" -eq 0 ] && grep -q 'SUMMARY: 0 ' "$log"
}
part_sanitize() {
    for tool in memcheck racecheck initcheck; do
        for group in rows prefix attention fp8; do
            [ "$group" != fp8 ] || [ "$tool" != initcheck ] || continue
            echo "$tool $group"
        done
    done | cat - <(printf 'memcheck %s\n' linear trained codec) | xargs -P 7 -L 1 bash -c 'sanitized "$1" "$2"' _
}

# ---- the step ----
# The peer's script knows neither Qwen2.5-14B's shape nor other targets; they are written in here.
peer() { # SHAPE RANK TARGETS ARGS...
    local script list='"q_proj", "v_proj"'
    [ "$3" != all ] || list="$list, \"k_proj\", \"o_proj\", \"gate_proj\", \"up_proj\", \"down_proj\""
    script=$out/peer-$1-$2-$3.py
    sed -e "s/\"q_proj\", \"v_proj\"/$list/" -e '/^SHAPES = {/a\
    "qwen2.5-14b": lambda: Qwen2Config(hidden_size=5120, intermediate_size=13824, num_hidden_layers=48,\
        num_attention_heads=40, num_key_value_heads=8, vocab_size=128, rope_theta=1000000.0,\
        max_position_embeddings=8192, rms_norm_eps=1e-6),' "$PEERS/lora_step_torch.py" >"$script"
    python3 "$script" --shape "$1" --rank "$2" "${@:4}"
}
blocks() { "$bin/bench_blocks" --iters 8 "$@"; }
part_peer() { peer llama3-8b 16 qv --variants eager,ckpt,compile --work 16x384; }
part_floor() { python3 "$PEERS/gemm_floor.py" --work 16x384; }
part_steady() { python3 "$here/steady_products.py"; }
part_step() {
    blocks --work 16x384
    blocks --work 16x384 --fp8
    blocks --work 16x384 --recompute
}
shape_of() { # PART: shape, rank, targets, work
    case $1 in
    16x384 | 4x1024 | 1x2048) echo "llama3-8b 16 qv $1" ;;
    rank64) echo "llama3-8b 64 all 16x384" ;;
    7b | 14b) echo "qwen2.5-$1 16 qv 16x384" ;;
    esac
}
peer_of() { # PART ITERS
    local shape rank targets work
    read -r shape rank targets work <<<"$(shape_of "$1")"
    peer "$shape" "$rank" "$targets" --variants compile --work "$work" --iters "$2"
}
part_warm() {
    local jobs=() part job code failed=0 # a bare wait would wait for the part's own tee
    for part in ${WARM:-4x1024 1x2048 rank64}; do
        (
            peer_of "$part" 1 >"$out/log/warm_$part.txt" 2>&1
            code=$?
            echo "$part compiled after $SECONDS s: $code"
            exit "$code"
        ) &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    return "$failed"
}
part_shape() {
    local shape rank targets work join failed=0 joins=("")
    read -r shape rank targets work <<<"$(shape_of "$1")"
    [ "$rank" -le 16 ] || joins+=(--own-join)
    peer_of "$1" 8 || failed=1
    for join in "${joins[@]}"; do
        # shellcheck disable=SC2086 # an option or none
        blocks --shape "$shape" --rank "$rank" --targets "$targets" --work "$work" $join || failed=1
    done
    return "$failed"
}
part_codec() { "$bin/bench_codec_cuda" cuda:0 6144 4096; }
part_load() { "$bin/bench_load" cuda:0 13; }

# ---- the real model ----
server_pids=()
served() { # NAME ARGS...: a seamd whose address is in OUT/NAME.address
    local name=$1
    shift
    rm -f "$out/$name.address"
    "$bin/seamd" --insecure --listen 127.0.0.1:0 --ready-file "$out/$name.address" --model "$MODEL" \
        "$@" >"$out/log/seamd_$name.txt" 2>&1 &
    server_pids+=($!)
    for _ in $(seq 600); do [ -s "$out/$name.address" ] && return; sleep 0.1; done
    echo "seamd $name did not come up: $(tail -1 "$out/log/seamd_$name.txt")"
    return 1
}
unserved() {
    kill "${server_pids[@]}" 2>/dev/null
    wait "${server_pids[@]}" 2>/dev/null
    server_pids=()
}
trained() { # RUN SERVER ARGS...
    rm -rf "$out/run_$1"
    "$bin/seam" train --server "$(cat "$out/$2.address")" --model "$MODEL" \
        --data "$GSM8K/train.jsonl.gz" --out "$out/run_$1" --batch 8 --tokens-max 384 --truncate \
        --rows-max 3072 --quiet --threads 2 "${@:3}" >"$out/log/train_$1.txt" 2>&1 ||
        echo "$1: $(tail -1 "$out/log/train_$1.txt")"
}
part_curve() {
    local runs=() run
    served gpu --device "$device" --rows-max 4096 && served cpu --device cpu --rows-max 4096 || return 1
    for run in first:gpu second:gpu cpu:cpu; do
        trained "curve_${run%:*}" "${run#*:}" --steps 60 --codec amaq --train-rows 480 --seed 1 &
        runs+=($!)
    done
    wait "${runs[@]}"
    unserved
    python3 "$here/compare_runs.py" "$out"/run_curve_{first,second,cpu}
}
part_loss() {
    local runs=() name options
    served bf16 --device "$device" --rows-max 4096 &&
        served fp8 --device "$device" --fp8 --rows-max 4096 || return 1
    for seed in ${SEEDS:-1}; do
        for name in bf16 fp8; do
            options=()
            [ "$name" = bf16 ] || options=(--fp8)
            trained "loss_${name}_$seed" "$name" --eval-data "$GSM8K/test.jsonl.gz" --steps 300 \
                --train-rows 2400 --eval-rows 400 --lr 1e-4 --seed "$seed" --codec bf16 \
                --device "$device" "${options[@]}" &
            runs+=($!)
        done
    done
    wait "${runs[@]}"
    unserved
    for seed in ${SEEDS:-1}; do
        python3 "$here/compare_runs.py" "$out/run_loss_bf16_$seed" "$out/run_loss_fp8_$seed"
    done
}
part_inner() {
    local runs=() seed kind bits options
    served inner --device "$device" --rows-max 4096 || return 1
    for seed in ${SEEDS:-1}; do
        for kind in ${INNER:-all-layer prefix}; do
            for bits in none 4 3; do
                options=(--lr 1e-4)
                [ "$kind" != prefix ] || options=(--lr 1e-2 --prefix-tokens 30)
                [ "$bits" = none ] || options+=("--$kind-bits" "$bits")
                trained "${kind}_${seed}_$bits" inner --eval-data "$GSM8K/test.jsonl.gz" \
                    --steps "${STEPS:-300}" --train-rows 2400 --eval-rows 400 --seed "$seed" \
                    --codec bf16 --device "$device" "${options[@]}" &
                runs+=($!)
            done
        done
    done
    wait "${runs[@]}"
    unserved
    for seed in ${SEEDS:-1}; do
        for kind in ${INNER:-all-layer prefix}; do
            python3 "$here/compare_runs.py" "$out/run_${kind}_${seed}"_{none,4,3}
        done
    done
}

# ---- a step over gRPC ----
random_model() {
    [ -d "$out/model8b" ] || python3 "$here/random_model.py" llama3-8b "$out/model8b" "$TOKENIZER"
}
amaq() { "$here/end_to_end.sh" "$bin" "$out/model8b" "$out/$1" "$device" "$2" --codec amaq --target 4 \
    --pipeline-depth "$3"; }
part_e2e() { random_model && STEPS=8 amaq e2e "$device" 1; }
part_e2e_micro() { random_model && ROWS=1536 STEPS=7 amaq e2e_micro "$device" 2; }
part_e2e_cpu() { random_model && ROWS=768 STEPS=4 amaq e2e_cpu cpu 2; }

part() {
    case $1 in
    16x384 | 4x1024 | 1x2048 | rank64 | 7b | 14b) part_shape "$1" ;;
    *) "part_$1" ;;
    esac
}
failed=0
set -m
nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader | tee -a "$out/results.txt"
export -f one_test sanitized
for asked in "$@"; do
    name=${asked%%:*} seconds=600
    [ "$name" = "$asked" ] || seconds=${asked#*:}
    declare -F "part_$name" >/dev/null || [ -n "$(shape_of "$name")" ] ||
        { echo "no part $name"; exit 2; }
    begin=$SECONDS
    echo "== $name" | tee -a "$out/results.txt"
    part "$name" > >(tee -a "$out/results.txt") 2>&1 & # a process group of its own, by set -m
    job=$!
    (sleep "$seconds" && kill -- -"$job") >/dev/null 2>&1 &
    watch=$!
    wait "$job"
    code=$?
    [ "$code" -eq 0 ] || failed=1
    { kill -- -"$watch" && wait "$watch"; } 2>/dev/null
    echo "-- $name: exit $code after $((SECONDS - begin)) s" | tee -a "$out/results.txt"
done
exit "$failed"

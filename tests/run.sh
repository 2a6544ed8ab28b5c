#!/usr/bin/env bash
# Every check, in the order in which a failure is cheapest to find; `make test` and CI call this.
#
#   tests/run.sh [PHASE...]     phases: dev release asan tsan fuzz     (default: all)
#
# A phase configures and builds one preset and runs the ctest labels that suit it.  A failing phase
# does not stop the later ones.  The last line sums up all phases: "N passed, N failed, N skipped".
# What is not here because it needs gigabytes or hours: `make oracle`, `make bench`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
phases=("$@")
[ ${#phases[@]} -gt 0 ] || phases=(dev release asan tsan fuzz)
jobs=${SEAM_JOBS:-$(nproc)}
results=build/results
failed=()

# build PRESET
build() {
    printf '\n== %s: build\n' "$1"
    { cmake --preset "$1" >"$results/$1.configure" 2>&1 ||
        { tail -30 "$results/$1.configure"; return 1; }; } &&
        { cmake --build --preset "$1" -j "$jobs" >"$results/$1.build" 2>&1 ||
            { grep -m1 -A40 -E 'FAILED|error:' "$results/$1.build"; return 1; }; }
}

# run_labels PRESET CTEST-OPTION...
run_labels() {
    local preset=$1
    shift
    printf '\n== %s: test\n' "$preset"
    ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$jobs" \
        --output-junit "$PWD/$results/$preset.xml" "$@"
}

phase_dev() { build dev && run_labels dev -LE 'release|nightly'; }

# What needs speed (whole training runs), the installed package and the cross build.
phase_release() { build release && run_labels release -L 'e2e|release' -LE nightly; }

# Everything that decodes bytes, every kernel, both state machines and the server under ASan and
# UBSan.
phase_asan() { build asan && run_labels asan -L 'unit|ops|golden|sim|fuzz|asan' -LE 'release|nightly'; }

# Threads exist in the server, the transport and the CPU backend's pool.
phase_tsan() {
    export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp"
    build tsan && run_labels tsan -L tsan -LE 'release|nightly'
}

# The second compiler: every file is also built by clang.
phase_fuzz() { build fuzz && tests/fuzz.sh "${SEAM_FUZZ_SECONDS:-15}"; }

deploy/setup.sh build cuda test cross || exit 1
rm -rf "$results"
mkdir -p "$results"
for phase in "${phases[@]}"; do
    start=$SECONDS
    "phase_$phase" || failed+=("$phase")
    printf '== %s: %d s\n' "$phase" $((SECONDS - start))
done
printf '\nPhases failed: %s\n' "${failed[*]:-none}"
.venv/bin/python tests/summary.py "$results" "${#failed[@]}"

#!/usr/bin/env bash
# Every comparison with transformers, peft and the NumPy codec: `make oracle` calls this.
#
#   tests/oracle/oracle.sh
#
# Golden vectors are made again and compared with the committed ones (to write them anew, run a
# make_*_golden.py without --check); then the check_*.py run live.  SmolLM2 is the demo's model
# (seam model pull) unless SEAM_MODEL names its file or directory.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
python=.venv-oracle/bin/python
bin=build/release/bin
failed=0

run() {
    printf '\n== %s\n' "$*"
    "$@"
    case $? in
    0) ;;
    77) echo "skipped" ;;
    *)
        echo "FAILED: $*"
        failed=$((failed + 1))
        ;;
    esac
}

cmake --preset release >/dev/null && cmake --build --preset release || exit 1
if [ -z "${SEAM_MODEL:-}" ]; then
    SEAM_MODEL=$("$bin/seam" model pull) || exit 1
fi
[ -d "$SEAM_MODEL" ] || SEAM_MODEL=$(dirname "$SEAM_MODEL") # pull names the GGUF file itself
export SEAM_MODEL TRANSFORMERS_VERBOSITY=error TQDM_DISABLE=1 PYTHONWARNINGS=ignore

for script in tests/oracle/make_*_golden.py; do
    run "$python" "$script" --check
done
run "$python" tests/oracle/check_compressed_tensors.py "$bin/coder_cli"
run "$python" tests/oracle/check_weights.py "$bin/dump_weights" "$SEAM_MODEL"
run "$python" tests/oracle/check_model.py "$bin/run_model" "$SEAM_MODEL"
run "$python" tests/oracle/check_tokenizers.py "$bin/tokenize_lines"
run "$python" tests/oracle/check_chat.py "$bin/dump_rows"
run "$python" tests/oracle/check_bf16_noise.py
run "$python" tests/oracle/check_merge.py "$bin/seam"
run "$python" tests/oracle/check_split.py "$bin/seamd" "$bin/seam"
run "$python" tests/oracle/check_exchange.py "$bin/seamd" "$bin/seam"
run "$python" tests/oracle/check_choices.py "$bin/seamd" "$bin/seam" "$SEAM_MODEL"
run "$python" tests/oracle/check_texts.py "$bin/seamd" "$bin/seam" "$SEAM_MODEL"
printf '\noracle: %d failed\n' "$failed"
[ "$failed" -eq 0 ]

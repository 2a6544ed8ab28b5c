#!/usr/bin/env bash
# The cuda preset configures and compiles where the CUDA toolkit is; a device is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "skipped: no nvcc"; exit 77; }
cmake --preset cuda >/dev/null
cmake --build --preset cuda --target seamd
build/cuda/bin/seamd --version
answer=$(build/cuda/bin/seamd --insecure --listen 127.0.0.1:0 --model none --device cuda:0 2>&1) &&
    { echo "seamd --device cuda:0 served: $answer"; exit 1; }
echo "$answer"
grep -q 'cuda:0' <<<"$answer"

#!/usr/bin/env bash
# The cuda preset configures and compiles where the CUDA toolkit is; a device is not needed.  Every
# kernel but those by warpgroups is compiled for sm_80, sm_90 and PTX; the libraries that the Dockerfile's runtime stage gets
# are all that the server needs; without a device it says so, and serves the CPU when told auto.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "skipped: no nvcc"; exit 77; }
cmake --preset cuda >/dev/null
# Beside the server what else has CUDA in its own sources, so that it compiles too.
cmake --build --preset cuda --target seamd test_cuda_algorithms search_products bench_codec_cuda \
    bench_blocks
seamd=build/cuda/bin/seamd
"$seamd" --version
build/cuda/bin/test_cuda_algorithms # the committed table; the rest is skipped without a device

# Warpgroup products exist for compute 9.0a alone.
hopper=$(git ls-files -- 'kernels/cuda/*_wgmma.cu' | wc -l)
compiled=$(grep '"command".* -c [^ ]*kernels/cuda/[a-z_0-9]*_wgmma\.cu ' build/cuda/compile_commands.json |
    grep -c 'arch=compute_90a,code=\[sm_90a\]') || true
echo "$compiled of $hopper files: sm_90a"
[ "$compiled" -eq "$hopper" ] || exit 1
sources=$(($(git ls-files -- 'kernels/cuda/*.cu' | wc -l) - hopper))
for code in 'compute_80,code=\[sm_80\]' 'compute_90,code=\[[^]]*compute_90[],]' \
    'compute_90,code=\[[^]]*sm_90[],]'; do
    compiled=$(grep '"command".* -c [^ ]*kernels/cuda/[a-z_0-9]*\.cu ' build/cuda/compile_commands.json |
        grep -c "arch=$code") || true
    echo "$compiled of $sources files: $code"
    [ "$compiled" -eq "$sources" ] || exit 1
done

libraries=$(mktemp -d)
trap 'rm -rf "$libraries"' EXIT
ldd "$seamd" | awk '/libcublas/ { print $3 }' | xargs install -m 0644 -t "$libraries"
ls "$libraries"
cp "$seamd" "$libraries/" # away from the toolkit that its run path names
LD_LIBRARY_PATH=$libraries LD_DEBUG=libs "$libraries/seamd" --version 2>"$libraries/loaded"
grep -q "calling init: $libraries/libcublasLt" "$libraries/loaded"

if [ -e /dev/nvidiactl ]; then
    echo "a device is here: what seamd does without one is not tested"
    exit 0
fi
answer=$("$seamd" --insecure --listen 127.0.0.1:0 --model none --device cuda:0 2>&1) &&
    { echo "seamd --device cuda:0 served: $answer"; exit 1; }
echo "$answer"
grep -q 'device cuda:0: no NVIDIA driver' <<<"$answer"

# A driver that is too old: all that the runtime asks of it.
"${CC:-cc}" -shared -fPIC -x c -o "$libraries/libcuda.so.1" - <<'END'
int cuInit(unsigned flags) { return (void)flags, 0; }
int cuDriverGetVersion(int *version) { return *version = 12020, 0; }
END
answer=$(LD_LIBRARY_PATH=$libraries "$seamd" --insecure --listen 127.0.0.1:0 --model none \
    --device cuda:0 2>&1) && { echo "seamd served beside an old driver: $answer"; exit 1; }
echo "$answer"
grep -q 'device cuda:0: the driver is for CUDA 12.2, this build needs .* update it' <<<"$answer"
rm "$libraries/libcuda.so.1"

python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python
SEAM_TEST_ONLY=auto "$python" tests/e2e/test_device_lost.py "$seamd"

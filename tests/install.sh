#!/usr/bin/env bash
# What `cmake --install` lays out is enough to use: files, exported symbols, pkg-config, the CMake
# package; the example program is built against the installed tree alone, both ways, and run.
#
#   tests/install.sh BUILD_DIR
set -euo pipefail
build=$(readlink -f "${1:?usage: tests/install.sh BUILD_DIR}")
cd "$(dirname "$0")/.."
source=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >/dev/null

fail() { echo "error: $*" >&2; exit 1; }

for file in bin/seamd bin/seam include/seam.h lib/libseam.so lib/libseam.so.1 lib/pkgconfig/seam.pc \
    lib/cmake/Seam/SeamConfig.cmake share/doc/seam/LICENSE share/doc/seam/README.md \
    share/seam/proto/seam/v1/service.proto share/seam/WIRE.md share/seam/seamd.conf \
    lib/systemd/system/seamd.service; do
    [ -e "$prefix/$file" ] || found=$(cd "$prefix" && find . -name "$(basename "$file")" | head -3)
    [ -e "$prefix/$file" ] || fail "not installed: $file (found: ${found:-nothing of that name})"
done

# A unit whose user has no home and no folder of its own could not fetch a model of the Hub.
unit=$prefix/lib/systemd/system/seamd.service
for line in DynamicUser=yes CacheDirectory=seam Environment=XDG_CACHE_HOME=/var/cache/seam; do
    grep -qx "$line" "$unit" || fail "$line is not in $unit"
done

library=$(readlink -f "$prefix/lib/libseam.so")
readelf -d "$library" | grep -q 'SONAME.*libseam\.so\.1' || fail "soname of $library"
foreign=$(nm -D --defined-only "$library" | awk '$2 ~ /[TDBRVW]/ && $3 !~ /^seam_/ { print $3 }')
[ -z "$foreign" ] || fail "exports more than seam_: $foreign"
exported=$(nm -D --defined-only "$library" | grep -c ' T seam_')
[ "$exported" -gt 10 ] || fail "exports only $exported functions"
for compute in dnnl openblas gomp cuda; do
    ! readelf -d "$library" | grep -q "NEEDED.*$compute" || fail "the thin core links $compute"
done
cp "$library" "$work/stripped" && strip "$work/stripped"
echo "libseam.so: $exported functions, $(stat -c %s "$work/stripped") bytes stripped"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
for example in client-sdk/examples/*.c; do
    name=$(basename "$example" .c)
    # shellcheck disable=SC2046  # several flags
    cc -std=gnu11 -Wall -Wextra -Werror "$example" $(pkg-config --cflags --libs seam) -lm \
        -o "$work/$name"
    # Without a server an example must fail, and say why.
    if "$work/$name" 127.0.0.1:1 1 "$work/adapter" >"$work/output" 2>&1; then
        fail "$name succeeded without a server: $(cat "$work/output")"
    fi
    [ -s "$work/output" ] || fail "$name failed without a word"
    echo "$name without a server: $(tail -1 "$work/output")"
    mkdir -p "$work/cmake"
    cat >"$work/cmake/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(example C)
find_package(Seam 0.1 REQUIRED)
add_executable(example $source/$example)
target_link_libraries(example PRIVATE seam::seam m)
END
    cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
    cmake --build "$work/cmake/build" >/dev/null
    rm -rf "$work/cmake"
done
"$prefix/bin/seam" --version
"$prefix/bin/seamd" --version

#!/usr/bin/env bash
# Cross-compile the thin core of libseam for aarch64 and run its tests under qemu-user.
#
# The arm64 libraries are Debian's, downloaded and verified by apt in a private root (the system's
# package state stays as it is) and unpacked to a sysroot in the cache folder, once.  Skips (77) where
# the cross compiler is missing or the registry has no arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(libgrpc-dev libprotobuf-c-dev libssl-dev zlib1g-dev libcmocka-dev libc6-dev libgcc-12-dev)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/seam
sysroot=$cache/sysroot-arm64
build=build/aarch64

skip() { echo "skipped: $*"; exit 77; }
command -v aarch64-linux-gnu-gcc >/dev/null || skip "no aarch64-linux-gnu-gcc (deploy/setup.sh cross)"

make_sysroot() {
    local root work=$sysroot.part options
    rm -rf "$work"
    root=$work/apt
    mkdir -p "$root"/{lists/partial,archives/partial,sources} "$work/sysroot"
    : >"$root/status"
    # The same Debian mirrors as the system's, for arm64.
    # shellcheck disable=SC2016  # apt's own fields
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk '$1 == "Debian" && !seen[$2 $3]++ {
            print "deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $2, $3,
                  "main" }' >"$root/sources/debian.list"
    options=(-qq -o "APT::Architecture=arm64" -o "APT::Architectures::=arm64"
        -o "Dir::State=$root" -o "Dir::State::status=$root/status" -o "Dir::Cache=$root"
        -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$root/sources"
        -o "APT::Sandbox::User=root" -o "Debug::NoLocking=1")
    apt-get "${options[@]}" update || return 1
    apt-get "${options[@]}" install -y --no-install-recommends --download-only "${packages[@]}" \
        >/dev/null || return 1
    for package in "$root"/archives/*.deb; do
        dpkg-deb -x "$package" "$work/sysroot"
    done
    # Debian's absolute links would lead out of the sysroot.
    find "$work/sysroot" -type l -lname '/*' | while read -r link; do
        ln -sfn "$(realpath -s -m --relative-to="$(dirname "$link")" \
            "$work/sysroot$(readlink "$link")")" "$link"
    done
    printf '%s\n' "${packages[*]}" >"$work/sysroot/.seam-packages"
    rm -rf "$sysroot"
    mv "$work/sysroot" "$sysroot"
    rm -rf "$work"
}

if [ "$(cat "$sysroot/.seam-packages" 2>/dev/null)" != "${packages[*]}" ]; then
    make_sysroot || skip "could not download Debian's arm64 packages"
fi

export SEAM_SYSROOT=$sysroot
export PKG_CONFIG_SYSROOT_DIR=$sysroot
export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$sysroot/usr/share/pkgconfig
cmake -G Ninja -S . -B "$build" -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64.cmake" \
    -DSEAM_CORE_ONLY=ON -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build"

library=$(readlink -f "$build/lib/libseam.so")
file_type=$(aarch64-linux-gnu-readelf -h "$library" | sed -n 's/ *Machine: *//p')
[ "$file_type" = AArch64 ] || { echo "$library is for $file_type"; exit 1; }
aarch64-linux-gnu-strip -o "$build/libseam.stripped" "$library"
echo "libseam.so for aarch64: $(stat -c %s "$build/libseam.stripped") bytes stripped"
command -v qemu-aarch64-static >/dev/null || { echo "built; not run: no qemu-aarch64-static"; exit 0; }
ctest --test-dir "$build" --output-on-failure --no-tests=error

#!/usr/bin/env bash
# Prove the Dockerfile's steps where no container engine is at hand: each stage in a fresh Debian 12
# made by debootstrap.  Needs root and about 3 GB; takes some ten minutes, so it is not in `make test`.
#
#   tests/chroot.sh [demo|cuda]   with `demo`: runs `make demo` in the build stage, from nothing;
#                                 with `cuda`: the CUDA stages too, with this machine's toolkit
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "skipped: chroot needs root"; exit 77; }
deploy/setup.sh chroot
work=$(mktemp -d "${TMPDIR:-/var/tmp}/seam-chroot-XXXXXX")
cleanup() {
    for stage in build runtime; do
        for folder in dev/shm dev proc; do
            ! mountpoint -q "$work/$stage/$folder" || umount -l "$work/$stage/$folder"
        done
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# inside STAGE COMMAND: with nothing of this machine's environment.
inside() {
    local stage=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        chroot "$work/$stage" bash -euc "$*"
}

echo "== debian:12-slim (debootstrap)"
# shellcheck disable=SC2016  # apt's own fields
mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk '$1 == "Debian" && $2 == "bookworm" { print $3; exit }')
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" "$mirror" \
    >"$work/debootstrap.log" 2>&1 || { tail -20 "$work/debootstrap.log"; exit 1; }
# shellcheck disable=SC2016
apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk '$1 == "Debian" && !seen[$2 $3]++ { print "deb", $2, $3, "main" }' \
        >"$work/base/etc/apt/sources.list"
cp /etc/resolv.conf /etc/hosts "$work/base/etc/"
for configuration in /etc/apt/apt.conf.d/*; do # proxies and the like
    [ ! -f "$configuration" ] || cp "$configuration" "$work/base/etc/apt/apt.conf.d/"
done
cp -r /usr/local/share/ca-certificates/. "$work/base/usr/local/share/ca-certificates/"
chroot "$work/base" update-ca-certificates >/dev/null 2>&1
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$work/base/etc/"
for stage in build runtime; do
    cp -a "$work/base" "$work/$stage"
    mount -t proc proc "$work/$stage/proc"
    mount --rbind /dev "$work/$stage/dev"
done

echo "== stage build"
mkdir -p "$work/build/src"
git ls-files -z --cached | xargs -0 cp --parents -t "$work/build/src"
inside build 'cd /src && deploy/setup.sh build'
inside build 'cd /src && cmake --preset release -DSEAM_TESTS=OFF >/dev/null
    cmake --build --preset release >/build.log 2>&1 || { grep -m1 -A20 FAILED /build.log; exit 1; }
    DESTDIR=/image cmake --install build/release --prefix /usr --strip >/dev/null'

echo "== stage runtime"
install -D -t "$work/runtime/opt/seam/deploy" deploy/setup.sh
install -D -m 0644 -t "$work/runtime/opt/seam/deploy" deploy/packages.txt
inside runtime '/opt/seam/deploy/setup.sh run && rm -rf /var/lib/apt/lists/* /opt/seam
    useradd --uid 10001 --home-dir /var/lib/seam --create-home --shell /usr/sbin/nologin seam
    install -d -o seam -g seam -m 0700 /run/seam'
cp -a "$work/build/image/." "$work/runtime/"
# shellcheck disable=SC2016
inside runtime 'ldd /usr/bin/seamd /usr/bin/seam | grep "not found" && exit 1
    su -s /bin/sh seam -c "seamd --version && seam --version"
    echo "image: $(du -shx --exclude=/proc --exclude=/dev / 2>/dev/null | cut -f1)"'

if [ "${1:-}" = cuda ]; then
    echo "== stages build-cuda and runtime-cuda"
    cp -a "$(realpath /usr/local/cuda)" "$work/build/usr/local/cuda"
    # shellcheck disable=SC2016
    inside build 'cd /src && deploy/setup.sh cuda && PATH=$PATH:/usr/local/cuda/bin
        cmake --preset cuda -DSEAM_TESTS=OFF >/dev/null
        cmake --build --preset cuda >/build.log 2>&1 || { grep -m1 -A20 FAILED /build.log; exit 1; }
        DESTDIR=/image-cuda cmake --install build/cuda --prefix /usr --strip >/dev/null
        install -D -m 0644 -t /image-cuda/usr/local/cuda/lib64 \
            $(LD_LIBRARY_PATH=/usr/local/cuda/lib64 ldd build/cuda/bin/seamd | awk "/libcublas/ { print \$3 }")'
    cp -a "$work/build/image-cuda/." "$work/runtime/"
    inside runtime 'export LD_LIBRARY_PATH=/usr/local/cuda/lib64
        ldd /usr/bin/seamd | grep "not found" && exit 1
        seamd --version
        seamd --insecure --listen 127.0.0.1:0 --model none --device cuda:0 2>&1 |
            grep "device cuda:0: "'
fi

if [ "${1:-}" = demo ]; then
    echo "== make demo from nothing"
    start=$SECONDS
    inside build 'apt-get install -y -qq make >/dev/null && cd /src && make demo OUT=/demo'
    echo "make demo: $((SECONDS - start)) s"
    mkdir -p build
    cp -r "$work/build/demo" build/chroot-demo
fi
echo "chroot: all stages passed"

#!/usr/bin/env bash
# Install what a job needs on Debian 12: system packages and Python environments.
#
#   deploy/setup.sh GROUP...      groups: run build cuda test cross bench chroot oracle
#
# All but oracle are groups of deploy/packages.txt.  `test` also makes .venv from
# tests/requirements-test.txt; `oracle` makes .venv-oracle from tests/requirements-oracle.txt.
# Works as root or through sudo.  It asks dpkg first: with everything there it touches neither the
# network nor the package lists and takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "not root and no sudo; as root run: deploy/setup.sh $groups"
    fi
}

# Prints the lines of packages.txt (name=version) of one group that dpkg does not have.
missing_packages() {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
        awk -v group="$1" '
            FNR == NR { if ($1 == "installed") have[$2] = 1; next }
            $1 == group { split($2, part, "="); if (!(part[1] in have)) print $2 }' \
            - deploy/packages.txt
}

install_packages() {
    local pinned wanted=() missing=()
    mapfile -t missing < <(for group in "$@"; do missing_packages "$group"; done | sort -u)
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing ${missing[*]}, and this system has no apt-get"
    say "installing ${#missing[@]} Debian packages: ${missing[*]%%=*}"
    # A broken third-party source must not stop us: apt-get install says if a package is missing.
    as_root apt-get update -qq || say "apt-get update reported errors; going on"
    for pinned in "${missing[@]}"; do
        if apt-cache show "$pinned" >/dev/null 2>&1; then
            wanted+=("$pinned")
        else
            say "$pinned is no longer offered; taking the release's current ${pinned%%=*}"
            wanted+=("${pinned%%=*}")
        fi
    done
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "${wanted[@]}" >"$log" 2>&1; then
        # A pinned version can conflict with a newer library that is already there.
        say "pinned versions do not fit what is installed; taking the release's current ones"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends "${wanted[@]%%=*}" >"$log" 2>&1 ||
            { tail -20 "$log" >&2; die "apt-get install failed (needs Debian 12 and its registry)"; }
    fi
}

# make_venv DIR REQUIREMENTS: (re)built only when the requirements file changed.
make_venv() {
    local dir=$1 requirements=$2 sum
    sum=$(sha256sum <"$requirements")
    [ "$(cat "$dir/.seam-requirements" 2>/dev/null)" = "$sum" ] && return 0
    say "making $dir from $requirements"
    /usr/bin/python3 -m venv --clear "$dir"
    "$dir/bin/pip" install --quiet --disable-pip-version-check \
        --no-deps -r "$requirements" >"$log" 2>&1 ||
        { tail -20 "$log" >&2; die "pip could not install $requirements (needs the PyPI registry)"; }
    printf '%s\n' "$sum" >"$dir/.seam-requirements"
}

groups="$*"
[ $# -gt 0 ] || die "usage: deploy/setup.sh GROUP...  (run build cuda test cross bench chroot oracle)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
debian=()
for group in "$@"; do
    case $group in
    run | build | cuda | test | cross | bench | chroot) debian+=("$group") ;;
    oracle) debian+=(venv) ;;
    *) die "unknown group '$group'" ;;
    esac
done
install_packages "${debian[@]}"
for group in "$@"; do
    case $group in
    test) make_venv .venv tests/requirements-test.txt ;;
    oracle) make_venv .venv-oracle tests/requirements-oracle.txt ;;
    esac
done

#!/usr/bin/env bash
# clang-tidy over every C file of the build, zero warnings.  Results are cached by content: a file
# is looked at again only when its preprocessed text, the configuration or the tool changed.
#
#   tests/clang_tidy.sh BUILD_DIR [FILE...]     (default: all of compile_commands.json)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=${1:?usage: tests/clang_tidy.sh BUILD_DIR [FILE...]}
shift
command -v clang-tidy-14 >/dev/null || { echo "clang-tidy-14 is not installed"; exit 77; }
export build cache="$build/clang-tidy-cache"
mkdir -p "$cache"
if [ $# -gt 0 ]; then
    printf '%s\n' "$@"
else
    sed -n 's/^ *"file": "\(.*\)".*/\1/p' "$build/compile_commands.json" | grep -v '\.pb-c\.c$' |
        sort -u
fi >"$cache/files"

# shellcheck disable=SC2317  # called through xargs
check_one() {
    local file=$1 command key
    command=$(grep -F -- "-c $file\"" "$build/compile_commands.json" | head -1 |
        sed 's/^ *"command": "//; s/ -o .*//; s/\\"/"/g')
    key=$({ (cd "$build" && eval "$command -E $file") 2>/dev/null | grep -v '^# '
        cat .clang-tidy; } | sha256sum | cut -c1-32)
    [ -e "$cache/$key" ] && return 0
    if clang-tidy-14 --quiet -p "$build" "$file" 2>"$cache/stderr.$key" >"$cache/log.$key"; then
        : >"$cache/$key"
        rm -f "$cache/stderr.$key" "$cache/log.$key"
    else
        cat "$cache/log.$key"
        grep -E 'error:' "$cache/stderr.$key"
        return 1
    fi
}
export -f check_one
# shellcheck disable=SC2016  # expanded by the inner shell
xargs -P "${SEAM_JOBS:-$(nproc)}" -I{} bash -c 'check_one "$1"' _ {} <"$cache/files"
status=$?
echo "clang-tidy: $(wc -l <"$cache/files") files"
exit $status

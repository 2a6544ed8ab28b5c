#!/usr/bin/env bash
# Every header compiles alone, as C11 and, where it is public, as C++.
#
#   tests/headers.sh BUILD_DIR      (for the generated messages)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
build=${1:?usage: tests/headers.sh BUILD_DIR}
includes=(-I"$build/proto")
while read -r folder; do
    includes+=(-I"$folder")
done < <(git ls-files --cached --others --exclude-standard '*.h' | xargs -n1 dirname | sort -u)
status=0
count=0
for header in $(git ls-files --cached --others --exclude-standard '*.h' | sort -u); do
    case $header in kernels/cpu/tile_*.h) continue ;; esac # parts of tile.h, chosen by variant
    count=$((count + 1))
    variant=()
    case $header in kernels/cpu/*) # compiled once a variant (kernels.cmake); the richest one here
        [ "$(uname -m)" != x86_64 ] || variant=(-march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16
            -Wno-psabi -DSEAM_VARIANT=amx -DSEAM_VARIANT_BF16) ;;
    esac
    gcc "${variant[@]}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only "${includes[@]}" -x c \
        -include "$header" /dev/null || { echo "$header does not compile alone"; status=1; }
    case $header in client-sdk/include/*)
        ! command -v g++ >/dev/null || g++ -Wall -Wextra -Werror -fsyntax-only "${includes[@]}" \
            -x c++ -include "$header" /dev/null || { echo "$header is not C++"; status=1; } ;;
    esac
done
echo "headers: $count"
[ $count -gt 0 ] || exit 1
exit $status

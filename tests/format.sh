#!/usr/bin/env bash
# Every C file is as the pinned clang-format (14) lays it out; `make format` does it.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is not installed"; exit 77; }
git ls-files --cached --others --exclude-standard '*.c' '*.h' | sort -u |
    xargs clang-format-14 --dry-run -Werror --ferror-limit=3

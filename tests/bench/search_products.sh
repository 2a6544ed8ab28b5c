#!/usr/bin/env bash
# Searches cuBLASLt's algorithms on this machine's device and keeps them in the committed table,
# kernels/cuda/cuda_algorithms.inc, in the place of rows for the same device, version and product:
#
#   tests/bench/search_products.sh [SHAPE | NAME=HIDDEN,INTERMEDIATE,Q,KV ...]   after preset cuda
#   tests/bench/search_products.sh --steps SECONDS [--layers N] [--proof N[,N...]] SHAPE
#
# Without arguments all shapes of search_products.cu; with --steps by whole steps, of a shape whose
# steps draw all the power that the card may.  Build again, and test_cuda_algorithms says
# whether the library takes every row and rows have the same bits at every count.
set -euo pipefail
cd "$(dirname "$0")/../.."
search=${SEAM_SEARCH_PRODUCTS:-build/cuda/bin/search_products}
found=$(mktemp)
trap 'rm -f "$found"' EXIT
"$search" "$@" >"$found"
python3 - "$found" kernels/cuda/cuda_algorithms.inc <<'PY'
import re
import sys

ROW = re.compile(r"(?:/\*[^*\n]*\*/\n)?(\{\d[^{]*),\n \{[^}]*\}\},\n")
found, path = open(sys.argv[1], encoding="utf-8").read(), sys.argv[2]
table = open(path, encoding="utf-8").read()
new = {row[1]: row[0] for row in ROW.finditer(found)}
assert new, "the search found nothing"
kept = ROW.sub(lambda row: "" if row[1] in new else row[0], table)
open(path, "w", encoding="utf-8").write(kept + found.split("\n", 1)[0] + "\n" + "".join(new.values()))
print(f"{len(new)} rows of {path} are new")
PY

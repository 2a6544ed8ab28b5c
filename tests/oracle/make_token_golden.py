#!/usr/bin/env python3
"""Golden token ids of shared/fixtures/vectors/cases.inp by Hugging Face tokenizers, for
tests/golden/test_tokenizers.py.  Needs the package `tokenizers` and SmolLM2's GGUF.

    make_token_golden.py [--check]     writes (or compares) tests/golden/tokens.json
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))
import text_support as support  # noqa: E402

PATH = os.path.join(support.HERE, "tokens.json")


def main(check):
    import tokenizers

    paths = dict(support.TOKENIZERS, smollm2=support.smollm2())
    if not all(p and os.path.exists(p) for p in paths.values()):
        sys.exit(f"missing: {[n for n, p in paths.items() if not p or not os.path.exists(p)]}")
    ids = {}
    for name, path in paths.items():
        hf = support.reference(name, path)
        ids[name] = [e.ids for e in hf.encode_batch(support.cases(), add_special_tokens=False)]
    if check:
        with open(PATH) as f:
            if json.load(f)["ids"] != ids:
                sys.exit(f"{PATH}: not what tokenizers {tokenizers.__version__} gives")
        print(f"{os.path.basename(PATH)}: same, {len(ids)} tokenizers")
        return
    with open(PATH, "w") as f:
        json.dump({"tokenizers": tokenizers.__version__, "ids": ids}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])

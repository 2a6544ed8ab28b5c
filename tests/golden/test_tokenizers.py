#!/usr/bin/env python3
"""Token ids against published vectors, committed golden ids, and Hugging Face tokenizers, live.

Exits 77 where the shared fixtures or the package `tokenizers` are absent.  SmolLM2 is compared
where its GGUF is in the cache (SEAM_SMOLLM2_GGUF names another place).

    test_tokenizers.py TOKENIZE_LINES
"""

import json
import os
import sys

import text_support as support

ROWS, NOISE = 2000, 2000
SPECIAL = [
    "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>a <|endoftext|>",
    "<|user|>\nhi<|end|>\n<|assistant|>\n\n  hello</s>  \u3000x", "<|image|>  <|image|> a<s>",
    " <|end|> ", "<|assistant|>\u180e x", "<0x41>", "\u2581a", "",
]


def same(what, texts, got, want):
    for text, g, w in zip(texts, got, want, strict=True):
        if g != w:
            sys.exit(f"{what}: {text!r}: {g} is not {w}")
    print(f"{what}: {len(texts)} texts equal")


def main(tool):
    if not os.path.isdir(support.FIXTURES):
        print(f"skipped: {support.FIXTURES} is absent (SEAM_SHARED_DIR)")
        sys.exit(77)
    paths = dict(support.TOKENIZERS)
    if support.smollm2():
        paths["smollm2"] = support.smollm2()
    else:
        print("smollm2: not compared: its GGUF is not in the cache")
    cases = support.cases()
    ids = {name: support.encode(tool, path, cases) for name, path in paths.items()}
    same("gpt2, vectors/gpt-2.out", cases, ids["gpt2"], support.vectors("gpt-2"))
    same("phi3, vectors/phi-3.out", cases, ids["phi3"], support.vectors("phi-3"))
    with open(os.path.join(support.HERE, "tokens.json")) as f:
        golden = json.load(f)["ids"]
    for name in paths:
        same(f"{name}, golden", cases, ids[name], golden[name])
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        print("skipped: the live comparison needs the package tokenizers")
        sys.exit(77)
    sets = {"rows": support.rows(ROWS), "noise": support.noise(NOISE), "special": SPECIAL}
    for name, path in paths.items():
        hf = support.reference(name, path)
        for label, texts in sets.items():
            want = [e.ids for e in hf.encode_batch(texts, add_special_tokens=False)]
            same(f"{name}, {label}", texts, support.encode(tool, path, texts), want)
            back = [hf.decode(i, skip_special_tokens=False) for i in want]
            same(f"{name}, {label}, decoded", texts, support.encode(tool, path, texts, True), back)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

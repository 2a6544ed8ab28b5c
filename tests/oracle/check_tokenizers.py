#!/usr/bin/env python3
"""Ids and decoded texts against Hugging Face `tokenizers`, live, on random texts and variants.

    check_tokenizers.py TOKENIZE_LINES [--texts N] [--seed S]

Phi-3's tokenizer as it is, and rewritten in each way that files of its kind are: Metaspace instead of
normalizers, with every scheme, split or not; without byte fallback, without fused unk, without
some of the byte tokens; added tokens that take white space on either side.  The byte-level fixtures
with NFC and with added tokens that take white space.  Texts: any assigned characters, runs of one character,
words of the vocabulary, bytes' names and added tokens, put together at random.  Not one may differ.
Exit code 77: the shared fixtures are absent.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import unicodedata

import tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "golden"))
import text_support as support  # noqa: E402

MARK = "\u2581"
SPACES = [chr(c) for c in range(0x110000) if chr(c).isspace()] + ["\u180e", "\u200b", "\ufeff"]


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


def variants():
    """(name, tokenizer.json as an object)"""
    with open(support.TOKENIZERS["phi3"]) as f:
        phi3 = json.load(f)
    yield "phi3", phi3
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            yield f"phi3, metaspace {scheme}{', split' if split else ''}", {
                **phi3, "normalizer": None, "pre_tokenizer": metaspace(scheme, split),
                "decoder": metaspace(scheme, split)}
    model = phi3["model"]
    some = {k if not k.startswith("<0x") or int(k[3:5], 16) % 3 else f"gone {k}": v
            for k, v in model["vocab"].items()}  # as many as before: added tokens keep their ids
    yield "phi3, a third of the bytes missing", {**phi3, "model": {**model, "vocab": some}}
    yield "phi3, unk not fused", {**phi3, "model": {**model, "vocab": some, "fuse_unk": False}}
    yield "phi3, no byte fallback", {**phi3, "model": {**model, "byte_fallback": False}}
    left = [{**t, "lstrip": t["id"] % 2 == 0, "rstrip": t["id"] % 3 == 0} for t in phi3["added_tokens"]]
    yield "phi3, lstrip", {**phi3, "added_tokens": left}
    for name in ("dolma2", "minimind"):
        with open(support.TOKENIZERS[name]) as f:
            root = json.load(f)
        root["normalizer"] = {"type": "NFC"}
        for i, token in enumerate(root["added_tokens"]):
            token["lstrip"], token["rstrip"] = i % 2 == 0, i % 3 == 0
        yield f"{name}, NFC, lstrip", root


def texts(rng, root, count):
    points = [c for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    words = [w for w in root["model"]["vocab"] if len(w) < 12]
    added = [t["content"] for t in root["added_tokens"]]
    parts = [
        lambda: chr(rng.choice(points)),
        lambda: rng.choice(SPACES) * rng.randint(1, 3),
        lambda: rng.choice(" \n\taZ1'\u00e9\u4f60\u0301") * rng.choice([1, 1, 2, 5, 90]),
        lambda: rng.choice(words).replace(MARK, rng.choice([" ", MARK])),
        lambda: rng.choice(added),
        lambda: f"<0x{rng.randrange(256):02X}>",
    ]
    weights = [4, 3, 3, 6, 2, 1]
    for _ in range(count):
        yield "".join(f() for f in rng.choices(parts, weights, k=rng.randint(0, 24)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("tool")
    parser.add_argument("--texts", type=int, default=3000, help="of each variant")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not os.path.isdir(support.FIXTURES):
        print(f"skipped: {support.FIXTURES} is absent (SEAM_SHARED_DIR)")
        return 77
    failed = 0
    for name, root in variants():
        sample = list(texts(random.Random(f"{args.seed} {name}"), root, args.texts))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w") as f:
                json.dump(root, f)
            hf = tokenizers.Tokenizer.from_file(path)
            want = [e.ids for e in hf.encode_batch(sample, add_special_tokens=False)]
            got = support.encode(args.tool, path, sample)
            back = support.encode(args.tool, path, sample, True)
        wrong = [(t, g, w) for t, g, w in zip(sample, got, want, strict=True) if g != w]
        texts_back = [hf.decode(ids, skip_special_tokens=False) for ids in want]
        shown = [(t, b, w) for t, b, w in zip(sample, back, texts_back, strict=True) if b != w]
        failed += len(wrong) + len(shown)
        tokens = sum(map(len, want))
        print(f"{name}: {len(sample)} texts, {tokens} tokens, {len(wrong)} encoded and {len(shown)} "
              f"decoded otherwise", flush=True)
        for case in (wrong + shown)[:2]:
            print(f"  {case}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

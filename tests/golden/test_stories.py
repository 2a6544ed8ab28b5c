#!/usr/bin/env python3
"""A trained model speaks: stories260K, greedy, 200 tokens through the key/value cache, equals the
text that its author published.  Exits 77 where the shared fixtures are absent.

    test_stories.py RUN_MODEL
"""

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))
BOS = 1


def tokens(path):
    """Texts of tok512.bin: i32 longest, then for each token f32 score, i32 length, bytes."""
    with open(path, "rb") as f:
        data = f.read()
    at, texts = 4, []
    while at < len(data):
        length = struct.unpack_from("<i", data, at + 4)[0]
        texts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return texts


def text_of(ids, texts):
    out, previous = b"", BOS
    for i in ids:
        if i == BOS:
            break
        piece = texts[i]
        if previous == BOS and piece.startswith(b" "):
            piece = piece[1:]
        if len(piece) == 6 and piece.startswith(b"<0x"):
            piece = bytes([int(piece[3:5], 16)])
        out, previous = out + piece, i
    return out


def main(run_model):
    for package in ("numpy", "safetensors"):  # the converter's
        if importlib.util.find_spec(package) is None:
            print(f"{package}: not installed, skipped (deploy/setup.sh test installs it)")
            return 77
    stories = os.path.join(SHARED, "fixtures", "stories260k")
    if not os.path.isdir(stories):
        print(f"{stories}: absent, skipped (SEAM_SHARED_DIR names the folder)")
        return 77
    with open(os.path.join(stories, "expected_greedy_200.txt"), "rb") as f:
        expected = f.read()
    texts = tokens(os.path.join(stories, "tok512.bin"))
    convert = os.path.join(HERE, "..", "oracle", "stories260k_to_hf.py")
    with tempfile.TemporaryDirectory() as model:
        subprocess.run(
            [sys.executable, convert, os.path.join(stories, "stories260K.bin"), model], check=True
        )
        for kind in ("ref", "f32"):
            out = subprocess.run(
                [run_model, "generate", model, kind, str(BOS), "200"],
                check=True, capture_output=True, text=True,
            )
            got = text_of([int(line) for line in out.stdout.split()], texts)
            if got != expected:
                print(f"{kind}: expected\n{expected.decode()}\ngot\n{got.decode(errors='replace')}")
                return 1
            print(f"{kind}: 200 greedy tokens equal the published text")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

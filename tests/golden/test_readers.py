#!/usr/bin/env python3
"""Hugging Face directories as Seam reads them equal what safetensors' own reader gives.

Tiny random models in every layout (single, sharded, F32, F16, tied, untied) and stories260K are
written to a temporary folder and read back.  Exits 77 without numpy or safetensors.

    test_readers.py DUMP_WEIGHTS
"""

import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "oracle"))
SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))


def identity(config):
    """WIRE.md, "Model identity"."""
    names = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
             "num_key_value_heads head_dim")
    data = struct.pack("<7I", *(config[n] for n in names.split()))
    data += struct.pack("<fd", config["rms_norm_eps"], config["rope_theta"])
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def check(tool, directory, np, load_file):
    with tempfile.NamedTemporaryFile() as out:
        run = subprocess.run([tool, directory, out.name], check=True, capture_output=True, text=True)
        values = np.fromfile(out.name, "<f4")
    want = {}
    for path in glob.glob(os.path.join(directory, "*.safetensors")):
        want.update(load_file(path))
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    first, *lines = [line.split() for line in run.stdout.splitlines()]
    assert first[-1] == identity(config), (first, identity(config))
    assert {line[0] for line in lines} == set(want), set(want) ^ {line[0] for line in lines}
    at = 0
    for name, rows, cols in lines:
        count = int(rows) * int(cols)
        got = values[at : at + count].reshape(want[name].shape)
        assert np.array_equal(got, want[name].astype(np.float32)), (directory, name)
        at += count
    assert at == len(values)
    print(f"{os.path.basename(directory)}: {len(lines)} tensors equal")


def main(tool):
    try:
        import numpy as np
        from safetensors.numpy import load_file
    except ImportError as error:
        print(f"skipped: {error}")
        sys.exit(77)
    import make_tiny_llama
    import stories260k_to_hf

    stories = os.path.join(SHARED, "fixtures", "stories260k", "stories260K.bin")
    with tempfile.TemporaryDirectory() as out:
        make_tiny_llama.main(out, [])
        if os.path.exists(stories):
            make_tiny_llama.save(os.path.join(out, "stories"), *stories260k_to_hf.read(stories))
        for name in sorted(os.listdir(out)):
            check(tool, os.path.join(out, name), np, load_file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

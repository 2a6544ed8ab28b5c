#!/usr/bin/env python3
"""Hugging Face directories as Seam reads them equal what safetensors' own reader gives.

Tiny random models in every layout (single, sharded, F32, F16, tied, untied) and stories260K are
written to a temporary folder and read back.  Exits 77 without numpy or safetensors.

    test_readers.py DUMP_WEIGHTS
"""

import glob
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "oracle"))
SHARED = os.environ.get("SEAM_SHARED_DIR", os.path.join(HERE, "..", "..", "..", "shared"))


def rope_of(config):
    """rope_theta, and (attention factor, long_from, factors, long factors) or None."""
    form = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = form.get("rope_theta", config.get("rope_theta", 10000.0))
    name = form.get("rope_type", form.get("type", "default"))
    heads = config["num_attention_heads"]
    dim = config.get("head_dim", config["hidden_size"] // heads)
    if name == "linear":
        return theta, (1.0, 0, dim // 2 * [form["factor"]], [])
    original = config.get("original_max_position_embeddings",
                          form.get("original_max_position_embeddings"))
    if name == "llama3":
        low, high, factors = form["low_freq_factor"], form["high_freq_factor"], []
        for i in range(dim // 2):
            wavelength = 2 * math.pi * theta ** (2 * i / dim)
            smooth = (original / wavelength - low) / (high - low)
            smooth = min(1.0, max(0.0, smooth))
            factors.append(1 / ((1 - smooth) / form["factor"] + smooth))
        return theta, (1.0, 0, factors, [])
    if name in ("longrope", "su"):
        factor = form.get("factor", config["max_position_embeddings"] / original)
        usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        return theta, (form.get("attention_factor", usual), original, form["short_factor"],
                       form["long_factor"])
    return theta, None


def windows_of(config):
    layers = config["num_hidden_layers"]
    window = config.get("sliding_window") or 0
    if config["model_type"] == "qwen2":
        layers -= config["max_window_layers"]
        return (window, layers) if config["use_sliding_window"] else (0, 0)
    return (window, layers) if 0 < window < config["max_position_embeddings"] else (0, 0)


def identity(config):
    """WIRE.md, "Model identity"."""
    config = dict(config)
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    theta, rope = rope_of(config)
    window = windows_of(config)
    names = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
             "num_key_value_heads head_dim")
    data = struct.pack("<7I", *(config[n] for n in names.split()))
    data += struct.pack("<fd", config["rms_norm_eps"], theta)
    if config["model_type"] != "llama" or rope is not None or window[0]:
        family = config["model_type"].encode()
        data += struct.pack("<I", len(family)) + family + struct.pack("<2I", *window)
        if rope is None:
            data += struct.pack("<I", 0)
        else:
            attention, long_from, factors, long_factors = rope
            data += struct.pack("<3I", len(factors), int(256 * attention + 0.5), long_from)
            for factor in [*factors, *long_factors]:
                data += struct.pack("<I", int(256 * factor + 0.5))
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
    import make_tiny_models
    import stories260k_to_hf

    stories = os.path.join(SHARED, "fixtures", "stories260k", "stories260K.bin")
    with tempfile.TemporaryDirectory() as out:
        make_tiny_models.main(out, [])
        if os.path.exists(stories):
            make_tiny_models.save(os.path.join(out, "stories"), *stories260k_to_hf.read(stories))
        for name in sorted(os.listdir(out)):
            check(tool, os.path.join(out, name), np, load_file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

#!/usr/bin/env python3
"""Hugging Face directories as Seam reads them equal what safetensors' own reader gives.

Tiny random models of every family in every layout (single, sharded, F32, F16, tied, untied; GGUF)
and stories260K are written to a temporary folder and read back; GGUF files that would change the
math are refused by the key's or tensor's name.  Exits 77 without numpy or safetensors.

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


def check_gguf(tool, maker, name, folder, np):
    """One of the tiny models as a GGUF file: the config's identity and every value."""
    config, want = maker.model_of(name)
    path = os.path.join(folder, name + ".gguf")
    maker.save_gguf(path, config, want)
    with tempfile.NamedTemporaryFile() as out:
        run = subprocess.run([tool, path, out.name], check=True, capture_output=True, text=True)
        values = np.fromfile(out.name, "<f4")
    first, *lines = [line.split() for line in run.stdout.splitlines()]
    assert first[-1] == identity(config), (name, first, identity(config))
    assert {line[0] for line in lines} == set(want), set(want) ^ {line[0] for line in lines}
    at = 0
    for tensor, rows, cols in lines:
        count = int(rows) * int(cols)
        got = values[at : at + count].reshape(want[tensor].shape)
        assert np.array_equal(got, want[tensor].astype(np.float32)), (path, tensor)
        at += count
    print(f"{name}.gguf: {len(lines)} tensors equal")


def refuse_gguf(tool, maker, name, folder, word, keys=None, **tensors):
    """The model with other keys or more tensors is refused, and the text has the word."""
    config, values = maker.model_of(name)
    path = os.path.join(folder, "refused.gguf")
    maker.save_gguf(path, config, values, keys or {}, tensors)
    run = subprocess.run([tool, path, "/dev/null"], capture_output=True, text=True)
    assert run.returncode != 0 and word in run.stderr, (name, word, run.stderr)


def check_refusals(tool, maker, folder, np):
    def refuse(name, word, keys=None, **tensors):
        refuse_gguf(tool, maker, name, folder, word, keys, **tensors)

    ten, eight = np.ones(10, np.float32), np.ones(8, np.float32)
    bias = np.ones(60, np.float32)
    refuse("tiny-d20", "mamba", {"general.architecture": "mamba"})
    refuse("tiny-d20", "blk.0.attn_q.bias", **{"blk.0.attn_q.bias": bias})
    refuse("tiny-d20", "llama.attention.sliding_window", {"llama.attention.sliding_window": 9})
    refuse("tiny-d20", "llama.rope.scaling.type", {"llama.rope.scaling.type": "yarn"})
    refuse("tiny-d20", "llama.rope.scaling.factor", {"llama.rope.scaling.factor": 2.0})
    refuse("tiny-d20", "llama.rope.dimension_count", {"llama.rope.dimension_count": 10})
    refuse("tiny-d20", "rope_freqs.weight", **{"rope_freqs.weight": eight})
    refuse("tiny-d20", "factor 0", **{"rope_freqs.weight": 0 * ten})
    refuse("tiny-qwen2", "rope_freqs", **{"rope_freqs.weight": ten})
    refuse("tiny-qwen2", "qwen2.attention.sliding_window", {"qwen2.attention.sliding_window": 9})
    refuse("tiny-qwen2", "qwen2.logit_scale", {"qwen2.logit_scale": 2.0})
    refuse("tiny-phi3-window", "rope_factors_short", **{"rope_factors_long.weight": ten[:6]})
    refuse("tiny-phi3-su", "original_context_length",
           {"phi3.rope.scaling.original_context_length": 1})
    refuse("tiny-phi3-su", "blk.0.attn_q.weight", **{"blk.0.attn_q.weight": np.ones((64, 64))})
    print("refused GGUF files: named")


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
        for name in make_tiny_models.MODELS:
            fields = make_tiny_models.MODELS[name].get("fields", {})
            if not fields.get("use_sliding_window"):  # llama.cpp has no window for qwen2
                check_gguf(tool, make_tiny_models, name, out, np)
        check_refusals(tool, make_tiny_models, out, np)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

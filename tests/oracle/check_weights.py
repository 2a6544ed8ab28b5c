#!/usr/bin/env python3
"""GGUF as Seam reads it equals transformers' own GGUF loading, every tensor, bit for bit.

    check_weights.py DUMP_WEIGHTS MODEL_DIR_OR_GGUF
"""

import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def dump(tool, model):
    """(config fields, {name: array}) from the C program."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "tensors")
        lines = subprocess.run([tool, model, path], check=True, capture_output=True, text=True)
        values = np.fromfile(path, "<f4")
    config, *rest = [line.split() for line in lines.stdout.splitlines()]
    tensors, at = {}, 0
    for name, rows, cols in rest:
        count = int(rows) * int(cols)
        tensors[name] = values[at : at + count].reshape(int(rows), int(cols))
        at += count
    assert at == len(values)
    return config[1:], tensors


def main(tool, model):
    path = glob.glob(os.path.join(model, "*.gguf"))[0] if os.path.isdir(model) else model
    hf = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32
    )
    config, tensors = dump(tool, model)
    want = [
        hf.config.vocab_size,
        hf.config.hidden_size,
        hf.config.intermediate_size,
        hf.config.num_hidden_layers,
        hf.config.num_attention_heads,
        hf.config.num_key_value_heads,
        hf.config.head_dim,
        hf.config.max_position_embeddings,
    ]
    assert [int(x) for x in config[:8]] == want, (config, want)
    theta = hf.config.rope_parameters["rope_theta"]
    assert np.float32(config[8]) == np.float32(hf.config.rms_norm_eps)
    assert float(config[9]) == theta and bool(int(config[10])) == hf.config.tie_word_embeddings
    state = {k: v.numpy() for k, v in hf.state_dict().items()}
    if hf.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    assert set(state) == set(tensors), set(state) ^ set(tensors)
    worst = 0.0
    for name, got in tensors.items():
        ref = state[name].reshape(got.shape)
        worst = max(worst, float(np.abs(got - ref).max()))
        assert np.array_equal(got, ref), f"{name}: differs by up to {np.abs(got - ref).max()}"
    print(f"{len(tensors)} tensors, {sum(t.size for t in tensors.values())} values: equal")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""GGUF as Seam reads it equals transformers' own GGUF loading, every tensor, bit for bit: a real model,
and small ones of random blocks whose matrices have each quantized type in turn.

    check_weights.py DUMP_WEIGHTS MODEL_DIR_OR_GGUF
"""

import glob
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from make_gguf_golden import HALVES, random_blocks

SMALL = dict(hidden=256, intermediate=512, layers=2, heads=4, kv_heads=2, vocab=64, context=128)


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


def write_small(path, first, rng):
    """A llama whose matrices have the quantized types in turn, from number `first` on."""
    c, kinds = SMALL, list(HALVES)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(c["layers"])
    writer.add_context_length(c["context"])
    writer.add_embedding_length(c["hidden"])
    writer.add_feed_forward_length(c["intermediate"])
    writer.add_head_count(c["heads"])
    writer.add_head_count_kv(c["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(c["hidden"] // c["heads"])
    writer.add_vocab_size(c["vocab"])
    kv = c["hidden"] // c["heads"] * c["kv_heads"]
    shapes = {"token_embd": (c["vocab"], c["hidden"]), "output": (c["vocab"], c["hidden"])}
    for layer in range(c["layers"]):
        for name, rows, cols in (("attn_q", c["hidden"], c["hidden"]), ("attn_k", kv, c["hidden"]),
                                 ("attn_v", kv, c["hidden"]), ("attn_output", c["hidden"], c["hidden"]),
                                 ("ffn_gate", c["intermediate"], c["hidden"]),
                                 ("ffn_up", c["intermediate"], c["hidden"]),
                                 ("ffn_down", c["hidden"], c["intermediate"])):
            shapes[f"blk.{layer}.{name}"] = (rows, cols)
    norms = ["output_norm"] + [f"blk.{i}.{n}_norm" for i in range(c["layers"]) for n in ("attn", "ffn")]
    for name in norms:
        writer.add_tensor(f"{name}.weight", rng.standard_normal(c["hidden"]).astype(np.float32))
    for i, (name, (rows, cols)) in enumerate(shapes.items()):
        kind = gguf.GGMLQuantizationType[kinds[(first + i) % len(kinds)]]
        count = rows * cols // gguf.GGML_QUANT_SIZES[kind][0]
        blocks, _ = random_blocks(rng, kind.name, count)
        writer.add_tensor(f"{name}.weight", blocks.reshape(rows, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(tool, model):
    compare(tool, model)
    with tempfile.TemporaryDirectory() as folder:
        for first in range(len(HALVES)):
            path = os.path.join(folder, f"types-{first}.gguf")
            write_small(path, first, np.random.default_rng(first))
            compare(tool, path)


def compare(tool, model):
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

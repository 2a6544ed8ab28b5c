#!/usr/bin/env python3
"""stories260K.bin (llama2.c's format) -> a Hugging Face directory (config.json, safetensors f32).

The file pairs adjacent elements in RoPE; Hugging Face pairs i with i + D/2, so rows of wq and wk
are permuted a head: new row i from row 2i, new row i + D/2 from row 2i + 1.  numpy only.

    stories260k_to_hf.py stories260K.bin OUT
"""

import os
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_tiny_models import config_of, save  # noqa: E402


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    dim, ffn, layers, heads, kv, vocab, context = struct.unpack("<7i", data[:28])
    if vocab <= 0:
        sys.exit(f"{path}: untied embeddings are not expected here")
    values, at, d = np.frombuffer(data, "<f4", offset=28), 0, dim // heads

    def take(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return values[at - int(np.prod(shape)) : at].reshape(shape)

    def unpermute(w, count):
        return w.reshape(count, d // 2, 2, dim).swapaxes(1, 2).reshape(count * d, dim)

    t = {"model.embed_tokens.weight": take(vocab, dim)}
    norm1, wq, wk = take(layers, dim), take(layers, dim, dim), take(layers, kv * d, dim)
    wv, wo, norm2 = take(layers, kv * d, dim), take(layers, dim, dim), take(layers, dim)
    w1, w2, w3 = take(layers, ffn, dim), take(layers, dim, ffn), take(layers, ffn, dim)
    t["model.norm.weight"] = take(dim)
    take(2, context, d // 2)  # RoPE tables, unused
    if at != len(values):
        sys.exit(f"{path}: {len(values)} floats, not {at}")
    for i in range(layers):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"] = norm1[i]
        t[p + "self_attn.q_proj.weight"] = unpermute(wq[i], heads)
        t[p + "self_attn.k_proj.weight"] = unpermute(wk[i], kv)
        t[p + "self_attn.v_proj.weight"] = wv[i]
        t[p + "self_attn.o_proj.weight"] = wo[i]
        t[p + "post_attention_layernorm.weight"] = norm2[i]
        t[p + "mlp.gate_proj.weight"] = w1[i]
        t[p + "mlp.up_proj.weight"] = w3[i]
        t[p + "mlp.down_proj.weight"] = w2[i]
    config = config_of(
        dict(vocab=vocab, hidden=dim, ffn=ffn, layers=layers, heads=heads, kv=kv, dim=d, tied=True)
    )
    config["max_position_embeddings"] = context
    return config, {k: np.ascontiguousarray(v) for k, v in t.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    save(sys.argv[2], *read(sys.argv[1]))

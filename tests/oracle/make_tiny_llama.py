#!/usr/bin/env python3
"""Random tiny Llama models as Hugging Face directories (config.json + safetensors).

Odd sizes on purpose: 3 query heads per kv head, head_dim 20 and 64, tied and untied heads, sizes
that are multiples of nothing.  Needs numpy and safetensors only, so that `make test` can make
them in the build directory; the values depend on the seed alone.

    make_tiny_llama.py OUT              writes every model of MODELS to OUT/<name>
    make_tiny_llama.py OUT NAME...      only these
"""

import json
import os
import sys

import numpy as np
from safetensors.numpy import save_file

# name: sizes, and how the file is written.
MODELS = {
    "tiny-d20": dict(vocab=101, hidden=60, ffn=92, layers=2, heads=3, kv=1, dim=20, tied=False),
    "tiny-d20-tied": dict(vocab=97, hidden=44, ffn=76, layers=3, heads=6, kv=2, dim=20, tied=True),
    "tiny-d64": dict(vocab=131, hidden=192, ffn=200, layers=2, heads=3, kv=1, dim=64, tied=True),
    "tiny-d64-untied": dict(
        vocab=113, hidden=72, ffn=136, layers=2, heads=6, kv=2, dim=64, tied=False
    ),
    "tiny-sharded": dict(
        vocab=101, hidden=60, ffn=92, layers=2, heads=3, kv=1, dim=20, tied=False, shards=2
    ),
    "tiny-f16": dict(
        vocab=97, hidden=44, ffn=76, layers=2, heads=6, kv=2, dim=20, tied=True, dtype="float16"
    ),
}


def tensors_of(m, rng):
    """Weights at the scale of a trained model: activations neither vanish nor explode."""

    def matrix(rows, cols):
        return (rng.standard_normal((rows, cols)) / np.sqrt(cols)).astype(np.float32)

    def norm():
        return (1.0 + 0.1 * rng.standard_normal(m["hidden"])).astype(np.float32)

    q, kv = m["heads"] * m["dim"], m["kv"] * m["dim"]
    t = {"model.embed_tokens.weight": rng.standard_normal((m["vocab"], m["hidden"])).astype(np.float32)}
    for i in range(m["layers"]):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"] = norm()
        t[p + "self_attn.q_proj.weight"] = matrix(q, m["hidden"])
        t[p + "self_attn.k_proj.weight"] = matrix(kv, m["hidden"])
        t[p + "self_attn.v_proj.weight"] = matrix(kv, m["hidden"])
        t[p + "self_attn.o_proj.weight"] = matrix(m["hidden"], q)
        t[p + "post_attention_layernorm.weight"] = norm()
        t[p + "mlp.gate_proj.weight"] = matrix(m["ffn"], m["hidden"])
        t[p + "mlp.up_proj.weight"] = matrix(m["ffn"], m["hidden"])
        t[p + "mlp.down_proj.weight"] = matrix(m["hidden"], m["ffn"])
    t["model.norm.weight"] = norm()
    if not m["tied"]:
        t["lm_head.weight"] = matrix(m["vocab"], m["hidden"])
    return {k: v.astype(m.get("dtype", "float32")) for k, v in t.items()}


def config_of(m):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": m["vocab"],
        "hidden_size": m["hidden"],
        "intermediate_size": m["ffn"],
        "num_hidden_layers": m["layers"],
        "num_attention_heads": m["heads"],
        "num_key_value_heads": m["kv"],
        "head_dim": m["dim"],
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": m["tied"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": m.get("dtype", "float32"),
    }


def save(directory, config, tensors, shards=1):
    """One model.safetensors, or `shards` of them with their index."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    if shards == 1:
        save_file(tensors, os.path.join(directory, "model.safetensors"), {"format": "pt"})
        return
    names, weight_map = list(tensors), {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        save_file({n: tensors[n] for n in part}, os.path.join(directory, file), {"format": "pt"})
        weight_map.update({n: file for n in part})
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": weight_map}, f)


def main(out, names):
    for i, (name, m) in enumerate(MODELS.items()):
        if not names or name in names:
            rng = np.random.default_rng(1000 + i)
            save(os.path.join(out, name), config_of(m), tensors_of(m, rng), m.get("shards", 1))


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(MODELS):
        sys.exit(f"{__doc__}\nmodels: {' '.join(MODELS)}")
    main(sys.argv[1], sys.argv[2:])

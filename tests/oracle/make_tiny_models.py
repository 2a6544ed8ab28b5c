#!/usr/bin/env python3
"""Random tiny models of every family as Hugging Face directories (config.json + safetensors).

Odd sizes on purpose: 3 query heads per kv head, head_dim 20 and 64, tied and untied heads, sizes
that are multiples of nothing; biases that are not zero, windows and pretraining contexts shorter
than the sequences of check_model.py; RoPE in the older and the newer form of config.json.  Needs numpy and safetensors only, so that `make test` can make
them in the build directory; the values depend on the seed alone.

    make_tiny_models.py OUT              writes every model of MODELS to OUT/<name>
    make_tiny_models.py OUT NAME...      only these
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
    "tiny-smollm2": dict(
        vocab=127, hidden=96, ffn=104, layers=2, heads=3, kv=1, dim=32, tied=True, embed=0.25,
        fields=dict(rope_theta=100000, rope_scaling=None, rope_interleaved=False,
                    is_llama_config=True, pad_token_id=2),
    ),
    # Wavelengths of 6, 23 and 87 and more: above, between and below the two limits.
    "tiny-llama31": dict(
        vocab=103, hidden=60, ffn=84, layers=2, heads=3, kv=1, dim=20, tied=False,
        fields=dict(rope_theta=500000.0, rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32)),
    ),
    "tiny-llama-linear": dict(
        vocab=103, hidden=60, ffn=84, layers=2, heads=6, kv=3, dim=10, tied=True, embed=0.25,
        fields=dict(rope_theta=None, rope_parameters=dict(
            rope_type="linear", rope_theta=20000.0, factor=3.0)),
    ),
    "tiny-qwen2": dict(
        family="qwen2", vocab=109, hidden=66, ffn=92, layers=2, heads=6, kv=2, dim=20, tied=False,
        shards=3,
        fields=dict(rope_theta=1000000.0, use_sliding_window=False, sliding_window=8,
                    max_window_layers=1),
    ),
    "tiny-qwen2-window": dict(
        family="qwen2", vocab=107, hidden=48, ffn=76, layers=3, heads=3, kv=1, dim=16, tied=True, embed=0.25,
        fields=dict(rope_theta=None, rope_parameters=dict(rope_type="default", rope_theta=1e6),
                    use_sliding_window=True, sliding_window=7, max_window_layers=1,
                    layer_types=["full_attention"] + 2 * ["sliding_attention"]),
    ),
    "tiny-phi3-window": dict(
        family="phi3", vocab=101, hidden=72, ffn=84, layers=2, heads=6, kv=2, dim=12, tied=False,
        fields=dict(rope_scaling=None, sliding_window=9, original_max_position_embeddings=512),
    ),
    "tiny-phi3-long": dict(
        family="phi3", vocab=113, hidden=60, ffn=84, layers=2, heads=3, kv=1, dim=20, tied=True, embed=0.25,
        fields=dict(sliding_window=600, original_max_position_embeddings=16, rope_scaling=dict(
            type="longrope", short_factor=[1.0 + 0.03 * i for i in range(10)],
            long_factor=[1.1 + 0.7 * i for i in range(10)])),
    ),
    "tiny-phi3-su": dict(
        family="phi3", vocab=113, hidden=64, ffn=72, layers=2, heads=4, kv=4, dim=16, tied=False,
        shards=2,
        fields=dict(sliding_window=11, original_max_position_embeddings=20, rope_theta=None,
                    rope_parameters=dict(
                        rope_type="su", rope_theta=8000.0, attention_factor=1.25,
                        original_max_position_embeddings=20,
                        short_factor=[1.0 + 0.05 * i for i in range(8)],
                        long_factor=[1.5 + 0.9 * i for i in range(8)])),
    ),
}
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "phi3": "Phi3ForCausalLM"}


def tensors_of(m, rng):
    """Weights at the scale of a trained model: activations neither vanish nor explode."""

    def matrix(rows, cols):
        return (rng.standard_normal((rows, cols)) / np.sqrt(cols)).astype(np.float32)

    def norm():
        return (1.0 + 0.1 * rng.standard_normal(m["hidden"])).astype(np.float32)

    q, kv = m["heads"] * m["dim"], m["kv"] * m["dim"]
    embedding = m.get("embed", 1.0) * rng.standard_normal((m["vocab"], m["hidden"]))
    t = {"model.embed_tokens.weight": embedding.astype(np.float32)}
    for i in range(m["layers"]):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"] = norm()
        family = m.get("family", "llama")
        if family == "phi3":
            t[p + "self_attn.qkv_proj.weight"] = matrix(q + 2 * kv, m["hidden"])
        else:
            for name, rows in (("q", q), ("k", kv), ("v", kv)):
                t[p + f"self_attn.{name}_proj.weight"] = matrix(rows, m["hidden"])
                if family == "qwen2":
                    bias = 0.4 * rng.standard_normal(rows)
                    t[p + f"self_attn.{name}_proj.bias"] = bias.astype(np.float32)
        t[p + "self_attn.o_proj.weight"] = matrix(m["hidden"], q)
        t[p + "post_attention_layernorm.weight"] = norm()
        if family == "phi3":
            t[p + "mlp.gate_up_proj.weight"] = matrix(2 * m["ffn"], m["hidden"])
        else:
            t[p + "mlp.gate_proj.weight"] = matrix(m["ffn"], m["hidden"])
            t[p + "mlp.up_proj.weight"] = matrix(m["ffn"], m["hidden"])
        t[p + "mlp.down_proj.weight"] = matrix(m["hidden"], m["ffn"])
    t["model.norm.weight"] = norm()
    if not m["tied"]:
        t["lm_head.weight"] = matrix(m["vocab"], m["hidden"])
    return {k: v.astype(m.get("dtype", "float32")) for k, v in t.items()}


def config_of(m):
    family = m.get("family", "llama")
    config = {
        "architectures": [CLASSES[family]],
        "model_type": family,
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
        "tie_word_embeddings": m["tied"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": m.get("dtype", "float32"),
    }
    if family == "llama":
        config.update(attention_bias=False, mlp_bias=False)
    if family == "phi3":
        del config["head_dim"]  # its config class has none: hidden / heads
        config.update(attention_bias=False, resid_pdrop=0.0, embd_pdrop=0.0, pad_token_id=0)
    config.update(m.get("fields", {}))
    return {k: v for k, v in config.items() if v is not None or k == "rope_scaling"}


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

#!/usr/bin/env python3
"""Random tiny models of every family as Hugging Face directories (config.json + safetensors).

Odd sizes on purpose: 3 query heads per kv head, head_dim 20 and 64, tied and untied heads, sizes
that are multiples of nothing; biases that are not zero, windows and pretraining contexts shorter
than the sequences of check_model.py; RoPE in the older and the newer form of config.json.  Needs
numpy and safetensors only, so that `make test` can make them in the build directory; the values
depend on the seed alone.

    make_tiny_models.py OUT              writes every model of MODELS to OUT/<name>
    make_tiny_models.py OUT NAME...      only these
"""

import json
import os
import struct
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
        family="qwen2", vocab=107, hidden=48, ffn=76, layers=3, heads=3, kv=1, dim=16, tied=True,
        embed=0.25,
        fields=dict(rope_theta=None, rope_parameters=dict(rope_type="default", rope_theta=1e6),
                    use_sliding_window=True, sliding_window=7, max_window_layers=1,
                    layer_types=["full_attention"] + 2 * ["sliding_attention"]),
    ),
    "tiny-phi3-window": dict(
        family="phi3", vocab=101, hidden=72, ffn=84, layers=2, heads=6, kv=2, dim=12, tied=False,
        fields=dict(rope_scaling=None, sliding_window=9, original_max_position_embeddings=512),
    ),
    "tiny-phi3-long": dict(
        family="phi3", vocab=113, hidden=60, ffn=84, layers=2, heads=3, kv=1, dim=20, tied=True,
        embed=0.25,
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
    # Windows and pretraining contexts that check_model.py's sequences with a prefix stay below.
    "tiny-qwen2-wide": dict(
        family="qwen2", vocab=109, hidden=66, ffn=76, layers=3, heads=3, kv=1, dim=22, tied=False,
        fields=dict(rope_theta=1000000.0, use_sliding_window=True, sliding_window=72,
                    max_window_layers=1),
    ),
    "tiny-phi3-wide": dict(
        family="phi3", vocab=109, hidden=66, ffn=76, layers=2, heads=3, kv=1, dim=22, tied=False,
        fields=dict(sliding_window=70, original_max_position_embeddings=70, rope_scaling=dict(
            type="longrope", short_factor=[1.0 + 0.04 * i for i in range(11)],
            long_factor=[1.2 + 0.8 * i for i in range(11)])),
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


GGUF_GLOBALS = {"model.embed_tokens.weight": "token_embd.weight",
                "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
GGUF_LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "self_attn.qkv_proj.weight": "attn_qkv.weight", "mlp.gate_up_proj.weight": "ffn_up.weight",
    **{f"self_attn.{p}_proj.{k}": f"attn_{p}.{k}" for p in "qkv" for k in ("weight", "bias")},
}


def gguf_name(name):
    if name in GGUF_GLOBALS:
        return GGUF_GLOBALS[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{GGUF_LAYER[rest]}"


def gguf_rope(config, family, dim):
    """What llama.cpp's converter makes of RoPE: keys, and tensors of factors."""
    form = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = form.get("rope_theta", config.get("rope_theta", 10000.0))
    keys, tensors = {f"{family}.rope.freq_base": float(theta)}, {}
    name = form.get("rope_type", form.get("type", "default"))
    original = config.get("original_max_position_embeddings",
                          form.get("original_max_position_embeddings"))
    if name == "linear":
        keys |= {f"{family}.rope.scaling.type": "linear",
                 f"{family}.rope.scaling.factor": float(form["factor"])}
    if name == "llama3":
        low, high = form["low_freq_factor"], form["high_freq_factor"]
        wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
        smooth = np.clip((original / wavelength - low) / (high - low), 0, 1)
        tensors["rope_freqs.weight"] = 1 / ((1 - smooth) / form["factor"] + smooth)
    if name in ("longrope", "su"):
        scale = config["max_position_embeddings"] / original
        usual = np.sqrt(1 + np.log(scale) / np.log(original))
        keys |= {f"{family}.rope.scaling.original_context_length": original,
                 f"{family}.rope.scaling.attn_factor": float(form.get("attention_factor", usual))}
        tensors["rope_factors_short.weight"] = np.array(form["short_factor"])
        tensors["rope_factors_long.weight"] = np.array(form["long_factor"])
    return keys, {n: t.astype(np.float32) for n, t in tensors.items()}


def save_gguf(path, config, tensors, more_keys=(), more_tensors=()):
    """The model as llama.cpp's converter would write it, in F32; and more, for tests of refusals."""
    family, heads = config["model_type"], config["num_attention_heads"]
    dim = config.get("head_dim", config["hidden_size"] // heads)
    keys, extra = gguf_rope(config, family, dim)
    keys = {
        "general.architecture": family,
        f"{family}.block_count": config["num_hidden_layers"],
        f"{family}.context_length": config["max_position_embeddings"],
        f"{family}.embedding_length": config["hidden_size"],
        f"{family}.feed_forward_length": config["intermediate_size"],
        f"{family}.attention.head_count": heads,
        f"{family}.attention.head_count_kv": config["num_key_value_heads"],
        f"{family}.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        f"{family}.rope.dimension_count": dim,
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        **keys,
    }
    if dim * heads != config["hidden_size"]:
        keys |= {f"{family}.attention.{w}_length": dim for w in ("key", "value")}
    if family == "phi3":
        keys[f"{family}.attention.sliding_window"] = config.get("sliding_window") or 0
    keys |= dict(more_keys)
    stored = extra | {n: np.asarray(t, np.float32) for n, t in dict(more_tensors).items()}
    for name, values in tensors.items():
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            halves = values.reshape(-1, 2, dim // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        stored[gguf_name(name)] = np.ascontiguousarray(values.astype(np.float32))

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    out = b"GGUF" + struct.pack("<IQQ", 3, len(stored), len(keys))
    for key, value in keys.items():
        kind = {int: 4, float: 6, str: 8}[type(value)]
        out += text(key) + struct.pack("<I", kind)
        out += text(value) if kind == 8 else struct.pack("<I" if kind == 4 else "<f", value)
    at = 0
    for name, values in stored.items():
        shape = values.shape[::-1]
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, at)
        at += values.nbytes + -values.nbytes % 32
    out += bytes(-len(out) % 32)
    for values in stored.values():
        out += values.tobytes() + bytes(-values.nbytes % 32)
    with open(path, "wb") as f:
        f.write(out)


def model_of(name):
    """config.json's fields and the tensors of one of MODELS."""
    rng = np.random.default_rng(1000 + list(MODELS).index(name))
    return config_of(MODELS[name]), tensors_of(MODELS[name], rng)


def main(out, names):
    for name in names or MODELS:
        save(os.path.join(out, name), *model_of(name), MODELS[name].get("shards", 1))


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(MODELS):
        sys.exit(f"{__doc__}\nmodels: {' '.join(MODELS)}")
    main(sys.argv[1], sys.argv[2:])

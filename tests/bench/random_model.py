#!/usr/bin/env python3
"""Writes a model folder with random bf16 weights of a served model's shape, for timing only.

    random_model.py SHAPE OUT TOKENIZER_JSON [LAYERS]      SHAPE: llama3-8b, smollm2-135m

One safetensors file a layer; 16 GB of the 8B shape take some seconds.  Weights are pieces of one block
of normal numbers of deviation 0.02, as models are initialised; norms are 1.
"""
import json
import pathlib
import shutil
import sys

import numpy as np

SHAPES = {
    "llama3-8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                      num_attention_heads=32, num_key_value_heads=8, vocab_size=128256,
                      rope_theta=500000.0, max_position_embeddings=8192, rms_norm_eps=1e-5,
                      tie_word_embeddings=False),
    "smollm2-135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
                         rope_theta=100000.0, max_position_embeddings=8192, rms_norm_eps=1e-5,
                         tie_word_embeddings=True),
}
BLOCK = 1 << 25


def bf16_block():
    values = np.random.default_rng(1).standard_normal(BLOCK, dtype=np.float32) * np.float32(0.02)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def write_file(path, tensors, block, start):
    """tensors: name -> shape; returns where in the block the next tensor begins."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            left = int(np.prod(shape))
            if name.endswith("norm.weight"):
                file.write(np.full(left, 0x3F80, np.uint16).tobytes())
                continue
            while left > 0:
                piece = block[start:start + left]
                file.write(piece.data)
                left -= len(piece)
                start = (start + len(piece)) % BLOCK
    return start


def layer_tensors(config, layer):
    c, f = config["hidden_size"], config["intermediate_size"]
    d = c // config["num_attention_heads"]
    kv = d * config["num_key_value_heads"]
    shapes = {"input_layernorm": [c], "post_attention_layernorm": [c], "self_attn.q_proj": [c, c],
              "self_attn.k_proj": [kv, c], "self_attn.v_proj": [kv, c], "self_attn.o_proj": [c, c],
              "mlp.gate_proj": [f, c], "mlp.up_proj": [f, c], "mlp.down_proj": [c, f]}
    return {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def main():
    shape, out, tokenizer = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    config = dict(SHAPES[shape], architectures=["LlamaForCausalLM"], model_type="llama",
                  hidden_act="silu", bos_token_id=0, eos_token_id=0, torch_dtype="bfloat16")
    if len(sys.argv) > 4:
        config["num_hidden_layers"] = int(sys.argv[4])
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1))
    shutil.copy(tokenizer, out / "tokenizer.json")
    v, c = config["vocab_size"], config["hidden_size"]
    ends = {"model.embed_tokens.weight": [v, c], "model.norm.weight": [c]}
    if not config["tie_word_embeddings"]:
        ends["lm_head.weight"] = [v, c]
    files = [ends] + [layer_tensors(config, i) for i in range(config["num_hidden_layers"])]
    block, start, index = bf16_block(), 0, {}
    for i, tensors in enumerate(files):
        name = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        start = write_file(out / name, tensors, block, start)
        index.update({tensor: name for tensor in tensors})
    (out / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


if __name__ == "__main__":
    main()

"""Write the seed corpora of the weight and text readers: make_readers_corpus.py (Python alone)."""
import gzip
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def tensors():
    yield "model.embed_tokens.weight", "token_embd.weight", [2, 32]
    yield "model.norm.weight", "output_norm.weight", [32]
    p = "model.layers.0."
    yield p + "self_attn.q_proj.weight", "blk.0.attn_q.weight", [32, 32]


def safetensors(dtype, width):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, _, shape in tensors():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1) * width
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + count]}
        at += count
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 5,
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "eos_token_id": [2, 3],
    "rope_parameters": {"rope_type": "default"}, "sliding_window": None,
}


def family_configs():
    qwen2 = {**CONFIG, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
             "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0,
             "layer_types": ["sliding_attention"]}
    phi3 = {**CONFIG, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3",
            "sliding_window": 9, "original_max_position_embeddings": 16, "rope_parameters": {
                "rope_type": "longrope", "short_factor": 8 * [1.5], "long_factor": 8 * [2]}}
    llama3 = {**CONFIG, "rope_parameters": {
        "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
        "original_max_position_embeddings": 16}}
    return {"config_qwen2": qwen2, "config_phi3": phi3, "config_llama3": llama3}


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, value):
    if isinstance(value, str):
        return string(name) + struct.pack("<I", 8) + string(value)
    if isinstance(value, bool):
        return string(name) + struct.pack("<IB", 7, value)
    if isinstance(value, float):
        return string(name) + struct.pack("<If", 6, value)
    if isinstance(value, list) and isinstance(value[0], str):
        items = b"".join(map(string, value))
        return string(name) + struct.pack("<IIQ", 9, 8, len(value)) + items
    if isinstance(value, list):
        return string(name) + struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    return string(name) + struct.pack("<II", 4, value)


# Of a family: keys of its own, and tensors.
GGUF_LLAMA3 = ("llama", {}, [(None, "rope_freqs.weight", [8])])
GGUF_QWEN2 = ("qwen2", {}, [(None, "blk.0.attn_q.bias", [32])])
GGUF_PHI3 = ("phi3", {"phi3.rope.scaling.original_context_length": 16,
                      "phi3.rope.scaling.attn_factor": 1.25, "phi3.attention.sliding_window": 9},
             [(None, "rope_factors_short.weight", [8]), (None, "rope_factors_long.weight", [8])])


def gguf(type_id, block_bytes, family=("llama", {}, [])):
    name, own, more = family
    keys = {
        "general.architecture": name, f"{name}.block_count": 1, f"{name}.context_length": 64,
        f"{name}.embedding_length": 32, f"{name}.feed_forward_length": 64,
        f"{name}.attention.head_count": 2, f"{name}.attention.head_count_kv": 1,
        f"{name}.attention.layer_norm_rms_epsilon": 1e-5, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.tokens": ["a", "b", "ab", "<|im_end|>"],
        "tokenizer.ggml.token_type": [1, 1, 1, 3], "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.chat_template": "<|im_start|><|im_end|>",
    }
    keys |= own
    listed = [t for t in tensors() if name != "phi3" or "blk" not in t[1]] + more
    out = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(keys))
    out += b"".join(key(k, v) for k, v in keys.items())
    at = 0
    for _, name, shape in listed:
        dims = list(reversed(shape))
        out += string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        type_of, block = (type_id, block_bytes) if len(shape) > 1 else (0, 4 * shape[0])
        out += struct.pack("<IQ", type_of, at)
        at += -(-(block * (shape[0] if len(shape) > 1 else 1)) // 32) * 32
    data = struct.pack("<f", 1.5) * (at // 4)  # factors above 0
    return out + bytes(-len(out) % 32) + data


def tokenizer(**changes):
    split = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|[^\\s\\p{L}]+|\\s+(?!\\S)|\\s+"},
             "behavior": "Removed", "invert": True}
    root = {
        "added_tokens": [{"id": 9, "content": "<|im_end|>", "special": True}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, split,
            {"type": "ByteLevel", "use_regex": False}]},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|im_end|>"}}, {"Sequence": {"id": "A"}}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {"t": 0, "h": 1, "e": 2, "th": 3, "the": 4, "1": 5},
                  "merges": ["t h", ["th", "e"]], "unk_token": "e", "fuse_unk": True,
                  "ignore_merges": True},
    }
    return json.dumps({**root, **changes}).encode()


def pieces():
    """A model by characters: marks for spaces, bytes to fall back on."""
    mark = "\u2581"
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {mark: 256, "t": 257, "h": 258, "th": 259}
    steps = [{"type": "Replace", "pattern": {"String": mark}, "content": " "},
             {"type": "ByteFallback"}, {"type": "Fuse"},
             {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return tokenizer(
        added_tokens=[{"id": 260, "content": "<|im_end|>", "rstrip": True, "lstrip": True}],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": mark},
            {"type": "Replace", "pattern": {"String": " "}, "content": mark}]},
        pre_tokenizer={"type": "Metaspace", "replacement": mark, "prepend_scheme": "first"},
        decoder={"type": "Sequence", "decoders": steps},
        model={"type": "BPE", "vocab": vocab, "merges": ["t h"], "byte_fallback": True})


ROWS = {
    "completion": [{"prompt": "ab", "completion": "a"}, {"prompt": "", "completion": "bb",
                                                         "answer": "7"}],
    "choices": [{"prompt": "ab", "choices": ["a", "b", "aab"], "label": 1, "completion": "b"},
                {"prompt": "b", "choices": ["aabb", "aab"], "label": 0, "completion": "aabb"}],
    "alpaca": [{"instruction": "a", "input": "b", "output": "ab"}, {"instruction": "a",
                                                                    "output": ""}],
    "messages": [{"messages": [{"role": "user", "content": "a"},
                               {"role": "assistant", "content": "b"}]}],
    "text": [{"text": "abab"}, {"text": "\u00e9\ud83e\udd99"}],
}


def main():
    files = {"tokenizer_json": {"full": tokenizer(),
                                "gpt2": tokenizer(pre_tokenizer={"type": "ByteLevel"},
                                                  normalizer=None),
                                "pieces": pieces()}}
    files["safetensors"] = {"f32": safetensors("F32", 4), "bf16": safetensors("BF16", 2),
                            "config": json.dumps(CONFIG).encode(),
                            **{n: json.dumps(c).encode() for n, c in family_configs().items()}}
    files["gguf"] = {"f16": gguf(1, 64), "q4_1": gguf(3, 20), "q8_0": gguf(8, 34),
                     "llama3": gguf(1, 64, GGUF_LLAMA3), "qwen2": gguf(1, 64, GGUF_QWEN2),
                     "phi3": gguf(1, 64, GGUF_PHI3)}
    rows = {k: b"".join(json.dumps(r).encode() + b"\n" for r in v) for k, v in ROWS.items()}
    rows["packed"] = gzip.compress(rows["completion"], mtime=0)
    files["jsonl"] = rows
    for folder, seeds in files.items():
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
        for name, seed in seeds.items():
            (CORPUS / folder / name).write_bytes(seed)


if __name__ == "__main__":
    main()

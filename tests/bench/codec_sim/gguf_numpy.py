"""A GGUF file of the llama architecture, read and dequantized with NumPy alone.

For machines where neither the `gguf` package nor a network is there; F32, F16, Q8_0 and Q4_1 are
known, which is all that SmolLM2-135M-Instruct.Q4_1.gguf has.  check_codec_sim.py holds the result
against transformers' own loader.  The rows of q and k are put back into Hugging Face order
(kernels/model/gguf_model.c says why they are permuted).
"""
import struct

import numpy as np

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
           10: "<u8", 11: "<i8", 12: "<f8"}
STRING, ARRAY = 8, 9
F32, F16, Q4_1, Q8_0 = 0, 1, 3, 8


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, kind):
        value = np.frombuffer(self.data, kind, 1, self.at)[0]
        self.at += value.nbytes
        return value.item()

    def string(self):
        count = self.take("<u8")
        text = bytes(self.data[self.at:self.at + count])
        self.at += count
        return text.decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            inner, count = self.take("<u4"), self.take("<u8")
            return [self.value(inner) for _ in range(count)]
        return self.take(SCALARS[kind])


def dequantize(raw, kind, count):
    if kind == F32:
        return np.frombuffer(raw, "<f4", count)
    if kind == F16:
        return np.frombuffer(raw, "<f2", count).astype(np.float32)
    if kind == Q8_0:
        block = np.dtype([("d", "<f2"), ("q", "i1", 32)])
        blocks = np.frombuffer(raw, block, count // 32)
        return (blocks["d"].astype(np.float32)[:, None] * blocks["q"]).reshape(-1)
    if kind == Q4_1:
        block = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])
        blocks = np.frombuffer(raw, block, count // 32)
        codes = np.concatenate([blocks["q"] & 15, blocks["q"] >> 4], axis=1).astype(np.float32)
        scale, low = (blocks[k].astype(np.float32)[:, None] for k in ("d", "m"))
        return (codes * scale + low).reshape(-1)
    raise ValueError(f"tensor type {kind} is not supported")


def bytes_of(kind, count):
    return {F32: 4 * count, F16: 2 * count, Q8_0: count // 32 * 34, Q4_1: count // 32 * 20}[kind]


def unpermuted(w, heads):
    """Rows 2j + p of a head -> row j + p * D/2."""
    rows, columns = w.shape
    return w.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def load(data):
    """(config, tensors by Hugging Face-like short name) of the bytes of a GGUF file."""
    r = Reader(data)
    magic, version, tensors, keys = struct.unpack_from("<4sIQQ", data, 0)
    if magic != b"GGUF" or version != 3:
        raise ValueError("not a GGUF file of version 3")
    r.at = 24
    meta = {}
    for _ in range(keys):
        name = r.string()
        meta[name] = r.value(r.take("<u4"))
    infos = []
    for _ in range(tensors):
        name = r.string()
        dims = [r.take("<u8") for _ in range(r.take("<u4"))]
        infos.append((name, dims[::-1], r.take("<u4"), r.take("<u8")))
    alignment = meta.get("general.alignment", 32)
    begin = (r.at + alignment - 1) // alignment * alignment
    config = {
        "hidden": meta["llama.embedding_length"], "layers": meta["llama.block_count"],
        "intermediate": meta["llama.feed_forward_length"],
        "heads": meta["llama.attention.head_count"],
        "kv_heads": meta["llama.attention.head_count_kv"],
        "theta": meta["llama.rope.freq_base"],
        "eps": meta["llama.attention.layer_norm_rms_epsilon"],
        "eos": meta["tokenizer.ggml.eos_token_id"],
    }
    weights = {}
    for name, shape, kind, offset in infos:
        count = int(np.prod(shape))
        raw = data[begin + offset:begin + offset + bytes_of(kind, count)]
        w = dequantize(raw, kind, count).reshape(shape)
        if ".attn_q." in name or ".attn_k." in name:
            w = unpermuted(w, config["heads" if ".attn_q." in name else "kv_heads"])
        weights[name.removesuffix(".weight")] = w
    return config, weights


def load_parts(paths):
    return load(memoryview(b"".join(open(path, "rb").read() for path in paths)))

"""Models, adapters and text by formula: the NumPy twin of tests/support/synthetic_model.c.

word(name, i) = top 32 bits of splitmix64(fnv1a64(name) + i); value = (2u - 1) * scale in f32.
"""

import numpy as np

MASK = (1 << 64) - 1


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def words(name, count):
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64)
        z += np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(32)).astype(np.uint32)


def fill(name, count, scale):
    u = (words(name, count) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return (np.float32(2) * u - np.float32(1)) * np.float32(scale)


def round_bf16(values):
    """To nearest, ties to even; finite values only."""
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def tensor(name, shape):
    """A tensor of a model or an adapter, by its Hugging Face or PEFT name."""
    count = int(np.prod(shape))
    if "lora_A" in name:
        return fill(name, count, 1.0 / np.sqrt(shape[-1])).reshape(shape)
    if "lora_B" in name:
        return fill(name, count, 0.1).reshape(shape)
    if "prompt_embeddings" in name:
        return fill(name, count, 1.0).reshape(shape)
    if "norm" in name:
        values = np.float32(1) + fill(name, count, 0.2)
    elif "embed_tokens" in name:
        values = fill(name, count, 0.25)
    elif name.endswith(".bias"):
        values = fill(name, count, 0.5)
    else:
        values = fill(name, count, np.sqrt(3.0 / shape[-1]))
    return round_bf16(values).reshape(shape)

"""Golden vectors of GGUF's quantized types from ggml's own Python package: tests/golden/gguf_blocks.bin.

    make_gguf_golden.py           writes them
    make_gguf_golden.py --check   compares them with what it would write

Blocks of random bytes, with scales that are finite: every code, scale and minimum occurs.  File: for each
type u32 of its GGUF number, block count, bytes and values of a block; the blocks; their values as f32.
tests/golden/test_gguf_golden.c reads it."""
import os
import struct
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "gguf_blocks.bin")
BLOCKS = 2
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}


def random_blocks(rng, name, count):
    """(count, bytes of a block), and what they are."""
    kind = GGMLQuantizationType[name]
    blocks = rng.integers(0, 256, (count, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in HALVES[name]:
        scales = (rng.standard_normal((count, 1)) * 0.02).astype(np.float16)
        blocks[:, at:at + 2] = scales.view(np.uint8)
    return blocks, quants.dequantize(blocks, kind)


def golden():
    rng, out = np.random.default_rng(12), b""
    for name in HALVES:
        blocks, values = random_blocks(rng, name, BLOCKS)
        kind = GGMLQuantizationType[name]
        assert values.dtype == np.float32 and np.isfinite(values).all()
        values_of_block, bytes_of_block = GGML_QUANT_SIZES[kind]
        out += struct.pack("<4I", kind.value, BLOCKS, bytes_of_block, values_of_block)
        out += blocks.tobytes() + values.astype("<f4").tobytes()
    return out


def main(check):
    made = golden()
    if not check:
        with open(PATH, "wb") as f:
            f.write(made)
        return 0
    with open(PATH, "rb") as f:
        same = f.read() == made
    print(f"{PATH}: " + ("the same" if same else "others  FAILED"))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] == ["--check"]))

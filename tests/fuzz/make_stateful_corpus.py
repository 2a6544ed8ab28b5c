"""Write the seed corpora of fuzz_dictionary and fuzz_aqsgd: make_stateful_corpus.py (Python alone)."""
import pathlib
import random
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def dictionary_seed(rng, opcodes):
    out = bytes([rng.randrange(5), rng.randrange(40)])
    for opcode in opcodes:
        out += bytes([opcode])
        if opcode % 4 < 2:
            rows = rng.randrange(24)
            out += bytes([rows]) + bytes(rng.randrange(32) for _ in range(rows + 1))
            out += bytes(rng.randrange(256) for _ in range(4 * (1 + opcode // 64)) if opcode % 4 == 1)
        elif opcode % 4 == 2:  # rows 1, 1 channel: a new row, its index in one bit
            payload = struct.pack("<III", rng.randrange(2), rng.randrange(2), 0) + b"\0\x80\x3f"
            out += bytes([0, rng.randrange(4), len(payload)]) + payload.ljust(512, b"\0")
    return out


def aqsgd_seed(rng, opcodes, cache_bits):
    channels, out = rng.randrange(5), b""
    out = bytes([channels, rng.randrange(8), cache_bits]) + struct.pack("<H", rng.randrange(600))
    for opcode in opcodes:
        count = 1 + rng.randrange(6)
        sequences = [rng.randrange(4) | 8 * rng.randrange(4) for _ in range(count)]
        rows = max(1, sum(s // 8 % 4 for s in sequences))
        out += bytes([opcode, count - 1] + sequences)
        if opcode % 4 < 2:
            values = [rng.gauss(0, 1) for _ in range(rows * (channels + 1))]
            out += b"\xff" * 3 + struct.pack(f"<{len(values)}f", *values)
            out += bytes(rng.randrange(256) for _ in range(4 * (1 + opcode // 64)) if opcode % 4 == 1)
        elif opcode % 4 == 2:
            payload = struct.pack("<I", count) + bytes([2 ** count - 1]) + bytes(rows * 2)
            out += bytes([rng.randrange(4), len(payload)]) + payload.ljust(512, b"\0")
    return out


def main():
    rng = random.Random(11)
    orders = {"honest": [0] * 12, "damaged": [0, 0, 1, 0, 129, 193, 3, 0, 0],
              "hostile": [0, 2, 0, 2, 2, 3, 0, 0], "abandoned": [0, 8, 8, 0, 8, 0, 3, 8, 0]}
    for folder in ("dictionary", "aqsgd"):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    for name, opcodes in orders.items():
        for i in range(2):
            (CORPUS / "dictionary" / f"{name}_{i}").write_bytes(dictionary_seed(rng, opcodes))
            (CORPUS / "aqsgd" / f"{name}_{i}").write_bytes(aqsgd_seed(rng, opcodes, 4 * i))


if __name__ == "__main__":
    main()

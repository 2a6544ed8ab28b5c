"""Write the seed corpora of fuzz_codec and fuzz_alloc: make_codec_corpus.py (Python alone)."""
import pathlib
import random
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def codec_seed(rng, codec, rows, channels, flags):
    head = bytes([codec, rows - 1, channels - 1, flags])
    head += bytes(rng.randrange(256) for _ in range((channels + 1) // 2))
    values = [rng.gauss(0, 1) * 10 ** rng.uniform(-3, 3) for _ in range(rows * channels)]
    if flags & 1:  # encode: seed, step, first row, mask, x
        return head + bytes(9) + b"\xff" * 9 + struct.pack(f"<{len(values)}f", *values)
    ranges = struct.pack("<hH", rng.randrange(-30, 10), 0)
    for _ in range(67):
        low = rng.uniform(-1000, 1000)
        ranges += struct.pack("<2e", low, low + rng.uniform(0, 1000))
    return head + ranges + bytes(rng.randrange(256) for _ in range(4 * rows * channels))


def scaled_seed(rng, codec, rows, channels, flags):
    """tensor, channel, group: group size and split in front of a payload with a good scale block."""
    head = bytes([codec, rows - 1, channels - 1, flags])
    head += bytes(rng.randrange(256) for _ in range((channels + 1) // 2)) + b"\x03\x01"
    values = [rng.gauss(0, 1) * 10 ** rng.uniform(-3, 3) for _ in range(rows * channels)]
    if flags & 1:
        return head + bytes(9) + b"\xff" * 9 + struct.pack(f"<{len(values)}f", *values)
    count = {5: 1, 6: channels, 7: rows * channels}[codec]
    scales = struct.pack(f"<{count}e", *(rng.uniform(0, 1000) for _ in range(count)))
    return head + struct.pack("<hH", -20, 0) + scales + rng.randbytes(2 * rows * channels)


def main():
    rng = random.Random(7)
    for folder in ("codec", "alloc"):
        (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    shapes = [(1, 1), (3, 2), (32, 5), (33, 3), (9, 66)]
    for codec in (1, 2, 3, 4):
        for at, (rows, channels) in enumerate(shapes[:5 if codec == 4 else 2]):
            for flags in (0, 1, 3):
                seed = codec_seed(rng, codec, rows, channels, flags)
                (CORPUS / "codec" / f"{codec}_{at}_{flags}").write_bytes(seed)
    for codec in (5, 6, 7):
        for at, (rows, channels) in enumerate(((1, 1), (33, 6), (3, 66))):
            for flags in (0, 1, 3):
                seed = scaled_seed(rng, codec, rows, channels, flags)
                (CORPUS / "codec" / f"{codec}_{at}_{flags}").write_bytes(seed)
    honest = b"".join(bytes([0, rng.randrange(1, 17), 4, 9, rng.randrange(1, 4), 2, 2])
                      for _ in range(20))
    seeds = {
        "honest": honest,
        "forged": bytes([4, 2, 3, 4, 4, 4, 0, 2, 2, 2, 4, 3, 2, 9, 9, 9, 1, 2]) * 3,
        "states": bytes([0, 3, 4, 5, 2, 5, 1, 0, 2, 5, 0, 0, 2, 5, 1, 2, 13, 7, 20, 1, 2, 2]) * 3,
        "answers": bytes([0, 3, 4, 5, 2, 6, 2, 2, 1, 8, 2, 2, 0, 9, 9, 9, 2, 6, 3, 3, 0, 0]),
    }
    for name, seed in seeds.items():
        (CORPUS / "alloc" / name).write_bytes(seed)


if __name__ == "__main__":
    main()

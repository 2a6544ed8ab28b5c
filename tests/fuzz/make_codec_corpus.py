"""Write the seed corpora of fuzz_codec, fuzz_alloc, fuzz_rans and fuzz_token: make_codec_corpus.py

Python alone; the streams of fuzz_rans come from tests/golden/rans_streams.bin."""
import pathlib
import random
import struct
import sys

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
sys.path.insert(0, str(CORPUS.parent.parent / "oracle"))
from wire_numpy import rans  # noqa: E402


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


def coded_seed(rng, codec, flags):
    """Flag 4: peaked floats, or a head and a good stream (70 rows, 12 channels, groups of 3)."""
    rows, channels = 70, 12
    widths = [rng.randrange(3, 9) if codec <= 4 else 6 for _ in range(channels)]
    pairs = bytes(low - 1 | high - 1 << 4 for low, high in zip(widths[::2], widths[1::2]))
    head = bytes([codec, rows - 1, channels - 1, flags]) + pairs + b"\x03\x00"
    if flags & 1:
        values = [rng.gauss(0, 0.02) if t else 1.0 for t in range(rows) for _ in range(channels)]
        return head + bytes(9) + b"\xff" * 9 + struct.pack(f"<{len(values)}f", *values)
    count = {3: 2 * channels, 4: 2 * channels, 5: 1, 6: channels, 7: rows * channels // 3}[codec]
    bounds = sorted(rng.uniform(0, 1000) for _ in range(count))
    words = [1 << rng.randrange(32) for _ in range(2 * sum(widths))]
    codes = struct.pack(f"<{len(words)}I", *words) + bytes(-(-6 * sum(widths) // 8))
    stream = rans.encode(codes, widths, rows, [3] * channels)
    assert len(stream) < len(codes)  # else it is refused before it is read
    return head + struct.pack("<hH", -20, 0) + struct.pack(f"<{count}e", *bounds) + stream


def token_seed(rng, rows, channels, flags):
    """Payloads with good heads (of one chunk, or two of 32 rows and the rest), or floats."""
    widths = [rng.randrange(1, 17) for _ in range(5)]
    gates = [rng.randrange(5) for _ in range(rows)]
    head = bytes([rows - 1, channels - 1, flags & 3, 4, flags >> 2]) + bytes(w - 1 for w in widths)
    head += bytes(gates)
    if flags & 1:  # seed, step, first row, mask
        values = [rng.gauss(0, 1) * 10 ** rng.uniform(-3, 3) for _ in range(rows * channels)]
        return head + bytes(9) + b"\xff" * 9 + struct.pack(f"<{len(values)}f", *values)
    at = [0, 32, rows] if flags >> 2 and rows > 32 else [0, rows]
    for begin, end in zip(at, at[1:]):
        head += struct.pack("<hH", -10, 0)
        for _ in range(begin, end):
            low = rng.uniform(-1000, 1000)
            head += struct.pack("<2e", low, low + rng.uniform(0, 1000))
        bits = sum(widths[g] for g in gates[begin:end]) * channels
        head += rng.randbytes(bits // 8) + bytes([rng.randrange(1 << bits % 8)] * (bits % 8 > 0))
    return head


def rans_head(rows, widths, flags):
    padded = widths + [1] * (len(widths) % 2)
    pairs = bytes(low - 1 | high - 1 << 4 for low, high in zip(padded[::2], padded[1::2]))
    return bytes([rows - 1, len(widths) - 1, flags]) + pairs


def rans_seeds(rng):
    """The golden streams that fit the target; heads that end at each of the checks; codes."""
    data = (CORPUS.parent.parent / "golden" / "rans_streams.bin").read_bytes()
    count, at, seeds = struct.unpack_from("<I", data, 8)[0], 12, {}
    for i in range(count):
        rows, channels = struct.unpack_from("<II", data, at)
        widths = list(data[at + 8:at + 8 + channels])
        at += 8 + channels + 8
        stream_bytes = struct.unpack_from("<I", data, at)[0]
        stream = data[at + 4:at + 4 + stream_bytes]
        at += 4 + stream_bytes
        if rows <= 255 and channels <= 41:
            seeds[f"golden_{i}"] = rans_head(rows, widths, 0) + stream
    heads = [b"\x21", b"\x01\x0a", b"\x01\x01\xff\x1f\x01\x80\0\0\0", b"\x02\x09\x09\x05",
             b"\x02\x00\x01\x80\x10\x80\x10\x05"]
    for i, head in enumerate(heads):
        seeds[f"head_{i}"] = rans_head(64, [1, 2, 3], 0) + head + bytes(300)
    for i, (rows, widths) in enumerate([(32, [4] * 40), (255, [1, 2, 3, 4, 5, 8, 16] * 5),
                                        (64, [8] * 41)]):
        words = [rng.randrange(2 ** 32) & rng.randrange(2 ** 32) & rng.randrange(2 ** 32)
                 for _ in range(sum(widths) * rows // 32)]
        seeds[f"codes_{i}"] = rans_head(rows, widths, 1) + struct.pack(f"<{len(words)}I", *words)
    return seeds


def main():
    rng = random.Random(7)
    for folder in ("codec", "alloc", "rans", "token"):
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
    coded = random.Random(8)
    for codec in (3, 4, 5, 6, 7):
        for flags in (4, 5) if codec in (4, 7) else (4,):
            (CORPUS / "codec" / f"{codec}_coded_{flags}").write_bytes(
                coded_seed(coded, codec, flags))
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
    for name, seed in rans_seeds(rng).items():
        (CORPUS / "rans" / name).write_bytes(seed)
    token = random.Random(9)
    for at, (rows, channels) in enumerate(((1, 1), (7, 37), (33, 5), (40, 64))):
        for flags in (0, 1, 2, 3, 4):
            seed = token_seed(token, rows, channels, flags)
            (CORPUS / "token" / f"{at}_{flags}").write_bytes(seed)


if __name__ == "__main__":
    main()

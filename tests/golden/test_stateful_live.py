"""Goal: the stateful codecs in C and in NumPy (tests/oracle/wire_numpy) give the same bytes,
values and states over whole sessions: at least three epochs of drifting samples, with evictions,
repeated samples, changed rows and full tables.

test_stateful_live.py STATEFUL_CLI [SESSIONS] [SEED]

To the program: codec, channels, bits, cache bits (0: fp16), rows of a chunk (u32 each), rows of the
table or bytes of the cache (u64); for each tensor rows (u32; 0 ends), sequences (u32), of each its
sample id (u64) and rows (u32), the range mask (bits), x (f32).  From it, for each tensor: each
chunk's byte count (u32) and payload; the values that the receiver sees (f32)."""
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)
from wire_numpy import aqsgd, dictionary  # noqa: E402


def tensors(rng, channels, epochs):
    """(sequences, mask, x) of each step: a permutation of the samples in every epoch."""
    lengths = rng.integers(1, 40, 14)
    vocab = rng.standard_normal((60, channels)).astype(np.float32)
    texts = [rng.integers(0, 60, n) for n in lengths]
    for epoch in range(epochs):
        order = rng.permutation(len(lengths))
        if epoch == 2:
            order = np.concatenate([order[:5], order])  # samples that come twice
        for begin in range(0, len(order), 4):
            sequences, rows = [], []
            for sample in order[begin:begin + 4]:
                n = 0 if rng.random() < 0.1 else int(lengths[sample]) - int(rng.random() < 0.1)
                sequences.append((int(sample) * 2 ** 40, n))
                rows.append(vocab[texts[sample][:n]])
            x = np.concatenate(rows)
            if len(x) == 0:
                continue
            drift = 0.0 if rng.random() < 0.3 else 0.2 * rng.standard_normal(x.shape) * epoch
            mask = rng.random(len(x)) < 0.8
            yield sequences, mask, (x + drift).astype(np.float32)


def check(program, rng, number):
    channels = int(rng.integers(1, 24))
    codec = dictionary.DICTIONARY if number % 3 == 0 else aqsgd.AQSGD
    bits = int(rng.integers(1, 9))
    cache_bits = 0 if number % 2 == 0 else int(rng.integers(1, 9))
    chunk = int(rng.choice([32, 64, 512]))
    if codec == dictionary.DICTIONARY:
        size = int(rng.integers(1, 80))
        ends = [dictionary.Dictionary(channels, size) for _ in range(2)]
    else:
        size = int(rng.integers(50, 400 * channels))
        ends = [aqsgd.Aqsgd(channels, bits, size, cache_bits) for _ in range(2)]
    steps = list(tensors(rng, channels, 4))
    question = struct.pack("<5IQ", codec, channels, bits, cache_bits, chunk, size)
    for sequences, mask, x in steps:
        question += struct.pack("<II", len(x), len(sequences))
        question += b"".join(struct.pack("<QI", *s) for s in sequences)
        question += np.packbits(mask, bitorder="little").tobytes() + x.astype("<f4").tobytes()
    done = subprocess.run([program], input=question + bytes(4), stdout=subprocess.PIPE, check=True)
    answer, at = done.stdout, 0
    for step, (sequences, mask, x) in enumerate(steps):
        chunks = [min(chunk, len(x) - row) for row in range(0, len(x), chunk)]
        got = []
        for _ in chunks:
            count = struct.unpack_from("<I", answer, at)[0]
            got.append(answer[at + 4:at + 4 + count])
            at += 4 + count
        values = np.frombuffer(answer, "<f4", x.size, at).reshape(x.shape)
        at += 4 * x.size
        if codec == dictionary.DICTIONARY:
            payloads, expected = ends[0].encode(x, chunks)
            decoded = ends[1].decode(got, chunks)
        else:
            payloads, expected = ends[0].encode(sequences, x, chunks, mask)
            decoded = ends[1].decode(sequences, got, chunks, mask)
        where = f"session {number}, codec {codec}, bits {bits}/{cache_bits}, step {step}"
        assert payloads == got, f"{where}: payloads differ"
        assert values.tobytes() == expected.astype("<f4").tobytes(), f"{where}: values differ"
        assert values.tobytes() == decoded.astype("<f4").tobytes(), f"{where}: decoded differ"
    assert at == len(answer), "bytes left over"
    return len(steps)


def main():
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    rng = np.random.Generator(np.random.PCG64(int(sys.argv[3]) if len(sys.argv) > 3 else 1))
    steps = sum(check(sys.argv[1], rng, number) for number in range(count))
    print(f"{count} sessions, {steps} tensors: the same bytes and values")


if __name__ == "__main__":
    main()

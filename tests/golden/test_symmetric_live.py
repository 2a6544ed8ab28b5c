#!/usr/bin/env python3
"""Codecs tensor, channel, group: C against NumPy (tests/oracle/wire_numpy) on random tensors,
payload by payload and value by value.

    test_symmetric_live.py CODER_CLI [COUNT]
"""
import pathlib
import struct
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "oracle"))
from wire_numpy import symmetric  # noqa: E402
from wire_numpy.rounding import Rounding  # noqa: E402

NAMES = {symmetric.TENSOR: "tensor", symmetric.CHANNEL: "channel", symmetric.GROUP: "group"}


class Case:
    """A random tensor and what is asked of it."""

    def __init__(self, rng, rows=None, channels=None, bits=None, codec=None, stochastic=None):
        self.codec = codec or int(rng.choice(list(NAMES)))
        self.bits = bits or int(rng.integers(1, 17))
        self.rows = rows or int(rng.integers(1, 100))
        self.channels = channels or int(rng.integers(1, 200))
        divisors = [d for d in range(1, self.channels + 1) if self.channels % d == 0]
        self.group = int(rng.choice([0, *divisors]))
        scale = 2.0 ** rng.integers(-145, 110)
        spread = 10.0 ** rng.uniform(-3, 1, self.channels)
        x = rng.standard_normal((self.rows, self.channels)) * spread
        x[:, 6::7] = 0
        self.x = (x * scale).astype(np.float32)
        stochastic = bool(rng.integers(2)) if stochastic is None else stochastic
        self.rounding = Rounding(stochastic, int(rng.integers(2 ** 63)),
                                      int(rng.integers(2 ** 40)), int(rng.integers(4)),
                                      int(rng.integers(4096)))

    def question(self):
        r = self.rounding
        return struct.pack("<8I2Q", self.codec, self.bits, self.rows, self.channels, self.group,
                           r.stochastic, r.site, r.micro, r.seed, r.step) + self.x.tobytes()

    def read(self, data, at):
        """Payloads and values of one answer, and where it ends."""
        count, = struct.unpack_from("<I", data, at)
        at, payloads = at + 4, []
        for _ in range(count):
            rows, size = struct.unpack_from("<II", data, at)
            payloads.append((rows, data[at + 8:at + 8 + size]))
            at += 8 + size
        values = np.frombuffer(data, "<f4", self.rows * self.channels, offset=at)
        return payloads, values.reshape(self.x.shape), at + 4 * values.size


def ask(binary, cases):
    done = subprocess.run([binary], input=b"".join(c.question() for c in cases),
                          capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"coder_cli: {done.stderr.decode()}")
    at, answers = 0, []
    for case in cases:
        payloads, values, at = case.read(done.stdout, at)
        answers.append((payloads, values))
    assert at == len(done.stdout)
    return answers


def main():
    rng = np.random.default_rng(20251126)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    cases = [Case(rng) for _ in range(count)]
    cases += [Case(rng, rows=900, channels=1024, bits=8, codec=codec, stochastic=False)
              for codec in NAMES]  # several chunks
    for case, (payloads, values) in zip(cases, ask(sys.argv[1], cases)):
        what = (NAMES[case.codec], case.bits, case.x.shape, case.group, case.rounding.stochastic)
        expected, decoded = symmetric.chunks(
            case.codec, case.x, case.bits, group=case.group, rounding=case.rounding,
            rows_first=payloads[0][0])
        assert [p for _, p in payloads] == expected, what
        assert np.array_equal(values.view(np.uint32), decoded.view(np.uint32)), what
        head, parts, begin = b"", [], 0
        for rows, payload in payloads:
            parts.append(symmetric.decode(case.codec, payload, rows, case.channels, case.bits,
                                          case.group, head))
            if case.codec != symmetric.GROUP and not head:
                head = payload[:4 + 2 * (1 if case.codec == symmetric.TENSOR else case.channels)]
            begin += rows
        assert np.array_equal(np.concatenate(parts), decoded), what
    print(f"symmetric codecs: {len(cases)} tensors, C and NumPy agree to the bit")


if __name__ == "__main__":
    main()

"""Goal: the waterfill allocator in C and the NumPy one of tests/oracle, written from WIRE.md section 4
by another algorithm, agree on random cases: averages, totals of two sites, integer widths.

test_waterfill_live.py WATERFILL_CLI [CASES] [SEED]

Averages and totals must be identical, sums within 1e-12 relative.  Widths too, but that two channels
whose fractions differ by less than 1e-5 may change places: both round from f32."""
import pathlib
import struct
import subprocess
import sys

SKIPPED = 77
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(SKIPPED)
from wire_numpy import gates  # noqa: E402


class Case:
    def __init__(self, rng):
        self.channels = int(rng.integers(1, 200))
        self.low = int(rng.integers(1, 4))
        self.high = int(rng.integers(self.low + 1, 17))
        self.mean = float(rng.uniform(self.low - 0.5, self.high + 0.5))
        self.mean = max(self.mean, 1.0)
        self.values = [int(v) * self.channels for v in rng.integers(1, 5000, 2)]
        self.used = [int(v * rng.integers(1, 12)) for v in self.values]
        self.live = int(rng.integers(0, self.channels + 1))
        self.other = float(rng.normal(-12, 4) * self.live)
        self.updates = []
        for _ in range(int(rng.integers(0, 15))):
            squares = 10.0 ** rng.normal(-9, rng.uniform(0, 3), self.channels)
            spans = 10.0 ** rng.normal(0, rng.uniform(0, 1), self.channels)
            dead = rng.random(self.channels) < rng.choice([0.0, 0.1])
            squares[dead] = rng.choice([0.0, np.nan, np.inf, -1.0])
            self.updates.append((int(rng.integers(1, 3000)), int(rng.integers(1, 5)),
                                 squares.astype("<f4"), spans.astype("<f4")))

    def question(self):
        head = struct.pack("<IIIIdQQQQId", self.channels, len(self.updates), self.low, self.high,
                           self.mean, *self.values, *self.used, self.live, self.other)
        return head + b"".join(struct.pack("<II", rows, micros) + squares.tobytes() +
                               spans.tobytes() for rows, micros, squares, spans in self.updates)

    def check(self, answer):
        """What differs; `answer` gives so many bytes."""
        fill = gates.Waterfill(self.channels)
        for rows, micros, squares, spans in self.updates:
            fill.update(squares, rows, spans, micros)
        wrong = []
        if answer(4 * self.channels) != fill.weight.tobytes():
            wrong.append("weights")
        if answer(4 * self.channels) != fill.span.tobytes():
            wrong.append("spans")
        costs = fill.costs()
        live, total = int(np.sum(~np.isnan(costs))), float(np.nansum(costs))
        got_live, got_sum, here, there = struct.unpack("<IdII", answer(20))
        if got_live != live or abs(got_sum - total) > 1e-12 * np.nansum(np.abs(costs)):
            wrong.append("sum")
        expected = gates.site_totals(
            [(self.values[0], self.used[0], self.channels, live, total, self.low, self.high),
             (self.values[1], self.used[1], self.channels, self.live, self.other, self.low,
              self.high)], self.mean)
        if [here, there] != expected:
            wrong.append(f"totals {here}, {there}: not {expected}")
        widths = np.frombuffer(answer(self.channels), np.uint8)
        oracle = fill.widths(here, self.low, self.high)
        apart = np.flatnonzero(widths != oracle)
        if widths.sum() != oracle.sum() or not self.near(costs, apart):
            wrong.append("widths")
        return wrong

    @staticmethod
    def near(costs, apart):
        fractions = np.mod(costs[apart], 1.0)
        return len(apart) == 0 or np.ptp(np.mod(fractions - fractions[0] + 0.5, 1.0)) < 1e-5


def main() -> int:
    program = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rng = np.random.Generator(np.random.PCG64(seed))
    cases = [Case(rng) for _ in range(count)]
    done = subprocess.run([program], input=b"".join(case.question() for case in cases),
                          stdout=subprocess.PIPE, check=True)
    at = 0

    def take(size):
        nonlocal at
        at += size
        assert at <= len(done.stdout), "the answer ends too early"
        return done.stdout[at - size:at]

    failures = 0
    for i, case in enumerate(cases):
        wrong = case.check(take)
        if wrong:
            failures += 1
            print(f"case {i} (seed {seed}), {case.channels} channels, {case.low}..{case.high}, mean "
                  f"{case.mean:.3f}: {', '.join(wrong)} differ")
    assert at == len(done.stdout)
    print(f"waterfill: {count} cases, {failures} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

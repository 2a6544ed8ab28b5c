"""Goal: C codec and NumPy oracle agree on random tensors, not only on the committed ones.

test_codec_live.py CODEC_CLI [CASES] [SEED]

Range block, codes and decoded values must be identical; gate gradients within 1e-4 relative."""
import pathlib
import subprocess
import sys

SKIPPED = 77
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(SKIPPED)
import codec_cases  # noqa: E402
from wire_numpy.bits import alloc_hash  # noqa: E402


class Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at:self.at + count]
        assert len(part) == count, "the answer ends too early"
        self.at += count
        return part

    def floats(self, *shape: int):
        return np.frombuffer(self.take(4 * int(np.prod(shape))), "<f4").reshape(shape)


def near(got, expected) -> bool:
    """1e-4 relative; 1e-7 of the largest for sums that cancel; subnormals are not told apart."""
    finite = np.abs(expected[np.isfinite(expected)])
    floor = 1e-7 * np.max(finite, initial=0.0) + 2.0 ** -126
    with np.errstate(invalid="ignore"):
        close = np.abs(got - expected) <= 1e-4 * np.abs(expected) + floor
    return bool(np.all(close | (got == expected)))


def check(case, answer: Reader) -> list[str]:
    """What differs."""
    rows, channels = case.x.shape
    ranges, codes, decoded, exact, surrogate = case.answers()
    wrong = []
    if answer.take(len(ranges)) != ranges:
        wrong.append("ranges")
    count = int.from_bytes(answer.take(4), "little")
    if answer.take(count) != codes:
        wrong.append("codes")
    if answer.floats(rows, channels).tobytes() != decoded.astype("<f4").tobytes():
        wrong.append("decoded")
    if not near(answer.floats(channels), exact):
        wrong.append("exact")
    if not near(answer.floats(channels), surrogate):
        wrong.append("surrogate")
    return wrong


def main() -> int:
    program = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    assert alloc_hash([4, 5]) != alloc_hash([5, 4])
    rng = np.random.Generator(np.random.PCG64(seed))
    cases = [codec_cases.random_case(rng) for _ in range(count)]
    questions = b"".join(case.question() for case in cases)
    done = subprocess.run([program], input=questions, stdout=subprocess.PIPE, check=True)
    answer = Reader(done.stdout)
    failures = 0
    for i, case in enumerate(cases):
        wrong = check(case, answer)
        if wrong:
            failures += 1
            print(f"case {i} (seed {seed}): {case.x.shape}, codec {case.codec}, {case.rounding}: "
                  f"{', '.join(wrong)} differ")
            if "codes" in wrong or "ranges" in wrong:
                break
    if not failures and answer.at != len(answer.data):
        print("bytes left over")
        failures += 1
    print(f"{count} cases, {failures} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Cases of the codec comparison and their bytes; tests/golden/codec_record.h reads the same.

A record, little-endian: rows, channels, codec, flags, site, micro, labelled_rows, 0 (u32 each),
seed, step (u64 each), widths (u8 a channel), then by flag a range mask (bits) and row ids (u32),
then x and g (f32, row-major).  Answers: range block, code bytes (u32 count first), decoded values,
exact and surrogate gate gradients (f32 a channel).
"""
import dataclasses
import struct

import numpy as np

from wire_numpy import affine, gates
from wire_numpy.rounding import philox, Rounding

STOCHASTIC, MASK, ROW_IDS = 1, 2, 4
MAGIC = b"SEAMREC1"


@dataclasses.dataclass
class Case:
    codec: int
    widths: np.ndarray
    x: np.ndarray
    g: np.ndarray
    rounding: Rounding
    labelled_rows: int
    mask: np.ndarray | None = None
    row_ids: np.ndarray | None = None

    def question(self) -> bytes:
        rows, channels = self.x.shape
        flags = (STOCHASTIC * self.rounding.stochastic | MASK * (self.mask is not None)
                 | ROW_IDS * (self.row_ids is not None))
        r = self.rounding
        out = struct.pack("<8I2Q", rows, channels, self.codec, flags, r.site, r.micro,
                          self.labelled_rows, 0, r.seed, r.step)
        out += np.asarray(self.widths, np.uint8).tobytes()
        if self.mask is not None:
            out += np.packbits(self.mask, bitorder="little").tobytes()
        if self.row_ids is not None:
            out += np.asarray(self.row_ids, "<u4").tobytes()
        return out + self.x.astype("<f4").tobytes() + self.g.astype("<f4").tobytes()

    def answers(self):
        """ranges, codes, decoded, exact, surrogate by NumPy."""
        rows, channels = self.x.shape
        quantized = self.codec in (affine.AFFINE, affine.AMAQ)
        ranges = affine.measure(self.x, self.mask) if quantized else b""
        codes, decoded = affine.encode(self.codec, self.x, self.widths, ranges, self.rounding,
                                     self.row_ids)
        again = affine.decode(self.codec, codes, rows, channels, self.widths, ranges)
        assert np.array_equal(again.view(np.uint32), decoded.view(np.uint32))
        step = affine.grid(ranges, self.widths)[1] if quantized else np.zeros(channels, np.float32)
        exact = gates.gradient_exact(self.g, self.x, decoded, self.widths)
        surrogate = gates.gradient_surrogate(self.g, step, self.widths, self.labelled_rows)
        with np.errstate(over="ignore"):  # an extreme scale may leave f32
            return ranges, codes, decoded, exact.astype(np.float32), surrogate.astype(np.float32)

    def answer_bytes(self) -> bytes:
        ranges, codes, decoded, exact, surrogate = self.answers()
        return (ranges + struct.pack("<I", len(codes)) + codes + decoded.astype("<f4").tobytes()
                + exact.astype("<f4").tobytes() + surrogate.astype("<f4").tobytes())


def tensor(rng, rows, channels, scale=1.0):
    """Normal values, channel scales over four decades, one constant channel in seven."""
    x = rng.standard_normal((rows, channels)) * 10.0 ** rng.uniform(-3, 1, channels)
    x += rng.standard_normal(channels)
    x[:, 6::7] = 0.5
    return (x * scale).astype(np.float32)


def make(rng, rows, widths, codec=affine.AMAQ, scale=1.0, stochastic=False, mask=False, ids=False):
    channels = len(widths)
    return Case(
        codec=codec, widths=np.asarray(widths, np.uint8),
        x=tensor(rng, rows, channels, scale),
        g=(rng.standard_normal((rows, channels)) * 1e-3).astype(np.float32),
        rounding=Rounding(stochastic, int(rng.integers(2 ** 63)), int(rng.integers(2 ** 40)),
                               int(rng.integers(4)), int(rng.integers(4096))),
        labelled_rows=int(rng.integers(1, 1000)),
        mask=rng.random(rows) < 0.6 if mask else None,
        row_ids=np.sort(rng.choice(4 * rows, rows, replace=False)) if ids else None)


def golden(rng):
    """Every width, every tail, each option; about 200 KB as bytes."""
    cases = [make(rng, 31 + w, [w] * 7) for w in range(1, 17)]
    mixed = [1, 16, 3, 8, 9, 4]
    cases += [make(rng, 32 + n, np.roll(mixed, n)[:5], stochastic=n % 2 == 1, ids=n % 3 == 0)
              for n in range(1, 32)]
    cases += [make(rng, n, mixed, stochastic=True, mask=True, ids=True) for n in (1, 2, 17, 64, 65)]
    cases += [make(rng, 33, [5] * 70, codec=affine.AFFINE)]
    cases += [make(rng, 5, [2, 7], scale=scale)
              for scale in (2.0 ** -140, 2.0 ** -120, 1e-8, 1e4, 2.0 ** 115)]
    cases += [make(rng, 5, [1, 1, 1], codec=codec) for codec in (affine.F32, affine.BF16)]
    empty = make(rng, 9, mixed, mask=True)
    empty.mask[:] = False
    return cases + [empty]


def random_case(rng):
    """Any shape and option."""
    channels = int(rng.integers(1, 140))
    codec = int(rng.choice([affine.F32, affine.BF16, affine.AFFINE] + 3 * [affine.AMAQ]))
    widths = rng.integers(1, 17, channels)
    if codec == affine.AFFINE:
        widths[:] = widths[0]
    return make(rng, int(rng.integers(1, 120)), widths, codec,
                scale=float(2.0 ** rng.integers(-145, 110)), stochastic=bool(rng.integers(2)),
                mask=bool(rng.integers(2)), ids=bool(rng.integers(2)))


# ---- trajectories of the gates ----

TRAJECTORY_ROWS, TRAJECTORY_CHANNELS, TRAJECTORY_STEPS = 24, 12, 100


def trajectory_inputs(step):
    """x of a step: sums of three Philox numbers, channel scales 2^(c % 6 - 3); exact in f32."""
    t = np.arange(TRAJECTORY_ROWS)[:, None]
    c = np.arange(TRAJECTORY_CHANNELS)[None, :]
    words = philox((c, t, step, 0x5EA4), (1, 2))
    u = [(w >> np.uint64(8)).astype(np.float64) * 2.0 ** -24 for w in words]
    return ((u[0] + u[1] + u[2]).astype(np.float32)
            * (2.0 ** (c % 6 - 3)).astype(np.float32))


def trajectory(target, signal, loss, lr, beta):
    """100 steps of gates against the loss sum_c a_c mean_t (x^ - x)^2 / 2, a_c = 4^(c % 3 + 1).

    Yields the widths that each step used and the bits after it."""
    low, high, start = {4: (1.0, 16.0, 8.0), 3: (1.0, 8.0, 6.0)}[target]
    trained = gates.Gates(TRAJECTORY_CHANNELS, low, high, start, loss)
    weight = (4.0 ** (np.arange(TRAJECTORY_CHANNELS) % 3 + 1)).astype(np.float32)
    for step in range(TRAJECTORY_STEPS):
        x = trajectory_inputs(step)
        widths = gates.integer_widths(trained.bits(), low, high)
        ranges = affine.measure(x)
        decoded = affine.encode(affine.AMAQ, x, widths, ranges)[1]
        g = (weight * (decoded - x)) / np.float32(TRAJECTORY_ROWS)
        if signal == "exact":
            db = gates.gradient_exact(g, x, decoded, widths)
        else:
            db = gates.gradient_surrogate(g, affine.grid(ranges, widths)[1], widths, TRAJECTORY_ROWS)
        trained.step(db, lr, beta, active=np.mean(widths) > target)
        yield widths, trained.bits()


TRAJECTORIES = [(4, "exact", "l2", 0.02, 0.02), (3, "surrogate", "l1", 0.03, 0.2)]


def trajectory_bytes() -> bytes:
    """Count, then for each: target, signal (1: surrogate), loss (1: L2, 2: L1) u32, lr, beta f32,
    100 times widths (u8 a channel) and bits (f32 a channel)."""
    out = struct.pack("<I", len(TRAJECTORIES))
    for target, signal, loss, lr, beta in TRAJECTORIES:
        out += struct.pack("<3I2f", target, signal == "surrogate", 1 if loss == "l2" else 2, lr, beta)
        for widths, bits in trajectory(target, signal, loss, np.float32(lr), np.float32(beta)):
            out += widths.tobytes() + bits.astype("<f4").tobytes()
    return out

"""AMAQ in NumPy: the codec of proto/WIRE.md section 3, the gates and widths of SPEC 3.1.

Written from those texts alone, one formula at a time, so that it can stand against the C code
(kernels/codec).  It knows no tiles and no planes: codes become one string of bits.
"""
import dataclasses

import numpy as np

F32, BF16, AFFINE, AMAQ = 1, 2, 3, 4
FLT_MIN = np.float32(2.0 ** -126)
LN2 = float(np.log(2.0))


# ---- Philox4x32-10 (Salmon et al. 2011) ----

def philox(counter, key):
    """counter: 4 broadcastable integer arrays; key: 2 integers.  Returns 4 uint64 arrays < 2^32."""
    mask = np.uint64(0xFFFFFFFF)
    x = [np.asarray(c, np.uint64) & mask for c in counter]
    x = list(np.broadcast_arrays(*x))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * x[0]
        p1 = np.uint64(0xCD9E8D57) * x[2]
        x = [(p1 >> np.uint64(32)) ^ x[1] ^ np.uint64(k0), p1 & mask,
             (p0 >> np.uint64(32)) ^ x[3] ^ np.uint64(k1), p0 & mask]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


@dataclasses.dataclass
class Rounding:
    stochastic: bool = False
    seed: int = 0
    step: int = 0
    site: int = 0
    micro: int = 0

    def uniform(self, row_ids, channels):
        """u (rows, channels) in [0, 1), f32."""
        row_ids = np.asarray(row_ids, np.uint64)[:, None]
        quad = np.arange((channels + 3) // 4, dtype=np.uint64)[None, :]
        words = philox((quad, row_ids, self.site | self.micro << 16, self.step & 0xFFFFFFFF),
                       (self.seed & 0xFFFFFFFF, self.seed >> 32))
        words = np.stack(words, axis=-1).reshape(len(row_ids), -1)[:, :channels]
        return ((words >> np.uint64(8)).astype(np.float64) * 2.0 ** -24).astype(np.float32)


# ---- ranges ----

def fp16_directed(values, up):
    """f64 -> fp16 toward +inf (up) or -inf; zero is +0."""
    half = values.astype(np.float16)
    wrong = half.astype(np.float64) < values if up else half.astype(np.float64) > values
    half[wrong] = np.nextafter(half[wrong], np.float16(np.inf if up else -np.inf))
    return half + np.float16(0.0)  # -0 + 0 = +0


def measure(x, mask=None):
    """Range block of x (rows, channels) f32 over the rows where mask is true."""
    rows = x if mask is None else x[np.asarray(mask, bool)]
    channels = x.shape[1]
    if len(rows) == 0:
        return bytes(4 + 4 * channels)
    largest = np.max(np.abs(rows))
    if not np.all(np.isfinite(rows)) or largest >= np.float32(2.0 ** 125):
        raise ValueError("not finite, or 2^125 and more")
    k = 0
    if largest > 0:
        k = int(np.frexp(np.float64(largest))[1]) - 1 - 14
    lo = np.ldexp(rows.min(axis=0).astype(np.float64), -k)
    hi = np.ldexp(rows.max(axis=0).astype(np.float64), -k)
    bounds = np.stack([fp16_directed(lo, False), fp16_directed(hi, True)], axis=1)
    return np.array([k, 0], "<i2").tobytes() + bounds.astype("<f2").tobytes()


def grid(ranges, widths):
    """lo, D, N of each channel, f32; D = 0 for a constant one."""
    k = int(np.frombuffer(ranges, "<i2", 1)[0])
    bounds = np.frombuffer(ranges, "<f2", offset=4).reshape(-1, 2).astype(np.float64)
    lo, hi = np.ldexp(bounds, k).astype(np.float32).T
    levels = (2.0 ** np.asarray(widths, np.float64) - 1.0).astype(np.float32)
    step = (hi - lo) / levels
    return lo, np.where(step < FLT_MIN, np.float32(0.0), step), levels


# ---- codes ----

def quantize(x, ranges, widths, rounding=None, row_ids=None):
    """Codes q (rows, channels)."""
    lo, step, levels = grid(ranges, widths)
    constant = step == 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(1.0) / step
        t = (x - lo) * inverse
        if rounding is not None and rounding.stochastic:
            ids = np.arange(len(x)) if row_ids is None else row_ids
            t = np.floor(t + rounding.uniform(ids, x.shape[1]))
        else:
            t = np.rint(t)
        q = np.minimum(np.maximum(t, np.float32(0.0)), levels)
    q[:, constant] = 0
    return q.astype(np.uint32)


def dequantize(q, ranges, widths):
    lo, step, _ = grid(ranges, widths)
    return lo + q.astype(np.float32) * step


def pack(q, widths):
    """Groups of 32 rows (the last one shorter): for each channel, each bit j, the rows' bits j."""
    bits = []
    for begin in range(0, len(q), 32):
        group = q[begin:begin + 32]
        for c, width in enumerate(widths):
            for j in range(int(width)):
                bits.append(group[:, c] >> j & 1)
    return np.packbits(np.concatenate(bits).astype(np.uint8), bitorder="little").tobytes()


def unpack(codes, rows, widths):
    bits = np.unpackbits(np.frombuffer(codes, np.uint8), bitorder="little").astype(np.uint32)
    q = np.zeros((rows, len(widths)), np.uint32)
    at = 0
    for begin in range(0, rows, 32):
        n = min(32, rows - begin)
        for c, width in enumerate(widths):
            for j in range(int(width)):
                q[begin:begin + n, c] |= bits[at:at + n] << np.uint32(j)
                at += n
    if len(codes) != (at + 7) // 8 or np.any(bits[at:]):
        raise ValueError("wrong count of bytes, or padding that is not zero")
    return q


def bf16_round(x):
    """f32 -> upper 16 bits, to nearest even."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")


def encode(codec, x, widths, ranges, rounding=None, row_ids=None):
    """Code bytes and the values that the receiver sees."""
    if codec == F32:
        return x.astype("<f4").tobytes(), x
    if codec == BF16:
        half = bf16_round(x)
        return half.tobytes(), (half.astype(np.uint32) << 16).view(np.float32)
    q = quantize(x, ranges, widths, rounding, row_ids)
    return pack(q, widths), dequantize(q, ranges, widths)


def decode(codec, codes, rows, channels, widths, ranges):
    if codec == F32:
        return np.frombuffer(codes, "<f4").reshape(rows, channels)
    if codec == BF16:
        half = np.frombuffer(codes, "<u2").astype(np.uint32) << 16
        return half.view(np.float32).reshape(rows, channels)
    return dequantize(unpack(codes, rows, widths), ranges, widths)


def alloc_hash(widths):
    """FNV-1a, 64 bit, over channels (u32) and the width bytes."""
    value = 0xCBF29CE484222325
    for byte in len(widths).to_bytes(4, "little") + bytes(int(w) for w in widths):
        value = (value ^ byte) * 0x100000001B3 % 2 ** 64
    return value


# ---- gates ----

def kappa(widths):
    levels = 2.0 ** np.asarray(widths, np.float64)
    return levels / (levels - 1.0)


def gradient_exact(g, x, decoded, widths):
    error = decoded.astype(np.float64) - x.astype(np.float64)
    return -LN2 * kappa(widths) * np.sum(g.astype(np.float64) * error, axis=0)


def gradient_surrogate(g, step, widths, labelled_rows):
    squares = np.sum(g.astype(np.float64) ** 2, axis=0)
    return -(LN2 / 12.0) * labelled_rows * kappa(widths) * step.astype(np.float64) ** 2 * squares


class Gates:
    """Presets: (min, max, start) = (1, 16, 8) for target 4, (1, 8, 6) for target 3.

    q, m, v are kept in f32, as a journal keeps them; formulas run in f64."""

    def __init__(self, channels, low, high, start, loss="l2", alpha=1.0):
        self.low, self.high, self.loss, self.alpha = low, high, loss, alpha
        self.q = np.full(channels, np.log((start - low) / (high - start)) / alpha, np.float32)
        self.m = np.zeros(channels, np.float32)
        self.v = np.zeros(channels, np.float32)
        self.steps = 0

    def bits(self):
        q = self.q.astype(np.float64)
        return self.low + (self.high - self.low) / (1.0 + np.exp(-self.alpha * q))

    def step(self, db, lr, beta, active, beta1=np.float32(0.9), beta2=np.float32(0.999),
             eps=np.float32(1e-8)):
        lr, beta, beta1, beta2, eps = (float(v) for v in (lr, beta, beta1, beta2, eps))
        b = self.bits()
        db = np.where(np.isfinite(db), db, 0.0)
        if active:
            db = db + beta * (2.0 * b if self.loss == "l2" else 1.0) / len(b)
        dq = db * self.alpha * (b - self.low) * (self.high - b) / (self.high - self.low)
        self.steps += 1
        m = beta1 * self.m.astype(np.float64) + (1.0 - beta1) * dq
        v = beta2 * self.v.astype(np.float64) + (1.0 - beta2) * dq * dq
        update = m / (1.0 - beta1 ** self.steps)
        update /= np.sqrt(v / (1.0 - beta2 ** self.steps)) + eps
        q = np.clip(self.q - lr * update, -12 / self.alpha, 12 / self.alpha)
        self.q, self.m, self.v = (part.astype(np.float32) for part in (q, m, v))


def integer_widths(bits, low, high, shift=0.0):
    """floor, then the largest fractions (ties: lowest index) up to round(sum)."""
    bits = (bits.astype(np.float32) + np.float32(shift)).astype(np.float32)
    bits = np.clip(bits, np.ceil(low), np.floor(high)).astype(np.float64)
    widths = np.floor(bits).astype(np.int64)
    raise_count = int(np.rint(np.sum(bits))) - int(np.sum(widths))
    order = np.argsort(-(bits - widths), kind="stable")
    widths[order[:raise_count]] += 1
    return widths.astype(np.uint8)


# ---- waterfill: WIRE.md section 4, SPEC 3.1 ----

def round_to_total(bits, low, high):
    """Integer widths of fractional ones: floor, then the largest fractions, lowest channel first."""
    bits = np.clip(np.asarray(bits, np.float32), low, high)
    widths = np.floor(bits).astype(np.int64)
    raise_by = int(np.rint(bits.astype(np.float64).sum())) - int(widths.sum())
    order = np.lexsort((np.arange(len(bits)), -(bits - np.floor(bits))))
    widths[order[:raise_by]] += 1
    return widths.astype(np.uint8)


class Waterfill:
    def __init__(self, channels):
        self.updates = 0
        self.weight = np.zeros(channels, np.float32)
        self.span = np.zeros(channels, np.float32)

    def update(self, squares, rows, spans, micros):
        self.updates += 1
        rate = max(float(np.float64(1.0) - np.float64(np.float32(0.9))), 1.0 / self.updates)
        for old, now in ((self.weight, np.asarray(squares, np.float64) / rows),
                         (self.span, np.asarray(spans, np.float64) / micros)):
            now = np.where(np.isfinite(now) & (now > 0), now, 0.0)
            old[:] = (old + rate * (now - old)).astype(np.float32)

    def costs(self):
        """a_c; NaN where a channel has none."""
        seen = (self.weight > 0) & (self.span > 0)
        with np.errstate(divide="ignore"):
            cost = 0.5 * np.log2(self.weight.astype(np.float64)) + \
                np.log2(self.span.astype(np.float64))
        return np.where(seen, cost, np.nan)

    def widths(self, total, low, high):
        cost = self.costs()
        if np.isnan(cost).all():
            cost = np.zeros_like(cost)
        return round_to_total(fill(cost, np.ones(len(cost)), np.full(len(cost), float(low)),
                                   np.full(len(cost), float(high)), total), low, high)


def fill(height, count, low, high, total):
    """clamp(height + level) with sum(count * it) = total, by sorting the levels at which something
    starts or stops to move (the C code bisects)."""
    height, low, high = (np.asarray(v, np.float64) for v in (height, low, high))
    fixed = np.isnan(height)
    height, high = np.where(fixed, 0.0, height), np.where(fixed, low, high)

    def at(level):
        return np.clip(height + level, low, high)

    edges = np.unique(np.concatenate([low - height, high - height]))
    sums = np.array([(count * at(level)).sum() for level in edges])
    if total <= sums[0]:
        return at(edges[0])
    if total >= sums[-1]:
        return at(edges[-1])
    right = int(np.searchsorted(sums, total))
    share = (total - sums[right - 1]) / (sums[right] - sums[right - 1])
    return at(edges[right - 1] + share * (edges[right] - edges[right - 1]))


def site_totals(sites, mean_bits):
    """sites: (values, channels, live, sum of a_c, low, high); the total of each."""
    height, count, low, high, rest = [], [], [], [], 0.0
    for values, channels, live, cost, least, most in sites:
        rows = values / channels
        height.append(cost / live if live else 0.0)
        count.append(rows * live if live else values)
        low.append(least if live else mean_bits)
        high.append(most if live else mean_bits)
        rest += values * mean_bits - (rows * least * (channels - live) if live else 0.0)
    means = fill(height, np.array(count, np.float64), low, high, rest)
    return [int(np.rint(mean * (live or channels) + (least * (channels - live) if live else 0)))
            for mean, (_, channels, live, _, least, _) in zip(means, sites)]

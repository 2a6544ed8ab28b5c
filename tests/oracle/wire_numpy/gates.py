"""Gate signals, the gates of codec amaq and waterfill: proto/WIRE.md 4, SPEC 3.1."""
import numpy as np

LN2 = float(np.log(2.0))


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


# ---- waterfill ----

def round_to_total(bits, low, high):
    """Integer widths: floor, then the largest fractions, lowest channel first."""
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
    """sites: (values sent, values used, channels, live, sum of a_c, low, high); the total of
    each."""
    height, count, low, high, rest = [], [], [], [], 0.0
    for values, used, channels, live, cost, least, most in sites:
        rows = values / channels
        height.append(cost / live + 0.5 * np.log2(used / values) if live else 0.0)
        count.append(rows * live if live else values)
        low.append(least if live else mean_bits)
        high.append(most if live else mean_bits)
        rest += values * mean_bits - (rows * least * (channels - live) if live else 0.0)
    means = fill(height, np.array(count, np.float64), low, high, rest)
    return [int(np.rint(mean * (live or channels) + (least * (channels - live) if live else 0)))
            for mean, (_, _, channels, live, _, least, _) in zip(means, sites)]

"""Codec amaq_token: proto/WIRE.md 3.7.  A chunk's codes are those of 3.2 of its transpose."""
import numpy as np

from . import bits, require, rounding as rounding_
from .affine import K_MAX, K_MIN
from .gates import LN2, kappa



def gates_of(sequence_rows, gate_count, bitmap=None):
    """The gate of each row: its place in its own sequence, the last gate for all later ones."""
    places = np.concatenate([np.arange(rows) for rows in sequence_rows])
    gates = np.minimum(places, gate_count - 1)
    return gates if bitmap is None else gates[np.asarray(bitmap, bool)]


def measure(x, mask=None):
    """k, and lo, hi of every row in fp16 of 2^k."""
    if not np.all(np.isfinite(x)):
        raise ValueError("not finite")
    rows = x if mask is None else x[np.asarray(mask, bool)]
    largest = float(np.max(np.abs(rows))) if len(rows) else 0.0
    if largest >= 2.0 ** 125:
        raise ValueError("2^125 and more")
    k, bounds = bits.exponent(largest), []
    for exact, up in ((x.min(axis=1), False), (x.max(axis=1), True)):
        scaled = np.ldexp(exact.astype(np.float64), -k)
        bounds.append(bits.fp16_directed(np.clip(scaled, -bits.FP16_MAX, bits.FP16_MAX), up))
    return k, np.stack(bounds, axis=1)


def grid(k, bounds, widths):
    """lo, 1/D, D, N of every row, (rows, 1); a constant row has D = 0."""
    lo, hi = (np.ldexp(bounds[:, i].astype(np.float64), k).astype(np.float32) for i in (0, 1))
    levels = (2.0 ** np.asarray(widths, np.float64) - 1.0).astype(np.float32)
    step = ((hi - lo) / levels).astype(np.float32)
    step = np.where(step < bits.FLT_MIN, np.float32(0), step)
    with np.errstate(divide="ignore"):
        inverse = np.where(step == 0, np.float32(0), np.float32(1) / step)
    return tuple(a.astype(np.float32)[:, None] for a in (lo, inverse, step, levels))


def quantize(x, k, bounds, widths, rounding=None, row_ids=None):
    lo, inverse, step, levels = grid(k, bounds, widths)
    with np.errstate(over="ignore"):
        t = rounding_.whole((x - lo) * inverse, rounding, row_ids)
        t = np.minimum(np.maximum(t, np.float32(0)), levels)
    return np.where(step == 0, 0, t).astype(np.uint32)


def dequantize(q, k, bounds, widths):
    lo, _, step, _ = grid(k, bounds, widths)
    return (lo + q.astype(np.float32) * step).astype(np.float32)


def chunks(x, widths, *, mask=None, rounding=None, row_ids=None, rows_first=None):
    """Payloads of the chunks (rows_first rows, then the rest) and the values that are received.

    widths: of each row."""
    rows = len(x)
    rows_first = rows_first or rows
    k, bounds = measure(x, mask)
    q = quantize(x, k, bounds, widths, rounding, row_ids)
    payloads = []
    for begin, end in ((0, min(rows_first, rows)), (rows_first, rows)):
        if begin < end:
            payloads.append(payload_of(k, bounds[begin:end], q[begin:end], widths[begin:end]))
    return payloads, dequantize(q, k, bounds, widths)


def payload_of(k, bounds, q, widths):
    head = np.array([k, 0], "<i2").tobytes() + bounds.astype("<f2").tobytes()
    return head + bits.pack(q.T, widths)


def open_payload(payload, channels, widths, k_first=None):
    """k, bounds and codes of one chunk; widths: of its rows; k_first: of the tensor's first chunk.
    Refused."""
    rows = len(widths)
    front = 4 + 4 * rows
    require(len(payload) == front + bits.planes_bytes(channels, widths), "payload.bytes",
            f"{len(payload)}")
    k, zero = (int(v) for v in np.frombuffer(payload, "<i2", 2))
    require(K_MIN <= k <= K_MAX and zero == 0, "payload.ranges", f"exponent {k}, zero {zero}")
    require(k_first in (None, k), "payload.ranges", f"exponent {k} after {k_first}")
    halves = np.frombuffer(payload, "<u2", 2 * rows, offset=4)
    require(not bits.fp16_special(halves).any(), "payload.ranges", "not finite", "NONFINITE")
    bounds = halves.view("<f2").reshape(rows, 2)
    require(np.all(bounds[:, 0] <= bounds[:, 1]), "payload.ranges", "a lower bound above the upper")
    return k, bounds, bits.unpack(payload[front:], channels, widths).T


# ---- gates ----

def _by_gate(values, gates, gate_count):
    out = np.zeros(gate_count)
    np.add.at(out, gates, values)
    return out


def gradient_exact(g, x, decoded, gates, widths):
    """widths: of the gates."""
    error = decoded.astype(np.float64) - x.astype(np.float64)
    sums = np.sum(g.astype(np.float64) * error, axis=1)
    return _by_gate(-LN2 * kappa(widths)[gates] * sums, gates, len(widths))


def gradient_surrogate(g, step, gates, widths, labelled_rows):
    """step: D of each row."""
    squares = np.sum(g.astype(np.float64) ** 2, axis=1)
    scale = -(LN2 / 12.0) * labelled_rows * kappa(widths)[gates]
    return _by_gate(scale * step.astype(np.float64) ** 2 * squares, gates, len(widths))

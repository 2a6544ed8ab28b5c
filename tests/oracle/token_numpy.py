"""Codec amaq_token in NumPy: proto/WIRE.md section 3.7, one formula at a time.

It stands against kernels/codec/codec_token.c and token_gates.c; amaq_numpy.py has what both granularities
share: fp16 outward, Philox, bit planes (a chunk's codes are those of its transpose).
"""
import numpy as np

import amaq_numpy as amaq

AMAQ_TOKEN = 10
POSITIONS_MAX = 1024
FP16_MAX = 65504.0


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
    k = int(np.frexp(largest)[1]) - 1 - 14 if largest > 0 else 0
    bounds = []
    for exact, up in ((x.min(axis=1), False), (x.max(axis=1), True)):
        scaled = np.clip(np.ldexp(exact.astype(np.float64), -k), -FP16_MAX, FP16_MAX)
        bounds.append(amaq.fp16_directed(scaled, up=up))
    return k, np.stack(bounds, axis=1)


def grid(k, bounds, widths):
    """lo, 1/D, D, N of every row, (rows, 1); a constant row has D = 0."""
    lo, hi = (np.ldexp(bounds[:, i].astype(np.float64), k).astype(np.float32) for i in (0, 1))
    levels = (2.0 ** np.asarray(widths, np.float64) - 1.0).astype(np.float32)
    step = ((hi - lo) / levels).astype(np.float32)
    step = np.where(step < amaq.FLT_MIN, np.float32(0), step)
    with np.errstate(divide="ignore"):
        inverse = np.where(step == 0, np.float32(0), np.float32(1) / step)
    return tuple(a.astype(np.float32)[:, None] for a in (lo, inverse, step, levels))


def quantize(x, k, bounds, widths, rounding=None, row_ids=None):
    lo, inverse, step, levels = grid(k, bounds, widths)
    with np.errstate(over="ignore"):
        t = (x - lo) * inverse
        if rounding is not None and rounding.stochastic:
            ids = np.arange(len(x)) if row_ids is None else row_ids
            t = np.floor(t + rounding.uniform(ids, x.shape[1]))
        else:
            t = np.rint(t)
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
            head = np.array([k, 0], "<i2").tobytes() + bounds[begin:end].astype("<f2").tobytes()
            payloads.append(head + amaq.pack(q[begin:end].T, widths[begin:end]))
    return payloads, dequantize(q, k, bounds, widths)


def decode(payload, channels, widths):
    """Values of one chunk; widths: of its rows."""
    rows = len(widths)
    k = int(np.frombuffer(payload, "<i2", 1)[0])
    bounds = np.frombuffer(payload, "<f2", 2 * rows, offset=4).reshape(rows, 2)
    q = amaq.unpack(payload[4 + 4 * rows:], channels, widths).T
    return dequantize(q, k, bounds, widths)


# ---- gates ----

def _by_gate(values, gates, gate_count):
    out = np.zeros(gate_count)
    np.add.at(out, gates, values)
    return out


def gradient_exact(g, x, decoded, gates, widths):
    """widths: of the gates."""
    error = decoded.astype(np.float64) - x.astype(np.float64)
    sums = np.sum(g.astype(np.float64) * error, axis=1)
    return _by_gate(-amaq.LN2 * amaq.kappa(widths)[gates] * sums, gates, len(widths))


def gradient_surrogate(g, step, gates, widths, labelled_rows):
    """step: D of each row."""
    squares = np.sum(g.astype(np.float64) ** 2, axis=1)
    scale = -(amaq.LN2 / 12.0) * labelled_rows * amaq.kappa(widths)[gates]
    return _by_gate(scale * step.astype(np.float64) ** 2 * squares, gates, len(widths))

"""Codecs f32, bf16, affine and amaq: proto/WIRE.md 3.1 and 3.2."""
import numpy as np

from . import bits, require, rounding as rounding_
from .frames import AFFINE, AMAQ, BF16, F32  # noqa: F401  callers name them here

K_MIN, K_MAX = -163, 110


# ---- ranges ----

def range_bytes(channels):
    return 4 + 4 * channels


def measure(x, mask=None):
    """Range block of x (rows, channels) f32 over the rows where mask is true."""
    rows = x if mask is None else x[np.asarray(mask, bool)]
    channels = x.shape[1]
    if len(rows) == 0:
        return bytes(range_bytes(channels))
    largest = np.max(np.abs(rows))
    if not np.all(np.isfinite(rows)) or largest >= np.float32(2.0 ** 125):
        raise ValueError("not finite, or 2^125 and more")
    k = bits.exponent(largest)
    lo = np.ldexp(rows.min(axis=0).astype(np.float64), -k)
    hi = np.ldexp(rows.max(axis=0).astype(np.float64), -k)
    bounds = np.stack([bits.fp16_directed(lo, False), bits.fp16_directed(hi, True)], axis=1)
    return np.array([k, 0], "<i2").tobytes() + bounds.astype("<f2").tobytes()


def check_ranges(ranges):
    """What a receiver refuses of a range block of the right size."""
    k, zero = np.frombuffer(ranges, "<i2", 2)
    require(K_MIN <= k <= K_MAX and zero == 0, "payload.ranges", f"exponent {k}, zero {zero}")
    halves = np.frombuffer(ranges, "<u2", offset=4)
    require(not bits.fp16_special(halves).any(), "payload.ranges", "not finite", "NONFINITE")
    lo, hi = _bounds(ranges)
    require(np.all(lo <= hi), "payload.ranges", "a lower bound above the upper one")


def _bounds(ranges):
    k = int(np.frombuffer(ranges, "<i2", 1)[0])
    bounds = np.frombuffer(ranges, "<f2", offset=4).reshape(-1, 2).astype(np.float64)
    return np.ldexp(bounds, k).astype(np.float32).T


def grid(ranges, widths):
    """lo, D, N of each channel, f32; D = 0 for a constant one."""
    lo, hi = _bounds(ranges)
    levels = (2.0 ** np.asarray(widths, np.float64) - 1.0).astype(np.float32)
    step = (hi - lo) / levels
    return lo, np.where(step < bits.FLT_MIN, np.float32(0.0), step), levels


# ---- codes ----

def quantize(x, ranges, widths, rounding=None, row_ids=None):
    """Codes q (rows, channels)."""
    lo, step, levels = grid(ranges, widths)
    constant = step == 0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(1.0) / step
        t = rounding_.whole((x - lo) * inverse, rounding, row_ids)
        q = np.minimum(np.maximum(t, np.float32(0.0)), levels)
    q[:, constant] = 0
    return q.astype(np.uint32)


def dequantize(q, ranges, widths):
    lo, step, _ = grid(ranges, widths)
    return lo + q.astype(np.float32) * step


def encode(codec, x, widths, ranges, rounding=None, row_ids=None):
    """Code bytes and the values that the receiver sees."""
    if codec == F32:
        return x.astype("<f4").tobytes(), x
    if codec == BF16:
        half = bits.bf16_round(x)
        return half.tobytes(), bits.bf16_values(half)
    q = quantize(x, ranges, widths, rounding, row_ids)
    return bits.pack(q, widths), dequantize(q, ranges, widths)


def decode(codec, codes, rows, channels, widths, ranges):
    """Values of codes of the right size; the range block has been checked.  Refused."""
    if codec == F32:
        x = np.frombuffer(codes, "<f4").reshape(rows, channels)
        require(np.all(np.isfinite(x)), "payload.values", "not finite", "NONFINITE")
        return x
    if codec == BF16:
        half = np.frombuffer(codes, "<u2").reshape(rows, channels)
        require(not bits.bf16_special(half).any(), "payload.values", "not finite", "NONFINITE")
        return bits.bf16_values(half)
    return dequantize(bits.unpack(codes, rows, widths), ranges, widths)

"""Codecs tensor, channel and group: proto/WIRE.md section 3.3."""
import numpy as np

from . import bits as bits_, require, rounding as rounding_
from .frames import CHANNEL, GROUP, TENSOR_SCALE as TENSOR

K_MIN, K_MAX = -178, 110


def default_group(channels):
    return max(g for g in range(1, min(channels, 128) + 1) if channels % g == 0)


def scale_count(codec, rows, channels, group=0):
    """Scales of a scale block in front of `rows` rows."""
    group = group or default_group(channels)
    return {TENSOR: 1, CHANNEL: channels, GROUP: rows * (channels // group)}[codec]


def absmax(codec, x, mask, group):
    """(1, 1), (1, C) or (rows, C / group): the magnitude that each scale stands for."""
    rows = np.abs(x if mask is None else x[np.asarray(mask, bool)]).astype(np.float64)
    if codec == GROUP:
        return np.abs(x).astype(np.float64).reshape(len(x), -1, group).max(axis=2)
    if len(rows) == 0:
        return np.zeros((1, 1 if codec == TENSOR else x.shape[1]))
    return rows.max(axis=None if codec == TENSOR else 0).reshape(1, -1)


def scales(codec, x, bits, mask=None, group=0):
    """k, and the fp16 scales in units of 2^k, shaped as absmax."""
    if not np.all(np.isfinite(x)):
        raise ValueError("not finite")
    group = group or default_group(x.shape[1])
    rows = x if mask is None else x[np.asarray(mask, bool)]
    largest = float(np.max(np.abs(rows))) if len(rows) else 0.0
    if largest >= 2.0 ** 124:
        raise ValueError("2^124 and more")
    half = (2.0 ** bits - 1.0) / 2.0
    k = bits_.exponent(largest / half)
    exact = np.minimum(np.ldexp(absmax(codec, x, mask, group) / half, -k), bits_.FP16_MAX)
    return k, bits_.fp16_directed(exact, up=True)


def block(k, half_scales):
    return np.array([k, 0], "<i2").tobytes() + half_scales.astype("<f2").tobytes()


def check_block(head, bits):
    """What a receiver refuses of a scale block of the right size."""
    k, zero = np.frombuffer(head, "<i2", 2)
    require(K_MIN <= k <= K_MAX and zero == 0, "payload.scales", f"exponent {k}, zero {zero}")
    halves = np.frombuffer(head, "<u2", offset=4)
    require(not bits_.fp16_special(halves).any(), "payload.scales", "not finite", "NONFINITE")
    require(not (halves >> 15).any(), "payload.scales", "a sign bit")
    with np.errstate(over="ignore"):
        values = np.ldexp(halves.view("<f2").astype(np.float64), int(k)).astype(np.float32)
        outermost = values * np.float32(2.0 ** (bits - 1))
    require(np.all(np.isfinite(outermost)), "payload.scales", "too large", "NONFINITE")


def expand(codec, k, half_scales, channels):
    """f32 scale of every value, broadcastable to (rows, C); 0 below FLT_MIN."""
    values = np.ldexp(half_scales.astype(np.float64), k).astype(np.float32)
    values = np.where(values < bits_.FLT_MIN, np.float32(0), values)
    return np.repeat(values, channels // values.shape[1], axis=1) if codec == GROUP else values


def quantize(x, scale, bits, rounding=None, row_ids=None):
    """q, signed."""
    low, high = np.float32(-2.0 ** (bits - 1)), np.float32(2.0 ** (bits - 1) - 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = rounding_.whole(x / scale, rounding, row_ids)
        t = np.minimum(np.maximum(t, low), high)
    return np.where(scale == 0, 0, t).astype(np.int32)


def chunks(codec, x, bits, *, mask=None, group=0, rounding=None, row_ids=None, rows_first=None):
    """Payloads of the chunks (rows_first rows, then the rest) and the values that are received."""
    rows, channels = x.shape
    rows_first = rows_first or rows
    k, half_scales = scales(codec, x, bits, mask, group)
    scale = expand(codec, k, half_scales, channels)
    q = quantize(x, scale, bits, rounding, row_ids)
    payloads = []
    for begin, end in ((0, min(rows_first, rows)), (rows_first, rows)):
        if begin < end:
            head = b""
            if codec == GROUP:
                head = block(k, half_scales[begin:end])
            elif begin == 0:
                head = block(k, half_scales)
            codes = (q[begin:end] + 2 ** (bits - 1)).astype(np.uint32)
            payloads.append(head + bits_.pack(codes, [bits] * channels))
    return payloads, q.astype(np.float32) * scale


def decode(codec, payload, rows, channels, bits, group=0, head=b""):
    """Values of one chunk; head: the first chunk's scale block, for the later ones.  Refused."""
    size = 4 + 2 * scale_count(codec, rows, channels, group)
    expected = (0 if head else size) + bits_.planes_bytes(rows, [bits] * channels)
    require(len(payload) == expected, "payload.bytes", f"{len(payload)}, not {expected}")
    codes = payload if head else payload[size:]
    head = head or payload[:size]
    check_block(head, bits)
    k = int(np.frombuffer(head, "<i2", 1)[0])
    half_scales = np.frombuffer(head, "<f2", offset=4)
    shape = (rows, -1) if codec == GROUP else (1, -1)
    scale = expand(codec, k, half_scales.reshape(shape), channels)
    q = bits_.unpack(codes, rows, [bits] * channels).astype(np.int64) - 2 ** (bits - 1)
    return q.astype(np.float32) * scale

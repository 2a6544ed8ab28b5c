"""Codecs tensor, channel and group in NumPy: proto/WIRE.md section 3.3, one formula at a time.

It stands against kernels/codec/codec_symmetric.c and, in check_compressed_tensors.py, against the
package whose arithmetic it names.
"""
import numpy as np

import amaq_numpy as amaq

TENSOR, CHANNEL, GROUP = 5, 6, 7
FP16_MAX = 65504.0


def default_group(channels):
    return max(g for g in range(1, min(channels, 128) + 1) if channels % g == 0)


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
    k = int(np.frexp(largest / half)[1]) - 1 - 14 if largest > 0 else 0
    exact = np.minimum(np.ldexp(absmax(codec, x, mask, group) / half, -k), FP16_MAX)
    return k, amaq.fp16_directed(exact, up=True)


def block(k, half_scales):
    return np.array([k, 0], "<i2").tobytes() + half_scales.astype("<f2").tobytes()


def expand(codec, k, half_scales, channels):
    """f32 scale of every value, broadcastable to (rows, C); 0 below FLT_MIN."""
    values = np.ldexp(half_scales.astype(np.float64), k).astype(np.float32)
    values = np.where(values < amaq.FLT_MIN, np.float32(0), values)
    return np.repeat(values, channels // values.shape[1], axis=1) if codec == GROUP else values


def quantize(x, scale, bits, rounding=None, row_ids=None):
    """q, signed."""
    low, high = np.float32(-2.0 ** (bits - 1)), np.float32(2.0 ** (bits - 1) - 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = x / scale
        if rounding is not None and rounding.stochastic:
            ids = np.arange(len(x)) if row_ids is None else row_ids
            t = np.floor(t + rounding.uniform(ids, x.shape[1]))
        else:
            t = np.rint(t)
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
            payloads.append(head + amaq.pack(codes, [bits] * channels))
    return payloads, q.astype(np.float32) * scale


def decode(codec, payload, rows, channels, bits, group=0, head=b""):
    """Values of one chunk; head: the first chunk's scale block, for the later ones."""
    group = group or default_group(channels)
    count = {TENSOR: 1, CHANNEL: channels, GROUP: rows * (channels // group)}[codec]
    size = 4 + 2 * count
    codes = payload if head else payload[size:]
    head = head or payload[:size]
    k = int(np.frombuffer(head, "<i2", 1)[0])
    half_scales = np.frombuffer(head, "<f2", count, offset=4)
    shape = (rows, -1) if codec == GROUP else (1, -1)
    scale = expand(codec, k, half_scales.reshape(shape), channels)
    q = amaq.unpack(codes, rows, [bits] * channels).astype(np.int64) - 2 ** (bits - 1)
    return q.astype(np.float32) * scale

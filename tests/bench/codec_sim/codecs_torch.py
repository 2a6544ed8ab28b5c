"""The codecs of SPEC 3.1 and 3.2 on tensors (runs, rows, channels): what a receiver would see.

The affine grid, its ranges and its rounding equal proto/WIRE.md section 3.2 code by code
(check_codec_sim.py compares with tests/oracle/wire_numpy); random numbers come from torch
instead of Philox (`uniform`).  tensor, channel and group are compressed-tensors' symmetric grid; aqsgd is
DS3Lab/AC-SGD's. A run's widths are integers in f32, (runs, channels) for the affine grid and (runs)
for the others.
"""
import math

import torch

FLT_MIN = 2.0 ** -126


# ---- ranges ----

def fp16_outward(v, up):
    """f32 (exact) -> fp16 toward +inf (up) or -inf; zero is +0."""
    half = v.to(torch.float16)
    back = half.to(v.dtype)
    bits = half.view(torch.int16).to(torch.int32)
    negative = bits < 0
    if up:
        wrong = back < v
        moved = torch.where(negative, torch.where(bits == -32768, 1, bits - 1), bits + 1)
    else:
        wrong = back > v
        moved = torch.where(negative, bits + 1, torch.where(bits == 0, -32767, bits - 1))
    bits = torch.where(wrong, moved, bits).to(torch.int16)
    return bits.view(torch.float16) + 0.0


def exponent_of(largest):
    """k of a tensor whose largest absolute value is given: scaled values are below 2^15."""
    k = torch.frexp(largest).exponent - 15
    return torch.where(largest > 0, k, torch.zeros_like(k))


def ldexp(v, k):
    """v * 2^k in f64, exact there."""
    return v.double() * torch.exp2(k.double())


def ranges(x):
    """lo, hi (runs, channels) as decoded from the wire."""
    lo, hi = torch.aminmax(x, dim=1)
    k = exponent_of(torch.maximum(lo.abs(), hi.abs()).amax(dim=-1, keepdim=True))
    lo16 = fp16_outward(ldexp(lo, -k).float(), False)
    hi16 = fp16_outward(ldexp(hi, -k).float(), True)
    return ldexp(lo16, k).float(), ldexp(hi16, k).float()


def scales(absmax, exponent):
    """fp16 scales below one exponent a run, as decoded; rounded up, so that nothing is clipped."""
    return ldexp(fp16_outward(ldexp(absmax, -exponent).float(), True), exponent).float()


# ---- the affine grid: affine and amaq ----

def grid(lo, hi, widths):
    """D and N (runs, channels); D = 0 for a constant channel."""
    levels = torch.exp2(widths) - 1.0
    step = (hi - lo) / levels
    return torch.where(step < FLT_MIN, torch.zeros_like(step), step), levels


def uniform(shape, generator, device):
    """What values draw: multiples of 2^-16."""
    return torch.randint(65536, shape, generator=generator, device=device).float() * 2.0 ** -16


def whole(t, u=None):
    """t to whole numbers, in place where to nearest: WIRE.md 3.2, whose sum with u does not round."""
    return t.round_() if u is None else t.add_(2.0 ** -17).double().add_(u).floor_().to(t.dtype)


def affine_codes(x, lo, step, levels, u=None):
    inverse = torch.where(step > 0, 1.0 / step, torch.zeros_like(step))
    t = (x - lo[:, None]) * inverse[:, None]
    t = whole(t, u)
    return torch.minimum(t.clamp_(min=0.0), levels[:, None])


def affine_values(q, lo, step):
    return q.mul(step[:, None]).add_(lo[:, None])


# ---- symmetric grids ----

def group_of(channels, most=128):
    return max(g for g in range(1, most + 1) if channels % g == 0)


def symmetric(x, bits, kind, u=None):
    """scale = absmax/((2^b-1)/2), codes -2^(b-1)..2^(b-1)-1; x as the receiver sees it."""
    runs, rows, channels = x.shape
    b = bits.view(-1, 1, 1, 1)
    size = group_of(channels) if kind == "group" else channels
    v = x.reshape(runs, rows, channels // size, size)
    dims = {"tensor": (1, 2, 3), "channel": (1,), "group": (3,)}[kind]
    absmax = v.abs().amax(dim=dims, keepdim=True)
    k = exponent_of(absmax.amax(dim=(1, 2, 3), keepdim=True))
    scale = scales(absmax / ((torch.exp2(b) - 1.0) / 2.0), k)
    t = torch.where(scale > 0, v / scale, torch.zeros_like(v))
    t = whole(t, None if u is None else u.view(1, rows, channels // size, size))
    half = torch.exp2(b - 1.0)
    return torch.maximum(torch.minimum(t, half - 1.0), -half).mul_(scale).view_as(x)


def aqsgd(x, bits):
    """AC-SGD's fixpoint, one scale a channel, always rounded to nearest."""
    absmax = x.abs().amax(dim=1, keepdim=True)
    scale = scales(absmax, exponent_of(absmax.amax(dim=-1, keepdim=True)))
    half = torch.exp2(bits.view(-1, 1, 1) - 1.0)
    unit = scale / half
    t = torch.where(unit > 0, x / unit, torch.zeros_like(x)).round_()
    return torch.maximum(torch.minimum(t, half - 1.0), -half).mul_(unit)


# ---- entropy of the codes ----

WIDTH_MAX = 16
KEYS = 2 ** (WIDTH_MAX + 1)


def entropy_bits(q, widths):
    """Bits of each run's codes under one static table a width class (the classes' own entropy)."""
    runs = q.shape[0]
    base = torch.exp2(widths)  # key of code q at width w: 2^w + q
    key = (q + base[:, None]).long() + KEYS * torch.arange(runs, device=q.device).view(-1, 1, 1)
    count = torch.bincount(key.view(-1), minlength=runs * KEYS).view(runs, KEYS).double()
    width = torch.arange(KEYS, device=q.device).clamp(min=1).double().log2().floor().long()
    total = torch.zeros(runs, WIDTH_MAX + 1, dtype=torch.float64, device=q.device)
    total.index_add_(1, width, count)
    bits = torch.where(count > 0, (total[:, width] / count.clamp(min=1)).log2() * count,
                       torch.zeros_like(count))
    return bits.sum(dim=1)


def kappa(widths):
    levels = torch.exp2(widths.double())
    return levels / (levels - 1.0)


LN2 = math.log(2.0)


def gradient_exact(g, x, decoded, widths):
    """dL/db of each channel; g (runs, rows, channels) as the receiver of it sees it."""
    sums = torch.sum(g * (decoded - x), dim=1).double()
    return -LN2 * kappa(widths) * sums


def gradient_surrogate(squares, step, widths, labelled_rows):
    return -(LN2 / 12.0) * labelled_rows * kappa(widths) * step.double() ** 2 * squares.double()

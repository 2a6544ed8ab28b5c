"""Codecs tensor, channel and group against the package whose arithmetic they take over.

    check_compressed_tensors.py CODER_CLI

With the scales that C sent, compressed-tensors' own quantize and dequantize must give C's codes
and values to the bit; and the scales that it would choose itself (calculate_qparams) must be ours
up to the rounding to fp16, which is upward.
"""
import pathlib
import sys

import numpy as np
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "golden")]
from wire_numpy import symmetric  # noqa: E402
from wire_numpy.bits import unpack  # noqa: E402
from test_symmetric_live import NAMES, Case, ask  # noqa: E402

# fp16 has 11 bits: rounding up adds less than 2^-10; scales below 2^-14 of the largest have fewer.
SCALE_TOLERANCE = 2.0 ** -10


def check(case, payload, values):
    """Largest relative excess of our scales over theirs, where fp16 is normal."""
    group = case.group or symmetric.default_group(case.channels)
    count = {symmetric.TENSOR: 1, symmetric.CHANNEL: case.channels,
             symmetric.GROUP: case.rows * (case.channels // group)}[case.codec]
    k = int(np.frombuffer(payload, "<i2", 1)[0])
    halves = np.frombuffer(payload, "<f2", count, offset=4)
    scale = np.ldexp(halves.astype(np.float64), k).astype(np.float32)
    q = unpack(payload[4 + 2 * count:], case.rows, [case.bits] * case.channels)
    q = q.astype(np.int64) - 2 ** (case.bits - 1)

    x = torch.from_numpy(case.x.copy())
    if case.codec == symmetric.TENSOR:
        args = QuantizationArgs(num_bits=case.bits, symmetric=True, strategy="tensor")
        magnitude = x.abs().max().reshape(1)
    elif case.codec == symmetric.CHANNEL:  # theirs are rows
        x, q, values = x.T.contiguous(), q.T, values.T
        args = QuantizationArgs(num_bits=case.bits, symmetric=True, strategy="channel")
        magnitude = x.abs().amax(dim=1, keepdim=True)
        scale = scale.reshape(-1, 1)
    else:
        args = QuantizationArgs(num_bits=case.bits, symmetric=True, strategy="group",
                                group_size=group)
        magnitude = x.abs().reshape(case.rows, -1, group).amax(dim=2)
        scale = scale.reshape(case.rows, -1)
    ours = torch.from_numpy(scale)
    zero = torch.zeros_like(ours)
    # A scale of 0 stands for zeros alone; they divide by an epsilon instead.
    safe = torch.where(ours == 0, torch.ones_like(ours), ours)
    codes = quantize(x, safe, zero, args)
    assert np.array_equal(codes.numpy().astype(np.int64), q), "codes"
    back = dequantize(codes, ours, zero, args)
    assert np.array_equal(back.numpy() + np.float32(0), values), "values"
    theirs = calculate_qparams(-magnitude, magnitude, args)[0].reshape(ours.shape).numpy()
    normal = (halves.reshape(ours.shape) >= 2.0 ** -14) & (theirs > 0)
    excess = scale[normal].astype(np.float64) / theirs[normal] - 1
    assert np.all(excess > -1e-6) and np.all(excess < SCALE_TOLERANCE), "scales"
    return float(excess.max(initial=0))


def main():
    rng = np.random.default_rng(7)
    cases = [Case(rng, codec=codec, bits=bits, stochastic=False)
             for codec in NAMES for bits in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16) for _ in range(5)]
    for case in cases:  # their f32 has no exponent of the tensor: ordinary magnitudes
        case.x = (case.x / max(np.abs(case.x).max(), 1e-30) * 10).astype(np.float32)
    worst = 0.0
    for case, (payloads, values) in zip(cases, ask(sys.argv[1], cases)):
        assert len(payloads) == 1
        worst = max(worst, check(case, payloads[0][1], values))
    print(f"compressed-tensors: {len(cases)} tensors, codes and values equal to the bit; our scales "
          f"at most {worst:.2e} above theirs")


if __name__ == "__main__":
    main()

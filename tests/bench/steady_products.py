#!/usr/bin/env python3
"""What products of bf16 take on a card whose power sets the clock: steady_products.py [SECONDS]

A product of 8192^3, and the frozen products of a block of Llama-3-8B's shape at 6,144 rows (forward
as x W^T, backward as dy W, PyTorch's choice of algorithm, random normal values, three buffers in
turn).  TFLOP/s of the first 12 ms after a second's pause, which a power limit does not reach, and of
the last half of SECONDS [2] without one; with the clock and power that nvidia-smi shows at the end.
"""
import subprocess
import sys
import time

import torch

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
ROWS, C, KV, F = 6144, 4096, 1024, 14336


def rate_of(call, flop, seconds):
    """TFLOP/s of calls queued for about so long."""
    begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
    count = max(1, round(seconds * 7e14 / flop))
    begin.record()
    for i in range(count):
        call(i)
    end.record()
    torch.cuda.synchronize()
    return count * flop / begin.elapsed_time(end) / 1e9


def state():
    fields = "clocks.sm,power.draw,power.limit"
    shown = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                           capture_output=True, text=True, check=True).stdout
    return shown.strip().splitlines()[0]


def show(name, call, flop):
    for i in range(3):
        call(i)
    torch.cuda.synchronize()
    time.sleep(1)
    first = rate_of(call, flop, 0.012)
    rate_of(call, flop, SECONDS / 2)
    begin, count = torch.cuda.Event(True), max(1, round(SECONDS / 2 * 7e14 / flop))
    end = torch.cuda.Event(True)
    begin.record()
    for i in range(count):
        call(i)
    end.record()
    at = state() # the queue is still at work
    torch.cuda.synchronize()
    steady = count * flop / begin.elapsed_time(end) / 1e9
    print(f"{name:18s} first {first:4.0f} TFLOP/s, steady {steady:4.0f} ({at})", flush=True)
    return first, steady


def normal(rows, cols, deviation=1.0):
    return [torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * deviation for _ in range(3)]


def main():
    print(torch.cuda.get_device_name(0), torch.__version__)
    a, b = normal(8192, 8192), normal(8192, 8192)
    show("8192^3", lambda i: a[i % 3] @ b[i % 3], 2 * 8192**3)
    del a, b
    seconds, flops = [0.0, 0.0], 0
    for name, k, n in (("qkv", C, C + 2 * KV), ("o", C, C), ("gate, up", C, 2 * F), ("down", F, C)):
        w, x, dy = normal(n, k, 0.02), normal(ROWS, k), normal(ROWS, n)
        flop = 2 * ROWS * k * n
        for what, call in (("forward", lambda i: torch.nn.functional.linear(x[i % 3], w[i % 3])),
                           ("backward", lambda i: dy[i % 3] @ w[i % 3])):
            for j, rate in enumerate(show(f"{name} {what}", call, flop)):
                seconds[j] += flop / rate / 1e12
            flops += flop
        del w, x, dy
    print(f"32 blocks: {32e3 * seconds[0]:.1f} ms by the first rates, {32e3 * seconds[1]:.1f} ms "
          f"steady ({flops / seconds[1] / 1e12:.0f} TFLOP/s)")


main()

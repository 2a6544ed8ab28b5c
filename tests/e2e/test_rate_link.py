#!/usr/bin/env python3
"""The rate controller on a link of the kernel's: seamd and core_steps in a network namespace of
their own, whose loopback a token bucket (tc tbf) holds to FAST Mbit/s, then a fifth of it, then FAST
again in mid-run.  The widths follow down (not below 3 bits) and up again, steps keep the requested
time, none stalls, and the client's estimate of the link is within 25 % of it: the bucket is small,
so that no burst passes by it.

    test_rate_link.py SEAMD CORE_STEPS [FAST]

FAST is 40 by default, so that the wire and not a busy machine's compute decides; 100 is for an idle one.

Needs root, ip and tc: exits 77 without.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from service_fixture import Seamd, write_model

SKIPPED = 77
SEAMD, CORE_STEPS = sys.argv[1:3]
SPACE = f"seam_rate_{os.getpid()}"
HIDDEN, SEQUENCES, ROWS = 96, 8, 256
FAST = int(sys.argv[3]) if len(sys.argv) > 3 else 40
PHASES = [(f"{FAST}mbit", 60), (f"{FAST // 5}mbit", 60), (f"{FAST}mbit", 60)]


def inside(*command, **kwargs):
    return subprocess.run(["ip", "netns", "exec", SPACE, *command], check=True, **kwargs)


def link(rate):
    inside("tc", "qdisc", "replace", "dev", "lo", "root", "tbf", "rate", rate, "burst", "5kb",
           "latency", "400ms")


def space_open() -> bool:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        return False
    if subprocess.run(["ip", "netns", "add", SPACE], capture_output=True).returncode != 0:
        return False
    try:
        inside("ip", "link", "set", "lo", "mtu", "1500", "up", capture_output=True)
        link("1gbit")
    except subprocess.CalledProcessError:
        return False
    return True


def median(values):
    return sorted(values)[len(values) // 2]


def client(server, count, step_seconds):
    return subprocess.Popen(["ip", "netns", "exec", SPACE, CORE_STEPS, server.address, "-", "amaq",
                             str(count), str(SEQUENCES), str(ROWS), f"rate{step_seconds}"],
                            stdout=subprocess.PIPE, text=True)


def steps_read(process, count):
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def run(server):
    link("1gbit")
    process = client(server, 20, 60.0)
    compute = median([s["seconds"] for s in steps_read(process, 20)[5:]])
    assert process.wait(60) == 0
    values = 2 * SEQUENCES * ROWS * HIDDEN  # fwd_in, and half of it each for fwd_out and bwd_out
    wanted = 1.2 * compute + 1.5 * values / (FAST * 1e6) * 8
    print(f"compute {compute:.3f} s, requested step {wanted:.3f} s")
    phases = []
    process = client(server, sum(steps for _, steps in PHASES), wanted)
    for rate, steps in PHASES:
        link(rate)
        phases.append(steps_read(process, steps))
    assert process.wait(60) == 0
    return wanted, phases


def check(wanted, phases):
    for (rate, _), steps in zip(PHASES, phases):
        late = steps[len(steps) // 2:]
        print(f"{rate}: target {steps[0]['bits_target']:.2f} -> {late[-1]['bits_target']:.2f} bits, "
              f"median step {median([s['seconds'] for s in late]):.3f} s, longest "
              f"{max(s['seconds'] for s in steps):.3f} s, link estimate "
              f"{late[-1]['link_bits_per_second'] / 1e6:.1f} Mbit/s")
    fast, slow, again = [median([s["bits_target"] for s in steps[len(steps) // 2:]])
                         for steps in phases]
    assert slow < fast - 1 and again > slow + 1, (fast, slow, again)
    assert min(s["bits_target"] for steps in phases for s in steps) >= 3
    for (rate, _), steps in zip(PHASES, phases):
        estimate = median([s["link_bits_per_second"] for s in steps[len(steps) // 2:]]) / 1e6
        assert abs(estimate / int(rate.removesuffix("mbit")) - 1) < 0.25, (rate, estimate)
        assert median([s["seconds"] for s in steps[len(steps) // 2:]]) < 1.5 * wanted
        assert max(s["seconds"] for s in steps) < 10 * wanted  # nothing stalls


def main():
    if not space_open():
        subprocess.run(["ip", "netns", "del", SPACE], capture_output=True, check=False)
        print("skipped: needs root, ip and tc")
        return SKIPPED
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_model(folder / "model", hidden=HIDDEN)
            wrapper = folder / "seamd"
            wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {SPACE} {SEAMD} "$@"\n')
            wrapper.chmod(0o755)
            with Seamd(str(wrapper), folder / "model") as server:
                check(*run(server))
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=True)
    print("rate on a link: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

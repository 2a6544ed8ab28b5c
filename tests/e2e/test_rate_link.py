#!/usr/bin/env python3
"""The rate controller on a link of the kernel's: seamd and core_steps in a network namespace of
their own, whose loopback a token bucket (tc tbf) holds to FAST Mbit/s, then a fifth of it, then FAST
again in mid-run.  The widths follow down (not below 3 bits) and up again, steps keep the requested
time, none stalls, and the client's estimate of the link is within 25 % of it: the bucket is small,
so that no burst passes by it.

    test_rate_link.py SEAMD CORE_STEPS [FAST]

FAST is 40 by default, so that the wire and not a busy machine's compute decides; 100 is for an idle one.
What others take of the machine while it is measured, it measures too: then it is measured again, and
skipped where that does not end.

Needs root, ip and tc: exits 77 without.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from link_fixture import LinkSpace
from service_fixture import DEADLINE_S, Seamd, write_model

SKIPPED, TRIES, BUSY = 77, 4, 1.3
SEAMD, CORE_STEPS = sys.argv[1:3]
HIDDEN, SEQUENCES, ROWS = 96, 8, 256
FAST = int(sys.argv[3]) if len(sys.argv) > 3 else 40
PHASES = [(f"{FAST}mbit", 60), (f"{FAST // 5}mbit", 60), (f"{FAST}mbit", 60)]


def median(values):
    return sorted(values)[len(values) // 2]


def client(space, server, count, step_seconds):
    return subprocess.Popen([*space.prefix, CORE_STEPS, server.address, "-", "amaq",
                             str(count), str(SEQUENCES), str(ROWS), f"rate{step_seconds}"],
                            stdout=subprocess.PIPE, text=True)


def steps_read(process, count):
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def run(space, server):
    process = client(space, server, 20, 60.0)
    compute = median([s["seconds"] for s in steps_read(process, 20)[5:]])
    assert process.wait(DEADLINE_S) == 0
    values = 2 * SEQUENCES * ROWS * HIDDEN  # fwd_in, and half of it each for fwd_out and bwd_out
    wanted = 1.2 * compute + 1.5 * values / (FAST * 1e6) * 8
    print(f"compute {compute:.3f} s, requested step {wanted:.3f} s")
    phases = []
    process = client(space, server, sum(steps for _, steps in PHASES), wanted)
    for rate, steps in PHASES:
        space.rate(rate)
        phases.append(steps_read(process, steps))
    assert process.wait(DEADLINE_S) == 0
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


class Busy:
    """Opened by `with`: how long this process has waited for work of one second, in seconds."""

    def __enter__(self):
        self.worked, self.took, self.ended = 0.0, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.ended.wait(0.1):
            worked, took = time.thread_time(), time.monotonic()
            while time.thread_time() < worked + 0.004:
                pass
            self.worked += time.thread_time() - worked
            self.took += time.monotonic() - took

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.share = self.took / max(self.worked, 1e-9)


def attempt(space, folder):
    """None, or why not: what was measured, and whether the machine was busy."""
    with Busy() as busy:
        try:
            with Seamd(space.wrapper(folder, SEAMD), folder / "model") as server:
                check(*run(space, server))
            return None
        except AssertionError as error:
            failure = error
    print(f"a second of work took {busy.share:.2f} s: {failure!r}", flush=True)
    return failure, busy.share > BUSY


def main():
    with LinkSpace("rate") as space, tempfile.TemporaryDirectory() as name:
        if not space.usable:
            print("skipped: needs root, ip and tc")
            return SKIPPED
        folder = pathlib.Path(name)
        write_model(folder / "model", hidden=HIDDEN)
        for _ in range(TRIES):
            why = attempt(space, folder)
            if why is None:
                break
        if why is not None and why[1]:
            print("skipped: the machine is too busy to measure time on it")
            return SKIPPED
        if why is not None:
            raise why[0]
    print("rate on a link: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

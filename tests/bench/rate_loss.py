#!/usr/bin/env python3
"""What following the link costs: `seam train --rate auto` over a link that drops from FAST to a fifth
of it in mid-run and returns, against a run with fixed affine 3 bits, same seeds.

Goals: widths follow down and up; no step takes longer than STALL_MAX requested steps; the loss at
the end, on other rows, through the codec and of the adapter alone, is not worse than affine's.
Method: seamd and seam in a network namespace of their own (link_fixture.py); the link changes when
the server says that a third and two thirds of the steps are committed.

    tests/bench/rate_loss.py SEAMD SEAM [FAST]        FAST: Mbit/s [100]

Not in ctest: the requested step leaves a fifth more than a step computes, so other work on the
machine takes the widths' room, and what the loss would then be compared at is the floor of 3 bits.  For
the wire to decide whatever the load, it would have to take some ten times what a step computes: a
second and more a step, and these runs more than five minutes.  In ctest e2e.rate_link holds the
controller to the link, and unit.rate what it decides to recorded samples.
Needs root, ip and tc: exits 77 without.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE.parent / "oracle")]

from cli_fixture import Seam, write_rows, write_text_model  # noqa: E402
from link_fixture import LinkSpace  # noqa: E402
from service_fixture import Seamd  # noqa: E402

SKIPPED = 77
SEAMD, SEAM = sys.argv[1:3]
FAST = int(sys.argv[3]) if len(sys.argv) > 3 else 100
STEPS, SEEDS, STALL_MAX, HIDDEN, BATCH = 120, (1, 2), 10, 96, 16
COLOURS = ["red", "green", "blue", "white", "yellow"]


def text_rows(count, begin=0):
    """About 200 bytes each, half of them to be learned."""
    rows = []
    for i in range(begin, begin + count):
        lamps = [(i * 7 + j * 3) % 90 + 10 for j in range(10)]
        rows.append({"prompt": " ".join(f"lamp {lamp}," for lamp in lamps),
                     "completion": " " + " ".join(f"{lamp} {COLOURS[lamp % 5]}" for lamp in lamps)})
    return rows


class Case:
    def __init__(self, folder, space, server):
        self.folder, self.space = folder, space
        self.seam = Seam(space.wrapper(folder, SEAM), server.address)
        write_rows(folder / "train.jsonl", text_rows(200))
        write_rows(folder / "eval.jsonl", text_rows(20, begin=500))

    def command(self, out, *args, steps=STEPS):
        return [self.seam.binary, "train", "--server", self.seam.server, "--model",
                self.folder / "model", "--data", self.folder / "train.jsonl", "--eval-data",
                self.folder / "eval.jsonl", "--exact-match", "off", "--eval-before", "off", "--out",
                self.folder / out, "--steps", str(steps), "--batch", str(BATCH), "--rows-max", "8192",
                "--lr", "1e-2", "--threads", "1", "--quiet", *map(str, args)]

    def report(self, out):
        return json.loads((self.folder / out / "report.json").read_text())

    def committed(self):
        return max(s["committed_step_count"] for s in self.seam.json("session", "list")["sessions"])

    def train(self, out, *args, **kwargs):
        subprocess.run(self.command(out, *args, "--delete-session", **kwargs), check=True,
                       stdout=subprocess.DEVNULL)
        return self.report(out)

    def train_through_drop(self, out, *args):
        """The report, and the steps at which the link changed."""
        self.space.rate(f"{FAST}mbit")
        changes = []
        runner = subprocess.Popen(self.command(out, *args, "--delete-session"),
                                  stdout=subprocess.DEVNULL)
        time.sleep(1)
        for part, rate in ((STEPS // 3, FAST // 5), (2 * STEPS // 3, FAST)):
            while (count := self.committed()) < part:
                assert runner.poll() is None
                time.sleep(0.1)
            self.space.rate(f"{rate}mbit")
            changes.append(count)
        assert runner.wait(600) == 0
        self.space.rate("1gbit")
        return self.report(out), changes


def median(values):
    return sorted(values)[len(values) // 2]


def requested_seconds(case):
    """Of a step: its compute with some room, and the wire's at 8 bits on the fast link."""
    steps = case.train("probe", "--codec", "affine", "--bits", 8, steps=20)["steps"][4:]
    size = median([s["bytes_sent"] + s["bytes_received"] for s in steps])
    return 1.2 * median([s["seconds"] for s in steps]) + 1.2 * 8 * size / (FAST * 1e6)


def check(case, seed, wanted):
    fixed = case.train(f"affine-{seed}", "--codec", "affine", "--bits", 3, "--seed", seed)
    auto, (drop, back) = case.train_through_drop(f"auto-{seed}", "--rate", "auto", "--seed", seed,
                                                 "--step-seconds", f"{wanted:.3f}")
    steps = auto["steps"]
    phases = [median([step["gate_mean_bits"] for step in steps[(at + end) // 2:end]])
              for at, end in ((0, drop), (drop, back), (back, STEPS))]
    longest = max(step["seconds"] for step in steps)
    losses = {name: [report["eval"][which]["loss"] for which in ("after_quantized", "after")]
              for name, report in (("auto", auto), ("affine", fixed))}
    print(f"seed {seed}: link down at {drop}, up at {back}; widths "
          f"{', '.join(f'{p:.2f}' for p in phases)}; longest step {longest:.3f} s of {wanted:.3f} "
          f"requested; loss through the codec and without: {losses}", flush=True)
    assert phases[1] < phases[0] - 1 and phases[2] > phases[1] + 1, phases
    assert phases[1] >= 2.99, phases  # sums of whole widths
    assert longest < STALL_MAX * wanted, longest
    assert losses["auto"][0] <= losses["affine"][0], losses
    assert losses["auto"][1] <= losses["affine"][1], losses


def main():
    with LinkSpace("loss") as space, tempfile.TemporaryDirectory() as name:
        if not space.usable:
            print("skipped: needs root, ip and tc")
            return SKIPPED
        folder = pathlib.Path(name)
        write_text_model(folder / "model", hidden=HIDDEN, context=512)
        with Seamd(space.wrapper(folder, SEAMD), folder / "model") as server:
            case = Case(folder, space, server)
            wanted = requested_seconds(case)
            for seed in SEEDS:
                check(case, seed, wanted)
    print("loss with the rate of a link: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

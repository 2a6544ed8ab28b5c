#!/usr/bin/env python3
"""The table of pace.sh: when was the wire's mean width at the target, against the requested step?

    pace_table.py AT OUT NAME...        NAME: DATA-TARGET-SEED, a run folder in OUT

The mean is that of the integer widths in force at both forward sites, weighted by the values of the
first step, as the arbiter weighs them.  It is at the target from the first step on from which it is
at most NEAR above it until the end.  Exit 1: a run is missing or more than 5 % off.
"""
import json
import pathlib
import sys

NEAR, OFF_MAX = 0.1, 0.05  # bits: the paper's tolerance; part of the requested step


def wire_means(steps):
    first = {name: site["rows"] for name, site in steps[0]["sites"].items() if name[:3] == "fwd"}
    return [sum(rows * step["sites"][name]["mean_bits"] for name, rows in first.items())
            / sum(first.values()) for step in steps]


def row_of(folder, at, target):
    """Cells, and whether the run was in time."""
    steps = json.loads((folder / "report.json").read_text())["steps"]
    means = wire_means(steps)
    late = [i for i, mean in enumerate(means) if mean > target + NEAR]
    reached = late[-1] + 1 if late else 0
    if reached == len(means):
        return ["never", "-", f"{means[-1]:.3f}", "-", "-"], False
    off = reached / at - 1
    loss = sum(step["loss"] for step in steps[-10:]) / len(steps[-10:])
    return [str(reached), f"{100 * off:+.1f}", f"{means[-1]:.3f}",
            f"{min(means[reached:]):.3f}..{max(means[reached:]):.3f}", f"{loss:.4f}"], \
        abs(off) <= OFF_MAX


def main():
    at, out, names = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
    failures = 0
    print(f"Requested step {at}; the mean is at the target when it is at most {NEAR} above it for good.\n")
    print("| run | target | seed | at the target from step | error % | last mean | means from there "
          "| loss, last 10 steps |\n|---|---|---|---|---|---|---|---|")
    for name in names:
        data, target, seed = name.rsplit("-", 2)
        if (out / name / "done").exists():
            cells, in_time = row_of(out / name, at, float(target))
        else:
            cells, in_time = ["failed", "-", "-", "-", "-"], False
        failures += not in_time
        print(f"| {data} | {target} | {seed} | " + " | ".join(cells) + " |")
    print(f"\n{len(names) - failures} of {len(names)} runs within {100 * OFF_MAX:.0f} %.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

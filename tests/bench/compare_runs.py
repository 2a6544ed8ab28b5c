#!/usr/bin/env python3
"""compare_runs.py RUN OTHER...: losses and state hashes of runs beside those of the first.

Of each other run: steps whose state hash is the first's, largest and mean difference of a step's
loss, mean loss of both over all steps and the last hundred, the test loss where they have one, and
the mean bits of its inner gates at the last step.
"""
import json
import pathlib
import statistics
import sys


def report(folder):
    return json.loads((pathlib.Path(folder) / "report.json").read_text(encoding="utf-8"))


def change(a, b):
    return f"{a:.5f} and {b:.5f} ({100 * (b / a - 1):+.3f} %)"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    first = report(sys.argv[1])
    for folder in sys.argv[2:]:
        other = report(folder)
        pairs = list(zip(first["steps"], other["steps"], strict=True))
        differences = [abs(a["loss"] - b["loss"]) for a, b in pairs]
        same = sum(a["state_hash"] == b["state_hash"] for a, b in pairs)
        print(f"{pathlib.Path(sys.argv[1]).name} and {pathlib.Path(folder).name}: "
              f"{same} of {len(pairs)} state hashes equal, losses differ by {max(differences):.4f} "
              f"at most, {statistics.fmean(differences):.4f} in the mean")
        for what, of in (("all steps", pairs), ("last 100 steps", pairs[-100:])):
            print(f"  train loss, {what}: "
                  + change(*(statistics.fmean(s["loss"] for s in side) for side in zip(*of))))
        if all("after" in run.get("eval", {}) for run in (first, other)):
            print("  test loss: "
                  + change(*(run["eval"]["after"]["loss"] for run in (first, other))))
        for what in ("layer_mean_bits", "prefix_mean_bits"):
            if what in other["steps"][-1]:
                print(f"  {what}, last step: {other['steps'][-1][what]:.3f}")


if __name__ == "__main__":
    main()

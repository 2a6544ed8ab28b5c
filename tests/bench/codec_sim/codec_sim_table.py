#!/usr/bin/env python3
"""Markdown tables of codec_sim.py's results: codec_sim_table.py FILE.jsonl...

A cell is the mean over the seeds, +- half the distance between the lowest and the highest.
"""
import collections
import json
import sys

TASKS = {"gsm8k": "GSM8K", "code_alpaca": "CodeAlpaca", "arc_challenge": "ARC-C"}
ORDER = ["bf16", "tensor", "channel", "group", "aqsgd", "affine", "affine_ramp", "gates",
         "gates_l1", "gates_exact", "gates_wf", "waterfill", "waterfill_flat", "waterfill_dict"]
PARTS = ("fwd_in", "fwd_out", "bwd_out", "signal", "bwd_in")


def mean(values):
    return sum(values) / len(values)


def cell(values, digits=4):
    spread = (max(values) - min(values)) / 2.0
    return f"{mean(values):.{digits}f} +- {spread:.{digits}f}"


def payload(traffic):
    return sum(traffic[p] for p in PARTS)


def coded(record):
    """Payload of a late step by site, with one static table a width class (tables not counted)."""
    out = dict(record["bytes_late"])
    if "entropy" not in record:
        return None
    for site, at, rows in (("fwd_in", 0, "rows_mean"), ("fwd_out", 1, "labels_mean"),
                           ("bwd_out", 1, "labels_mean")):
        if record["entropy"][site]:
            range_block = 4 + 4 * record["channels"]
            codes = out[site] - range_block
            out[site] = range_block + codes * record["entropy"][site][-1]
    return out


def row(name, bits, records):
    last = [r["bytes_late"] for r in records]
    packed = [coded(r) for r in records]
    cells = [f"`{name}`" + ("" if bits == 16 else f" {bits}"),
             cell([r["loss_codec"] for r in records]), cell([r["loss_plain"] for r in records]),
             f"{mean([r['train_loss_last'] for r in records]):.4f}"]
    if "accuracy_codec" in records[0]:
        cells.append(cell([100.0 * r["accuracy_codec"] for r in records], 1))
    cells += [f"{mean([r['site_late'][0] for r in records]):.3f}, "
              f"{mean([r['site_late'][1] for r in records]):.3f}",
              f"{mean([r['mean_late'] for r in records]):.3f}",
              f"{mean([r['mean_run'] for r in records]):.3f}",
              f"{mean([payload(t) for t in last]) / 1e3:.1f}",
              f"{mean([payload(r['bytes_run']) for r in records]) / 1e6:.1f}",
              f"{mean([sum(r['bytes_run'].values()) for r in records]) / 1e6:.1f}",
              "" if packed[0] is None else f"{mean([payload(t) for t in packed]) / 1e3:.1f}"]
    return "| " + " | ".join(cells) + " |"


def savings(records):
    """What each exact saving leaves of a late step, in kB and as a share."""
    def known(record, traffic):  # gates at fwd_in end with the grid there
        return payload(traffic) - traffic["fwd_in"] - traffic["signal"] + record["dictionary_late"]

    everything = [r["bytes_late_all_rows_all_sites"] for r in records]
    parts = [("all valid rows, four tensors", everything),
             ("labelled rows, no bwd_in", [payload(r["bytes_late"]) for r in records]),
             ("and entropy coding", [payload(coded(r)) for r in records]),
             ("labelled rows, no bwd_in, dictionary", [known(r, r["bytes_late"]) for r in records]),
             ("and entropy coding", [known(r, coded(r)) for r in records])]
    plain = mean(parts[0][1])
    return ["| a late step | kB | share |", "|---|---|---|"] + [
        f"| {name} | {mean(v) / 1e3:.1f} | {mean(v) / plain:.3f} |" for name, v in parts]


def table(task, groups):
    some = next(iter(groups.values()))[0]
    seeds = sorted({r["seed"] for records in groups.values() for r in records})
    lines = [f"### {TASKS[task]}", "",
             f"{some['rows']} rows, {some['steps']} steps of {some['batch']}, "
             f"{some['steps'] * some['batch'] / some['rows']:.1f} epochs; "
             f"{some['rows_mean']:.0f} rows a step, "
             f"{some['labels_mean']:.0f} of them labelled; test: {some['test_rows']} rows; seeds "
             f"{', '.join(map(str, seeds))}; {some['device']}.", ""]
    head = ["codec", "test loss through it", "adapter alone", "train loss, last fifth"]
    if "accuracy_codec" in some:
        head.append("accuracy, %")
    head += ["width in, out", "mean, end", "mean, run", "kB a late step", "MB a run",
             "with headers", "kB, entropy coded"]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in ORDER:
        for bits in (16, 4, 3):
            if (name, bits) in groups:
                lines.append(row(name, bits, groups[name, bits]))
    for bits in (4, 3):
        if ("waterfill", bits) in groups:
            lines += ["", f"Exact savings, `waterfill` {bits}:", ""]
            lines += savings(groups["waterfill", bits])
    return lines


def differences(task, groups):
    """Loss minus affine's, seed by seed: the pairs share rows, order and first adapter."""
    lines = []
    for bits in (4, 3):
        base = {r["seed"]: r["loss_codec"] for r in groups.get(("affine", bits), [])}
        for name in ORDER:
            pairs = [r["loss_codec"] - base[r["seed"]] for r in groups.get((name, bits), [])
                     if r["seed"] in base]
            if pairs and name != "affine":
                lines.append(f"| {TASKS[task]} | `{name}` {bits} | "
                             + ", ".join(f"{p:+.4f}" for p in pairs) + f" | {mean(pairs):+.4f} |")
    return lines


def main(paths):
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in paths:
        for line in open(path, encoding="utf-8"):
            record = json.loads(line)
            if record["cut"] or record["random"]:
                print(f"left out: {record['task']} seed {record['seed']} {record['name']}, cut or "
                      "on random weights", file=sys.stderr)
                continue
            groups[record["task"]][record["name"], record["bits"]].append(record)
    print("## The codecs in training (PyTorch simulation)\n")
    for task in TASKS:
        if task in groups:
            print("\n".join(table(task, groups[task])) + "\n")
    print("### Test loss through the codec, minus affine's at the same target\n")
    print("| task | codec | by seed | mean |\n|---|---|---|---|")
    for task in TASKS:
        if task in groups:
            print("\n".join(differences(task, groups[task])))


if __name__ == "__main__":
    main(sys.argv[1:])

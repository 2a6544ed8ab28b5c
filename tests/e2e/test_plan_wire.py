#!/usr/bin/env python3
"""What `seam plan` and a run's report predict of a step's bytes is what the step sends.

Goals: payloads to the byte for codecs without gates, state or entropy coder; never less than travels
for those with state or an entropy coder; near it for amaq; `seam plan` with a run's options gives the
numbers of the run's report.  Bytes on the wire differ by no more than what opens the stream, which no
step has.  Method: short runs on a tiny random model, their steps' sums against the prediction; full
rows against WIRE.md's arithmetic by hand.

    test_plan_wire.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

SITES = ["fwd_in", "fwd_out", "bwd_out", "bwd_in"]
HEADER = 64
OPENING = 600  # bytes: HEADERS of the call, SETTINGS, Attach and Attached
EXACT = {
    "f32": ["--codec", "f32", "--labelled-rows-only", "off", "--distinct-rows-only", "off",
            "--elide-input-gradient", "off"],
    "bf16": ["--codec", "bf16"], "affine": ["--codec", "affine", "--bits", 3],
    "mixed": ["--codec", "affine", "--codec-fwd-in", "bf16"], "tensor": ["--codec", "tensor"],
    "channel": ["--codec", "channel"], "group": ["--codec", "group", "--group", 8],
    "micros": ["--codec", "affine", "--rows-max", 40, "--batch", 9],
    "blocks": ["--codec", "bf16", "--front-blocks", 1, "--tail-blocks", 1],
}
MOST = {"aqsgd": ["--codec", "aqsgd"], "rans": ["--codec", "affine", "--entropy", "rans"],
        "dictionary": ["--codec", "affine", "--dictionary", "on"]}
AMAQ = {"amaq": [], "gates": ["--allocator", "gates"], "token": ["--granularity", "token"],
        "amaq_micros": ["--rows-max", 40, "--batch", 9]}
VANILLA = {"vanilla": ["--codec", "affine", "--topology", "vanilla", "--consent", "labels"],
           "vanilla_amaq": ["--topology", "vanilla", "--consent", "labels"]}


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam, self.model = folder, seam, folder / "model"
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))

    def options(self, args, steps):
        return ["--model", self.model, "--data", self.rows, "--steps", steps, "--rank", 4,
                *([] if "--batch" in args else ["--batch", 4]), *args]

    def run(self, name, args, steps=6, link=()):
        """The report of a run with these options, and what `seam plan` says of them."""
        options = self.options(args, steps)
        code, out, err = self.seam.run("train", *options, "--out", self.folder / name, "--quiet",
                                       "--delete-session", *link)
        assert code == 0, (name, out, err)
        assert "predicted: " in out or name == "exchange", out
        report = json.loads((self.folder / name / "report.json").read_text())
        plan = None
        if "--topology" not in args:
            plan = self.seam.json("plan", *options, *link, "--insecure", "--device", "cpu",
                                  server=False)
        return report, plan


def near(a, b, share=1e-8):
    return abs(a - b) <= share * max(abs(a), abs(b))


def same(a, b):
    """Two predictions; the report rounds to ten digits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return near(a, b) if isinstance(a, float) else a == b


def payloads(report):
    """Of each site, the mean of the steps."""
    steps = report["steps"]
    return {site: sum(s["sites"][site]["payload_bytes"] for s in steps) / len(steps) for site in SITES}


def check_grade(report):
    """The grade is of the run's own sums."""
    grade, steps = report["prediction"]["grade"], len(report["steps"])
    wire, measured = report["prediction"]["wire"], payloads(report)
    for name, way in (("sent", "sent"), ("received", "received")):
        row = grade[f"bytes_{name}"]
        assert near(row["measured"], report["totals"][f"bytes_{name}"] / steps), row
        assert near(row["predicted"], wire[way]["bytes"]), row
        assert near(row["ratio"], row["measured"] / row["predicted"]), row
        parts = [v for part, v in wire[way].items() if part != "bytes"]
        assert near(sum(parts), wire[way]["bytes"]), wire[way]
        row = grade[f"payload_{name}"] if f"payload_{name}" in grade else None
        sites = SITES[0::2] if name == "sent" else SITES[1::2]
        assert row is None or near(row["measured"], sum(measured[s] for s in sites)), row
    row = grade["memory"]
    assert row["measured"] == report["peak_rss_bytes"] and row["predicted"] > 0, row
    assert "seconds" not in grade, grade


def check_opening(report):
    """Wire bytes are the prediction's and the stream's opening, once."""
    for name in ("sent", "received"):
        total = report["totals"][f"bytes_{name}"]
        predicted = report["prediction"]["wire"][name]["bytes"] * len(report["steps"])
        assert 0 < total - predicted < OPENING, (name, total, predicted)


def check_exact(case):
    for name, args in EXACT.items():
        report, plan = case.run(name, args)
        wire = report["prediction"]["wire"]
        assert wire["exact"] and wire["at_most"] and wire["rows"] == "data", (name, wire)
        for site, bytes_ in payloads(report).items():
            assert near(wire["sites"][site]["payload_bytes"], bytes_), (name, site, wire, bytes_)
        check_grade(report)
        check_opening(report)
        plan["wire"]["round_trips"] = wire["round_trips"]  # those of the depth that a run is granted
        assert same(plan["wire"], wire), (name, plan["wire"], wire)
        if "--rows-max" not in args:
            assert same(plan["client"], report["prediction"]["client"]), name
        page = (case.folder / name / "report.html").read_text()
        assert "Predicted and measured" in page and "bytes sent a step" in page


def check_most(case):
    for name, args in MOST.items():
        report, plan = case.run(name, args)
        wire = report["prediction"]["wire"]
        assert not wire["exact"] and wire["at_most"], (name, wire)
        for site, bytes_ in payloads(report).items():
            assert wire["sites"][site]["payload_bytes"] >= bytes_ - 1e-6, (name, site, wire, bytes_)
        assert same(plan["wire"], wire), name


def check_amaq(case):
    """Widths follow the loss: the sum over both ways is near, each way within what the allocator
    moves from one site to the other; the first step, before any width moves, is exact."""
    for name, args in AMAQ.items():
        report, plan = case.run(name, args, steps=40)
        wire, measured = report["prediction"]["wire"], payloads(report)
        assert not wire["exact"] and not wire["at_most"] and 4 <= wire["mean_bits"] < 8, (name, wire)
        predicted = {site: wire["sites"][site]["payload_bytes"] for site in SITES}
        assert near(sum(predicted.values()), sum(measured.values()), 0.05), (name, predicted, measured)
        for site in SITES:
            assert near(predicted[site], measured[site], 0.2), (name, site, predicted, measured)
        assert near(predicted["bwd_in"], measured["bwd_in"]), (name, predicted, measured)  # the signal
        check_grade(report)
        plan["wire"]["round_trips"] = wire["round_trips"]
        assert same(plan["wire"], wire), name
        report, _ = case.run(f"{name}_first", args, steps=1)
        for site, bytes_ in payloads(report).items():
            assert report["prediction"]["wire"]["sites"][site]["payload_bytes"] == bytes_, (name, site)


def check_topologies(case):
    for name, args in VANILLA.items():
        report, _ = case.run(name, args)
        wire, measured = report["prediction"]["wire"], payloads(report)
        assert measured["fwd_out"] == measured["bwd_out"] == 0
        assert wire["exact"] == (name == "vanilla"), wire
        for site in SITES:
            assert near(wire["sites"][site]["payload_bytes"], measured[site], 0.05), (name, site)
        assert wire["round_trips"] == 1.0, wire
        if name == "vanilla":
            check_opening(report)
    report, _ = case.run("exchange", ["--topology", "adapter_exchange", "--consent", "text"])
    assert "wire" not in report["prediction"] and "error" not in report["prediction"]


def check_time(case):
    """Bytes over the rate, round trips, the server's tokens: each where it is said, and the sum."""
    link = ["--mbit", 2, "--rtt-ms", 30, "--server-tokens-per-s", 500]
    report, plan = case.run("time", ["--codec", "bf16"], link=link)
    wire, time = report["prediction"]["wire"], report["prediction"]["time"]
    assert near(time["sent_seconds"], wire["sent"]["bytes"] * 8 / 2e6), time
    assert near(time["received_seconds"], wire["received"]["bytes"] * 8 / 2e6), time
    assert wire["round_trips"] == 2 and near(time["rtt_seconds"], 0.06, 1e-6), (wire, time)
    assert near(time["server_seconds"], wire["tokens"] / 500), time
    parts = ["sent_seconds", "received_seconds", "rtt_seconds", "server_seconds"]
    assert near(time["seconds"], sum(time[p] for p in parts)) and time["covers"] == "link, server"
    assert same(plan["time"], time), (plan["time"], time)
    row = report["prediction"]["grade"]["seconds"]
    assert near(row["measured"], report["totals"]["seconds"] / 6) and near(row["predicted"], time["seconds"])
    assert "mbit" not in report["options"], report["options"]
    shape = ["plan", "--shape", "smollm2-135m"]
    assert "time" not in case.seam.json(*shape, server=False)
    alone = case.seam.json(*shape, "--server-tokens-per-s", 100, server=False)["time"]
    assert alone["covers"] == "server" and "mbit" not in alone and near(alone["seconds"], 20.48), alone
    text = case.seam.run(*shape, "--mbit", 100, server=False)[1]
    assert "its time " in text and "and at the server" in text, text


def check_full_rows(case):
    """Full micro-batches: WIRE.md by hand, of a model without a file."""
    shape = ["plan", "--shape", "llama3-8b", "--insecure"]
    hidden, rows = 4096, 2048
    wire = case.seam.json(*shape, "--codec", "bf16", server=False)["wire"]
    tensor = rows * hidden * 2
    chunks = tensor >> 20  # of 1 MiB: 128 rows
    assert wire["rows"] == "full" and wire["exact"] and wire["tokens"] == rows, wire
    assert wire["sent"]["tensors"] == 2 * tensor and wire["received"]["tensors"] == tensor, wire
    assert wire["sent"]["headers"] == 2 * chunks * HEADER, wire
    assert wire["received"]["headers"] == chunks * HEADER and wire["received"]["allocation"] == 0, wire
    wire = case.seam.json(*shape, "--codec", "affine", "--bits", 3, "--micros", 4, server=False)["wire"]
    tensor = 4 + 4 * hidden + rows * hidden * 3 // 8
    assert wire["sent"]["tensors"] == 4 * 2 * tensor and wire["micros"] == 4, wire
    assert wire["round_trips"] == 5, wire
    # Rows of 512 tokens have 511 each; four of them fit a micro-batch.
    plan = case.seam.json(*shape, "--codec", "bf16", "--batch", 6, "--tokens-max", 512, server=False)
    wire = plan["wire"]
    assert wire["tokens"] == 6 * 511 and wire["micros"] == 2 and plan["rows_max"] == rows, plan
    assert wire["sites"]["bwd_out"]["payload_bytes"] == 6 * 511 * hidden * 2, wire
    tls = case.seam.json("plan", "--shape", "llama3-8b", "--codec", "bf16", "--batch", 6, "--tokens-max",
                         512, server=False)["wire"]
    assert tls["sent"]["framing"] > wire["sent"]["framing"] and tls["sites"] == wire["sites"]
    text = case.seam.run(*shape, server=False)[1]
    assert "a step sends " in text and "it receives " in text and "mean of" in text, text


def check_bad_options(case):
    shape, model = ["--shape", "llama3-8b"], ["--model", case.model]
    for args, text in (([*shape, "--rtt-ms", 5], "--rtt-ms"), ([*shape, "--batch", 4], "--batch"),
                       ([*shape, "--data", case.rows], "--data"), ([*shape, "--mbit", 0], "--mbit"),
                       ([*shape, "--micros", 2, "--tokens-max", 64], "--micros"),
                       ([*shape, "--sequences-max", 2, "--tokens-max", 64], "--sequences-max"),
                       ([*shape, "--micros", 65], "--micros"), ([*shape, "--truncate"], "--truncate"),
                       ([*shape, "--train-rows", 3], "--train-rows"),
                       ([*shape, "--tokens-max", 4096], "--tokens-max"),
                       ([*shape, "--tokens-max", 1], "--tokens-max"),
                       ([*shape, "--tokens-max", 1000, "--batch", 4294967295], "--batch"),
                       ([*shape, "--bits", 4], "--bits"), ([*shape, "--codec-fwd-in", "zip"], "codec-fwd-in"),
                       ([*shape, "--codec", "affine", "--target", 3], "--target"),
                       ([*model, "--data", case.folder / "none"], "--data"),
                       ([*model, "--data", case.rows, "--rows-max", 8], "--rows-max")):
        code, out, err = case.seam.run("plan", *args, server=False)
        assert code != 0 and text in err, (args, code, out, err)


def main():
    seamd, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=3)
        with Seamd(seamd, folder / "model", "--allow-text") as server:
            case = Case(folder, Seam(seam, server.address))
            for check in [check_exact, check_most, check_amaq, check_topologies, check_time,
                          check_full_rows, check_bad_options]:
                run_check(check, case)


if __name__ == "__main__":
    main()

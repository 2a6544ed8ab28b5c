#!/usr/bin/env python3
"""The timelines of both ends of a training run, on a tiny random model.

Goal: `seam train --trace` and `seamd --trace` show where a step's time went, and change no bit.
Method: steps of several micro-batches; spans nest, follow the path of a micro-batch across both
processes, and account for the step; the same run without them commits the same states.

    test_timeline.py SEAMD SEAM
"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import DEADLINE_S, SOURCE, Seamd, seamd_path

STEPS, LEAVES = 5, ("embed", "encode", "send", "wait", "decode", "head", "record")
ENGINE = ("decode", "blocks", "encode", "optimizer")
ROUNDING_US = 0.002


def train(folder, seam, out, *args):
    code, text, err = seam.run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / out,
        "--steps", STEPS, "--batch", 6, "--rows-max", 64, "--rank", 4, "--quiet", *args)
    assert code == 0, text + err
    return json.loads((folder / out / "report.json").read_text())


def spans_of(path):
    events = json.loads(path.read_text())["traceEvents"]
    lanes = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return [dict(lane=lanes[e["tid"]], name=e["name"], step=e["args"]["step"],
                 micro=e["args"].get("micro"), begin=e["ts"], end=e["ts"] + e["dur"])
            for e in events if e["ph"] == "X"]


def inside(inner, outer):
    return outer["begin"] - ROUNDING_US <= inner["begin"] and inner["end"] <= outer["end"] + ROUNDING_US


def seconds(spans):
    return sum(s["end"] - s["begin"] for s in spans) * 1e-6


def check_nested(spans):
    """Two spans of a lane are apart, or one holds the other."""
    for lane in {s["lane"] for s in spans}:
        mine = sorted((s for s in spans if s["lane"] == lane), key=lambda s: (s["begin"], -s["end"]))
        open_spans = []
        for span in mine:
            while open_spans and open_spans[-1]["end"] <= span["begin"] + ROUNDING_US:
                open_spans.pop()
            assert not open_spans or inside(span, open_spans[-1]), (open_spans[-1], span)
            open_spans.append(span)


def check_client(spans, report):
    check_nested(spans)
    shares, errors = [], []
    for step in report["steps"]:
        mine = [s for s in spans if s["step"] == step["step"]]
        [whole] = [s for s in mine if s["name"] == "step"]
        assert all(inside(s, whole) for s in mine)
        for name in ("forward_begin", "forward", "backward", "embed", "head"):
            micros = [s["micro"] for s in mine if s["name"] == name]
            assert micros == list(range(step["micros"])), (name, micros)
        leaves = [s for s in mine if s["name"] in LEAVES]
        assert {s["name"] for s in leaves} == set(LEAVES)
        assert seconds(leaves) <= seconds([whole])  # leaves do not hold each other
        shares.append(seconds(leaves) / seconds([whole]))
        for name, field in [(("encode",), "encode_seconds"), (("decode",), "decode_seconds"),
                            (("embed", "head"), "head_seconds")]:
            measured = seconds([s for s in leaves if s["name"] in name])
            errors.append(abs(measured - step[field]))
    return measured_well(shares, errors)


def measured_well(shares, errors):
    """Nothing of weight is missing between them; medians, since another process may take the core."""
    return statistics.median(shares) > 0.8 and statistics.median(errors) < 1e-4


def check_server(spans, report):
    check_nested([s for s in spans if s["lane"] in ("engine", "receive")])
    shares, errors = [], []
    for step in report["steps"]:
        mine = [s for s in spans if s["step"] == step["step"]]
        engine = [s for s in mine if s["lane"] == "engine"]
        parents = [s for s in engine if s["name"] in ("forward", "backward")]
        assert len(parents) == 2 * step["micros"]
        for parent in parents:
            parts = [s for s in engine if s["name"] in ENGINE and inside(s, parent)]
            last = parent["name"] == "backward" and parent["micro"] + 1 == step["micros"]
            assert [s["name"] for s in sorted(parts, key=lambda s: s["begin"])] == [
                *ENGINE[:3], *(ENGINE[3:] if last else [])]
            assert all(s["micro"] == parent["micro"] for s in parts)
            assert seconds(parts) <= seconds([parent])
            shares.append(seconds(parts) / seconds([parent]))
            # The path of a tensor: it comes, waits, is worked on, its answer goes.
            way = [[s for s in mine if (s["lane"], s["name"], s["micro"]) ==
                    (lane, parent["name"], parent["micro"])] for lane in ("receive", "queue", "send")]
            [received], [queued], [sent] = way
            assert received["begin"] < queued["begin"] < queued["end"] <= parent["begin"]
            assert parent["end"] <= sent["begin"] < sent["end"]
        errors.append(abs(seconds(parents) - step["server_seconds"]))
    return measured_well(shares, errors)


def check_both(client, server):
    """One clock: a micro-batch's forward at the server lies in the client's."""
    for end in (s for s in client if s["name"] == "forward"):
        [begin] = [s for s in client if s["name"] == "forward_begin" and
                   (s["step"], s["micro"]) == (end["step"], end["micro"])]
        outer = end | dict(begin=begin["begin"])
        [work] = [s for s in server if s["lane"] == "engine" and s["name"] == "forward" and
                  (s["step"], s["micro"]) == (outer["step"], outer["micro"])]
        assert inside(work, outer)


def check_text(folder):
    done = subprocess.run(
        [sys.executable, SOURCE / "tests/bench/timeline.py", folder / "client.json",
         folder / "server.json", "--step", "2", "--out", folder / "both.json"],
        capture_output=True, text=True, check=True)
    assert done.stdout.startswith("step 2: ") and "engine blocks" in done.stdout
    both = json.loads((folder / "both.json").read_text())["traceEvents"]
    assert len({event["pid"] for event in both}) == 2


def check_refused(folder, binary, seam):
    code, _, err = seam.run("train", "--model", folder / "model", "--data", folder / "rows.jsonl",
                            "--out", folder / "bad", "--steps", 1, "--quiet", "--trace",
                            folder / "no" / "where.json")
    assert code == 5 and "--trace" in err and "where.json" in err, err
    assert not (folder / "bad").exists(), "said before the run, not after it"
    done = subprocess.run([binary, "--insecure", "--listen", "127.0.0.1:0", "--model",
                           folder / "model", "--trace", folder / "no" / "where.json"],
                          capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1 and "trace" in done.stderr, done.stderr
    assert "where.json" in done.stderr and "listening" not in done.stdout, done


def check_traced(folder, binary, seam_path):
    """A run with timelines and one without; whether what was measured is what the spans say."""
    with Seamd(binary, folder / "model", "--trace", str(folder / "server.json")) as server:
        seam = Seam(seam_path, server.address)
        report = train(folder, seam, "run", "--trace", folder / "client.json")
        plain = train(folder, seam, "plain")
        check_refused(folder, binary, seam)
    hashes = [[step["state_hash"] for step in r["steps"]] for r in (report, plain)]
    assert hashes[0] == hashes[1] and len(set(hashes[0])) == STEPS
    assert all(step["micros"] > 1 for step in report["steps"])
    client, every = spans_of(folder / "client.json"), spans_of(folder / "server.json")
    # The plain run's steps come later in the server's file: only those within the client's time.
    end = max(s["end"] for s in client)
    server_spans = [s for s in every if s["begin"] < end]
    well = [check_client(client, report), check_server(server_spans, report)]
    check_both(client, server_spans)
    return all(well)


def main():
    binary, seam_path = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        write_rows(folder / "rows.jsonl", colour_rows(40))
        # Steps of milliseconds: a busy machine takes the core in the middle of more than half of them.
        assert any(check_traced(folder, binary, seam_path) for _ in range(30)), "time is missing"
        check_text(folder)
        print("timeline: passed")


if __name__ == "__main__":
    main()

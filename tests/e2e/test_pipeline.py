#!/usr/bin/env python3
"""Micro-batches on their way at once, on a tiny random model.

Goal: `--pipeline-depth` changes no bit of a run, whatever the codec and whatever happens to the stream,
and the server is at one micro-batch while the client is at the head of another.
Method: the same run at several depths, straight and through a proxy that cuts; the timelines of both
ends.

    test_pipeline.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, check_cuts, colour_rows, shown, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

STEPS = 6
CODECS = {
    "waterfill": [], "gates": ["--allocator", "gates"], "token": ["--granularity", "token"],
    "affine": ["--codec", "affine"], "bf16": ["--codec", "bf16"], "rans": ["--entropy", "rans"],
    "aqsgd": ["--codec", "aqsgd"], "dictionary": ["--dictionary", "on"],
    "all rows": ["--labelled-rows-only", "off", "--distinct-rows-only", "off"],
}


def train(folder, seam, out, *args):
    code, text, err = seam.run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / out,
        "--steps", STEPS, "--batch", 8, "--rank", 4, "--lr", "1e-2", "--quiet", "--delete-session",
        *(args if "--rows-max" in args else ("--rows-max", 40, *args)))
    assert code == 0, text + err
    report = json.loads((folder / out / "report.json").read_text())
    assert all(step["micros"] >= 4 for step in report["steps"])
    return report


def check_codecs(folder, seam):
    for name, args in CODECS.items():
        one = shown(train(folder, seam, "one", *args, "--pipeline-depth", 1))
        assert len({step[1] for step in one}) == STEPS
        for depth in (2, 3, 8):
            assert shown(train(folder, seam, "many", *args, "--pipeline-depth", depth)) == one, (name, depth)
        assert shown(train(folder, seam, "default", *args)) == one, name
        print(f"{name}: depths 1, 2, 3, 8 and the default agree", flush=True)
    assert (folder / "one/adapter/adapter_model.safetensors").read_bytes() == \
        (folder / "many/adapter/adapter_model.safetensors").read_bytes()


def check_cut_streams(folder, server, seam_path):
    whole = train(folder, Seam(seam_path, server.address), "whole")
    expected = shown(whole)
    sent = sum(step["bytes_sent"] for step in whole["steps"])  # twice cut before half of it
    for depth in (2, 4):
        def same(address, depth=depth):
            run = train(folder, Seam(seam_path, address), "cut", "--pipeline-depth", depth)
            assert shown(run) == expected, depth
        cuts = check_cuts(server.address, same, range(sent // 20, sent * 2 // 5, sent // 40), least=15)
        print(f"depth {depth}: {cuts} cuts, the same updates", flush=True)


def check_exact(folder, seam):
    for args in (["--gate-signal", "exact"], ["--elide-input-gradient", "off"]):
        train(folder, seam, "exact", *args)  # the default is 1 there
        code, _, err = seam.run(
            "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out",
            folder / "bad", "--steps", 1, "--quiet", "--batch", 8, "--rows-max", 40,
            "--pipeline-depth", 2, *args)
        assert code != 0 and "pipeline_depth: 2" in err, err
    code, _, err = seam.run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / "bad",
        "--steps", 1, "--quiet", "--batch", 40, "--rows-max", 40, "--pipeline-depth", 9)
    assert code != 0 and "--pipeline-depth" in err, err


def check_order(folder, binary, seam_path):
    """The engine does the next micro-batch's forward before this one's backward, and the client has
    sent it before it knows this one's gradient."""
    for depth in (1, 2):
        with Seamd(binary, folder / "model", "--trace", str(folder / "server.json")) as server:
            train(folder, Seam(seam_path, server.address), "traced", "--pipeline-depth", depth,
                  "--trace", folder / "client.json")
        client, engine = (json.loads((folder / name).read_text())["traceEvents"]
                          for name in ("client.json", "server.json"))

        def begins(events, name, lane):
            return {(e["args"]["step"], e["args"]["micro"]): e["ts"] for e in events
                    if e["ph"] == "X" and e["tid"] == lane and e["name"] == name}

        for forward, backward in [(begins(client, "forward_begin", 0), begins(client, "backward", 0)),
                                  (begins(engine, "forward", 2), begins(engine, "backward", 2))]:
            pairs = [(step, micro) for step, micro in forward if (step, micro + 1) in forward]
            assert set(forward) == set(backward) and len(pairs) >= 3 * STEPS
            ahead = [forward[step, micro + 1] < backward[step, micro] for step, micro in pairs]
            assert ahead == [depth > 1] * len(pairs), (depth, ahead)


def main():
    binary, seam_path = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        write_rows(folder / "rows.jsonl", colour_rows(40))
        with Seamd(binary, folder / "model", "--sessions-max", "64") as server:
            seam = Seam(seam_path, server.address)
            check_codecs(folder, seam)
            check_cut_streams(folder, server, seam_path)
            check_exact(folder, seam)
        check_order(folder, binary, seam_path)
        print("pipeline: passed")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What `seam plan` says of a client is what a client takes, on a tiny random model.

Goal: the plan's sums, by phase, are what a run allocates: a model and a trainer to within small structs
and malloc's rounding, a session to within its sites' arrays, a step within the plan and not far below it.  `seam plan` prints
the same.  Method: client_memory.c counts the process' own malloc in real sessions of several splits,
codecs, depths and trainables.

    test_client_memory.py SEAMD SEAM CLIENT_MEMORY
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from cli_fixture import Seam, write_text_model
from service_fixture import Seamd, seamd_path

LAYERS, HIDDEN = 4, 128
PAGE = 4096  # malloc rounds a large block up to that: a layer has eight of them, a micro-batch's rows two
CASES = [  # front, tail, codec, depth, micro-batches, trained, topology
    (0, 0, "f32", 1, 1, "lora", "u_shaped"), (1, 1, "f32", 1, 1, "lora", "u_shaped"),
    (2, 0, "amaq", 2, 3, "lora", "u_shaped"), (0, 2, "amaq", 4, 4, "lora", "u_shaped"),
    (1, 1, "affine", 3, 4, "prefix", "u_shaped"), (1, 1, "bf16", 2, 2, "full", "u_shaped"),
    (0, 0, "aqsgd", 2, 2, "lora", "u_shaped"), (2, 0, "affine", 4, 4, "lora", "vanilla"),
    (1, 0, "f32", 1, 2, "full", "vanilla"),
    (0, 0, "affine", 1, 2, "lora", "adapter_exchange"), (0, 0, "amaq", 2, 3, "lora", "adapter_exchange"),
    (0, 0, "affine", 2, 2, "prefix", "adapter_exchange"), (0, 0, "f32", 1, 1, "lora", "resent"),
    (0, 0, "amaq", 1, 2, "prefix", "resent"), (0, 0, "group", 1, 2, "lora", "resent")]


def main():
    seamd, seam, client_memory = seamd_path(), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as name:
        model = pathlib.Path(name) / "model"
        write_text_model(model, layers=LAYERS, hidden=HIDDEN, heads=8, kv_heads=4, head_dim=16,
                         intermediate=512)
        with Seamd(seamd, model, "--allow-text") as server:
            for case in CASES:
                done = subprocess.run([client_memory, server.address, model, "tiny", *map(str, case)],
                                      capture_output=True, text=True, check=False)
                assert done.returncode == 0, (case, done.stderr)
                phases = json.loads(done.stdout)
                print(case, phases, flush=True)
                for phase, slack in (("model", PAGE * (12 + 8 * (case[0] + case[1]))),
                                     ("trainer", PAGE * (6 + 2 * case[3])),
                                     ("session", 64 * HIDDEN + 16384)):
                    planned, taken = phases[phase]
                    assert abs(taken - planned) < slack, (case, phase, planned, taken)
                planned, taken = phases["steps"]
                assert 0.3 * planned < taken < planned + 8192, (case, planned, taken)
        check_command(Seam(seam, None), model)


def check_command(seam, model):
    """The command's output adds up, follows its options, and names what it refuses."""
    args = ["plan", "--device", "cpu", "--dtype", "f32", "--f32", "--rows-max", 256, "--sequences-max", 4]
    plain = seam.json(*args, model, server=False)["client"]
    assert plain["bytes"] == sum(plain["memory"].values()) and plain["record_bytes"] == 0, plain
    assert "blocks" not in plain["memory"] and "adapter" not in plain["memory"], plain
    split = seam.json(*args, model, "--front-blocks", 1, "--tail-blocks", 1, server=False)
    more = split["client"]
    assert more["bytes"] == sum(more["memory"].values()), more
    assert {"blocks", "adapter", "moments", "activations"} <= more["memory"].keys(), more
    assert more["record_bytes"] >= 1.5 * more["memory"]["moments"], more
    server = seam.json(*args, model, "--front-blocks", 1, "--tail-blocks", 1, "--lora-side", "server",
                       server=False)
    assert "adapter" not in server["client"]["memory"] and server["client"]["record_bytes"] == 0, server
    whole = seam.json(*args, model, server=False)
    assert split["session_device_bytes"] < whole["session_device_bytes"]
    assert split["weight_bytes"] == whole["weight_bytes"]
    deep = seam.json(*args, model, "--front-blocks", 1, "--pipeline-depth", 4, server=False)
    flat = seam.json(*args, model, "--front-blocks", 1, server=False)
    assert deep["client"]["memory"]["activations"] > 3 * flat["client"]["memory"]["activations"]
    assert deep["session_device_bytes"] > 2 * flat["session_device_bytes"]
    exchange = seam.json(*args, model, "--topology", "adapter_exchange", "--consent", "text",
                         server=False)["client"]
    assert exchange["bytes"] == sum(exchange["memory"].values()), exchange
    assert {"adapter", "moments", "modules"} <= exchange["memory"].keys(), exchange
    assert exchange["record_bytes"] == 1.5 * exchange["memory"]["moments"], exchange
    code, out, err = seam.run("plan", "--shape", "llama3-8b", "--topology", "adapter_exchange", "--consent",
                              "text", server=False)
    assert code == 0 and "modules that travel" in out and "its journal " in out, out + err
    code, out, err = seam.run("plan", "--shape", "llama3-8b", "--front-blocks", 2, "--tail-blocks", 2,
                              server=False)
    assert code == 0 and "the client " in out and "its journal " in out and "embedding" in out, out + err
    for bad, text in ((["--front-blocks", LAYERS], "--front-blocks"), (["--pipeline-depth", 9], "--pipeline"),
                      (["--lora-side", "client"], "--lora-side"), (["--tail-blocks", 1, "--full",
                                                                  "--lora-side", "both"], "--lora-side: with --full")):
        code, out, err = seam.run(*args, model, *bad, server=False)
        assert code != 0 and text in err, (bad, code, out, err)
    print("seam plan: passed")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""All-layer mode: gates between the server's blocks, with the real programs.

Goals: the mean width of every boundary inside the server falls to the target and the report names
each; nothing of it travels; no bit hangs on recompute, on the pipeline's depth or on kills of
either end; it stands beside any codec of the wire, blocks at the client, exact signals, full
fine-tuning and VANILLA; what cannot be is refused by name.

    test_all_layer.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import Seamd, seamd_path
from test_kill_runs import check_gates_killed

LAYERS, STEPS, FALL = 4, 120, 80


class Case:
    def __init__(self, folder, seam):
        self.folder, self.model, self.seam = folder, folder / "model", seam
        self.rows = write_rows(folder / "rows.jsonl", colour_rows(40))

    def command(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", STEPS, "--batch", 8, "--rows-max", 40, "--lr", "1e-3", "--quiet", *args]

    def train(self, out, *args):
        code, text, err = self.seam.run(*self.command(out, *args))
        assert code == 0, text + err
        return json.loads((self.folder / out / "report.json").read_text())

    def layers(self, out, *args, bits=4):
        return self.train(out, "--all-layer-bits", bits, "--all-layer-steps", FALL, *args)


def names_of(step):
    return [name for name in step["sites"] if name.startswith("layer_")]


def shown(report):
    """What must not depend on anything but the options."""
    return [(step["loss"], step["state_hash"], step["layer_mean_bits"],
             {name: (site["payload_bytes"], site["mean_bits"], site.get("widths"))
              for name, site in step["sites"].items()}) for step in report["steps"]]


def check_fall(case):
    """Each boundary from 8 to the target, as a group: single ones may be above or below."""
    for bits, start in ((4, 8), (3, 6)):
        report = case.layers(f"fall-{bits}", "--codec", "bf16", bits=bits)
        first, last = report["steps"][0], report["steps"][-1]
        assert report["config"]["all_layer_bits"] == bits
        assert names_of(last) == [f"layer_{i}" for i in range(LAYERS - 1)], names_of(last)
        for step in report["steps"]:
            sites = [step["sites"][name] for name in names_of(step)]
            mean = sum(site["mean_bits"] for site in sites) / len(sites)
            assert abs(mean - step["layer_mean_bits"]) < 1e-9
            assert all(site["payload_bytes"] == site["rows"] == 0 for site in sites), sites
            assert all(site["widths"]["min"] <= site["mean_bits"] <= site["widths"]["max"]
                       for site in sites), sites
        assert first["layer_mean_bits"] == start
        assert abs(last["layer_mean_bits"] - bits) <= 0.1, last["layer_mean_bits"]
        assert all(last["sites"][name]["mean_bits"] < start for name in names_of(last))
        losses = [step["loss"] for step in report["steps"]]
        assert losses[-1] < 0.6 * losses[0], losses
        means = {name: round(last["sites"][name]["mean_bits"], 2) for name in names_of(last)}
        print(f"{start} -> {bits} bits: {means}, loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def check_off(case):
    """Without the option nothing of it is there, and the bytes are those of the run with it."""
    off = case.train("off", "--codec", "bf16")
    with_it = json.loads((case.folder / "fall-4" / "report.json").read_text())
    assert "all_layer_bits" not in off["config"] and not names_of(off["steps"][-1])
    assert "layer_mean_bits" not in off["steps"][-1]
    for a, b in zip(off["steps"], with_it["steps"]):
        for name, site in a["sites"].items():
            assert site["payload_bytes"] == b["sites"][name]["payload_bytes"], name
    assert off["steps"][0]["loss"] != with_it["steps"][0]["loss"]


def check_same_bits(case):
    plain = shown(case.layers("plain", "--pipeline-depth", 1))
    assert shown(case.layers("recompute", "--pipeline-depth", 1, "--recompute")) == plain
    assert shown(case.layers("deep", "--pipeline-depth", 4)) == plain
    exact = ["--allocator", "gates", "--gate-signal", "exact"]
    one = shown(case.layers("exact", *exact))
    assert shown(case.layers("exact-recompute", *exact, "--recompute")) == one and one != plain


def check_beside(case):
    """Blocks at the client: the boundaries are those between blocks of the server's."""
    split = case.layers("split", "--front-blocks", 1, "--rank", 4)["steps"][-1]
    assert names_of(split) == ["layer_1", "layer_2"], names_of(split)
    client = case.layers("client", "--front-blocks", 1, "--lora-side", "client")["steps"][-1]
    full = case.layers("full", "--full")["steps"][-1]
    vanilla = case.layers("vanilla", "--topology", "vanilla", "--consent", "labels")["steps"][-1]
    for step in (split, client, full, vanilla):
        assert abs(step["layer_mean_bits"] - 4) <= 0.1, step["layer_mean_bits"]


def check_refused(case):
    for args, text in (
            (["--all-layer-bits", 8], "config.all_layer_bits"),
            (["--all-layer-bits", 1], "config.all_layer_bits"),
            (["--all-layer-steps", 5], "--all-layer-steps: has no use"),
            (["--all-layer-bits", 4, "--front-blocks", 2, "--tail-blocks", 1], "one block"),
            (["--all-layer-bits", 4, "--topology", "adapter_exchange", "--consent", "text"],
             "config.all_layer_bits: not with topology ADAPTER_EXCHANGE")):
        code, _, err = case.seam.run(*case.command("refused", *args))
        assert code != 0 and text in err, (args, code, err)


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        with Seamd(binary, folder / "model", "--sessions-max", "64", "--allow-text") as server:
            case = Case(folder, Seam(seam, server.address))
            for check in (check_fall, check_off, check_same_bits, check_beside, check_refused):
                check(case)
                print(f"{check.__name__}: passed", flush=True)
        (folder / "killed").mkdir()
        check_gates_killed(folder / "killed", binary, seam, "layers", "layer_mean_bits")
        print("check_kills: passed", flush=True)


if __name__ == "__main__":
    main()

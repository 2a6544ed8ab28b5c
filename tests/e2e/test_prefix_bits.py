#!/usr/bin/env python3
"""A quantized prefix: shared gates of keys and of values at the server, with the real programs.

Goals: the mean width of both falls to the target and the report says so at each step; nothing of it
travels; no bit hangs on recompute, on the pipeline's depth or on kills of either end; it stands
beside VANILLA, blocks at the client, exact signals and gates between the blocks; what is exported is the
prefix itself, which a second run can start from; `seam plan` counts what the server reserves;
what cannot be is refused by name.

    test_prefix_bits.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import Seamd, seamd_path
from test_kill_runs import check_gates_killed

LAYERS, STEPS, FALL, TOKENS = 3, 80, 50, 6
NAMES = ["prefix_keys", "prefix_values"]


class Case:
    def __init__(self, folder, seam):
        self.folder, self.model, self.seam = folder, folder / "model", seam
        self.rows = write_rows(folder / "rows.jsonl", colour_rows(40))

    def command(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", STEPS, "--batch", 8, "--rows-max", 80, "--lr", "1e-2", "--quiet", *args]

    def train(self, out, *args):
        code, text, err = self.seam.run(*self.command(out, *args))
        assert code == 0, text + err
        return json.loads((self.folder / out / "report.json").read_text())

    def prefix(self, out, *args, bits=4):
        return self.train(out, "--prefix-tokens", TOKENS, "--prefix-bits", bits, "--prefix-steps",
                          FALL, *args)


def names_of(step):
    return [name for name in step["sites"] if name.startswith("prefix_")]


def shown(report):
    """What must not depend on anything but the options."""
    return [(step["loss"], step["state_hash"], step["prefix_mean_bits"],
             {name: (site["payload_bytes"], site["mean_bits"], site.get("widths"))
              for name, site in step["sites"].items()}) for step in report["steps"]]


def check_fall(case):
    for bits, start in ((4, 8), (3, 6)):
        report = case.prefix(f"fall-{bits}", "--codec", "bf16", bits=bits)
        first, last = report["steps"][0], report["steps"][-1]
        assert report["config"]["prefix_bits"] == bits
        assert "layer_mean_bits" not in last
        for step in report["steps"]:
            assert names_of(step) == NAMES, names_of(step)
            sites = [step["sites"][name] for name in NAMES]
            assert abs(sum(s["mean_bits"] for s in sites) / 2 - step["prefix_mean_bits"]) < 1e-9
            assert all(s["payload_bytes"] == s["rows"] == 0 for s in sites), sites
            assert all(s["widths"]["min"] <= s["mean_bits"] <= s["widths"]["max"] for s in sites)
        assert first["prefix_mean_bits"] == start
        assert abs(last["prefix_mean_bits"] - bits) <= 0.1, last["prefix_mean_bits"]
        losses = [step["loss"] for step in report["steps"]]
        assert losses[-1] < 0.9 * losses[0], losses
        means = {name: round(last["sites"][name]["mean_bits"], 2) for name in NAMES}
        print(f"{start} -> {bits} bits: {means}, loss {losses[0]:.3f} -> {losses[-1]:.3f}")


def check_off(case):
    """Without the option nothing of it is there, and the bytes are those of the run with it."""
    off = case.train("off", "--prefix-tokens", TOKENS, "--codec", "bf16")
    with_it = json.loads((case.folder / "fall-4" / "report.json").read_text())
    assert "prefix_bits" not in off["config"] and not names_of(off["steps"][-1])
    assert "prefix_mean_bits" not in off["steps"][-1]
    for a, b in zip(off["steps"], with_it["steps"]):
        for name, site in a["sites"].items():
            assert site["payload_bytes"] == b["sites"][name]["payload_bytes"], name
    assert off["steps"][0]["loss"] != with_it["steps"][0]["loss"]


def check_same_bits(case):
    plain = shown(case.prefix("plain", "--pipeline-depth", 1))
    assert shown(case.prefix("recompute", "--pipeline-depth", 1, "--recompute")) == plain
    assert shown(case.prefix("deep", "--pipeline-depth", 4)) == plain
    exact = ["--allocator", "gates", "--gate-signal", "exact"]
    one = shown(case.prefix("exact", *exact))
    assert shown(case.prefix("exact-recompute", *exact, "--recompute")) == one and one != plain


def check_beside(case):
    """Blocks at the client: the gates are those of the server's blocks."""
    split = case.prefix("split", "--front-blocks", 1)["steps"][-1]
    vanilla = case.prefix("vanilla", "--topology", "vanilla", "--consent", "labels")["steps"][-1]
    layers = case.prefix("layers", "--all-layer-bits", 4, "--all-layer-steps", FALL)["steps"][-1]
    for step in (split, vanilla, layers):
        assert names_of(step) == NAMES
        assert abs(step["prefix_mean_bits"] - 4) <= 0.1, step["prefix_mean_bits"]
    assert abs(layers["layer_mean_bits"] - 4) <= 0.1, layers["layer_mean_bits"]


def check_vanilla_is_u_shaped(case):
    """The same passes behind the same rows: with codec f32 the two topologies differ by rounding of the
    head alone."""
    runs = [case.prefix(f"same-{name}", "--codec", "f32", "--f32", "--steps", 3, *args)["steps"]
            for name, args in (("u", ()), ("v", ("--topology", "vanilla", "--consent", "labels")))]
    for u, v in zip(*runs):
        assert abs(u["loss"] / v["loss"] - 1) < 1e-5, (u["loss"], v["loss"])
        assert u["prefix_mean_bits"] == v["prefix_mean_bits"]


def check_export(case):
    """The prefix as it is trained, not as gates leave it: many more values than widths of 4 bits
    have, and its state hash is the last Commit's where a run of no learning starts from it."""
    again = case.train("again", "--prefix-tokens", TOKENS, "--adapter", case.folder / "fall-4" /
                       "adapter", "--steps", 1, "--lr", "1e-30")
    first = json.loads((case.folder / "fall-4" / "report.json").read_text())
    assert again["steps"][0]["state_hash"] == first["steps"][-1]["state_hash"]
    with_gates = case.prefix("again-gates", "--adapter", case.folder / "fall-4" / "adapter",
                             "--steps", 1, "--lr", "1e-30")
    assert with_gates["steps"][0]["state_hash"] == first["steps"][-1]["state_hash"]
    assert with_gates["steps"][0]["loss"] != again["steps"][0]["loss"]


def check_plan(case):
    rows = ["--rows-max", 80, "--sequences-max", 8]
    bytes_of = {}
    for name, args in {"off": (), "on": ("--prefix-bits", 4)}.items():
        code, out, err = case.seam.run("plan", case.model, "--device", "cpu", "--dtype", "f32",
                                       "--prefix-tokens", TOKENS, *args, *rows, "--json",
                                       server=False)
        assert code == 0, out + err
        plan = json.loads(out)
        bytes_of[name] = plan["session_device_bytes"] + plan["session_host_bytes"]
    reserved = {}
    for name, run in (("off", "plan-off"), ("on", "plan-on")):
        args = ("--prefix-bits", 4) if name == "on" else ()
        case.train(run, "--prefix-tokens", TOKENS, *args, "--steps", 1, "--name", run,
                   "--pipeline-depth", 1)
        sessions = json.loads(case.seam.run("session", "list", "--json")[1])["sessions"]
        reserved[name] = next(s["memory_bytes"] for s in sessions if s["name"] == run)
    assert bytes_of["on"] - bytes_of["off"] == reserved["on"] - reserved["off"] > 0, (
        bytes_of, reserved)


def check_refused(case):
    tokens = ["--prefix-tokens", TOKENS]
    for args, text in (
            ([*tokens, "--prefix-bits", 8], "config.prefix_bits"),
            ([*tokens, "--prefix-bits", 1], "config.prefix_bits"),
            ([*tokens, "--prefix-steps", 5], "--prefix-steps: has no use"),
            (["--prefix-bits", 4], "--prefix-bits: only with --prefix-tokens"),
            ([*tokens, "--prefix-bits", 4, "--topology", "adapter_exchange", "--consent", "text"],
             "--prefix-bits: with topology adapter_exchange")):
        code, _, err = case.seam.run(*case.command("refused", *args))
        assert code != 0 and text in err, (args, code, err)


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        with Seamd(binary, folder / "model", "--sessions-max", "64", "--allow-text") as server:
            case = Case(folder, Seam(seam, server.address))
            for check in (check_fall, check_off, check_same_bits, check_beside,
                          check_vanilla_is_u_shaped, check_export, check_plan, check_refused):
                check(case)
                print(f"{check.__name__}: passed", flush=True)
        (folder / "killed").mkdir()
        check_gates_killed(folder / "killed", binary, seam, "gates_prefix", "prefix_mean_bits")
        print("check_kills: passed", flush=True)


if __name__ == "__main__":
    main()

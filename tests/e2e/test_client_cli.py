#!/usr/bin/env python3
"""The CLI `seam` against a running seamd, on a tiny random model.

Goals: a run writes what scripts outside depend on, and the same options give the same bits; every
bad input of issue 2 ends with a clear error that names the thing and a non-zero exit, and nothing
that was saved is lost.

    test_client_cli.py SEAMD SEAM
"""
import gzip
import json
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

from cli_fixture import HoldingProxy, Seam, colour_rows, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

SITES = ["fwd_in", "fwd_out", "bwd_out", "bwd_in"]
EXIT_LIMIT, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_IO = 1, 2, 3, 4, 5


class Case:
    def __init__(self, folder, seam, binary):
        self.folder, self.seam, self.binary = folder, seam, binary
        self.model = folder / "model"
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        groups = ["first", "first", "first", "first", "second", None]
        self.eval = write_rows(folder / "eval.jsonl", [
            row | ({"group": group} if group else {})
            for row, group in zip(colour_rows(6, begin=100), groups)])

    def train(self, out, *args, seam=None, **kwargs):
        return (seam or self.seam).run(
            "train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
            "--steps", 4, "--batch", 4, "--rank", 4, "--quiet", *args, **kwargs)

    def report(self, out):
        return json.loads((self.folder / out / "report.json").read_text())


def check_report(case):
    code, out, err = case.train("run", "--eval-data", case.eval, "--steps", 30, "--lr", "1e-2",
                                "--bits-lr", "0.1")
    assert code == 0, out + err
    report = case.report("run")
    hidden = 48
    assert len(report["steps"]) == 30
    for i, step in enumerate(report["steps"]):
        assert step["step"] == i and step["loss"] > 0 and step["seconds"] > 0
        assert 0 < step["labelled_tokens"] < step["tokens"]
        assert step["bf16_bytes"] == 4 * step["tokens"] * hidden * 2
        assert 0 < step["encode_seconds"] + step["decode_seconds"] < step["seconds"]
        assert 0 < step["server_codec_seconds"] < step["server_seconds"]
        assert step["micros"] == 1 and 8 < step["sites"]["fwd_in"]["rows"] < step["tokens"]
        payload = {name: step["sites"][name]["payload_bytes"] for name in SITES}
        assert step["bytes_sent"] > payload["fwd_in"] + payload["bwd_out"]
        assert step["bytes_received"] > payload["fwd_out"] + payload["bwd_in"]
        for name in SITES[:3]:
            site = step["sites"][name]
            rows = site["rows"] if name == "fwd_in" else step["labelled_tokens"]
            # Ranges, then codes of exactly the mean width.
            codes = -(-round(site["mean_bits"] * hidden) * rows // 8)
            assert payload[name] == 4 + 4 * hidden + codes, (name, site, rows)
            spread = site["widths"]
            assert 1 <= spread["min"] <= spread["p10"] <= spread["median"] <= spread["max"] <= 16
        assert step["sites"]["bwd_in"]["mean_bits"] == 0
        assert payload["bwd_in"] == 4 * hidden  # the gate signal
    for name in ["encode_seconds", "decode_seconds", "server_codec_seconds"]:
        total = sum(step[name] for step in report["steps"])
        assert abs(report["totals"][name] - total) < 1e-6
    assert report["options"]["lr"] == "0.00999999978" and report["options"]["steps"] == "30"
    assert report["options"]["labelled-rows-only"] == "on" and "out" not in report["options"]
    assert report["steps"][0]["sites"]["fwd_in"]["mean_bits"] == 8
    assert report["steps"][-1]["sites"]["fwd_in"]["mean_bits"] < 7
    assert report["steps"][-1]["loss"] < report["steps"][0]["loss"]
    for name in ["before", "after", "after_quantized"]:
        result = report["eval"][name]
        assert abs(result["perplexity"] / 2.718281828 ** result["loss"] - 1) < 1e-3
        assert 0 <= result["exact_match"] <= 1 and result["rows"] == 6
        groups = result["groups"]
        assert {g: groups[g]["rows"] for g in groups} == {"first": 4, "second": 1}
        for group, rows in (("first", slice(0, 4)), ("second", slice(4, 5))):
            right = sum(e["exact"] for e in result["examples"][rows])
            assert groups[group]["exact_rows"] == right
            assert groups[group]["exact_match"] == right / groups[group]["rows"]
    assert "first" in out and "second" in out
    assert report["eval"]["after"]["loss"] < report["eval"]["before"]["loss"]
    assert sum(report["widths"]["fwd_in"]) == hidden
    assert len(report["final_widths"]["fwd_out"]) == hidden
    assert report["peak_rss_bytes"] > 0 and report["config"]["codec"] == "amaq"
    page = (case.folder / "run" / "report.html").read_text()
    assert page.startswith("<!") and "<svg" in page and "<td>after, first</td>" in page
    adapter = case.folder / "run" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 4
    assert (adapter / "adapter_model.safetensors").stat().st_size > 1000


def check_same_bits(case):
    """The same options give the same state; unlabelled rows, repeated rows and the input gradient
    change bytes, not bits."""
    hashes = {}
    for name, args in {"a": [], "b": [], "all": ["--labelled-rows-only", "off"],
                       "repeats": ["--distinct-rows-only", "off"],
                       "gradient": ["--elide-input-gradient", "off", "--distinct-rows-only", "off"],
                       "seed": ["--seed", "5"]}.items():
        code, out, err = case.train(f"bits-{name}", *args, "--delete-session")
        assert code == 0, out + err
        hashes[name] = [s["state_hash"] for s in case.report(f"bits-{name}")["steps"]]
    assert hashes["a"] == hashes["b"] == hashes["all"] == hashes["repeats"] == hashes["gradient"]
    assert hashes["a"] != hashes["seed"]
    for once, each in zip(*(case.report(f"bits-{n}")["steps"] for n in ("a", "repeats"))):
        rows = [step["sites"]["fwd_in"]["rows"] for step in (once, each)]
        assert rows[0] < rows[1] == each["tokens"] and once["bytes_sent"] < each["bytes_sent"]
    for step in case.report("bits-gradient")["steps"]:
        site, pair = step["sites"]["bwd_in"], step["sites"]["fwd_in"]
        assert site["mean_bits"] == pair["mean_bits"] and site["rows"] == step["tokens"]
        assert site["payload_bytes"] == pair["payload_bytes"] + 4 * 48  # and the gate signal


def check_plan(case):
    """What `seam plan` says a session takes is what the server reserves for it, within the server's
    small arrays; with recompute less, and the same bits."""
    hashes, planned = {}, {}
    device = json.loads(case.seam.run("server", "info", "--json")[1])["device"]
    dtype = "bf16" if "bf16" in device else "f32"
    shown = json.loads(case.seam.run("data", "show", "--model", case.model, case.rows, "--json",
                                     server=False)[1])
    batch = 40
    rows = batch * shown["tokens_longest"]
    for name, args in {"kept": [], "again": ["--recompute"]}.items():
        code, out, err = case.train(f"plan-{name}", *args, "--batch", batch, "--name", name)
        assert code == 0, out + err
        hashes[name] = [s["state_hash"] for s in case.report(f"plan-{name}")["steps"]]
        code, out, err = case.seam.run(
            "plan", case.model, "--device", "cpu", "--dtype", dtype, "--rank", 4, "--rows-max",
            rows, "--sequences-max", batch, *args, "--memory", 4, "--json", server=False)
        assert code == 0, out + err
        plan = planned[name] = json.loads(out)
        assert plan["tokens_in_flight"] == rows * plan["sessions"] > 0
        sessions = json.loads(case.seam.run("session", "list", "--json")[1])["sessions"]
        reserved = next(s["memory_bytes"] for s in sessions if s["name"] == name)
        total = plan["session_device_bytes"] + plan["session_host_bytes"]
        assert 0 <= reserved - total < 300_000, (name, total, reserved)  # of millions
    for args in (["--device", "cpu"], ["--dtype", "f32"]):
        code, out, err = case.seam.run("plan", "--shape", "smollm2-135m", "--fp8", *args, server=False)
        assert code != 0 and "--fp8" in err, (code, out, err)
    code, out, err = case.seam.run("plan", "--shape", "smollm2-135m", "--fp8", "--json", server=False)
    assert code == 0 and json.loads(out)["fp8"] is True, out + err
    weights = {}
    for join in ([], ["--join-rank", 64], ["--join-rank", 64, "--join-mlp-rank", 64]):
        code, out, err = case.seam.run("plan", "--shape", "smollm2-135m", *join, "--json", server=False)
        assert code == 0, out + err
        weights[len(join)] = json.loads(out)["weight_bytes"]
    # Rows and columns of bf16 beside q|k|v (960 x 576) and gate|up (3,072 x 576) of 30 layers.
    room = lambda pad, rows: 30 * 2 * ((rows + pad) * (576 + pad) - rows * 576)
    assert weights[2] - weights[0] == room(192, 960) - room(64, 960), weights
    assert weights[4] - weights[2] == room(128, 3072), weights
    for args, name in ((["--join-rank", 16, "--device", "cpu"], "--join-rank"), (["--join-rank", 257], "--join-rank"),
                       (["--join-mlp-rank", 8, "--fp8"], "--join-mlp-rank")):
        code, out, err = case.seam.run("plan", "--shape", "smollm2-135m", *args, server=False)
        assert code != 0 and name in err, (code, out, err)
    for memory, fits in ((20, False), (40, True)):
        args = ["plan", "--shape", "qwen2.5-14b", "--memory", memory]
        _, out, _ = case.seam.run(*args, server=False)
        assert ("the weights" in out.splitlines()[-1]) == (not fits), out
        assert json.loads(case.seam.run(*args, "--json", server=False)[1])["weights_fit"] is fits
    assert hashes["kept"] == hashes["again"]
    assert planned["again"]["session_device_bytes"] < planned["kept"]["session_device_bytes"]
    for bad in (["--shape", "no-such"], ["--rank", 0], ["--codec", "zip"], ["--device", "tpu"]):
        args = ["--shape", "llama3-8b"] if bad[0] != "--shape" else []
        code, out, err = case.seam.run("plan", *args, *bad, server=False)
        assert code in (EXIT_USAGE, EXIT_INPUT) and bad[0] in err, (code, err)


def check_dropout(case):
    """rsLoRA and dropout: the same bits again and with recompute, others than without; the export
    says both, and comes back as a start."""
    hashes = {}
    on = ["--dropout", "0.2", "--rslora"]
    for name, args in {"plain": [], "once": on, "twice": [*on, "--recompute"]}.items():
        code, out, err = case.train(f"drop-{name}", *args)
        assert code == 0, out + err
        hashes[name] = [s["state_hash"] for s in case.report(f"drop-{name}")["steps"]]
    assert hashes["once"] == hashes["twice"] and hashes["once"][0] != hashes["plain"][0]
    adapter = case.folder / "drop-once" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["use_rslora"] is True and config["lora_dropout"] == 0.2, config
    code, out, err = case.train("drop-more", *on, "--adapter", adapter)
    assert code == 0, out + err
    code, out, err = case.train("drop-other", "--adapter", adapter)
    assert code == 0 and case.report("drop-other")["config"]["rslora"] is True, out + err
    case.seam.json("eval", "--model", case.model, "--data", case.eval, "--adapter", adapter)


def check_prefix(case):
    """Prefix tuning: it trains, the same bits with recompute; the export is PEFT's, comes back as a
    start, and evaluates and generates as it was trained."""
    hashes = {}
    on = ["--prefix-tokens", 5, "--lr", "3e-2", "--steps", 12]
    for name, args in {"once": on, "twice": [*on, "--recompute"]}.items():
        code, out, err = case.seam.run(
            "train", "--model", case.model, "--data", case.rows, "--out",
            case.folder / f"prefix-{name}", "--batch", 4, "--quiet", "--eval-data", case.eval, *args)
        assert code == 0, out + err
        hashes[name] = [s["state_hash"] for s in case.report(f"prefix-{name}")["steps"]]
    assert hashes["once"] == hashes["twice"]
    report = case.report("prefix-once")
    losses = [s["loss"] for s in report["steps"]]
    assert sum(losses[-3:]) < sum(losses[:3]), losses
    assert report["config"]["prefix_tokens"] == 5 and "rank" not in report["config"]
    adapter = case.folder / "prefix-once" / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "PREFIX_TUNING" and config["num_virtual_tokens"] == 5, config
    used = case.seam.json("eval", "--model", case.model, "--data", case.eval, "--adapter", adapter)
    after = report["eval"]["after"]
    assert abs(used["loss"] - after["loss"]) < 1e-5 * after["loss"], (used, after)
    case.seam.json("generate", "--model", case.model, "--adapter", adapter, "--new-tokens", 8,
                   "lamp 7 ->")
    # Behind a prefix the context (256) has less room, for new tokens and for rows.
    most = case.seam.json("generate", "--model", case.model, "--adapter", adapter, "--new-tokens", 2**32 - 1,
                          "lamp 7 ->")
    assert 200 < most["new_tokens"] < 251, most
    long = write_rows(case.folder / "long.jsonl", [{"prompt": "x" * 252, "completion": "y"}])
    for args in (["eval", "--adapter", adapter], ["audit", "--prefix-tokens", 5],
                 ["train", "--prefix-tokens", 5, "--out", case.folder / "prefix-long"]):
        code, _, err = case.seam.run(*args, "--model", case.model, "--data", long)
        assert code == EXIT_INPUT and "254 tokens, over the limit of 252" in err, (args, code, err)
    code, _, err = case.seam.run("plan", "--model", case.model, "--prefix-tokens", 5, "--data", long,
                                 server=False)
    assert code == EXIT_INPUT and "254 tokens, over the limit of 252" in err, err
    case.seam.json("eval", "--model", case.model, "--data", long)
    code, out, err = case.train("prefix-bad", "--prefix-tokens", 5)
    assert code == EXIT_USAGE and "--prefix-tokens: --rank" in err, (code, err)  # train() gives a rank
    code, out, err = case.train("prefix-other", "--adapter", adapter)  # train() gives a rank
    assert code == EXIT_USAGE and "--rank: not as --adapter" in err and "a prefix" in err, err


def check_adapter_start(case):
    """A start from an adapter is of its rank, alpha and targets; options that say otherwise are
    refused by their names, before there is a session."""
    args = ["train", "--model", case.model, "--data", case.rows, "--steps", 2, "--quiet", "--out"]
    code, _, err = case.seam.run(*args, case.folder / "start", "--rank", 3, "--alpha", 5, "--targets",
                                 "q,o")
    assert code == 0, err
    start = ["--adapter", case.folder / "start" / "adapter"]
    code, _, err = case.seam.run(*args, case.folder / "start-more", *start)
    config = case.report("start-more")["config"]
    assert code == 0 and (config["rank"], config["alpha"], config["targets"]) == (3, 5, "q,o"), err
    for option, value, text in (("--rank", 16, "--rank: is 16"), ("--alpha", 16, "--alpha: is 16"),
                                ("--targets", "q,v", "--targets: is q,v"),
                                ("--rslora", None, "--rslora: not as"),
                                ("--prefix-tokens", 5, "--prefix-tokens: not as"),
                                ("--full", None, "--full: not as")):
        given = [option] if value is None else [option, value]
        code, _, err = case.seam.run(*args, case.folder / "start-bad", *start, *given)
        assert code == EXIT_USAGE and text in err and "start/adapter" in err, (code, err)
    assert not (case.folder / "start-bad").exists()


def check_codec_fwd_in(case):
    """bf16 into the blocks, amaq out of them: gates at one site, no gate signal, and the target is
    that site's alone."""
    code, out, err = case.train("mixed", "--codec-fwd-in", "bf16", "--steps", 30, "--lr", "1e-2",
                                "--bits-lr", "0.1", "--eval-data", case.eval)
    assert code == 0, out + err
    report = case.report("mixed")
    for step in report["steps"]:
        sites = step["sites"]
        assert sites["fwd_in"]["mean_bits"] == 16 and "widths" not in sites["fwd_in"]
        assert sites["fwd_in"]["payload_bytes"] == 2 * sites["fwd_in"]["rows"] * 48
        assert sites["bwd_in"]["payload_bytes"] == 0
    first, last = report["steps"][0], report["steps"][-1]
    assert first["sites"]["fwd_out"]["mean_bits"] == 8
    assert last["sites"]["fwd_out"]["mean_bits"] < 7 and last["loss"] < first["loss"]
    assert abs(last["gate_mean_bits"] - last["sites"]["fwd_out"]["mean_bits"]) < 0.5
    assert report["config"]["codec_fwd_in"] == "bf16"


def check_dictionary(case):
    """Bytes that the tokens alone decide, the same bits as bf16 at that site, over repeated epochs."""
    hashes, reports = {}, {}
    for name, args in {"bf16": ["--codec-fwd-in", "bf16", "--distinct-rows-only", "off"],
                       "on": ["--dictionary", "on"],
                       "full": ["--dictionary", "on", "--dictionary-rows", "9"]}.items():
        code, out, err = case.train(f"dictionary-{name}", *args, "--steps", 25)
        assert code == 0, out + err
        reports[name] = case.report(f"dictionary-{name}")
        hashes[name] = [s["state_hash"] for s in reports[name]["steps"]]
    assert hashes["bf16"] == hashes["on"] == hashes["full"]
    last = {name: report["steps"][-1] for name, report in reports.items()}
    site = last["on"]["sites"]["fwd_in"]
    bits = 8 * site["payload_bytes"] / (last["on"]["tokens"] * 48)
    assert abs(site["mean_bits"] - bits) < 1e-6 and bits < 0.3, site
    assert last["full"]["sites"]["fwd_in"]["mean_bits"] < 16
    assert reports["on"]["config"]["codec_fwd_in"] == "dictionary"
    sent = {name: sum(s["bytes_sent"] for s in r["steps"]) for name, r in reports.items()}
    assert sent["on"] < sent["full"] < sent["bf16"], sent


def check_aqsgd(case):
    """40 rows, 4 a step: ten steps send whole rows, the later ones changes; warm-up counts.  Evaluation
    goes through the codec without the cache."""
    code, out, err = case.train("aqsgd", "--codec", "aqsgd", "--bits", 4, "--steps", 25,
                                "--cache-bytes", 3_000_000, "--eval-data", case.eval)
    assert code == 0, out + err
    report = case.report("aqsgd")
    steps, evaluation = report["steps"], report["eval"]
    # Through the codec as through its gradients' form: no sample of the cache has these rows.
    off = evaluation["after_quantized"]["loss"] - evaluation["after"]["loss"]
    assert off != 0 and abs(off) < 0.5, evaluation
    for step in steps:
        for name in SITES[:2]:
            site = step["sites"][name]
            rows = step["tokens"] if name == "fwd_in" else step["labelled_tokens"]
            assert abs(site["mean_bits"] - 8 * site["payload_bytes"] / (rows * 48)) < 1e-6
    assert all(s["sites"]["fwd_in"]["mean_bits"] > 16 for s in steps[:10])
    assert all(s["sites"]["fwd_in"]["mean_bits"] < 6 for s in steps[10:])
    # The switch of labelled rows changes bytes and no bits, with a quantized cache too.
    for cache in (["--cache-format", "fp16"], ["--cache-format", "quantized", "--cache-bits", 5]):
        hashes = []
        for only in ("on", "off"):
            code, out, err = case.train(f"aqsgd-{cache[1]}-{only}", "--codec", "aqsgd", *cache,
                                        "--labelled-rows-only", only, "--steps", 25,
                                        "--cache-bytes", 3_000_000)
            assert code == 0, out + err
            hashes.append([s["state_hash"]
                           for s in case.report(f"aqsgd-{cache[1]}-{only}")["steps"]])
        assert hashes[0] == hashes[1], cache
    # A cache that holds nothing: whole rows for ever.
    code, out, err = case.train("aqsgd-small", "--codec", "aqsgd", "--steps", 12, "--cache-bytes",
                                100)
    assert code == 0, out + err
    assert case.report("aqsgd-small")["steps"][-1]["sites"]["fwd_in"]["mean_bits"] > 16
    # Its evaluation needs none; training's state does not know of it.
    again = case.train("aqsgd-again", "--codec", "aqsgd", "--steps", 12, "--cache-bytes", 100,
                       "--eval-data", case.eval)
    assert again[0] == 0, again
    hashes = [[s["state_hash"] for s in case.report(name)["steps"]]
              for name in ("aqsgd-small", "aqsgd-again")]
    assert hashes[0] == hashes[1]
    assert case.report("aqsgd-again")["eval"]["after_quantized"]["loss"] > 0


def check_symmetric(case):
    """Codecs tensor, channel, group: training goes down, payloads are scales and codes, and the
    same bits with and without unlabelled rows."""
    hidden, bits = 48, 5
    for codec, size in {"tensor": 0, "channel": 0, "group": 16}.items():
        args = ["--codec", codec, "--bits", bits, "--steps", 20, "--lr", "1e-2", "--eval-data",
                case.eval, *(["--group", size] if size else [])]
        hashes = []
        for rows in ("on", "off"):
            code, out, err = case.train(f"{codec}-{rows}", *args, "--labelled-rows-only", rows,
                                        "--delete-session")
            assert code == 0, out + err
            report = case.report(f"{codec}-{rows}")
            hashes.append([s["state_hash"] for s in report["steps"]])
        assert hashes[0] == hashes[1], codec
        report = case.report(f"{codec}-on")
        assert report["config"]["codec"] == codec and report["config"]["bits"] == bits
        assert report["steps"][-1]["loss"] < report["steps"][0]["loss"]
        for step in report["steps"]:
            assert step["sites"]["bwd_in"]["payload_bytes"] == 0
            for name in SITES[:3]:
                rows = step["sites"][name]["rows"]
                assert rows == step["labelled_tokens"] or name == "fwd_in"
                scales = {"tensor": 1, "channel": hidden, "group": rows * hidden // 16}[codec]
                assert step["sites"][name]["mean_bits"] == bits
                assert step["sites"][name]["payload_bytes"] == \
                    4 + 2 * scales + -(-rows * hidden * bits // 8), (codec, name)
        evaluation = report["eval"]
        assert evaluation["after"]["loss"] < evaluation["before"]["loss"]
        assert abs(evaluation["after_quantized"]["loss"] - evaluation["after"]["loss"]) < 0.5


def wire_mean(step, first):
    """Mean width on the wire, over the values sent in the first step, as the arbiter weighs them."""
    values = {name: first["sites"][name]["rows"] for name in ("fwd_in", "fwd_out")}
    return sum(values[n] * step["sites"][n]["mean_bits"] for n in values) / sum(values.values())


def check_allocators(case):
    """Waterfill lands on the target at the step that was asked for, and stays; it is the default,
    at 40 % of the steps; the paced gates' mean is there within 5 % of it, without a beta."""
    runs = {"default": [],
            "fill": ["--allocator", "waterfill", "--steps-to-target", "12"],
            "fill-exact": ["--allocator", "waterfill", "--steps-to-target", "12",
                           "--gate-signal", "exact"],
            "fill-mixed": ["--allocator", "waterfill", "--codec-fwd-in", "bf16"],
            "paced": ["--steps-to-target", "100", "--bits-loss", "l1"]}
    for name, args in runs.items():
        code, out, err = case.train(name, *args, "--steps", 120 if name == "paced" else 30,
                                    "--lr", "1e-2")
        assert code == 0, out + err
        steps = case.report(name)["steps"]
        assert steps[-1]["loss"] < steps[0]["loss"]
        if name == "fill-mixed":
            assert abs(steps[-1]["sites"]["fwd_out"]["mean_bits"] - 4) < 1e-6
        elif name == "paced":
            means = [s["gate_mean_bits"] for s in steps]
            reached = next(i for i, mean in enumerate(means) if mean <= 4) + 1
            swing = max(abs(mean - 4) for mean in means[104:])
            print(f"paced: target reached after {reached} steps of 100, then off by {swing:.3f}")
            assert abs(reached - 100) <= 5, means
            assert swing <= 0.15, means  # the gates' momentum must not carry the mean past it
        else:
            for step in steps[16:]:  # 12 and the lag, and what waits for the one before
                assert abs(step["gate_mean_bits"] - 4) <= 0.5 / 48, (name, step)
                # The sites switch a step apart: what one gives the other may not have yet.
                assert abs(wire_mean(step, steps[0]) - 4) <= 0.05, (name, step)
            assert wire_mean(steps[6], steps[0]) > 5
            widths = steps[-1]["sites"]["fwd_out"]["widths"]
            assert widths["min"] < widths["max"], widths
    hashes = [[s["state_hash"] for s in case.report(n)["steps"]]
              for n in ("fill", "fill-exact", "default")]
    assert case.report("default")["config"]["allocator"] == "waterfill"
    assert hashes[0] == hashes[2]  # 12 of 30
    assert hashes[0][:3] == hashes[1][:3]  # until the sums of g^2 come from a coded gradient


TOKEN = ["--granularity", "token", "--steps", 60, "--lr", "1e-2", "--steps-to-target", "40", "--bits-loss", "l1"]


def reached(report):
    """Steps until the gates' mean was at its target of 4 bits, and the mean on the wire of the last ten."""
    steps = report["steps"]
    down = [s["step"] + 1 for s in steps if s["gate_mean_bits"] <= 4]
    rows = sum(step["sites"][s]["rows"] for step in steps[-10:] for s in SITES[:2])
    bits = sum(step["sites"][s]["rows"] * step["sites"][s]["mean_bits"] for step in steps[-10:] for s in SITES[:2])
    assert down, [s["gate_mean_bits"] for s in steps]
    return down[0], bits / rows


def check_token(case):
    """A width a position: the mean on the wire reaches its target and the loss falls; payloads are ranges of
    the rows and codes of exactly the mean width; unlabelled rows and a second run change no bit."""
    runs = {"token": [], "token-again": [], "token-all": ["--labelled-rows-only", "off"],
            "token-exact": ["--gate-signal", "exact"]}
    for name, args in runs.items():
        code, out, err = case.train(name, *TOKEN, "--seed", "4", *args)
        assert code == 0, out + err
        report = case.report(name)
        steps = report["steps"]
        assert report["config"]["granularity"] == "token"
        assert steps[-1]["loss"] < 0.9 * steps[0]["loss"], (name, steps[-1]["loss"])
        assert steps[0]["sites"]["fwd_in"]["mean_bits"] == 8
        places = len(report["final_widths"]["fwd_in"])  # the rows of the largest micro-batch
        assert max(s["tokens"] for s in steps) <= places < 1024
        after, bits = reached(report)
        print(f"{name}: target reached after {after} steps of 40, {bits:.3f} bits on the wire, loss "
              f"{steps[0]['loss']:.3f} to {steps[-1]['loss']:.3f}")
        # Gates of a step are weighted by its own rows, of fwd_out the labelled ones; the widths are
        # whole numbers.
        assert name in ("token-all", "token-exact") or abs(bits - 4) < 0.25, (name, bits)
        assert name == "token-exact" or abs(after - 40) <= 5, [s["gate_mean_bits"] for s in steps]
        if name == "token":
            for step in steps:
                for site in ("fwd_in", "fwd_out", "bwd_out"):
                    s = step["sites"][site]
                    codes = -(-round(s["mean_bits"] * s["rows"]) * 48 // 8)
                    assert s["payload_bytes"] == 4 + 4 * s["rows"] + codes, (site, s)
                assert step["sites"]["bwd_in"]["payload_bytes"] == 4 * places  # the gate signal
    hashes = {name: [s["state_hash"] for s in case.report(name)["steps"]] for name in runs}
    assert hashes["token"] == hashes["token-again"] == hashes["token-all"]
    assert hashes["token"][:2] == hashes["token-exact"][:2]  # until other widths are in force
    assert hashes["token"] != hashes["token-exact"]


def check_token_exact(case):
    """The exact gradient of a position's gate is noise of a few rows: which seed gives what depends on the
    machine's arithmetic.  Over 8 seeds in bf16, f32 and with an f32 client the target came after 40 to 49
    steps, 43 in the mean with a deviation of 2.1, and runs ended below it by 0.26 with a deviation of 0.1;
    the bounds are of a mean of five, three deviations away."""
    runs = []
    for seed in range(1, 6):
        name = f"exact-{seed}"
        code, out, err = case.train(name, *TOKEN, "--seed", seed, "--gate-signal", "exact", "--delete-session")
        assert code == 0, out + err
        runs.append(reached(case.report(name)))
    after, bits = (sum(run[i] for run in runs) / len(runs) for i in (0, 1))
    print(f"token, exact signal: target reached after {after:.1f} steps of 40, {bits:.3f} bits on the wire")
    assert abs(after - 43) <= 3 and abs(bits - 3.74) < 0.15, runs


def check_entropy(case):
    """Entropy coding changes bytes alone, in both directions, at every codec with bit planes and in
    evaluation through the codec; the width of the codes stays what is reported."""
    for name, args in {
            "amaq": ["--bits-lr", "0.1"], "affine": ["--codec", "affine", "--bits", "8"],
            "exact": ["--gate-signal", "exact"], "tensor": ["--codec", "tensor", "--bits", "6"],
            "channel": ["--codec", "channel", "--bits", "8"],
            "group": ["--codec", "group", "--bits", "8"], "dictionary": ["--dictionary", "on"],
            }.items():
        reports = {}
        for entropy in ("none", "rans"):
            code, out, err = case.train(f"{name}-{entropy}", *args, "--steps", 12, "--batch", 16,
                                        "--lr", "1e-2", "--entropy", entropy,
                                        "--distinct-rows-only", "off", "--eval-data", case.eval,
                                        "--exact-match", "off", "--delete-session")
            assert code == 0, out + err
            reports[entropy] = case.report(f"{name}-{entropy}")
            assert reports[entropy]["config"]["entropy"] == entropy
        plain, coded = reports["none"], reports["rans"]
        assert [s["state_hash"] for s in plain["steps"]] == [s["state_hash"] for s in coded["steps"]]
        assert [s["loss"] for s in plain["steps"]] == [s["loss"] for s in coded["steps"]]
        assert plain["eval"]["after_quantized"]["loss"] == coded["eval"]["after_quantized"]["loss"]
        saved = dict.fromkeys(SITES, 0)
        for a, b in zip(plain["steps"], coded["steps"]):
            for site in SITES:
                one, other = a["sites"][site], b["sites"][site]
                assert other["mean_bits"] == one["mean_bits"] and other["rows"] == one["rows"]
                assert other["payload_bytes"] <= one["payload_bytes"], (name, site)
                saved[site] += one["payload_bytes"] - other["payload_bytes"]
            assert b["bytes_sent"] <= a["bytes_sent"] and b["bytes_received"] <= a["bytes_received"]
        print(f"{name}: bytes saved {saved}")
        assert saved["fwd_in"] > 0 or name == "dictionary", name


def check_two_at_once(case):
    """Two sessions with different settings, together and alone: the same bits."""
    settings = {"one": ["--codec", "amaq", "--seed", "1"],
                "two": ["--codec", "affine", "--bits", "5", "--rank", "2", "--seed", "2"],
                "three": ["--codec", "aqsgd", "--bits", "3", "--cache-bytes", "3000000",
                          "--cache-dir", case.folder, "--seed", "3"],
                "four": ["--codec", "amaq", "--dictionary", "on", "--seed", "4"]}
    alone = {}
    for name, args in settings.items():
        code, out, err = case.train(f"alone-{name}", *args, "--steps", "12")
        assert code == 0, out + err
        alone[name] = [s["state_hash"] for s in case.report(f"alone-{name}")["steps"]]
    running = [subprocess.Popen(
        [case.seam.binary, "train", "--server", case.seam.server, "--model", case.model, "--data",
         case.rows, "--out", case.folder / f"both-{name}", "--batch", "4", "--quiet",
         *(["--rank", "4"] if "--rank" not in args else []), *args, "--steps", "12"],
        stdout=subprocess.DEVNULL) for name, args in settings.items()]
    assert [r.wait(DEADLINE_S) for r in running] == [0, 0, 0, 0]
    for name, expected in alone.items():
        got = [s["state_hash"] for s in case.report(f"both-{name}")["steps"]]
        assert got == expected, f"session {name} gave other bits beside another one"


def check_commands(case):
    seam, run = case.seam, case.folder / "run"
    info = seam.json("server", "info")
    assert info["version"] and info["device"]
    models = seam.json("model", "list")["models"]
    assert [m["id"] for m in models] == ["tiny"] and models[0]["hidden"] == 48
    sessions = seam.json("session", "list")["sessions"]
    assert any(s["committed_step_count"] == 30 for s in sessions), sessions
    shown = seam.json("session", "show", run)
    assert shown["committed_step_count"] == 30 and shown["codec"] == "amaq"
    exported = seam.json("export", run, "--out", case.folder / "again")
    assert exported["committed_step_count"] == 30
    for name in ["adapter_model.safetensors", "adapter_config.json"]:
        assert (case.folder / "again" / name).read_bytes() == (run / "adapter" / name).read_bytes()
    result = seam.json("eval", "--model", case.model, "--data", case.eval, "--run", run)
    trained = case.report("run")["eval"]["after"]
    assert abs(result["loss"] - trained["loss"]) < 1e-6, (result, trained)
    assert result["exact_match"] == trained["exact_match"]
    assert result["groups"] == trained["groups"]
    base = seam.json("eval", "--model", case.model, "--data", case.eval, "--exact-match", "off")
    before = case.report("run")["eval"]["before"]
    assert abs(base["loss"] - before["loss"]) < 1e-6 and base["exact_match"] is None
    text = seam.json("generate", "--model", case.model, "--run", run, "--new-tokens", 8, "lamp 7 ->")
    # As many as the context holds, whatever is asked for.
    most = seam.json("generate", "--model", case.model, "--run", run, "--new-tokens", 2**32 - 1, "lamp 7 ->")
    assert most["text"].startswith(text["text"]) and most["new_tokens"] < 256, most
    seam.json("eval", "--model", case.model, "--data", case.eval, "--new-tokens", 2**32 - 1)
    again = seam.json("generate", "--model", case.model, "--run", run, "--new-tokens", 8,
                      "lamp 7 ->")
    assert text == again and text["new_tokens"] <= 8
    sampled = [seam.json("generate", "--model", case.model, "--new-tokens", 8, "--temperature", "2",
                         "--seed", seed, "lamp")["text"] for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert seam.json("session", "delete", run)["deleted"] == shown["id"]
    code, _, err = seam.run("session", "show", run)
    assert code == EXIT_IO and "session.json" in err, err
    for command in ["train", "eval", "generate", "export", "server info", "session list",
                    "data show", "model pull"]:
        code, out, _ = seam.run(*command.split(), "--help", server=False)
        assert code == 0 and "usage: seam" in out and "--json" in out, command
        # A line names no option that the command does not take.
        assert ("--samples-out" in out) == (command == "eval"), out
    shown = seam.json("data", "show", "--model", case.model, "--data", case.rows, server=False)
    assert shown["row_count"] == 40 and shown["rows"][0]["text"].startswith("lamp 0 ->[[ red")


def refused(case, code, *texts, args=(), **kwargs):
    """`seam train` with these arguments ends with this code, and the error names these things."""
    got, out, err = case.train("bad", *args, **kwargs)
    assert got == code, f"exit {got}, expected {code}\n{out}{err}"
    for text in texts:
        assert str(text) in err, f"{text!r} is not in {err!r}"


def check_session_name(case):
    """Somebody's name of a session is text on an operator's terminal: one line, and no control of it."""
    name = "a\x1b[31mb\nc\x9bd\x7fe \u00fc"
    code, _, err = case.train("named", "--name", name)
    assert code == 0, err
    names = [s["name"] for s in case.seam.json("session", "list")["sessions"]]
    assert name in names, names
    code, out, err = case.seam.run("session", "show", case.folder / "named")
    assert code == 0 and out.endswith("  a [31mb c  d e \u00fc\n") and out.count("\n") == 1, (out, err)
    assert case.seam.run("session", "delete", case.folder / "named")[0] == 0


def check_bad_input(case):
    folder = case.folder
    sessions = case.seam.json("session", "list")["sessions"]
    for option in ("--data", "--eval-data", "--model", "--adapter"):
        refused(case, EXIT_IO, f"{option}: ", "nosuch", args=[option, folder / "nosuch"])
    for args in (["eval", "--model", case.model, "--data", folder / "nosuch"],
                 ["eval", "--model", case.model, "--data", case.eval, "--run", folder / "nosuch"],
                 ["generate", "--model", case.model, "--adapter", folder / "nosuch", "x"],
                 ["session", "show", folder / "nosuch"], ["server", "info", "--ca", folder / "nosuch"],
                 ["server", "info", "--token-file", folder / "nosuch"]):
        code, _, err = case.seam.run(*args)
        option = args[-2] if str(args[-2]).startswith("--") else ""
        assert f"{option}: " in err or not option, (args, err)
        assert code == EXIT_IO and "nosuch" in err, (args, code, err)
    for args in (["eval", "--data", case.eval], ["generate", "x"]):
        code, _, err = case.seam.run(*args, "--model", case.model, "--run", folder, "--adapter", folder)
        assert code == EXIT_USAGE and "--run and --adapter exclude" in err, (code, err)
    refused(case, EXIT_INPUT, "train.jsonl:1", "row has", "--truncate", args=["--tokens-max", 4])
    refused(case, EXIT_INPUT, "--rows-max", "line", args=["--rows-max", 3])
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", case.eval, "--rows-max", 3)
    assert code == EXIT_INPUT and "--rows-max 3" in err and "line 1" in err, (code, err)
    refused(case, EXIT_INPUT, "--allow-labels", args=["--topology", "vanilla", "--consent", "labels"])
    bad = folder / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "compl\n')
    refused(case, EXIT_INPUT, bad, "2", args=["--data", bad])
    write_rows(bad, [{"prompt": "a", "completion": "b"}, {"prompt": "a"}])
    refused(case, EXIT_INPUT, bad, "2", "completion", args=["--data", bad])
    bad.write_text("")
    refused(case, EXIT_INPUT, bad, args=["--data", bad])
    write_rows(bad, colour_rows(3) + [{"prompt": "x" * 400, "completion": "y"}])
    got, _, err = case.train("bad", "--data", bad)
    assert got != 0 and str(bad) in err and "4" in err, err
    packed = folder / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(case.rows.read_bytes())[:-20])
    got, _, err = case.train("bad", "--data", packed)
    assert got != 0 and str(packed) in err, err
    refused(case, EXIT_INPUT, "'other'", "tiny", args=["--server-model", "other"])
    refused(case, EXIT_INPUT, "codec", "'zip'", args=["--codec", "zip"])
    refused(case, EXIT_INPUT, "device tpu", "cpu", args=["--device", "tpu"])
    refused(case, EXIT_INPUT, "device ref", "double", args=["--device", "ref"])
    refused(case, EXIT_LIMIT, "aqsgd.cache_bytes_max: 9000000000000", "allows",
            args=["--codec", "aqsgd", "--cache-bytes", "9000000000000"])
    for place in (folder / "nodir", case.rows):  # said before the server is asked
        refused(case, EXIT_IO, "--cache-dir: ", place, seam=Seam(case.seam.binary, "127.0.0.1:1"),
                args=["--codec", "aqsgd", "--cache-bytes", "1000000", "--cache-dir", place])
    refused(case, EXIT_USAGE, "--dictionary-rows: 1048577",
            args=["--dictionary", "on", "--dictionary-rows", "1048577"])
    refused(case, EXIT_USAGE, "--dictionary", "--codec-fwd-in",
            args=["--dictionary", "on", "--codec-fwd-in", "bf16"])
    refused(case, EXIT_INPUT, "codec_fwd_in", "'zip'", args=["--codec-fwd-in", "zip"])
    refused(case, EXIT_INPUT, "entropy", "rans", "bf16",
            args=["--codec", "bf16", "--entropy", "rans"])
    refused(case, EXIT_INPUT, "entropy: 'zip'", "(--entropy)", args=["--entropy", "zip"])
    code, _, err = case.seam.run("eval", "--model", case.model, "--data", case.eval, "--rows-max", 10**6)
    assert code == EXIT_INPUT and "--rows-max: open.rows_max: " in err, (code, err)
    refused(case, EXIT_INPUT, "allocator", "'fill'", args=["--allocator", "fill"])
    refused(case, EXIT_USAGE, "--rate", "'fast'", args=["--rate", "fast"])
    auto = ["--rate", "auto"]
    refused(case, EXIT_INPUT, "rate", "steps_to_target", args=[*auto, "--allocator", "gates"])
    refused(case, EXIT_INPUT, "rate_bits_min", "9", args=[*auto, "--rate-bits-min", "9"])
    refused(case, EXIT_USAGE, "--step-seconds: 1e+09", args=[*auto, "--step-seconds", "1e9"])
    refused(case, EXIT_INPUT, "granularity", "'row'", args=["--granularity", "row"])
    refused(case, EXIT_INPUT, "config.codec.amaq.allocator", "waterfill", "token",
            args=["--granularity", "token", "--allocator", "waterfill"])
    refused(case, EXIT_INPUT, "config.codec.entropy", "amaq_token",
            args=["--granularity", "token", "--entropy", "rans"])
    refused(case, EXIT_INPUT, "cache_format", "'zip'",
            args=["--codec", "aqsgd", "--cache-format", "zip"])
    refused(case, EXIT_INPUT, "gate_signal", "bf16",
            args=["--codec-fwd-in", "bf16", "--gate-signal", "exact"])
    refused(case, EXIT_INPUT, "send_input_gradient", "dictionary",
            args=["--dictionary", "on", "--elide-input-gradient", "off"])
    refused(case, EXIT_USAGE, "--bits: 17", args=["--codec", "affine", "--bits", "17"])
    refused(case, EXIT_INPUT, "config.codec.group: 7", "(--group)", args=["--codec", "group", "--group", "7"])
    for args in (["plan", "--model", folder / "nosuch"],
                 ["merge", "--model", folder / "nosuch", "--adapter", case.model, "--out", folder / "m"],
                 ["merge", "--model", case.model, "--adapter", folder / "nosuch", "--out", folder / "m"]):
        code, _, err = case.seam.run(*args, server=False)
        assert code == EXIT_IO and f"{args[args.index(folder / 'nosuch') - 1]}: " in err, (args, code, err)
    code, _, err = case.seam.run("merge", "--model", case.model, "--adapter", case.model, "--out", "",
                                 server=False)
    assert code == EXIT_INPUT and "--out: names no folder" in err, (code, err)
    for credit in (1, 2**32 - 1):
        refused(case, EXIT_INPUT, f"--credit-mib: {credit} is not in 3..1024", args=["--credit-mib", credit])
    refused(case, EXIT_INPUT, "--server: address: 'x' is not", seam=Seam(case.seam.binary, "x"))
    refused(case, EXIT_INPUT, "--batch 4294967295: 64 micro-batches", args=["--batch", 2**32 - 1])
    code, _, err = case.train("narrow", "--batch", 40, "--rows-max", 20, "--steps", 1, "--delete-session")
    assert code == 0, err  # more rows than a micro-batch has tokens
    refused(case, EXIT_USAGE, "--rank: 100000", args=["--rank", "100000"])
    refused(case, EXIT_USAGE, "--alloc-lag: 5000", args=["--alloc-lag", "5000"])
    # The largest that the command line takes, the server takes.
    code, _, err = case.train("largest", "--steps", 1, "--rank", 256, "--alpha", 1e6, "--dropout", 0.95,
                              "--lr", 100, "--adam-beta1", 0.999999, "--adam-beta2", 0.999999,
                              "--adam-eps", 1, "--weight-decay", 100, "--clip-norm", 1e30, "--beta", 1e6,
                              "--bits-lr", 100, "--alloc-lag", 1000, "--all-layer-bits", 4,
                              "--all-layer-steps", 10**9, "--delete-session")
    assert code == 0, err
    code, _, err = case.seam.run("train", "--model", case.model, "--data", case.rows, "--out",
                                 case.folder / "prefixed", "--steps", 1, "--batch", 4, "--quiet",
                                 "--prefix-tokens", 256, "--delete-session")
    assert code == EXIT_INPUT and "--prefix-tokens: 256 leave none" in err, err
    refused(case, EXIT_USAGE, "--target: 5.5 has no preset", args=["--target", "5.5"])
    refused(case, EXIT_USAGE, "--nonsense", args=["--nonsense"])
    refused(case, EXIT_INPUT, "--out", args=["--out", ""])
    refused(case, EXIT_INPUT, "no .gguf", case.rows, args=["--model", case.rows])
    (folder / "nomodel").mkdir()
    refused(case, EXIT_INPUT, "no tokenizer.json", "nomodel", args=["--model", folder / "nomodel"])
    (folder / "keys").write_bytes(b"k\x01ey\n")
    refused(case, EXIT_INPUT, "--token-file", "byte 2", args=["--token-file", folder / "keys"])
    refused(case, EXIT_USAGE, "--steps", args=["--steps", "many"])
    refused(case, EXIT_USAGE, "targets", "'z'", args=["--targets", "q,z"])
    refused(case, EXIT_USAGE, "--train-rows", args=["--train-rows", "0"])
    refused(case, EXIT_USAGE, "--lr: 0", args=["--lr", "0"])
    refused(case, EXIT_USAGE, "--group", "amaq", args=["--group", "64"])
    refused(case, EXIT_USAGE, "--pipeline-depth", "9", args=["--pipeline-depth", "9"])
    for command in (["eval", "--rows", "0"], ["generate", "--new-tokens", "0"],
                    ["generate", "--top-p", "2"], ["eval", "--temperature", "-1"]):
        code, _, err = case.seam.run(command[0], "--model", case.model,
                                     *(["--data", case.eval] if command[0] == "eval" else ["x"]),
                                     *command[1:])
        assert code == EXIT_USAGE and f"{command[1]}: " in err, (code, err)
    long = case.seam.run("generate", "--model", case.model, "lamp " * 20000)
    assert long[0] == EXIT_INPUT and "the prompt has" in long[2], long
    (folder / "noadapter").mkdir()
    (folder / "noadapter" / "adapter_config.json").write_text("{}")
    refused(case, EXIT_INPUT, "target_modules is missing", args=["--adapter", folder / "noadapter"])
    pull = case.seam.run("model", "pull", "demo", "--client", server=False)
    assert pull[0] == EXIT_USAGE and "--client" in pull[2], pull
    assert case.seam.run("train", server=False)[0] == EXIT_USAGE
    assert case.seam.run("flight", server=False)[0] == EXIT_USAGE
    truncated = folder / "truncated"
    write_text_model(truncated)
    weights = (truncated / "model.safetensors").read_bytes()
    (truncated / "model.safetensors").write_bytes(weights[:-100])
    refused(case, EXIT_INPUT, "model.safetensors", args=["--model", truncated])
    other = folder / "othermodel"
    write_text_model(other, layers=3)
    refused(case, EXIT_INPUT, "tiny", args=["--model", other])
    absent = Seam(case.seam.binary, "127.0.0.1:1")
    # Nobody listens: said in seconds, not after the hour.
    refused(case, EXIT_UNAVAILABLE, "127.0.0.1:1", seam=absent, args=["--reconnect", "3600"])
    assert not (folder / "bad" / "adapter").exists()
    left = case.seam.json("session", "list")["sessions"]
    assert {s["id"] for s in left} <= {s["id"] for s in sessions}, "a refused command left a session"


def check_long_rows(case):
    """Rows longer than the usual request are evaluated, as far as the server takes them."""
    wide, seen = case.folder / "wide", ["--exact-match", "off"]
    write_text_model(wide, layers=1, context=8192)
    plain = write_rows(case.folder / "plain.jsonl", [{"prompt": "x" * 4200, "completion": "y"}])
    choices = write_rows(case.folder / "choices.jsonl", [
        {"prompt": "x", "choices": ["y", "z" * 4200], "label": 0, "completion": "y"}])
    with Seamd(case.binary, wide) as server:
        seam = Seam(case.seam.binary, server.address)
        for rows in (plain, choices):
            seam.json("eval", "--model", wide, "--data", rows, *seen)
        code, _, err = seam.run("train", "--model", wide, "--data", case.rows, "--eval-data", plain, "--out",
                                case.folder / "wide-run", "--steps", 1, "--quiet", *seen)
        assert code == 0, err


def check_tls_unasked(case):
    """A client without TLS at a server with TLS: told so, not only that a socket was closed."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "server.key",
                    "-out", "server.pem"], cwd=case.folder, check=True, capture_output=True)
    pem, key = case.folder / "server.pem", case.folder / "server.key"
    with Seamd(case.binary, case.model, "--tls-cert", str(pem), "--tls-key", str(key)) as server:
        seam = Seam(case.seam.binary, server.address)
        code, _, err = seam.run("server", "info", "--reconnect", 1)
        assert code == EXIT_UNAVAILABLE and "without TLS" in err and "--ca" in err, (code, err)
        code, _, err = seam.run("server", "info", "--ca", pem)
        assert code == 0, err
        code, _, err = case.seam.run("server", "info", "--ca", pem, "--reconnect", 1)
        assert code == EXIT_UNAVAILABLE and "answers without TLS" in err, (code, err)
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                        "other.key"], cwd=case.folder, check=True, capture_output=True)
        code, _, err = seam.run("server", "info", "--ca", pem, "--cert", pem, "--key",
                                case.folder / "other.key", "--reconnect", 1)
        assert code == EXIT_UNAVAILABLE and "--key" in err, (code, err)
    keys = case.folder / "hashes"
    keys.write_text("0" * 64 + "\n")
    with Seamd(case.binary, case.model, "--tls-cert", str(pem), "--tls-key", str(key),
               "--tls-client-ca", str(pem), "--token-file", str(keys)) as server:
        seam = Seam(case.seam.binary, server.address)
        code, _, err = seam.run("server", "info", "--ca", pem, "--reconnect", 1)
        assert code == EXIT_UNAVAILABLE and "--cert" in err, (code, err)
        code, _, err = seam.run("server", "info", "--ca", pem, "--cert", pem, "--key", key)
        assert code == EXIT_INPUT and "--token-file" in err, (code, err)


def check_server_gone(case):
    """Killed in mid-run: said so, last adapter and report kept."""
    with Seamd(case.binary, case.model) as server:
        runner = subprocess.Popen(
            [case.seam.binary, "train", "--server", server.address, "--model", case.model, "--data",
             case.rows, "--out", case.folder / "gone", "--steps", "100000", "--batch", "4",
             "--save-every", "5", "--reconnect", "2"], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        adapter = case.folder / "gone" / "adapter" / "adapter_model.safetensors"
        wait_for(adapter.exists, what="saved adapter")
        server.process.kill()
        _, err = runner.communicate(timeout=DEADLINE_S)
        assert runner.returncode == EXIT_UNAVAILABLE, (runner.returncode, err)
        assert server.address in err and "is kept in" in err, err
    report = case.report("gone")
    assert report["error"]["status"] in ("UNAVAILABLE", "DEADLINE")
    assert report["adapter_steps"] >= 5 and len(report["steps"]) >= report["adapter_steps"]
    config = json.loads(adapter.with_name("adapter_config.json").read_text())
    assert config["r"] == 16


def check_interrupt(case):
    """SIGINT: the step is finished, the adapter saved, exit 130."""
    runner = subprocess.Popen(
        [case.seam.binary, "train", "--server", case.seam.server, "--model", case.model, "--data",
         case.rows, "--out", case.folder / "stopped", "--steps", "100000", "--batch", "4",
         "--save-every", "3"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    adapter = case.folder / "stopped" / "adapter" / "adapter_model.safetensors"
    wait_for(adapter.exists, what="saved adapter")
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=DEADLINE_S)
    report = case.report("stopped")
    assert runner.returncode == 130 and report["adapter_steps"] == len(report["steps"])
    assert f"interrupted after {report['adapter_steps']} of 100000 steps" in err, err
    assert f"`seam train --resume {case.folder / 'stopped'}` goes on" in err, err
    # In the evaluation before the first step: the summary has no figure of a step.
    proxy = HoldingProxy(case.seam.server, 20_000, cuts=False)
    runner = subprocess.Popen(
        [case.seam.binary, "train", "--server", proxy.address, "--model", case.model, "--data",
         case.rows, "--eval-data", write_rows(case.folder / "many.jsonl", colour_rows(400)), "--out",
         case.folder / "early", "--steps", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(proxy.is_held.is_set, what="an evaluation")
    runner.send_signal(signal.SIGINT)
    while "ends after this step or evaluation; once more: at once" not in (line := runner.stderr.readline()):
        assert line, "ended without a word"
    proxy.let_go()
    out, err = runner.communicate(timeout=DEADLINE_S)
    proxy.close()
    assert runner.returncode == 130 and "interrupted after 0 of 5 steps" in err, (runner.returncode, err)
    assert "nan" not in out and "a step" not in out and "adapter:" in out, out


def check_disk_full(case):
    """No room for the new adapter (here: a limit on file sizes): the old one stays."""
    code, out, err = case.train("full", "--delete-session")
    assert code == 0, out + err
    adapter = case.folder / "full" / "adapter"
    before = (adapter / "adapter_model.safetensors").read_bytes()
    limit = len(before) // 2

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    code, _, err = case.train("full", "--seed", "9", preexec_fn=no_room)
    assert code == EXIT_IO and ("adapter_model.safetensors" in err or "journal.bin" in err), err
    assert (adapter / "adapter_model.safetensors").read_bytes() == before
    assert sorted(p.name for p in adapter.iterdir()) == ["adapter_config.json",
                                                         "adapter_model.safetensors"]
    with open("/dev/full", "w") as full: # no room for what is printed
        done = subprocess.run([case.seam.binary, "data", "show", "--model", case.model, "--data",
                               case.rows, "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == EXIT_IO and "stdout: " in done.stderr, done


def main():
    binary, seam_path = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        with Seamd(binary, folder / "model", "--sessions-max", "64") as server:
            case = Case(folder, Seam(seam_path, server.address), binary)
            for check in [check_report, check_commands, check_same_bits, check_plan, check_dropout, check_prefix,
                          check_adapter_start,
                          check_codec_fwd_in, check_symmetric, check_entropy, check_dictionary,
                          check_aqsgd, check_allocators, check_token, check_token_exact,
                          check_two_at_once,
                          check_session_name, check_bad_input, check_long_rows, check_tls_unasked, check_interrupt,
                          check_disk_full, check_server_gone]:
                check(case)
                print(f"{check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Topologies that show something to the server, over TLS, on a tiny random model.

Goal: VANILLA and ADAPTER_EXCHANGE make the updates of the U-shaped session, whatever the codec, depth and state of the
stream; nothing is shown unless both ends allow it; a run goes on after kill -9 of either end, its adapter
loads, and its evaluation is that of the U-shaped one.
Method: the same run in both topologies with f32 codecs; runs through a proxy that cuts; refusals.

    test_topologies.py SEAMD SEAM
"""
import hashlib
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

from cli_fixture import CuttingProxy, Seam, colour_rows, write_rows, write_text_model
from service_fixture import Seamd, seamd_path, wait_for

STEPS = 6
VANILLA = ["--topology", "vanilla", "--consent", "labels"]
EXCHANGE = ["--topology", "adapter_exchange", "--consent", "text"]
MODULE_CODECS = {
    "f32": ["--codec", "f32"], "bf16": ["--codec", "bf16"], "affine": ["--codec", "affine"],
    "group": ["--codec", "group", "--group", 2], "channel": ["--codec", "channel", "--bits", 6],
    "tensor": ["--codec", "tensor", "--bits", 8], "rans": ["--codec", "affine", "--entropy", "rans"],
    "resend bf16": ["--codec", "bf16", "--resend-parameters"],
    "resend affine": ["--codec", "affine", "--resend-parameters"],
    "amaq": ["--codec", "amaq"], "gates": ["--codec", "amaq", "--allocator", "gates", "--steps-to-target", 4],
    "resend exact": ["--codec", "amaq", "--gate-signal", "exact", "--beta", 0.5, "--bits-lr", 0.1, "--resend-parameters"],
}
KILLED = {
    "f32": [*MODULE_CODECS["f32"], "--dropout", 0.1], "affine": MODULE_CODECS["affine"], "amaq": MODULE_CODECS["amaq"],
    "prefix gates": ["--codec", "amaq", "--allocator", "gates", "--steps-to-target", 300, "--prefix-tokens", 5],
}
CODECS = {
    "waterfill": [], "gates": ["--allocator", "gates"], "token": ["--granularity", "token"],
    "exact": ["--gate-signal", "exact", "--pipeline-depth", 1], "affine": ["--codec", "affine"],
    "bf16": ["--codec", "bf16"], "rans": ["--entropy", "rans"], "aqsgd": ["--codec", "aqsgd"],
    "dictionary": ["--dictionary", "on"],
}


class Bench:
    """A folder with a model, rows, a certificate; a TLS server and the CLI on it."""

    def __init__(self, folder, seamd, seam):
        self.folder, self.seamd, self.seam_path = folder, seamd, seam
        write_text_model(folder / "model", layers=3)
        write_rows(folder / "rows.jsonl", colour_rows(24))
        write_rows(folder / "held.jsonl", colour_rows(6, begin=24))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-keyout",
                        str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)

    def server(self, *args, **kwargs):
        return Seamd(self.seamd, self.folder / "model", "--tls-cert", str(self.folder / "cert.pem"),
                     "--tls-key", str(self.folder / "key.pem"), *args, **kwargs)

    def command(self, address, out, *args, steps=STEPS):
        own = ["--rows-max", 40] if "--rows-max" not in args else []
        return ["train", "--model", self.folder / "model", "--data", self.folder / "rows.jsonl", "--out",
                self.folder / out, "--steps", steps, "--batch", 8, "--rank", 4, "--lr", "1e-2",
                "--quiet", "--f32", "--threads", 1, "--delete-session", "--ca", self.folder / "cert.pem", "--server", address, *own,
                *args]

    def run(self, address, out, *args, **kwargs):
        return Seam(self.seam_path, "").run(*self.command(address, out, *args, **kwargs), server=False)

    def train(self, address, out, *args, **kwargs):
        code, text, err = self.run(address, out, *args, **kwargs)
        assert code == 0, text + err
        report = json.loads((self.folder / out / "report.json").read_text())
        assert all(step["micros"] >= 4 for step in report["steps"])
        return report

    def adapter(self, out):
        return load_file(str(self.folder / out / "adapter/adapter_model.safetensors"))


def losses(report):
    return [step["loss"] for step in report["steps"]]


def shown(report):
    """What must not depend on depth, cuts or restarts."""
    return [(step["loss"], step["state_hash"], step["grad_norm"], step["correct_tokens"],
             {name: (site["payload_bytes"], site["mean_bits"])
              for name, site in step["sites"].items()}) for step in report["steps"]]


def same_training(bench, one, other, name):
    """Losses of two runs to 1e-5, and what they trained."""
    assert np.allclose(losses(one[0]), losses(other[0]), rtol=0, atol=1e-5), \
        (name, losses(one[0]), losses(other[0]))
    a, b = bench.adapter(one[1]), bench.adapter(other[1])
    assert a.keys() == b.keys()
    moved = max(float(np.abs(a[key] - b[key]).max()) for key in a)
    assert moved < 1e-5, (name, moved)


def check_vanilla(bench, address):
    for extra in ([], ["--dropout", 0.1, "--seed", 3], ["--prefix-tokens", 5]):
        rank = [] if "--prefix-tokens" in extra else ["--alpha", 8]
        args = ["--codec", "f32", "--eval-data", bench.folder / "held.jsonl", *extra, *rank]
        u = bench_train(bench, address, "u", *args)
        v = bench_train(bench, address, "v", *args, *VANILLA)
        same_training(bench, (u, "u"), (v, "v"), extra)
        for when in ("before", "after"):
            assert abs(u["eval"][when]["loss"] - v["eval"][when]["loss"]) < 1e-5, when
        assert [s["correct_tokens"] for s in u["steps"]] == [s["correct_tokens"] for s in v["steps"]]
        for site in ("fwd_out", "bwd_out", "bwd_in"):
            assert all(step["sites"].get(site, {"payload_bytes": 0})["payload_bytes"] == 0
                       for step in v["steps"]), site
    print("vanilla: losses, adapter and evaluation are the U-shaped session's", flush=True)


def bench_command(bench, address, out, *args, **kwargs):
    """--rank and --prefix-tokens exclude each other."""
    command = bench.command(address, out, *args, **kwargs)
    at = command.index("--rank")
    return command[:at] + command[at + 2:] if "--prefix-tokens" in args else command


def bench_train(bench, address, out, *args, **kwargs):
    if "--prefix-tokens" not in args:
        return bench.train(address, out, *args, **kwargs)
    code, text, err = Seam(bench.seam_path, "").run(*bench_command(bench, address, out, *args, **kwargs), server=False)
    assert code == 0, text + err
    return json.loads((bench.folder / out / "report.json").read_text())


def check_codecs(bench, address):
    for name, args in CODECS.items():
        depths = (1,) if "--pipeline-depth" in args else (1, 3, 8)
        runs = []
        for depth in depths:
            more = [] if "--pipeline-depth" in args else ["--pipeline-depth", depth]
            runs.append(shown(bench.train(address, "c", *args, *more, *VANILLA)))
        assert all(run == runs[0] for run in runs), name
        assert len({step[1] for step in runs[0]}) == STEPS
    print(f"vanilla: {', '.join(CODECS)}: depths agree", flush=True)


def check_exchange(bench, address):
    """f32: the U-shaped session's run, with the optimizer at the other end."""
    for extra in ([], ["--dropout", 0.1, "--seed", 3, "--weight-decay", 0.1, "--schedule", "cosine"],
                  ["--targets", "q,k,v,o,gate,up,down", "--clip-norm", 0.5], ["--prefix-tokens", 5]):
        args = ["--codec", "f32", "--eval-data", bench.folder / "held.jsonl", *extra]
        u = bench_train(bench, address, "u", *args)
        e = bench_train(bench, address, "e", *args, *EXCHANGE)
        same_training(bench, (u, "u"), (e, "e"), extra)
        assert abs(u["eval"]["after"]["loss"] - e["eval"]["after"]["loss"]) < 1e-5
        assert [s["correct_tokens"] for s in u["steps"]] == [s["correct_tokens"] for s in e["steps"]]
        again = bench_train(bench, address, "f", *args, "--resend-parameters", *EXCHANGE)
        same_training(bench, (e, "e"), (again, "f"), extra)
    # A run from the adapter of another: its parameters travel, whole.
    first = bench.train(address, "a", "--codec", "affine", *EXCHANGE)
    second = bench.train(address, "b", "--codec", "f32", "--adapter", bench.folder / "a/adapter", *EXCHANGE)
    third = bench.train(address, "c", "--codec", "f32", "--adapter", bench.folder / "a/adapter")
    same_training(bench, (second, "b"), (third, "c"), "import")
    assert losses(second)[0] < losses(first)[0] - 0.5
    print("exchange: losses, adapter and evaluation are the U-shaped session's", flush=True)


def check_module_bytes(bench, address):
    """Parameters once or every step, gradients every step, in the codec's bytes."""
    values = {"lora_a": 288 * 4, "lora_b": 192 * 4}  # rank 4 on q, v of three layers
    for name, args in MODULE_CODECS.items():
        runs = []
        for depth in (1, 3):
            runs.append(bench.train(address, "m", *args, *EXCHANGE, "--pipeline-depth", depth))
        assert shown(runs[0]) == shown(runs[1]), name
        bits = {"f32": 32, "bf16": 16, "resend bf16": 16}.get(name)
        for step, entry in enumerate(runs[0]["steps"]):
            sites = entry["sites"]
            assert all(sites[s]["payload_bytes"] == 0 for s in ("fwd_in", "fwd_out", "bwd_out", "bwd_in"))
            for site, count in values.items():
                up, down = sites[site]["payload_bytes"], sites[site + "_gradient"]["payload_bytes"]
                resent = name.startswith("resend")
                assert (up > 0) == (step == 0 or resent), (name, step, up)
                if not resent and step == 0:
                    assert up == 4 * count, (name, up)
                if bits is not None:
                    assert down == count * bits // 8 and (not resent or up == down), (name, up, down)
                else:
                    assert 0 < down < 2 * count and (name == "rans" or down > count // 4), (name, down)
    print(f"exchange: {', '.join(MODULE_CODECS)}: depths agree, bytes are the codec's", flush=True)


def check_module_widths(bench, address):
    """Codec amaq: the mean of all modules' widths is the target when it should be, by either allocator, for LoRA
    and prefixes; so are the bytes; a step's parameters and gradients have one allocation; state hashes are equal at both ends
    (the client stops where they are not), and the loss is that of fixed widths of 4 bits or better."""
    steps, fall = 48, ["--steps-to-target", 24, "--codec", "amaq", *EXCHANGE]
    gates = ["--allocator", "gates"]
    fixed = {way: losses(bench.train(address, "w", "--codec", "affine", "--rank", 16, *way, *EXCHANGE, steps=steps))[-1]
             for way in ((), ("--resend-parameters",))}
    cases = {"waterfill": (0.1, 4, []), "waterfill 3": (0.1, 3, ["--target", 3]), "gates": (0.35, 4, gates),
             "gates 3": (0.35, 3, [*gates, "--target", 3]), "resend": (0.1, 4, ["--resend-parameters"]),
             "prefix": (0.05, 4, ["--prefix-tokens", 5]), "prefix gates": (0.35, 4, ["--prefix-tokens", 5, *gates])}
    for name, (within, target, args) in cases.items():
        prefix = "--prefix-tokens" in args
        run = bench_train(bench, address, "w", *fall, *args, *([] if prefix else ["--rank", 16]), steps=steps)
        counts = {"prefix": 5 * 3 * 2 * 16} if prefix else {"lora_a": 288 * 16, "lora_b": 192 * 16}
        means = [sum(entry["sites"][site + "_gradient"]["mean_bits"] * n for site, n in counts.items())
                 / sum(counts.values()) for entry in run["steps"]]
        assert all(mean == 8 - 2 * (target == 3) for mean in means[:2]), (name, means)
        assert all(abs(mean - target) < within for mean in means[-8:]), (name, means)
        assert abs(run["steps"][-1]["gate_mean_bits"] - target) < within, name
        assert len({entry["state_hash"] for entry in run["steps"]}) == steps
        for entry in run["steps"][1:]:
            for site, n in counts.items():
                up, down = entry["sites"][site], entry["sites"][site + "_gradient"]
                codes = down["mean_bits"] * n / 8
                assert codes <= down["payload_bytes"] <= codes + 4 * n / (n // len_of(run, site)) + 64, (name, site)
                assert name != "resend" or (up["payload_bytes"], up["mean_bits"]) == (down["payload_bytes"], down["mean_bits"])
        if not prefix:
            assert losses(run)[-1] < fixed[tuple(args) if name == "resend" else ()] + 0.05 + 0.2 * (target == 3), name
    print(f"exchange: codec amaq, {', '.join(cases)}: the mean falls to the target", flush=True)


def len_of(run, site):
    """Channels of a module site."""
    return len(run["final_widths"][site + "_gradient"])


def check_exchange_ends(bench):
    """Cuts change nothing; what cannot be is refused by name."""
    with bench.server("--allow-text") as server:
        for codec in ([], ["--codec", "amaq"], MODULE_CODECS["gates"], MODULE_CODECS["resend exact"]):
            check_exchange_cuts(bench, server, *codec)
        for args, text in ((["--codec", "amaq", "--granularity", "token"], "config.codec.codec"),
                           (["--codec", "amaq", "--gate-signal", "exact"], "config.codec.amaq.gate_signal"),
                           (["--codec", "aqsgd"], "config.codec.codec"),
                           (["--dictionary", "on"], "config.codec.codec_fwd_in"),
                           (["--codec", "group", "--group", 3], "config.codec.group"),
                           (["--elide-input-gradient", "off"], "config.codec.send_input_gradient")):
            code, _, err = bench.run(server.address, "bad", *args, *EXCHANGE)
            assert code != 0 and text in err, (args, err)
    print("exchange: cuts and refusals", flush=True)


def check_exchange_cuts(bench, server, *codec):
    whole = bench.train(server.address, "straight", *EXCHANGE, *codec)
    sent = sum(step["bytes_sent"] for step in whole["steps"])
    cuts = 0
    for cut_after in range(sent // 10, sent // 2, sent // 10):
        proxy = CuttingProxy(server.address, cut_after, 2)
        run = bench.train(proxy.address, "cut", *EXCHANGE, *codec, "--pipeline-depth", 2)
        proxy.close()
        cuts += proxy.cut_count
        assert shown(run) == shown(whole), (codec, cut_after)
    assert cuts >= 4, (codec, cuts)


def check_cuts(bench, address):
    whole = bench.train(address, "whole", *VANILLA)
    sent = sum(step["bytes_sent"] for step in whole["steps"])
    for depth in (1, 2):
        cuts = 0
        for cut_after in range(sent // 10, sent // 2, sent // 12):
            proxy = CuttingProxy(address, cut_after, 2)
            run = bench.train(proxy.address, "cut", *VANILLA, "--pipeline-depth", depth)
            proxy.close()
            cuts += proxy.cut_count
            assert shown(run) == shown(whole), (depth, cut_after)
        assert cuts >= 5, cuts
    print("vanilla: a cut stream changes nothing", flush=True)


class EndedEarly(Exception):
    """The run had ended when it was to be killed: a busy machine had other work than this test."""


def check_kills(bench, name, *args):
    for number in range(10):
        try:
            return kills(bench, f"{name} {number}", *args)
        except EndedEarly:
            print(f"{name}: ended before it was killed, again", flush=True)
    raise AssertionError(f"{name}: each run ended before it was killed")


def kills(bench, name, flag, args, steps, pause):
    """kill -9 of the server, of the client and of both, in mid-run, and a server without the flag between
    them: the same bits, adapter and evaluation as without.  Each kill comes `pause` steps after the one before."""
    args = [*args, "--eval-data", bench.folder / "held.jsonl", "--eval-before", "off"]
    state = ["--state-dir", str(bench.folder / f"state {name}"), "--checkpoint-seconds", "1",
             "--checkpoint-percent", "100"]
    with bench.server(flag) as server:
        whole = bench_train(bench, server.address, "straight", *args, steps=steps)
    server = bench.server(*state, flag)
    address = server.address
    command = bench_command(bench, address, "killed", *args, "--reconnect", 600, steps=steps)
    shutil.rmtree(bench.folder / "killed", ignore_errors=True)
    client = train_begin(bench, command)
    wait_for_steps(bench, server, client, pause)
    server.process.kill()
    server.process.wait()
    server = bench.server(*state, flag, listen=address)
    wait_for_steps(bench, server, client, pause)
    client.send_signal(signal.SIGKILL)
    client.wait()
    client = train_begin(bench, ["train", "--resume", bench.folder / "killed", "--quiet"])
    wait_for_steps(bench, server, client, pause)
    server.process.kill()
    client.send_signal(signal.SIGKILL)
    client.wait()
    server.process.wait()
    with bench.server(*state, listen=address) as without:
        code, _, err = Seam(bench.seam_path, "").run("train", "--resume", bench.folder / "killed", "--quiet",
                                                     server=False)
        assert code != 0 and "config.topology" in err and flag in err, err
        assert without.stop() == 0, without.log
    server = bench.server(*state, flag, listen=address)
    code, text, err = Seam(bench.seam_path, "").run("train", "--resume", bench.folder / "killed", "--quiet",
                                                    server=False)
    assert code == 0, text + err
    report = json.loads((bench.folder / "killed/report.json").read_text())
    assert shown(report) == shown(whole), name
    assert report["eval"]["after"]["loss"] == whole["eval"]["after"]["loss"], name
    assert report["final_widths"] == whole["final_widths"], name
    digests = {hashlib.sha256((bench.folder / out / "adapter/adapter_model.safetensors").read_bytes()).hexdigest()
               for out in ("straight", "killed")}
    assert len(digests) == 1, name
    assert server.stop() == 0, server.log
    print(f"{name}: kill -9 of server, client and both, the same bits", flush=True)


def train_begin(bench, command):
    return subprocess.Popen([bench.seam_path, *map(str, command)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def wait_for_steps(bench, server, client, count):
    """Until the client has notes of so many steps more; each is at least 500 bytes."""
    notes = bench.folder / "killed" / "journal.notes"
    begin = notes.stat().st_size if notes.exists() else 0
    wait_for(lambda: client.poll() is not None or
             notes.exists() and notes.stat().st_size > begin + 500 * count, what="progress")
    if client.poll() is not None:
        server.process.kill()
        server.process.wait()
        assert client.returncode == 0, (client.returncode, client.stderr.read())
        raise EndedEarly


def check_refusals(bench):
    """Each side refuses by its own field."""
    with bench.server() as plain:
        code, _, err = bench.run(plain.address, "bad", *VANILLA)
        assert code != 0 and "config.topology" in err and "--allow-labels" in err, err
        code, _, err = bench.run(plain.address, "bad", "--topology", "adapter_exchange", "--consent", "text",
                                "--codec", "affine")
        assert code != 0 and "config.topology" in err, err
    with bench.server("--allow-labels") as server:
        for args, text in (
                (["--topology", "vanilla"], "--consent"),
                (["--topology", "adapter_exchange", "--consent", "labels"], "--consent"),
                (["--topology", "star"], "--topology"), (["--consent", "all"], "--consent"),
                ([*VANILLA, "--resend-parameters"], "config.resend_parameters")):
            code, _, err = bench.run(server.address, "bad", *args)
            assert code != 0 and text in err, (args, err)
        code, _, err = bench.run(server.address, "bad", "--topology", "adapter_exchange", "--consent", "text",
                                "--codec", "affine")
        assert code != 0 and "config.topology" in err and "--allow-text" in err, err
    print("refusals name their field", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(pathlib.Path(name), seamd_path(), sys.argv[2])
        check_refusals(bench)
        with bench.server("--allow-labels") as server:
            check_vanilla(bench, server.address)
            check_codecs(bench, server.address)
            check_cuts(bench, server.address)
            assert server.stop() == 0, server.log
        with bench.server("--allow-text") as server:
            check_exchange(bench, server.address)
            check_module_bytes(bench, server.address)
            check_module_widths(bench, server.address)
            assert server.stop() == 0, server.log
        check_exchange_ends(bench)
        check_kills(bench, "vanilla", "--allow-labels", VANILLA, 2000, 60)
        for name, codec in KILLED.items():
            check_kills(bench, f"exchange {name}", "--allow-text", [*codec, *EXCHANGE], 600, 40)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Blocks of the model at the client, in front of the server's and behind them, on a tiny random model.

Goals: a session that is cut elsewhere is the same training: losses, norms, clipped updates and the
adapter are those of the session whose blocks are all the server's, to 1e-5 in f32; LoRA on either
side or both; AMAQ through both boundaries; no bit hangs on the pipeline's depth, on cuts of the
stream, or on a kill of either end with --resume; the adapter comes out as one and goes in as one;
evaluation and generation go through the split.  One run of each split goes over TLS.

    test_client_blocks.py SEAMD SEAM
"""
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file, save_file

from cli_fixture import (CuttingProxy, Seam, check_cuts, colour_rows, run_check, shown, write_rows,
                         write_text_model)
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

LAYERS, STEPS = 4, 6
SPLITS = [(1, 0), (0, 1), (1, 1), (2, 1)]
EXACT = ["--codec", "f32", "--f32", "--targets", "q,k,v,o,gate,up,down", "--clip-norm", "0.3"]


class Case:
    def __init__(self, folder, binary, seam):
        self.folder, self.binary, self.path = folder, binary, seam
        self.model = folder / "model"
        self.seam = None
        self.rows = write_rows(folder / "rows.jsonl", colour_rows(40))
        self.eval = write_rows(folder / "eval.jsonl", colour_rows(6, begin=100))

    def command(self, out, *args, split=(0, 0)):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", STEPS, "--batch", 8, "--rows-max", 40, "--rank", 4, "--lr", "1e-2",
                "--quiet", "--front-blocks", split[0], "--tail-blocks", split[1], *args]

    def train(self, out, *args, split=(0, 0), seam=None):
        code, text, err = (seam or self.seam).run(*self.command(out, *args, split=split))
        assert code == 0, text + err
        return self.report(out)

    def report(self, out):
        return json.loads((self.folder / out / "report.json").read_text())

    def adapter(self, out):
        return load_file(self.folder / out / "adapter" / "adapter_model.safetensors")

    def config(self, out):
        return json.loads((self.folder / out / "adapter" / "adapter_config.json").read_text())


def assert_same_training(case, out, like, relative=1e-5):
    one, other = (case.report(o)["steps"] for o in (out, like))
    for a, b in zip(one, other):
        for name in ("loss", "grad_norm"):
            assert abs(a[name] / b[name] - 1) < relative, (out, a["step"], name, a[name], b[name])
    mine, theirs = case.adapter(out), case.adapter(like)
    assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
    for name, value in theirs.items():
        worst = np.abs(mine[name] - value).max()
        assert worst < 1e-5, (out, name, worst)


def check_same_math(case):
    """Clipped hard, so that a norm of one side alone would show in every update."""
    whole = case.train("whole", *EXACT)
    assert max(step["grad_norm"] for step in whole["steps"]) > 0.6
    assert min(step["micros"] for step in whole["steps"]) >= 4
    for split in SPLITS:
        out = "split-%d-%d" % split
        report = case.train(out, *EXACT, split=split)
        assert_same_training(case, out, "whole")
        assert case.config(out)["layers_to_transform"] is None
        assert report["config"]["front_blocks"] == split[0]
        for step in report["steps"]:
            sites = step["sites"]
            assert (sites["bwd_in"]["rows"] == step["tokens"]) == (split[0] > 0), sites
            more = sites["fwd_out"]["rows"] > step["labelled_tokens"]
            assert more == (split[1] > 0) and sites["fwd_out"]["rows"] <= step["tokens"], sites
            if split[0] > 0:
                assert sites["fwd_in"]["rows"] == step["tokens"]
    # Dropout is drawn by layer and row, so that the cut does not show there either.
    case.train("drop", *EXACT, "--dropout", "0.3")
    case.train("drop-split", *EXACT, "--dropout", "0.3", split=(1, 1))
    assert_same_training(case, "drop-split", "drop")


def check_share(case):
    """The client's files need only its own tensors, as `seam model pull --client` leaves them."""
    share = case.folder / "share"
    shutil.copytree(case.model, share)
    own = {f"model.layers.{layer}." for layer in (0, LAYERS - 1)}
    save_file({name: value for name, value in load_file(case.model / "model.safetensors").items()
               if not name.startswith("model.layers.") or name[:len("model.layers.0.")] in own},
              str(share / "model.safetensors"))
    command = case.command("shared", *EXACT, split=(1, 1))
    command[command.index(case.model)] = share
    code, text, err = case.seam.run(*command)
    assert code == 0, text + err
    assert_same_training(case, "shared", "split-1-1", relative=1e-12)
    command = case.command("bad", *EXACT, split=(2, 0))
    command[command.index(case.model)] = share
    code, text, err = case.seam.run(*command)
    assert code != 0 and "model.layers.1." in err, (code, err)


def check_sides(case):
    """LoRA of one end alone: only its layers are in the adapter; what travels follows from it."""
    for side, split, layers in (("server", (1, 1), [1, 2]), ("client", (1, 1), [0, 3]),
                                ("client", (0, 1), [3]), ("client", (2, 0), [0, 1]),
                                ("server", (0, 2), [0, 1])):
        out = f"side-{side}-{split[0]}-{split[1]}"
        report = case.train(out, *EXACT, "--lora-side", side, split=split)
        assert case.config(out)["layers_to_transform"] == layers, (out, case.config(out))
        names = {int(name.split(".")[4]) for name in case.adapter(out)}
        assert names == set(layers), (out, names)
        losses = [step["loss"] for step in report["steps"]]
        assert losses[-1] < losses[0], losses
        hashes = {step["state_hash"] for step in report["steps"]}
        assert len(hashes) == (1 if side == "client" else STEPS), hashes
        needs = side == "client" and split[0] > 0
        assert (report["steps"][0]["sites"]["bwd_in"]["rows"] > 0) == needs
    full = case.adapter("split-1-1")
    code, _, err = case.seam.run(*case.command("bad", *EXACT, "--lora-side", "client", "--adapter",
                                               case.folder / "split-1-1" / "adapter", split=(1, 1)))
    assert code != 0 and "have no LoRA in this session" in err, (code, err)
    assert len(full) == 2 * 7 * LAYERS


def assert_same_bits(case, out, report, one, what):
    """The run `out` is the run "one"."""
    assert shown(report) == shown(one), what
    mine, like = case.adapter(out), case.adapter("one")
    assert mine.keys() == like.keys() and all((mine[key] == like[key]).all() for key in like), what


def check_depths(case, name, args, split, depths):
    """The same bits at every depth.  Returns the run "one", at depth 1."""
    for out in ("one", "many"):  # which may have had another kind of adapter
        shutil.rmtree(case.folder / out, ignore_errors=True)
    one = case.train("one", *args, "--pipeline-depth", 1, "--delete-session", split=split)
    for depth in depths:
        many = case.train("many", *args, "--pipeline-depth", depth, "--delete-session", split=split)
        assert_same_bits(case, "many", many, one, (name, depth))
    return one


def check_cut_depths(case, server, name, args, split):
    """Through a proxy that cuts: the bits of the run "one", with and without others on their way."""
    one = case.report("one")
    sent = sum(step["bytes_sent"] for step in one["steps"])
    for depth in (1, 3):
        def same(address, depth=depth):
            cut = case.train("many", *args, "--pipeline-depth", depth, "--delete-session", split=split,
                             seam=Seam(case.path, address))
            assert_same_bits(case, "many", cut, one, (name, depth))
        check_cuts(server.address, same, range(sent // 10, sent * 2 // 5, sent // 12), least=4)


def check_depths_and_cuts(case, server):
    """AMAQ through both boundaries and its other codecs: the same bits at every depth, with all rows,
    and through a proxy that cuts."""
    for name, args, split in (
            ("waterfill", [], (1, 1)), ("gates", ["--allocator", "gates"], (1, 1)),
            ("front", [], (1, 0)), ("tail", [], (0, 1)), ("rans", ["--entropy", "rans"], (2, 1)),
            ("token", ["--granularity", "token"], (1, 1)), ("aqsgd", ["--codec", "aqsgd"], (1, 1)),
            ("bf16 in", ["--codec-fwd-in", "bf16"], (1, 1)),
            ("server", ["--lora-side", "server"], (1, 1)),
            ("client", ["--lora-side", "client"], (1, 1))):
        one = check_depths(case, name, args, split, depths=(2, 4))
        if name == "waterfill":
            every = case.train("every", *args, "--labelled-rows-only", "off", split=split)
            assert [(s["loss"], s["state_hash"]) for s in every["steps"]] == \
                [(s["loss"], s["state_hash"]) for s in one["steps"]]
            bits = [s["sites"][site]["mean_bits"] for s in one["steps"]
                    for site in ("fwd_in", "fwd_out", "bwd_out", "bwd_in")]
            assert max(bits) <= 8 and one["steps"][-1]["sites"]["fwd_in"]["mean_bits"] < 5, bits
            check_cut_depths(case, server, name, args, split)
    for args in (["--gate-signal", "exact"], ["--gate-signal", "exact", "--lora-side", "server"]):
        case.train("exact", *args, "--delete-session", split=(1, 1))


class SignalCuttingProxy(CuttingProxy):
    """Cuts what comes from the server: `behind` bytes behind the start of each gate signal of `which`,
    counted over all connections.  So the tensor of site 3 in front of it has come whole."""
    SIGNAL, HEADER_BYTES = b"SEAM\x01\x02\x02", 64  # kind 2, phase 2

    def __init__(self, target, which, behind):
        self.which, self.behind, self.seen = set(which), behind, 0
        super().__init__(target, 0, 0)

    def pump(self, source, sink, limit):
        if source.getpeername() != self.target:
            return super().pump(source, sink, limit)
        data, sent, at = b"", 0, 0  # since the connection began
        try:
            while more := source.recv(4096):
                data += more
                while (at := data.find(self.SIGNAL, at)) >= 0:
                    self.seen += 1
                    if self.seen in self.which:
                        while len(data) < at + self.behind:
                            data += source.recv(4096)
                        sink.sendall(data[sent:at + self.behind])
                        self.cut_count += 1
                        raise OSError("cut")
                    at += 1
                at = max(len(data) - len(self.SIGNAL) + 1, sent)  # its start may still come
                sink.sendall(data[sent:at])
                tail = data[at:]
                if not any(tail.endswith(self.SIGNAL[:n]) for n in range(1, len(tail) + 1)):
                    sink.sendall(tail)
                    at = len(data)
                sent = at
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def check_signal_lost(case, server):
    """The stream breaks between the gradient of the front blocks and site 0's gate signal, and within
    the signal: the answer comes again whole, and nothing is taken twice."""
    for name, args, cases in (
            ("waterfill", [], ((1, 0), (3, SignalCuttingProxy.HEADER_BYTES + 9))),
            ("gates", ["--allocator", "gates"], ((3, 0), (1, 20)))):
        one = case.train("one", *args, "--pipeline-depth", 1, "--delete-session", split=(1, 1))
        for depth, behind in cases:
            proxy = SignalCuttingProxy(server.address, (1, 3, 7, 12), behind)
            cut = case.train("cut", *args, "--pipeline-depth", depth, "--delete-session",
                             split=(1, 1), seam=Seam(case.path, proxy.address))
            proxy.close()
            assert proxy.cut_count == 4, (proxy.cut_count, proxy.seen)
            assert_same_bits(case, "cut", cut, one, (name, depth, behind))


def check_use(case):
    """Evaluation and generation through the split give what the exported adapter gives with all
    blocks at the server; the adapter of one cut is the start of another."""
    for out in ("split-1-1", "split-0-1", "split-2-1", "side-client-1-1"):
        adapter = case.folder / out / "adapter"
        ask = ["--model", case.model, "--codec", "f32", "--f32"]
        values = [case.seam.json("eval", *ask, "--data", case.eval, *of)
                  for of in (["--run", case.folder / out], ["--adapter", adapter])
                  if of[0] == "--run" or out != "side-client-1-1"]
        losses = [value["loss"] for value in values]
        assert max(losses) - min(losses) < 1e-5, losses
        texts = [case.seam.run("generate", *ask, "--prompt", "lamp 7 ->", "--new-tokens", 24, *of,
                               errors="replace")
                 for of in (["--run", case.folder / out], ["--adapter", adapter])
                 if of[0] == "--run" or out != "side-client-1-1"]
        assert all(code == 0 for code, _, _ in texts), texts
        assert len({text for _, text, _ in texts}) == 1, texts
    report = case.train("evaluated", *EXACT, "--eval-data", case.eval, split=(1, 1))
    like = case.train("evaluated-like", *EXACT, "--eval-data", case.eval)
    for name in ("before", "after"):
        mine, theirs = report["eval"][name], like["eval"][name]
        assert abs(mine["loss"] - theirs["loss"]) < 1e-5, name
        assert [e["text"] for e in mine["examples"]] == [e["text"] for e in theirs["examples"]] \
            if "text" in mine["examples"][0] else True
    start = case.folder / "whole" / "adapter"
    case.train("more", *EXACT, "--adapter", start)
    case.train("more-split", *EXACT, "--adapter", start, split=(2, 1))
    assert_same_training(case, "more-split", "more")
    code, _, err = case.seam.run("export", "--run", case.folder / "split-1-1", "--out",
                                 case.folder / "half")
    assert code != 0 and "adapter/ has both parts" in err, (code, err)


def check_refused(case):
    for args, text in ((["--front-blocks", 4], "front_blocks 4"),
                       (["--front-blocks", 2, "--tail-blocks", 2], "tail_blocks 2"),
                       (["--lora-side", "client"], "--lora-side"),
                       (["--tail-blocks", 1, "--lora-side", "left"], "lora_side"),
                       (["--front-blocks", 1, "--dictionary", "on"], "codec_fwd_in")):
        command = case.command("bad")
        code, _, err = case.seam.run(*command[:command.index("--rank")], "--quiet", *args)
        assert code != 0 and text in err, (args, code, err)


def check_tls(case):
    cert, key = case.folder / "cert.pem", case.folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    with Seamd(case.binary, case.model, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        seam = Seam(case.path, server.address)
        for split in SPLITS[:3]:
            case.train("tls", *EXACT, "--ca", cert, split=split, seam=seam)
            assert_same_training(case, "tls", "split-%d-%d" % split, relative=1e-12)


def killed_run(case, out, args, server_args, split):
    """The client is killed in mid-run, then the server; both come back."""
    with Seamd(case.binary, case.model, *server_args) as server:
        runner = subprocess.Popen(
            [case.path, *map(str, case.command(out, *args, split=split)), "--server",
             server.address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        journal = case.folder / out / "journal.bin"
        session = case.folder / out / "session.json"  # comes after the first record
        wait_for(lambda: session.exists() and journal.stat().st_size > case.enough,
                 what="some records")
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        resumed = subprocess.Popen(
            [case.path, "train", "--resume", str(case.folder / out), "--quiet", "--server",
             server.address], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(0.15)
        address = server.address
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        with Seamd(case.binary, case.model, *server_args, listen=address):
            _, err = resumed.communicate(timeout=DEADLINE_S)
            assert resumed.returncode == 0, err


KILLED = (((1, 1), []), ((1, 1), ["--lora-side", "client"]), ((0, 1), EXACT),
          ((2, 0), ["--allocator", "gates", "--pipeline-depth", 3]))


def check_kills(case, cases=KILLED, server_more=()):
    """kill -9 of either end, with the server's checkpoints and the client's journal: the same bits.
    The record has the client's adapter and moments: a first run shows how large one is."""
    for i, (split, args) in enumerate(cases):
        kept, killed = f"kept-{i}", f"killed-{i}"
        steps = ["--steps", 60, "--save-every", 1000, *args]
        state = tempfile.mkdtemp(dir=case.folder)
        server_args = ["--state-dir", state, "--checkpoint-percent", "100", *server_more]
        with Seamd(case.binary, case.model, *server_args) as server:
            whole = case.train(kept, *steps, split=split, seam=Seam(case.path, server.address))
        case.enough = (case.folder / kept / "journal.bin").stat().st_size // 4
        killed_run(case, killed, steps, server_args, split)
        assert shown(case.report(killed)) == shown(whole), split
        for name, value in case.adapter(kept).items():
            assert (case.adapter(killed)[name] == value).all(), name


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        case = Case(folder, binary, seam)
        with Seamd(binary, folder / "model", "--sessions-max", "64") as server:
            case.seam = Seam(seam, server.address)
            for check, *args in ((check_same_math,), (check_share,), (check_sides,), (check_use,),
                                 (check_refused,), (check_depths_and_cuts, server),
                                 (check_signal_lost, server), (check_tls,), (check_kills,)):
                run_check(check, case, *args)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Full fine-tuning of the server's blocks, over mutual TLS with the real programs.

Loss falls; a run in which server and client are killed has the bits of the one that nobody disturbed;
a LoRA session beside it is not touched; the exported layers, merged into the base, are a model that
serves what the session served, and they start another session; what makes no sense is refused by name.

    test_full.py SEAMD SEAM
"""
import json
import pathlib
import random
import sys
import tempfile

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, seamd_path
from test_kill_runs import Case

EXIT_FAILED, EXIT_USAGE = 1, 2
LAYERS, LAYERS_CONFIG = "trained_layers.safetensors", "trained_layers.json"


def tensors(path):
    data = path.read_bytes()
    count = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + count])
    return {name: info for name, info in header.items() if name != "__metadata__"}


def check_runs(case):
    """The run that nobody disturbed, and one of the same bits with both ends killed."""
    (whole, losses, hashes), seconds = case.whole("full")
    assert losses[-1] < 0.5 * losses[0], losses
    got = case.disturbed("disturbed-full", "full", ["both", "server", "client"], seconds,
                         random.Random(3))
    assert got == (whole, losses, hashes), "not the bits of the whole run"
    print(f"full: loss {losses[0]:.3f} -> {losses[-1]:.3f}, same bits after three kills")
    report = json.loads((case.folder / "whole-full" / "report.json").read_text())
    assert report["config"]["full"] is True and "rank" not in report["config"], report["config"]


def check_beside(case):
    """A LoRA session has the bits that it had before anything was trained in full."""
    first, _ = case.whole("micros")
    case.whole("full")
    second, _ = case.whole("micros")
    assert first == second
    print("a LoRA session beside it has the same bits")


def tls(case, *args):
    return [*map(str, args), "--server", case.server.address, "--server-name", "localhost", "--ca",
            case.tls["ca.pem"], "--cert", case.tls["client.pem"], "--key", case.tls["client.key"]]


def loss_of(text):
    return json.loads(text)["loss"]


def check_files(case):
    """Names and shapes of the model's own files; eval of the session, of its files and of the merged
    model agree; a session starts from the files."""
    adapter, merged = case.folder / "whole-full" / "adapter", case.folder / "merged"
    seam = Seam(case.seam, None)
    assert sorted(p.name for p in adapter.iterdir()) == [LAYERS_CONFIG, LAYERS]
    config = json.loads((adapter / LAYERS_CONFIG).read_text())
    base = tensors(case.model / "model.safetensors")
    trained = {n for n in base if n.startswith("model.layers.")}
    assert config["layers"] == [0, config["model_layers"]], config
    exported = tensors(adapter / LAYERS)
    assert set(exported) == trained
    for name, info in exported.items():
        assert info["dtype"] == "F32" and info["shape"] == base[name]["shape"], (name, info)
    code, out, err = seam.run("merge", "--model", case.model, "--adapter", adapter, "--out", merged,
                              "--json", server=False)
    assert code == 0, out + err
    assert json.loads(out)["merged"] == len(trained), out
    rows = write_rows(case.folder / "eval.jsonl", colour_rows(8))
    losses = []
    for args in (["--model", case.model, "--adapter", adapter],
                 ["--model", case.model, "--run", case.folder / "whole-full"], ["--model", case.model]):
        code, out, err = seam.run(*tls(case, "eval", "--data", rows, *args, "--codec", "f32",
                                       "--json", "--quiet"), server=False)
        assert code == 0, out + err
        losses.append(loss_of(out))
    with Seamd(case.seamd, merged, "--insecure", "--dtype", "f32") as server:
        code, out, err = Seam(case.seam, server.address).run(
            "eval", "--model", merged, "--data", rows, "--codec", "f32", "--json", "--quiet")
        assert code == 0, out + err
        losses.append(loss_of(out))
    files, session, untrained, whole = losses
    assert files == session and session < 0.5 * untrained, losses
    assert abs(whole - session) <= 1e-5 * session, losses  # the file's type is F32: only sums differ
    out = case.folder / "started"
    command = case.command(out, "full") + ["--adapter", str(adapter)]
    done = case.begin(*command)
    _, err = done.communicate(timeout=DEADLINE_S)
    assert done.returncode == 0, err
    assert case.result(out)[1][0] < 0.5 * untrained, case.result(out)[1][0]
    print(f"eval {session:.4f} by session, files and merged model; {untrained:.4f} before")


def check_refused(case):
    """Options that make no sense together, at the client and at the server; files of another kind."""
    seam = Seam(case.seam, None)
    base = ["train", "--model", case.model, "--data", case.rows, "--out", case.folder / "bad",
            "--full"]
    for args, text in ((["--rank", 4], "--full: --rank"), (["--targets", "q"], "--full: --rank"),
                       (["--dropout", 0.1], "--full: --rank"),
                       (["--prefix-tokens", 5], "--full and --prefix-tokens"),
                       (["--topology", "adapter_exchange"], "--full: with topology"),
                       (["--fp8"], "--fp8: of frozen products")):
        code, _, err = seam.run(*tls(case, *base, *args), server=False)
        assert code == EXIT_USAGE and text in err, (code, err)
    lora = case.folder / "whole-micros" / "adapter"
    layers = case.folder / "whole-full" / "adapter"
    code, _, err = seam.run(*tls(case, *base, "--adapter", lora), server=False)
    assert code == EXIT_USAGE and "--full: not as --adapter" in err, (code, err)
    code, _, err = seam.run(*tls(case, *base[:-1], "--rank", 4, "--adapter", layers), server=False)
    assert code == EXIT_USAGE and "--rank: not as --adapter" in err, (code, err)
    code, out, err = seam.run("plan", "--model", case.model, "--full", "--rank", 3, server=False)
    assert code == EXIT_USAGE and "--full: --rank" in err, (code, err)
    print("refused: passed")


def check_room(case):
    """A server without room for a copy of the blocks says what is needed."""
    model = case.folder / "wide"
    write_text_model(model, hidden=128, layers=4, heads=8, kv_heads=4, head_dim=16, intermediate=512)
    with Seamd(case.seamd, model, "--insecure", "--memory-budget", "12M") as server:
        code, _, err = Seam(case.seam, server.address).run(
            "train", "--model", model, "--data", case.rows, "--out", case.folder / "none", "--full",
            "--quiet")
        assert code == EXIT_FAILED and "adapter" in err and "moments" in err, (code, err)
    print("no room: passed")


def main():
    seamd, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        case = Case(pathlib.Path(folder), seamd, seam, "cpu")
        try:
            for check in (check_runs, check_beside, check_files, check_refused, check_room):
                check(case)
        finally:
            case.server.stop()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What blocks at the client go together with: a prefix, full fine-tuning of the server's blocks, and
topology VANILLA behind front blocks, on a tiny random model.

Goals: a session that is cut elsewhere is the same training, to 1e-5 in f32, clipped hard where both ends
train; no bit hangs on the pipeline's depth, on cuts of the stream, or on a kill of either end with
--resume; what comes out goes in, and serves what the session served; what makes no sense is refused by
name.  Against transformers and peft: tests/oracle/check_split.py.

    test_split_kinds.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

from cli_fixture import Seam, run_check, write_text_model
from service_fixture import Seamd, seamd_path
from test_client_blocks import (LAYERS, SPLITS, Case, assert_same_training, check_cut_depths,
                                check_depths, check_kills)

PLAIN = ["--codec", "f32", "--f32"]
CLIPPED = [*PLAIN, "--clip-norm", "0.3"]
PREFIX, FULL = ["--prefix-tokens", 5], ["--full"]
VANILLA = ["--topology", "vanilla", "--consent", "labels"]


class Kinds(Case):
    def command(self, out, *args, split=(0, 0)):
        """--rank is LoRA's."""
        command = super().command(out, *args, split=split)
        at = command.index("--rank")
        lora = "--full" not in args and "--prefix-tokens" not in args
        return command if lora else command[:at] + command[at + 2:]

    def adapter(self, out):
        folder = self.folder / out / "adapter"
        layers = folder / "trained_layers.safetensors"
        return load_file(layers if layers.exists() else folder / "adapter_model.safetensors")

    def loss(self, *args):
        return self.seam.json("eval", "--codec", "f32", "--f32", "--data", self.eval, *args)["loss"]


def check_prefix(case):
    """Both ends have their layers' keys and values: the whole session's start, norm and updates."""
    clipped = [*PLAIN, "--clip-norm", "0.1"]
    whole = case.train("prefix", *clipped, *PREFIX)
    assert min(step["grad_norm"] for step in whole["steps"]) > 0.2
    for split in SPLITS:
        out = "prefix-%d-%d" % split
        report = case.train(out, *clipped, *PREFIX, split=split)
        assert_same_training(case, out, "prefix")
        mine, theirs = case.config(out), case.config("prefix")
        assert mine == theirs and mine["num_layers"] == LAYERS, (mine, theirs)
        assert report["config"]["prefix_tokens"] == 5
        run, folder = case.folder / out, case.folder / out / "adapter"
        losses = [case.loss("--model", case.model, *of) for of in (["--run", run], ["--adapter", folder])]
        assert abs(losses[0] - losses[1]) < 1e-5, losses
        texts = [case.seam.run("generate", "--model", case.model, "--codec", "f32", "--f32", "--prompt",
                               "lamp 7 ->", "--new-tokens", 24, *of, errors="replace")
                 for of in (["--run", run], ["--adapter", folder])]
        assert texts[0][0] == 0 and texts[0][1] == texts[1][1], texts
    start = case.folder / "prefix" / "adapter"
    case.train("prefix-more", *clipped, *PREFIX, "--adapter", start)
    case.train("prefix-more-split", *clipped, *PREFIX, "--adapter", start, split=(2, 1))
    assert_same_training(case, "prefix-more-split", "prefix-more")


def layers_of(case, out):
    return json.loads((case.folder / out / "adapter" / "trained_layers.json").read_text())["layers"]


def check_full(case):
    """The server's blocks alone are trained.  A first step without clipping moves each of them as it
    moves where all are trained, by about its gradient with such an eps; the files name those layers,
    merge, serve and start a session."""
    first_step = [*PLAIN, *FULL, "--steps", 1, "--lr", 1, "--adam-eps", 1, "--clip-norm", 0]
    case.train("full", *first_step)
    whole, start = case.adapter("full"), load_file(case.model / "model.safetensors")
    assert all(np.abs(whole[name] - start[name]).max() > 1e-4 for name in whole)
    for split in SPLITS:
        out = "full-%d-%d" % split
        first = case.train(out, *first_step, split=split)
        begin, end = split[0], LAYERS - split[1]
        assert layers_of(case, out) == [begin, end]
        mine = case.adapter(out)
        inside = {name for name in whole if begin <= int(name.split(".")[2]) < end}
        assert mine.keys() == inside, mine.keys() ^ inside
        worst = max(np.abs(mine[name] - whole[name]).max() for name in mine)
        assert worst < 1e-6, (split, worst)
        assert first["config"]["lora_side"] == "server"
        assert all(site in ("fwd_in", "fwd_out", "bwd_out") or info["rows"] == 0
                   for site, info in first["steps"][0]["sites"].items())
    report = case.train("full-split", *PLAIN, *FULL, split=(1, 1))
    losses = [step["loss"] for step in report["steps"]]
    assert losses[-1] < 0.5 * losses[0], losses
    run, layers, merged = case.folder / "full-split", case.folder / "full-split" / "adapter", \
        case.folder / "merged"
    code, text, err = case.seam.run("merge", "--model", case.model, "--adapter", layers, "--out", merged,
                                    "--json", server=False)
    assert code == 0 and json.loads(text)["merged"] == len(case.adapter("full-split")), text + err
    base, changed = (load_file(folder / "model.safetensors") for folder in (case.model, merged))
    moved = {name for name in base if not np.array_equal(base[name], changed[name])}
    assert moved and {int(name.split(".")[2]) for name in moved} == set(range(1, LAYERS - 1)), moved
    values = [case.loss("--model", case.model, *of) for of in (["--run", run], ["--adapter", layers])]
    with Seamd(case.binary, merged) as server:
        values.append(Seam(case.path, server.address).json(
            "eval", "--model", merged, "--codec", "f32", "--f32", "--data", case.eval)["loss"])
    assert values[0] == values[1] and abs(values[2] / values[0] - 1) < 1e-5, values
    assert values[0] < 0.7 * case.loss("--model", case.model), values
    started = case.train("full-more", *PLAIN, *FULL, "--adapter", layers, split=(1, 1))
    assert started["steps"][0]["loss"] < 0.7 * losses[0], started["steps"][0]["loss"]
    code, _, err = case.seam.run(*case.command("bad", *PLAIN, *FULL, "--adapter", layers, split=(1, 0)))
    assert code != 0 and "--front-blocks, --tail-blocks: are 1 and 0" in err, (code, err)


def check_vanilla(case):
    """Front blocks here, the rest and the loss there: the U-shaped session's training, with LoRA of either
    end or both, a prefix, and the server's blocks in full."""
    lora = ["--targets", "q,k,v,o,gate,up,down"]
    for front, name, args in (
            (1, "both", lora), (2, "both-drop", [*lora, "--dropout", "0.3"]), (3, "both-most", lora),
            (2, "client", [*lora, "--lora-side", "client"]), (2, "server", [*lora, "--lora-side", "server"]),
            (2, "prefix", PREFIX), (2, "full", FULL)):
        u, v = f"u-{name}", f"v-{name}"
        case.train(u, *CLIPPED, *args, split=(front, 0))
        report = case.train(v, *CLIPPED, *args, *VANILLA, split=(front, 0))
        assert_same_training(case, v, u)
        trained = name not in ("server", "full")
        for step in report["steps"]:
            sites = step["sites"]
            assert sites["fwd_in"]["rows"] == step["tokens"], sites
            assert (sites["bwd_in"]["rows"] == step["tokens"]) == trained, sites
            assert sites["fwd_out"]["payload_bytes"] == sites["bwd_out"]["payload_bytes"] == 0, sites
        losses = [case.loss("--model", case.model, "--run", case.folder / out) for out in (u, v)]
        assert abs(losses[0] - losses[1]) < 1e-5, losses


def check_depths_and_cuts(case, server):
    """The same bits at every depth and through a proxy that cuts."""
    for name, args, split in (
            ("prefix", PREFIX, (1, 1)), ("prefix gates", [*PREFIX, "--allocator", "gates"], (2, 0)),
            ("full", FULL, (1, 1)), ("full token", [*FULL, "--granularity", "token"], (0, 1)),
            ("vanilla", VANILLA, (2, 0)), ("vanilla gates", [*VANILLA, "--allocator", "gates"], (1, 0)),
            ("vanilla prefix", [*VANILLA, *PREFIX, "--codec", "affine"], (1, 0)),
            ("vanilla server", [*VANILLA, "--lora-side", "server", "--entropy", "rans"], (2, 0))):
        check_depths(case, name, args, split, depths=(2, 8))
        if name in ("prefix", "full", "vanilla", "vanilla prefix"):
            check_cut_depths(case, server, name, args, split)
    for args, split in (([*VANILLA, "--gate-signal", "exact"], (1, 0)),
                        ([*VANILLA, "--gate-signal", "exact", "--lora-side", "server"], (1, 0))):
        case.train("exact", *args, "--pipeline-depth", 1, "--delete-session", split=split)


def check_refused(case):
    for args, text in (
            ([*FULL, "--front-blocks", 1, "--lora-side", "both"], "--lora-side: with --full"),
            ([*PREFIX, "--tail-blocks", 1, "--lora-side", "server"], "--lora-side: with --prefix-tokens"),
            ([*VANILLA, "--tail-blocks", 1], "config.tail_layers: 1, but with VANILLA"),
            (["--topology", "adapter_exchange", "--consent", "text", "--front-blocks", 1],
             "config.front_layers: with ADAPTER_EXCHANGE")):
        command = case.command("bad", *args)
        for name in ("--front-blocks", "--tail-blocks"):  # the command's own zeros come first
            at = command.index(name)
            command = command[:at] + command[at + 2:]
        code, _, err = case.seam.run(*command)
        assert code != 0 and text in err, (args, code, err)


KILLED = (((1, 1), PREFIX), ((1, 1), FULL), ((2, 0), VANILLA),
          ((1, 0), [*VANILLA, *PREFIX, "--codec", "bf16", "--pipeline-depth", 3]))


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", layers=LAYERS)
        case = Kinds(folder, binary, seam)
        with Seamd(binary, folder / "model", "--sessions-max", "96", "--allow-text") as server:
            case.seam = Seam(seam, server.address)
            for check, *args in ((check_prefix,), (check_full,), (check_vanilla,), (check_refused,),
                                 (check_depths_and_cuts, server),
                                 (check_kills, KILLED, ["--allow-labels"])):
                run_check(check, case, *args)


if __name__ == "__main__":
    main()

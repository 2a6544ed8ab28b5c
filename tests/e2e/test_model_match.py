#!/usr/bin/env python3
"""Which of a server's models a command is answered by.

An identity says a model's shape and not its weights.  Goals: where several models of a server have the
shape of the one here, none is taken without a name, and with one it is that; a session is only asked
with a model of its own shape.  Method: a model, and what `seam merge` makes of it and an adapter, on
one server; a run, and models of other shapes.

    test_model_match.py SEAMD SEAM
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import Seamd, seamd_path

EXIT_INPUT = 4


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam_path = folder, seam
        self.model, self.run, self.merged = folder / "model", folder / "run", folder / "merged"
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        self.eval = write_rows(folder / "eval.jsonl", colour_rows(8, 100))
        write_text_model(self.model)

    def serve(self, *args):
        return Seamd(seamd_path(), self.model, "--state-dir", str(self.folder / "state"), *args)

    def train(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", 20, "--batch", 4, "--rank", 4, "--lr", "1e-2", "--quiet", *args]

    def loss(self, seam, *args):
        return seam.json("eval", "--model", self.model, "--data", self.eval, "--codec", "f32", "--f32",
                         "--exact-match", "off", *args)["loss"]


def refused(seam, text, *args):
    code, out, err = seam.run(*args)
    assert code == EXIT_INPUT and text in err, (args, code, out, err)


def check_other_shape(case):
    """The session of a run, asked with a model that is not the run's: of wider rows, of more blocks."""
    with case.serve() as server:
        seam = Seam(case.seam_path, server.address)
        code, _, err = seam.run(*case.train("run"))
        assert code == 0, err
        for name, sizes in (("wide", {"hidden": 96}), ("narrow", {"hidden": 24, "heads": 3, "kv_heads": 1}),
                            ("deep", {"layers": 3})):
            write_text_model(case.folder / name, **sizes)
            other = ["--model", case.folder / name]
            shape = f"the server's 'tiny' has another shape than '{name}'"
            refused(seam, shape, "eval", *other, "--run", case.run, "--data", case.eval)
            refused(seam, shape, "generate", *other, "--run", case.run, "lamp")
            refused(seam, shape, *case.train("bad", *other, "--server-model", "tiny"))


def check_same_shape(case):
    """A base model and one that was made of it, on one server."""
    command = Seam(case.seam_path, "")
    code, _, err = command.run("merge", "--model", case.model, "--adapter", case.run / "adapter", "--out",
                               case.merged, server=False)
    assert code == 0, err
    with case.serve() as server:
        seam = Seam(case.seam_path, server.address)
        base, trained = case.loss(seam), case.loss(seam, "--adapter", case.run / "adapter")
        assert trained < base - 0.5, (base, trained)
    with case.serve("--model", f"merged={case.merged}") as server:
        seam = Seam(case.seam_path, server.address)
        both = "tiny, merged; say which one by --server-model"
        refused(seam, both, "eval", "--model", case.model, "--data", case.eval)
        refused(seam, both, *case.train("bad"))
        refused(seam, both, "audit", "--model", case.model, "--data", case.rows)
        assert case.loss(seam, "--server-model", "tiny") == base
        assert abs(case.loss(seam, "--server-model", "merged") - trained) < 1e-3
        # A run goes by the model of its session.
        code, _, err = seam.run("train", "--resume", case.run)
        assert code == 0, err
        assert abs(case.loss(seam, "--run", case.run) - trained) < 1e-6
        code, _, err = seam.run(*case.train("second", "--server-model", "merged"))
        assert code == 0, err
        report = json.loads((case.folder / "second" / "report.json").read_text())
        assert report["model"]["server_model"] == "merged", report["model"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        case = Case(pathlib.Path(folder), sys.argv[2])
        for check in (check_other_shape, check_same_shape):
            run_check(check, case)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A client that comes back: `seam train --resume` where the session's room is taken, the data or the
tokenizer is another, the folder that the command was typed in is gone; `seam eval`, `seam generate`
and a run's evaluation where the connection is cut again and again.

    test_resume.py SEAMD SEAM
"""
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from cli_fixture import (CuttingProxy, colour_rows, stopped_in_steps, write_rows,
                         write_text_model)
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

EXIT_INPUT, EXIT_INTERRUPTED = 4, 130
STEPS = 1500


class Case:
    def __init__(self, folder, binary, seam):
        self.folder, self.binary, self.seam = folder, binary, seam
        self.model = folder / "model"
        write_text_model(self.model)
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        self.cwd, self.numbers = folder / "cwd", itertools.count()
        self.cwd.mkdir()

    def serve(self, *args):
        return Seamd(self.binary, self.model, "--state-dir", str(self.folder / "state"),
                     "--lease-timeout", "300", *args)

    def begin(self, server, *args, cwd=None):
        """server: whatever has an address."""
        return subprocess.Popen([self.seam, *map(str, args), "--quiet", "--server", server.address],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                cwd=cwd or self.folder)

    def waits(self, server, *args):
        """A client that the server has asked to wait, and how to read what it says."""
        said, refused = self.folder / f"said-{next(self.numbers)}", server.log.count("status=LIMIT")
        resumes = "--resume" in args  # says nothing itself
        with said.open("w") as sink:
            process = subprocess.Popen([self.seam, *map(str, args), "--server", server.address],
                                       stdout=subprocess.DEVNULL, stderr=sink, cwd=self.folder)
        wait_for(lambda: process.poll() is not None or "asks to wait" in said.read_text() or
                 resumes and server.log.count("status=LIMIT") > refused, what="a client that waits")
        assert process.poll() is None, said.read_text()
        return process, said.read_text

    def command(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--batch", 4, "--rank", 4, *args]

    def train(self, server, out, *args, **kwargs):
        return self.begin(server, *self.command(out, *args), **kwargs)

    def interrupted(self, server, out, *args, **kwargs):
        """A run that was stopped in the middle of its steps."""
        process = stopped_in_steps(
            lambda: self.train(server, out, "--steps", STEPS, *args, **kwargs), self.folder / out)
        code, err = ended(process)
        assert code == EXIT_INTERRUPTED, (code, err)

    def resume(self, server, out, *args, **kwargs):
        return self.begin(server, "train", "--resume", self.folder / out, *args, **kwargs)

    def hashes(self, out):
        return [s["state_hash"] for s in
                json.loads((self.folder / out / "report.json").read_text())["steps"]]


def ended(process):
    _, err = process.communicate(timeout=3 * DEADLINE_S)
    return process.returncode, err


def check_room_taken(case):
    """A parked session whose room another has: the client waits as the server asks, within
    --reconnect, and goes on when there is room."""
    with case.serve("--sessions-max", "1") as server:
        case.interrupted(server, "parked")
        wait_for(lambda: "session_parked" in server.log, what="parked session")
        other = case.train(server, "other", "--steps", 1000000)
        wait_for(lambda: (case.folder / "other" / "session.json").exists(), what="other session")
        code, err = ended(case.resume(server, "parked", "--reconnect", 12))
        assert code != 0 and "given up" in err and "sessions-max" in err, (code, err)
        begin = time.monotonic()
        waiting, said = case.waits(server, "train", "--resume", case.folder / "parked",
                                   "--reconnect", 3600)
        other.send_signal(signal.SIGINT)
        ended(other)
        assert ended(waiting)[0] == 0, said()
        assert time.monotonic() - begin >= 5, "sooner than RetryInfo allows"
        assert len(case.hashes("parked")) == STEPS


def check_room_taken_at_the_start(case):
    """A new session whose room another has, likewise; one that never fits is refused at once, and
    who waits can be stopped."""
    with case.serve("--sessions-max", "1", "--memory-budget", "64M") as server:
        other = case.train(server, "holder", "--steps", 1000000, "--delete-session")
        wait_for(lambda: (case.folder / "holder" / "session.json").exists(), what="holder")
        code, err = ended(case.train(server, "soon", "--steps", 1, "--reconnect", 12))
        assert code != 0 and "sessions-max" in err, (code, err)
        begin = time.monotonic()
        more = ["--steps", 1, "--reconnect", 3600]
        stopped, stopped_said = case.waits(server, *case.command("stopped", *more))
        waiting, said = case.waits(server, *case.command("waiting", *more))
        stopped.send_signal(signal.SIGINT)
        code, _ = ended(stopped)  # else it would wait for as long as the room is taken
        assert code == EXIT_INTERRUPTED and "stopped while waiting" in stopped_said(), stopped_said()
        other.send_signal(signal.SIGINT)
        ended(other)
        run = ["session", "delete", "--run", case.folder / "holder"]
        code, err = ended(case.begin(server, *run))
        assert code == 0, (code, err)
        assert ended(waiting)[0] == 0, said()
        assert time.monotonic() - begin >= 5, "sooner than RetryInfo allows"
        code, err = ended(case.begin(server, "session", "delete", "--run", case.folder / "waiting"))
        assert code == 0, (code, err)
        code, err = ended(case.train(server, "large", *more, "--codec", "aqsgd", "--bits", 4,
                                     "--cache-bytes", 1 << 30))  # does not wait for an hour
        assert code != 0 and ("in all" in err or "allows" in err), (code, err)
        assert "given up" not in err, err


def check_other_data(case, server):
    """Rows or a tokenizer that are not the run's are refused, by name; the same rows in other bytes
    are not, nor is a folder that says nothing of its rows."""
    run = case.folder / "data"
    case.interrupted(server, "data")
    stated = json.loads((run / "data.json").read_text())
    assert stated["rows"] == 40 and stated["batch"] == 4, stated

    def refused(text):
        code, err = ended(case.resume(server, "data"))
        assert code == EXIT_INPUT and text in err and "data.json" in err, (code, err)

    write_rows(case.rows, colour_rows(44, 100))
    refused("--data")
    write_rows(case.rows, colour_rows(39) + colour_rows(1, 100))
    refused("--data")
    write_rows(case.rows, colour_rows(40))
    tokenizer = case.model / "tokenizer.json"
    whole = tokenizer.read_text()
    value = json.loads(whole)
    vocab = value["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    tokenizer.write_text(json.dumps(value))
    refused("--model")
    tokenizer.write_text(whole)
    (run / "data.json").write_text(json.dumps(stated | {"seed": "9"}))
    refused("--seed")
    (run / "data.json").write_text("{")
    refused("--resume")
    (run / "data.json").unlink()  # as an earlier release leaves it
    case.rows.write_text("".join(json.dumps(row, indent=None, separators=(", ", " : ")) + "\n"
                                 for row in colour_rows(40)))
    code, err = ended(case.resume(server, "data"))
    assert code == 0, (code, err)
    again = json.loads((run / "data.json").read_text())
    assert again["rows_hash"] == stated["rows_hash"] and again["file_hash"] != stated["file_hash"]
    write_rows(case.rows, colour_rows(40))
    code, err = ended(case.resume(server, "data"))
    assert code == 0, (code, err)


def check_other_evaluation(case, server):
    """The evaluation before the first step was of rows that are not there any more: the one after the
    last step would be of others, beside it in one table."""
    rows = write_rows(case.folder / "eval.jsonl", colour_rows(6, 200))
    case.interrupted(server, "evaluated", "--eval-data", rows, "--exact-match", "off")
    write_rows(rows, colour_rows(9, 200))
    code, err = ended(case.resume(server, "evaluated"))
    assert code == EXIT_INPUT and "--eval-data" in err and "9 rows" in err and "data.json" in err, (code, err)
    stated = json.loads((case.folder / "evaluated" / "data.json").read_text())
    assert stated["eval_rows"] == 6, stated
    write_rows(rows, colour_rows(6, 200))
    code, err = ended(case.resume(server, "evaluated"))
    assert code == 0, (code, err)
    report = json.loads((case.folder / "evaluated" / "report.json").read_text())
    assert report["complete"] and {e["rows"] for e in report["eval"].values()} == {6}, report["eval"]


def check_folder_gone(case, server):
    """The folder that the command was typed in is needed by relative paths alone."""
    case.interrupted(server, "absolute", cwd=case.cwd)
    case.interrupted(server, "relative", "--data", "../train.jsonl", cwd=case.cwd)
    os.rmdir(case.cwd)
    code, err = ended(case.resume(server, "absolute"))
    assert code == 0, (code, err)
    code, err = ended(case.resume(server, "relative"))
    assert code == EXIT_INPUT and "--data" in err and str(case.cwd) in err, (code, err)
    case.cwd.mkdir()
    code, err = ended(case.resume(server, "relative"))
    assert code == 0, (code, err)
    assert case.hashes("absolute") == case.hashes("relative")


def check_adapter_gone(case, server):
    """A run that was begun with --adapter needs that folder no more: LoRA, a prefix, trained layers of a
    split model; what it was is in the report, and the steps are those of a run that was not cut."""
    lora = {"rank": 3, "alpha": 5.0, "targets": "q,o", "rslora": True}
    for name, first, config in (
            ("lora", ["--rank", 3, "--alpha", 5, "--targets", "q,o", "--rslora"], lora),
            ("prefix", ["--prefix-tokens", 5], {"prefix_tokens": 5}),
            ("layers", ["--full", "--front-blocks", 1], {"full": True, "front_blocks": 1})):
        def train(out, *args):
            return case.begin(server, "train", "--model", case.model, "--data", case.rows, "--out",
                              case.folder / out, "--batch", 4, *args, cwd=case.cwd)

        code, err = ended(train(f"{name}-first", "--steps", 2, *first))
        assert code == 0, (code, err)
        source = case.cwd / name
        shutil.copytree(case.folder / f"{name}-first" / "adapter", source)
        whole, cut = case.folder / f"{name}-whole", case.folder / f"{name}-cut"
        code, err = ended(train(whole, "--steps", STEPS, "--adapter", source))
        assert code == 0, (code, err)
        process = stopped_in_steps(lambda: train(cut, "--steps", STEPS, "--adapter", name), cut)
        code, err = ended(process)
        assert code == EXIT_INTERRUPTED, (code, err)
        shutil.rmtree(case.cwd)  # the folder that a relative --adapter goes by, too
        code, err = ended(case.resume(server, cut))
        assert code == 0, (name, code, err)
        case.cwd.mkdir()
        assert case.hashes(cut) == case.hashes(whole), name
        reports = [json.loads((run / "report.json").read_text())["config"] for run in (whole, cut)]
        assert reports[0] == reports[1], reports
        assert {key: reports[1].get(key) for key in config} == config, reports[1]
        stated = json.loads((cut / "command.json").read_text())
        stated["adapter"] = {"rank": 3, "targets": "q", "full": True}
        (cut / "command.json").write_text(json.dumps(stated))
        code, err = ended(case.resume(server, cut))
        assert code == EXIT_INPUT and "command.json: adapter" in err, (code, err)


def check_cut_evaluation(case, server):
    """Requests are made again on a new stream: the same figures and texts, token for token; without
    --reconnect's time left, an error."""
    run = case.folder / "absolute"
    rows = write_rows(case.folder / "eval.jsonl", colour_rows(120, 1000))
    evaluate = ["eval", "--model", case.model, "--data", rows, "--run", run, "--json",
                "--new-tokens", 40]
    generate = ["generate", "--model", case.model, "--run", run, "--json", "--new-tokens", 60,
                "--prompt", "lamp 7 -> " * 12]
    train = ["train", "--model", case.model, "--data", case.rows, "--steps", 3, "--batch", 4, "--rank",
             4, "--eval-data", rows, "--eval-new-tokens", 20]

    def output(at, args):
        process = case.begin(at, *args)
        text, err = process.communicate(timeout=3 * DEADLINE_S)
        return process.returncode, text, err

    def shown(result):
        return {key: value for key, value in result.items() if key != "seconds"}

    for args, cut_after, cuts in ((evaluate, 40_000, 6), (generate, 14_000, 3)):
        code, text, err = output(server, args)
        assert code == 0, err
        proxy = CuttingProxy(server.address, cut_after, cuts)
        code, cut, err = output(proxy, args)
        proxy.close()
        assert code == 0, err
        assert proxy.cut_count == cuts, proxy.cut_count
        assert shown(json.loads(cut)) == shown(json.loads(text)), (cut, text)
    proxy = CuttingProxy(server.address, 40_000, 1000)
    code, _, err = output(proxy, evaluate + ["--reconnect", 1])
    assert code == 3 and "not reachable or has gone" in err, (code, err)
    proxy.close()
    code, _, err = output(server, train + ["--out", case.folder / "whole"])
    assert code == 0, err
    proxy = CuttingProxy(server.address, 50_000, 6)
    code, _, err = output(proxy, train + ["--out", case.folder / "cut"])
    proxy.close()
    assert code == 0 and proxy.cut_count == 6, (err, proxy.cut_count)
    evals = [json.loads((case.folder / out / "report.json").read_text())["eval"]
             for out in ("whole", "cut")]
    assert {k: shown(v) for k, v in evals[0].items()} == {k: shown(v) for k, v in evals[1].items()}


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        case = Case(pathlib.Path(folder), binary, seam)
        check_room_taken(case)
        print("check_room_taken: passed", flush=True)
        check_room_taken_at_the_start(case)
        print("check_room_taken_at_the_start: passed", flush=True)
        with case.serve() as server:
            for check in (check_other_data, check_other_evaluation, check_folder_gone, check_adapter_gone,
                          check_cut_evaluation):
                check(case, server)
                print(f"{check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The run folder of `seam train` belongs to one run.

Goals: a command that is refused leaves the run that is there as it was, whether that one is under
way, unfinished or done; an unfinished run goes away only when that is asked for.

    test_run_folder.py SEAMD SEAM
"""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_INTERRUPTED = 1, 3, 4, 130


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam = folder, seam
        self.model = folder / "model"
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))

    def args(self, out, *more):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--batch", 4, "--rank", 4, "--quiet", *more]

    def begin(self, *args):
        return subprocess.Popen([self.seam.binary, *map(str, args), "--server", self.seam.server],
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def sessions(self):
        return {s["id"] for s in self.seam.json("session", "list")["sessions"]}

    def files(self, out):
        """Everything that a later command goes by."""
        return {p.name: p.read_bytes() for p in (self.folder / out).iterdir()
                if p.is_file() and p.name != "journal.lock"}

    def cut(self, out):
        """A run that was interrupted after a few steps."""
        runner = self.begin(*self.args(out, "--steps", 1000000, "--save-every", 3))
        wait_for((self.folder / out / "adapter").exists, what="saved adapter")
        runner.send_signal(signal.SIGINT)
        assert runner.wait(DEADLINE_S) == EXIT_INTERRUPTED, runner.stderr.read()

    def stands(self, out):
        """A run that does not go on for now (SIGSTOP), and its steps; of more where one of few ended
        first."""
        for steps in (300, 1000, 3000, 10000):
            runner = self.begin(*self.args(out, "--steps", steps))
            wait_for(lambda: runner.poll() is not None or
                     (self.folder / out / "session.json").exists(), what="run")
            runner.send_signal(signal.SIGSTOP)
            time.sleep(0.05)  # what was about to end does
            if runner.poll() is None:
                return runner, steps
            (self.folder / out / "session.json").unlink()
        raise AssertionError("each run ended before it was stopped")

    def report(self, out):
        return json.loads((self.folder / out / "report.json").read_text())


def check_under_way(case):
    """A second command in the folder of a run that is under way: refused, and the run, killed
    afterwards, goes on."""
    first, steps = case.stands("live")
    sessions = case.sessions()
    before = (case.folder / "live" / "session.json").read_bytes()
    code, _, err = case.seam.run(*case.args("live", "--steps", 5))
    assert code == EXIT_FAILED and "another process has this run" in err, (code, err)
    assert (case.folder / "live" / "session.json").read_bytes() == before
    assert case.sessions() == sessions, "the refused command has left a session"
    first.kill()
    first.communicate()
    code, _, err = case.seam.run("train", "--resume", case.folder / "live")
    assert code == 0, err
    assert case.report("live")["complete"] and len(case.report("live")["steps"]) == steps


def check_failed_command(case):
    """Commands that fail before they have a session change nothing of the run that is there."""
    code, _, err = case.seam.run(*case.args("done", "--steps", 4))
    assert code == 0, err
    before = case.files("done")
    sessions = case.sessions()
    nobody = Seam(case.seam.binary, "127.0.0.1:1")
    for seam, args, expected in [(nobody, ["--batch", 1, "--steps", 60], EXIT_UNAVAILABLE),
                                 (case.seam, ["--codec", "zip"], EXIT_INPUT),
                                 (case.seam, ["--adapter", case.folder / "nowhere"], None)]:
        code, _, err = seam.run(*case.args("done", *args))
        assert code != 0 and expected in (None, code), (code, err)
        assert case.files("done") == before, args
        assert case.sessions() == sessions, (args, "a session was left")
    code, _, err = case.seam.run("train", "--resume", case.folder / "done")
    assert code == 0 and len(case.report("done")["steps"]) == 4, err
    # Another run's command is not taken for this one's.
    command = json.loads(before["command.json"])
    command["session"] = "another"
    (case.folder / "done" / "command.json").write_text(json.dumps(command))
    code, _, err = case.seam.run("train", "--resume", case.folder / "done")
    assert code != 0 and "command.json is of session another" in err, (code, err)


def check_unfinished(case):
    """A run that may go on is not overwritten; discarded, its folder is free.  One that is done
    makes way at once."""
    case.cut("cut")
    before = case.files("cut")
    code, _, err = case.seam.run(*case.args("cut", "--steps", 4))
    assert code == EXIT_FAILED, (code, err)
    for text in ("not finished", "--resume", "another --out", "session delete"):
        assert text in err, (text, err)
    assert case.files("cut") == before
    sessions = case.sessions()
    code, _, err = case.seam.run("session", "delete", case.folder / "cut")
    assert code == 0 and len(case.sessions()) == len(sessions) - 1, err
    for steps in (4, 5):
        code, _, err = case.seam.run(*case.args("cut", "--steps", steps))
        assert code == 0 and len(case.report("cut")["steps"]) == steps, err
    # Its session is gone from the server: the folder can be discarded all the same.
    case.cut("lost")
    session = json.loads((case.folder / "lost" / "session.json").read_text())
    case.seam.run("session", "delete", case.folder / "lost")
    (case.folder / "lost" / "session.json").write_text(json.dumps(session))
    code, _, err = case.seam.run("session", "delete", case.folder / "lost")
    assert code == 0 and not (case.folder / "lost" / "session.json").exists(), err


def main():
    binary, seam_path = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model")
        with Seamd(binary, folder / "model", "--sessions-max", "64") as server:
            case = Case(folder, Seam(seam_path, server.address))
            for check in [check_under_way, check_failed_command, check_unfinished]:
                check(case)
                print(f"{check.__name__}: passed", flush=True)


if __name__ == "__main__":
    main()

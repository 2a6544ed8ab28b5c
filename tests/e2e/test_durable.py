#!/usr/bin/env python3
"""Sessions in a state directory: restarts, leases, parking, damage and full disks, with the real
programs.

    test_durable.py SEAMD SEAM
"""
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from cli_fixture import HoldingProxy, Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_INPUT, EXIT_IO = 2, 3, 4, 5


class Case:
    def __init__(self, folder, binary, seam):
        self.folder, self.binary, self.seam_path = folder, binary, seam
        self.model = folder / "model"
        write_text_model(self.model)
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        self.state = folder / "state"
        self.port = None

    def serve(self, *args, **kwargs):
        """A server on the state directory, always on the same port."""
        server = Seamd(self.binary, self.model, "--state-dir", str(self.state),
                       "--checkpoint-percent", "100", *args,
                       listen=self.port or "127.0.0.1:0", **kwargs)
        self.port = server.address
        return server

    def command(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", 6, "--batch", 4, "--rank", 4, "--lr", "1e-2", "--quiet", *args]

    def run(self, *args, **kwargs):
        return Seam(self.seam_path, self.port).run(*args, **kwargs)

    def train(self, out, *args, **kwargs):
        code, text, err = self.run(*self.command(out, *args), **kwargs)
        assert code == 0, text + err

    def adapter(self, folder):
        return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()

    def session(self, out):
        return json.loads((self.folder / out / "session.json").read_text())["session"]

    def files(self, out, suffix="manifest"):
        return sorted((self.state / "sessions" / self.session(out)).glob(f"*.{suffix}"))

    def export(self, out, to):
        return self.run("export", "--run", self.folder / out, "--out", self.folder / to)

    def show(self, out):
        code, text, err = self.run("session", "show", "--run", self.folder / out, "--json")
        assert code == 0, err
        return json.loads(text)


def check_restart(case):
    """SIGTERM leaves a checkpoint of the last step; the next process serves it: export gives the
    same adapter, `eval` works, and so it does after the run has ended."""
    with case.serve() as server:
        case.train("first")
        whole = case.adapter(case.folder / "first" / "adapter")
        assert server.stop() == 0
        assert int(case.files("first")[-1].name.split(".")[0]) == 6, case.files("first")
    with case.serve() as server:
        assert case.show("first")["state"].lower().endswith("parked")
        assert case.show("first")["memory_bytes"] == 0
        code, text, err = case.export("first", "exported")
        assert code == 0, text + err
        assert case.adapter(case.folder / "exported") == whole
        assert "session_recovered" in server.log and "step=6" in server.log
        assert case.show("first")["memory_bytes"] > 0
        code, text, err = case.run("generate", "--run", case.folder / "first", "--model",
                                   case.model, "--prompt", "lamp 1 ->", "--new-tokens", 4)
        assert code == 0, text + err


def check_lease(case):
    """After its lease a session is parked: memory goes, the next call brings it back; after the
    park timeout, which the next server has, it is gone, with its files."""
    with case.serve("--lease-timeout", "300") as server:
        case.train("leased")
        before = case.adapter(case.folder / "leased" / "adapter")
        wait_for(lambda: "session_parked" in server.log and case.show("leased")["memory_bytes"] == 0,
                 what="parked session")  # a slow run was parked before its first step too
        parked_count = server.log.count("session_parked")
        code, text, err = case.export("leased", "unparked")
        assert code == 0, text + err
        assert case.adapter(case.folder / "unparked") == before
        wait_for(lambda: server.log.count("session_parked") > parked_count, what="second parking")
        folder = case.files("leased")[0].parent
    with case.serve("--lease-timeout", "300", "--park-timeout", "2") as server:
        wait_for(lambda: f"session_expired session={folder.name}" in server.log, what="expired session")
        wait_for(lambda: not folder.exists(), what="removal of its files")
        code, _, err = case.export("leased", "late")
        assert code == EXIT_INPUT and "no session" in err, (code, err)


def check_checkpoint(case):
    """`seam session checkpoint`: killed right after its answer, the server has the run's last step;
    without a state directory it says what is missing."""
    with case.serve("--checkpoint-percent", "1") as server:
        case.train("saved")
        code, text, err = case.run("session", "checkpoint", "--run", case.folder / "saved", "--json")
        server.process.kill()
        server.process.wait()
        assert code == 0 and json.loads(text)["durable_step_count"] == 6, text + err
    with case.serve():
        assert case.show("saved")["committed_step_count"] == 6
        code, text, err = case.export("saved", "saved_again")
        assert code == 0, text + err
        assert case.adapter(case.folder / "saved_again") == \
            case.adapter(case.folder / "saved" / "adapter")
    with Seamd(case.binary, case.model, listen=case.port):
        case.train("unsaved")
        code, _, err = case.run("session", "checkpoint", "--run", case.folder / "unsaved")
        assert code != 0 and "--state-dir" in err, (code, err)


def check_update(case):
    """`seam session update` beside the run, then both ends are killed: each step has the rate that was
    said for it, also where it was made twice.  The run is held while it is updated."""
    with case.serve() as server:
        run = case.folder / "updated"
        proxy = HoldingProxy(case.port, 100_000)
        train = subprocess.Popen(
            [case.seam_path, *map(str, case.command("updated", "--steps", 300)), "--server",
             proxy.address],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for(proxy.is_held.is_set, what="some steps")
        code, text, err = case.run("session", "update", run, "--lr", "2e-3", "--json")
        assert code == 0, err
        said = json.loads(text)
        begin = said["effective_step"]
        assert (said["schedule"], said["clip_norm"]) == ("constant", 1), said
        code, text, err = case.run("session", "update", run, "--at-step", 280, "--weight-decay", "0.5")
        assert code == 0 and "step 280 on: lr 0.002, constant" in text and "decay 0.5" in text, text
        listed = case.show("updated")["updates"]
        assert listed[0] == said and [u["effective_step"] for u in listed] == [begin, 280], listed
        code, shown, err = case.run("session", "show", run)
        assert code == 0 and shown.splitlines()[2] == text.strip(), (shown, text)
        for args, expected, word in ((["--lr", "1", "--at-step", 1], EXIT_INPUT, "(--at-step)"),
                                     ([], EXIT_USAGE, "--lr"), (["--lr", "-1"], EXIT_USAGE, "--lr"),
                                     (["--lr", "1", "--at-step", 0], EXIT_USAGE, "--at-step"),
                                     (["--schedule", "linear", "--steps", 0], EXIT_INPUT,
                                      "total_steps"),
                                     (["--schedule", "up"], EXIT_INPUT, "schedule")):
            code, _, err = case.run("session", "update", run, *args)
            assert code == expected and word in err, (args, code, err)
        train.kill()
        train.communicate()
        proxy.let_go()
        proxy.close()
        server.process.kill()
        server.process.wait()
    with case.serve():
        code, _, err = case.run("session", "update", run, "--lr", 1)
        assert code != 0 and "not attached" in err, (code, err)
        code, _, err = case.run("train", "--resume", run, "--quiet")
        assert code == 0, err
    rates = [step["lr"] for step in json.loads((run / "report.json").read_text())["steps"]]
    assert len(rates) == 300 and 0 < begin < 280, begin
    assert all(abs(rate - (1e-2 if step < begin else 2e-3)) < 1e-8
               for step, rate in enumerate(rates)), (begin, rates)


def check_delete(case):
    """A deleted session leaves nothing, and does not come back."""
    with case.serve() as server:
        case.train("deleted", "--delete-session")
        folder = case.state / "sessions" / case.session("deleted")
        wait_for(lambda: not folder.exists(), what="removal of its files")
        server.process.kill()
        server.process.wait()
    with case.serve():
        code, _, err = case.export("deleted", "nothing")
        assert code == EXIT_INPUT and "no session" in err, (code, err)
        check_delete_after_success(case)


def check_delete_after_success(case):
    """A run that fails keeps its session, although it was to delete it: it can go on, and then it is
    deleted."""
    run = case.folder / "failed"
    run.mkdir()
    (run / "adapter").write_text("a file where the adapter's folder goes")
    command = case.command("failed", "--delete-session", "--save-every", 2)
    command.remove("--quiet")
    code, _, err = case.run(*command)
    assert code != 0 and "the session was kept" in err and f"--resume {run}" in err, (code, err)
    assert case.show("failed")["committed_step_count"] == 2
    (run / "adapter").unlink()
    code, _, err = case.run("train", "--resume", run, "--quiet", server=False)
    assert code == 0, err
    assert len(json.loads((run / "report.json").read_text())["steps"]) == 6
    code, _, err = case.export("failed", "nothing")
    assert code == EXIT_INPUT and "no session" in err, (code, err)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def check_damage(case):
    """A damaged newest generation: the one before is taken and the steps are made again; all of
    them damaged: DATA_LOSS, nothing else."""
    with case.serve() as server:
        case.train("whole", "--steps", 9)
        case.train("cut", "--steps", 9)
        whole = case.adapter(case.folder / "whole" / "adapter")
        server.process.kill()
        server.process.wait()
    generations = case.files("cut", "safetensors")
    assert len(generations) >= 2, generations
    flip(generations[-1])
    with case.serve() as server:
        code, text, err = case.run("train", "--resume", case.folder / "cut", server=False)
        assert code == 0, text + err
        assert "checkpoint_damaged" in server.log and "session_recovered" in server.log
        assert case.adapter(case.folder / "cut" / "adapter") == whole
        server.process.kill()
        server.process.wait()
    for path in case.files("cut", "safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with case.serve() as server:
        code, _, err = case.export("cut", "lost")
        assert code != 0 and "checkpoint" in err, (code, err)
        code, _, err = case.run("train", "--resume", case.folder / "cut", server=False)
        assert code != 0 and "checkpoint" in err, (code, err)
        assert "session_lost" in server.log


def check_resume_input(case):
    """What cannot be resumed says why."""
    with case.serve():
        case.train("done")
        for args, text, expected in [
                (["--resume", case.folder / "nowhere"], "nowhere", EXIT_IO),
                (["--resume", case.folder / "done", "--lr", "1"], "--lr", EXIT_USAGE),
                (["--resume", case.folder], "no command.json", EXIT_INPUT)]:
            code, _, err = case.run("train", *args, server=False)
            assert code == expected and text in err, (code, err)
        # A run that was killed before its last file.
        cut = case.folder / "early"
        shutil.copytree(case.folder / "done", cut)
        (cut / "session.json").unlink()
        code, _, err = case.run("train", "--resume", cut, server=False)
        assert code == EXIT_INPUT and "no session.json" in err and "--out" in err, (code, err)
        code, text, err = case.run("train", "--resume", case.folder / "done", server=False)
        assert code == 0, err  # nothing left to do: the report again
        report = json.loads((case.folder / "done" / "report.json").read_text())
        assert report["complete"] and len(report["steps"]) == 6
        (case.folder / "done" / "journal.bin").write_bytes(b"SEAMJRNL" + bytes(60))
        code, _, err = case.run("train", "--resume", case.folder / "done", server=False)
        assert code != 0 and "journal.bin" in err, (code, err)


def check_disk_full(case):
    """The server's disk is full (here: a limit on file sizes): a session that cannot be kept is not
    created, and says why; one that can goes on."""
    wide = ["--rank", 64, "--targets", "q,k,v,o,gate,up,down"]
    limited = case.folder / "limited.sh"
    with case.serve() as server:
        code, text, err = case.run(*case.command("roomy", *wide))
        assert code == 0, text + err
        size = case.files("roomy", "safetensors")[-1].stat().st_size
        server.stop()
    assert size > 100 << 10, size
    limited.write_text(f"#!/bin/sh\nulimit -f {size // 2048}\ntrap '' XFSZ\nexec {case.binary} \"$@\"\n")
    limited.chmod(0o755)
    real, case.binary = case.binary, str(limited)
    try:
        with case.serve() as server:
            code, _, err = case.run(*case.command("full", *wide))
            assert code != 0 and "File too large" in err, (code, err)  # not created, and said so
            code, text, err = case.run(*case.command("small"))
            assert code == 0, text + err
            server.process.kill()
            server.process.wait()
    finally:
        case.binary = real


def check_second_server(case):
    """Two servers on one state directory: the second refuses."""
    with case.serve():
        done = subprocess.run([case.binary, "--listen", "127.0.0.1:0", "--model",
                               f"tiny={case.model}", "--state-dir", case.state],
                              capture_output=True, text=True, timeout=DEADLINE_S)
        assert done.returncode == 1 and "running server" in done.stderr, done


def main():
    binary, seam = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        case = Case(pathlib.Path(name), binary, seam)
        for check in [check_restart, check_lease, check_checkpoint, check_update, check_delete, check_damage, check_resume_input,
                      check_disk_full, check_second_server]:
            run_check(check, case)


if __name__ == "__main__":
    main()

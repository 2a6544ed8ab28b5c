#!/usr/bin/env python3
"""A server that is killed and comes back in the middle of an evaluation: the figures and texts are those
of an evaluation that nothing has cut.

`seam eval` of a run, of an adapter and of the base model, with a state directory and without; the
evaluations of `seam train`, where the server comes back behind the last step too.  What cannot be
had again is refused by name.

The server makes no checkpoint by itself, so that one that comes back is behind the run (device_fault.c).

    test_eval_restart.py SEAMD_FAULT SEAM
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from cli_fixture import HoldingProxy, Seam, colour_rows, run_check, write_rows, write_text_model
from service_fixture import DEADLINE_S, Seamd, seamd_path, wait_for

EXIT_FAILED, EXIT_INPUT = 1, 4
STEPS = 6
HALF_BYTES = 200_000  # of what an evaluation sends


class Case:
    def __init__(self, folder, seam):
        self.folder, self.seam = folder, seam
        self.model, self.port = folder / "model", None
        write_text_model(self.model)
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        self.eval_rows = write_rows(folder / "eval.jsonl", colour_rows(400, 1000))

    def serve(self, durable=True, *args):
        state = ["--state-dir", str(self.folder / "state")] if durable else []
        server = Seamd(seamd_path(), self.model, *state, *args, listen=self.port or "127.0.0.1:0",
                       environment={"FAULT_CADENCE": "0"})
        self.port = server.address
        return server

    def run(self, *args):
        code, out, err = Seam(self.seam, self.port).run(*args)
        assert code == 0, (code, out, err)
        return out

    def train(self, out, *args):
        return ["train", "--model", self.model, "--data", self.rows, "--out", self.folder / out,
                "--steps", STEPS, "--batch", 4, "--rank", 4, "--lr", "1e-2", *args]

    def evaluate(self, *args):
        return ["eval", "--model", self.model, "--data", self.eval_rows, "--json", "--slots", 4,
                "--new-tokens", 48, *args]

    def killed_in(self, server, note, restart, *args):
        """Kills the server in the middle of the evaluation that begins when `note` is on stderr, and
        brings up another when the client has noticed."""
        errors = self.folder / "stderr"
        proxy = HoldingProxy(self.port, HALF_BYTES, lambda: note in errors.read_text())
        with errors.open("w") as sink:
            process = subprocess.Popen([self.seam, *map(str, args), "--server", proxy.address],
                                       stdout=subprocess.PIPE, stderr=sink, text=True)
        try:
            wait_for(lambda: process.poll() is not None or proxy.is_held.is_set(), what="evaluation")
            assert process.poll() is None, (process.communicate(), errors.read_text())
            server.process.kill()
            server.process.wait()
            proxy.let_go()
            wait_for(lambda: process.poll() is not None or "trying again" in errors.read_text(),
                     what="a client that has noticed")
            with restart() as again:
                out, _ = process.communicate(timeout=DEADLINE_S)
                return process.returncode, out, errors.read_text(), again.log
        finally:
            proxy.let_go()
            proxy.close()
            process.kill()

    def evaluated_through(self, server, restart, *args):
        return self.killed_in(server, "", restart, *self.evaluate(*args))


def figures(evaluation):
    return {name: value for name, value in evaluation.items() if name != "seconds"}


def same(whole, code, out, err):
    assert code == 0, (code, out, err)
    assert "trying again" in err, err  # else nothing was cut
    assert figures(json.loads(out)) == figures(json.loads(whole)), (out, whole)


def check_run(case):
    with case.serve(True, "--lease-timeout", "300") as server:
        case.run(*case.train("run"))
        wait_for(lambda: "session_parked" in server.log, what="parked session")
        whole = case.run(*case.evaluate("--run", case.folder / "run"))
        code, out, err, _ = case.evaluated_through(server, case.serve, "--run", case.folder / "run")
        same(whole, code, out, err)


def check_adapter(case):
    """The session is the evaluation's own: where the next server has nothing of it, another."""
    adapter = case.folder / "run" / "adapter"
    for durable in (True, False):
        for args in (["--adapter", adapter], []):
            with case.serve(durable) as server:
                whole = case.run(*case.evaluate(*args))
                code, out, err, _ = case.evaluated_through(server, lambda: case.serve(durable), *args)
                same(whole, code, out, err)


def check_train(case):
    """The evaluations before and after; the server comes back at its newest checkpoint, behind the
    run's last step: steps are made again, and the evaluation then."""
    args = ["--eval-data", case.eval_rows, "--eval-new-tokens", 48, "--codec", "affine", "--bits", 4]
    with case.serve() as server:
        case.run(*case.train("whole", *args))
        for cut, note in (("before", "(before)"), ("after", "(after)"), ("quantized", "(after_q")):
            server = server if server.process.poll() is None else case.serve()
            with server:
                code, out, err, log = case.killed_in(server, note, case.serve,
                                                     *case.train(cut, *args))
            assert code == 0, (cut, code, out, err)
            assert cut == "before" or "again from step" in err, err
            reports = [json.loads((case.folder / run / "report.json").read_text())
                       for run in ("whole", cut)]
            assert reports[1]["complete"]
            hashes = [[s["state_hash"] for s in r["steps"]] for r in reports]
            assert len(hashes[1]) == STEPS and hashes[0] == hashes[1], (cut, hashes)
            evals = [{k: figures(v) for k, v in r["eval"].items()} for r in reports]
            assert evals[0] == evals[1], (cut, evals)


def check_behind(case, name):
    """A server that has come back behind the run: no other command goes by what is left of its session,
    and the run's own adapter stays, until the run has made the steps again."""
    run = case.folder / name
    weights = run / "adapter" / "adapter_model.safetensors"
    trained = weights.read_bytes()
    commands = [case.evaluate("--run", run), ["export", run], ["export", run / "session.json", "--out", run],
                ["generate", "--model", case.model, "--run", run, "lamp 3 ->", "--new-tokens", 4]]
    with case.serve():
        for command in commands:
            code, out, err = Seam(case.seam, case.port).run(*command)
            assert code == EXIT_FAILED and f"made {STEPS} steps" in err and \
                f"seam train --resume {run}" in err, (command, code, out, err)
        assert weights.read_bytes() == trained, "export has replaced the run's adapter"
        case.run("train", "--resume", run)
        for command in commands:
            case.run(*command)
        assert weights.read_bytes() == trained


def check_lost(case):
    """A run whose last steps the server has lost: nothing to evaluate but what it had before."""
    with case.serve() as server:
        case.run(*case.train("behind"))
        code, _, err, _ = case.evaluated_through(server, case.serve, "--run", case.folder / "behind")
        assert code == EXIT_FAILED and "at step" in err, (code, err)
    check_behind(case, "behind")
    with case.serve(False) as server:
        case.run(*case.train("gone"))
        code, _, err, _ = case.evaluated_through(server, lambda: case.serve(False), "--run",
                                                 case.folder / "gone")
        assert code == EXIT_INPUT and "no session" in err, (code, err)


def main():
    seam = sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        case = Case(pathlib.Path(folder), seam)
        for check in (check_run, check_adapter, check_train, check_lost):
            run_check(check, case)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Real runs over TLS in which server, client or both are killed (SIGKILL) at random points.

Goal: the adapter's SHA-256 and the loss curve are those of the run that nobody disturbed, every
time.  Method: one seamd with --state-dir and one `seam train`
a run; whoever was killed is started again (`seam train --resume`), until the run is whole.  Each
codec takes its turn.  The time that a server needs to have its client back is printed.

    test_kill_runs.py SEAMD SEAM [KILLS_SERVER KILLS_CLIENT KILLS_BOTH [SEED [DEVICE [CODEC...]]]]

DEVICE is the server's: cpu (in f32) or cuda:N (in bf16).  CODEC: settings below instead of all.
"""
import datetime
import hashlib
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

from cli_fixture import colour_rows, write_rows, write_text_model, write_tokenizer
from service_fixture import DEADLINE_S, SOURCE

STEPS = 80
MEASURED = ["rate"]  # goes by clocks: no two runs are the same
VANILLA = ["--topology", "vanilla", "--consent", "labels"]
EXCHANGE = ["--topology", "adapter_exchange", "--consent", "text"]
CODECS = {
    "waterfill": ["--codec", "amaq", "--allocator", "waterfill"],
    "exchange_amaq": ["--codec", "amaq", "--rows-max", "64", *EXCHANGE],
    "gates": ["--codec", "amaq", "--allocator", "gates", "--bits-lr", "0.1", "--beta-after", "0.001",
              "--bits-loss", "l1", "--clip", "hard"],
    "paced": ["--codec", "amaq", "--allocator", "gates", "--steps-to-target", "40"],
    "exact": ["--codec", "amaq", "--gate-signal", "exact", "--bits-lr", "0.1"],
    "micros": ["--codec", "amaq", "--rows-max", "64", "--entropy", "rans"],
    "dictionary": ["--codec", "affine", "--dictionary", "on"],
    "token": ["--codec", "amaq", "--granularity", "token", "--bits-lr", "0.1"],
    "prefix": ["--codec", "amaq", "--prefix-tokens", "5"],
    "full": ["--codec", "amaq", "--full"],
    "rate": ["--codec", "amaq", "--rate", "auto"],
    "aqsgd": ["--codec", "aqsgd"],
    # Samples are evicted.
    "evicted": ["--codec", "aqsgd", "--cache-format", "quantized", "--cache-bytes", "20000",
                "--rows-max", "64"],
    "layers": ["--codec", "amaq", "--all-layer-bits", "4"],
    "gates_prefix": ["--codec", "amaq", "--prefix-tokens", "5", "--prefix-bits", "4"],
    "vanilla": ["--codec", "amaq", *VANILLA],
    "exchange": ["--codec", "affine", *EXCHANGE],
    "exchange_f32": ["--codec", "f32", "--rows-max", "64", *EXCHANGE],
    "exchange_gates": ["--codec", "amaq", "--allocator", "gates", "--steps-to-target", "40", *EXCHANGE],
    "exchange_resend": ["--codec", "amaq", "--gate-signal", "exact", "--bits-lr", "0.1", "--resend-parameters",
                        *EXCHANGE],
    "exchange_prefix": ["--codec", "amaq", "--prefix-tokens", "5", *EXCHANGE],
}


def certificates(folder: pathlib.Path) -> dict:
    """A CA, a server's and a client's certificate: mutual TLS as in production."""
    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days",
            "2", "-subj", "/CN=seam test CA")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ["server", "client"]:
        openssl("req", *key, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr",
                "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey",
                folder / "ca.key", "-CAcreateserial", "-out", folder / f"{name}.pem", "-days", "2",
                "-extfile", folder / "names")
    return {name: str(folder / name) for name in
            ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"]}


def write_small_model(folder: pathlib.Path) -> None:
    """The 260-thousand-parameter model of the shared fixtures, else a random one."""
    script = SOURCE / "tests" / "support" / "stories_model.py"
    if subprocess.run([sys.executable, script, folder], capture_output=True).returncode == 0:
        write_tokenizer(folder)  # of bytes: the runs are about bits, not about stories
    else:
        write_text_model(folder, hidden=64, layers=3, heads=8, kv_heads=4, head_dim=8,
                         intermediate=172)


class Server:
    """seamd on one port for ever: killed and started again."""

    def __init__(self, binary, model, state, tls, device, *args):
        self.binary, self.args = binary, [
            "--model", f"small={model}", "--threads", "1", "--device", device, "--dtype",
            "f32" if device == "cpu" else "bf16", "--state-dir",
            str(state), "--tls-cert", tls["server.pem"], "--tls-key", tls["server.key"],
            "--tls-client-ca", tls["ca.pem"], "--drain-timeout", "2000", *args]
        self.log_path = pathlib.Path(str(state) + ".log")
        self.log_path.write_text("")
        self.address = None
        self.start()

    def start(self):
        listen = self.address or "127.0.0.1:0"
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.process = subprocess.Popen(
                [self.binary, "--listen", listen, *self.args], stdout=subprocess.PIPE,
                stderr=self.log_path.open("a"), text=True)
            line = self.process.stdout.readline()
            if line.startswith("seamd: listening on "):
                self.address = line.split()[-1]
                return
            assert self.process.wait() != 0 and time.monotonic() < deadline, self.log
            time.sleep(0.05)

    @property
    def log(self):
        return self.log_path.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        self.process.stdout.close()
        assert code == 0, f"seamd ended with {code}: {self.log[-2000:]}"


class Case:
    def __init__(self, folder, seamd, seam, device):
        self.folder, self.seamd, self.seam = folder, seamd, seam
        self.tls = certificates(folder)
        self.model = folder / "model"
        write_small_model(self.model)
        self.rows = write_rows(folder / "train.jsonl", colour_rows(40))
        self.server = Server(seamd, self.model, folder / "state", self.tls, device,
                             "--checkpoint-percent", "20", "--sessions-max", "64", "--lease-timeout",
                             "2000", "--allow-text")

    def command(self, out, codec):
        return ["--model", self.model, "--data", self.rows, "--out", out, "--steps", STEPS,
                "--batch", 6, *([] if codec.endswith(("prefix", "full")) else ["--rank", 4]), "--lr", "1e-2",
                "--save-every", 10, "--quiet",
                "--server", self.server.address, "--server-name", "localhost", "--ca",
                self.tls["ca.pem"], "--cert", self.tls["client.pem"], "--key",
                self.tls["client.key"], "--reconnect", 60, *CODECS[codec]]

    def begin(self, *args):
        return subprocess.Popen([self.seam, "train", *map(str, args)], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def result(self, out):
        report = json.loads((out / "report.json").read_text())
        assert report["complete"], report
        assert [s["step"] for s in report["steps"]] == list(range(STEPS))
        name = "trained_layers" if report["config"].get("full") else "adapter_model"
        adapter = (out / "adapter" / f"{name}.safetensors").read_bytes()
        return (hashlib.sha256(adapter).hexdigest(), [s["loss"] for s in report["steps"]],
                [s["state_hash"] for s in report["steps"]])

    def whole(self, codec):
        out = self.folder / f"whole-{codec}"
        begin = time.monotonic()
        done = self.begin(*self.command(out, codec))
        _, err = done.communicate(timeout=DEADLINE_S)
        assert done.returncode == 0, err
        return self.result(out), time.monotonic() - begin

    def disturbed(self, name, codec, targets, seconds, rng):
        """Kills `targets` ("server", "client", "both"), one after another, each after a random part
        of the whole run's time; ends with the run's result."""
        out = self.folder / name
        client = self.begin(*self.command(out, codec))
        for target in targets:
            time.sleep(rng.uniform(0.05, 0.8) * seconds)
            if target in ("server", "both"):
                self.server.kill()
            if target in ("client", "both"):
                client.kill()
                client.communicate()
            if target in ("server", "both"):
                time.sleep(rng.uniform(0, 0.2))
                self.server.start()
            if target in ("client", "both"):
                client = self.resume(out, codec)
        _, err = client.communicate(timeout=3 * DEADLINE_S)
        assert client.returncode == 0, f"{name}: {err}\n{self.server.log[-3000:]}"
        return self.result(out)

    @staticmethod
    def has_begun(out):
        """Has the run in `out` what --resume needs?  Its journal comes first, its session last."""
        files = [out / "session.json", out / "journal.bin"]
        return all(path.exists() for path in files) and files[1].stat().st_size > 32

    def resume(self, out, codec):
        """From the folder alone; a run that had not got as far as its session begins anew."""
        return self.begin("--resume", out) if self.has_begun(out) \
            else self.begin(*self.command(out, codec))


def check_gates_killed(folder, seamd, seam, codec, mean):
    """Gates and their pace are part of what is durable.  mean: a report's name for their widths."""
    case = Case(folder, seamd, seam, "cpu")
    whole, seconds = case.whole(codec)
    got = case.disturbed("killed", codec, ["both", "server", "client"], seconds, random.Random(5))
    assert got == whole, "not the bits of the whole run"
    reports = [json.loads((folder / out / "report.json").read_text())["steps"]
               for out in (f"whole-{codec}", "killed")]
    for a, b in zip(*reports):
        assert a[mean] == b[mean], a["step"]
    case.server.stop()


def recoveries(log: str) -> list:
    """Seconds from a server's first line to the first stream that it sent back to a checkpoint:
    start, attach (with the client's back-off) and load; the replay comes after."""
    found, begun = [], None
    for line in log.splitlines():
        match = re.match(r"time=(\S+)Z ", line)
        if match is None:
            continue
        at = datetime.datetime.fromisoformat(match.group(1)).timestamp()
        if "event=device " in line:
            begun = at
        elif "event=train_attached" in line and "action=3" in line and begun is not None:
            found.append(at - begun)
            begun = None
    return sorted(found)


def main() -> int:
    seamd, seam = sys.argv[1], sys.argv[2]
    counts = [int(n) for n in sys.argv[3:6]] or [2, 2, 1]
    codecs = sys.argv[8:] or list(CODECS)
    seed = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    rng = random.Random(seed)
    kills = [target for target, count in zip(["server", "client", "both"], counts)
             for _ in range(count)]
    rng.shuffle(kills)
    with tempfile.TemporaryDirectory() as name:
        case = Case(pathlib.Path(name), seamd, seam, sys.argv[7] if len(sys.argv) > 7 else "cpu")
        expected = {}
        done = {"server": 0, "client": 0, "both": 0}
        number = 0
        while kills:
            codec = codecs[number % len(codecs)]
            if codec not in expected:
                expected[codec] = case.whole(codec)
            (result, seconds) = expected[codec]
            targets = [kills.pop() for _ in range(min(len(kills), rng.choice([1, 1, 2, 3])))]
            got = case.disturbed(f"run{number}", codec, targets, seconds, rng)
            if codec in MEASURED: # replays inside the run are compared by the client itself
                got = result
            for what, a, b in zip(["adapter", "loss curve", "state hashes"], result, got):
                assert a == b, f"run {number} ({codec}, killed {targets}): another {what}\n{a}\n{b}"
            for target in targets:
                done[target] += 1
            print(f"ok   run {number} {codec}: killed {' '.join(targets)}", flush=True)
            number += 1
        case.server.stop()
        log = case.server.log
        print(f"kills {done}, runs {number}, seed {seed}: rollbacks "
              f"{log.count('action=3')}, resends {log.count('action=2')}, recovered "
              f"{log.count('session_recovered')}")
        times = recoveries(log)
        if times:
            print(f"recovery in seconds: median {times[len(times) // 2]:.2f}, p99 "
                  f"{times[min(len(times) - 1, len(times) * 99 // 100)]:.2f}, most {times[-1]:.2f}, "
                  f"of {len(times)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

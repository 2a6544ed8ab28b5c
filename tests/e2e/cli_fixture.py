"""What the tests of libseam and the CLI share: a tiny model with a tokenizer, a proxy that cuts
connections, a way to run `seam`."""
import json
import pathlib
import signal
import socket
import subprocess
import threading
import time

from service_fixture import DEADLINE_S, wait_for, write_model

VOCAB = 260


def write_tokenizer(folder: pathlib.Path) -> None:
    """Byte-level BPE without merges: ids 3..258 are the bytes in GPT-2's alphabet, 2 ends."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    alphabet = {b: chr(b) if b in visible else chr(next(hidden)) for b in range(256)}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
               "special": True}
    added = [{"id": i, "content": text, **special}
             for i, text in enumerate(["<unk>", "<s>", "<end>"])]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    vocab = {text: i for i, text in enumerate(["<unk>", "<s>", "<end>"])}
    vocab |= {alphabet[b]: 3 + b for b in range(256)}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"eos_token": "<end>", "tokenizer_class": "PreTrainedTokenizerFast"}))


def write_text_model(folder: pathlib.Path, **sizes) -> None:
    write_model(folder, vocab=VOCAB, **sizes)
    write_tokenizer(folder)


def write_rows(path: pathlib.Path, rows) -> pathlib.Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def colour_rows(count: int, begin: int = 0):
    colours = ["red", "green", "blue", "white"]
    return [{"prompt": f"lamp {i} ->", "completion": f" {colours[i % 4]}"}
            for i in range(begin, begin + count)]


def shown(report):
    """What of a run must not depend on anything but its options."""
    return [(step["loss"], step["state_hash"], step["grad_norm"],
             {name: (site["payload_bytes"], site["mean_bits"])
              for name, site in step["sites"].items()}) for step in report["steps"]]


def run_check(check, *args):
    """Prints its name and how long it took."""
    begin = time.monotonic()
    check(*args)
    print(f"{check.__name__}: passed ({time.monotonic() - begin:.1f} s)", flush=True)


class Seam:
    """The CLI; run() gives (exit code, stdout, stderr)."""

    def __init__(self, binary: str, server: str):
        self.binary, self.server = binary, server

    def run(self, *args, timeout=3 * DEADLINE_S, server=True, **kwargs):
        command = [self.binary, *map(str, args)]
        if server:
            command += ["--server", self.server]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **kwargs)
        return done.returncode, done.stdout, done.stderr

    def json(self, *args, **kwargs):
        code, out, err = self.run(*args, "--json", "--quiet", **kwargs)
        assert code == 0, f"{args}: exit {code}\n{out}{err}"
        return json.loads(out)


class CuttingProxy:
    """Forwards TCP to `target`; each connection is cut once it has carried `cut_after` bytes to the
    server, for the first `cuts` connections."""

    def __init__(self, target: str, cut_after: int, cuts: int):
        host, port = target.rsplit(":", 1)
        self.target, self.cut_after, self.cuts, self.cut_count = (host, int(port)), cut_after, cuts, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:  # the server is away
                near.close()
                continue
            for end in (near, far):  # else an answer waits for 40 ms more
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limit = self.cut_after if self.cut_count < self.cuts else None
            threading.Thread(target=self.pump, args=(near, far, limit), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, None), daemon=True).start()

    def pump(self, source, sink, limit):
        carried = 0
        try:
            while data := source.recv(4096):
                sink.sendall(data)
                carried += len(data)
                if limit is not None and carried >= limit:
                    self.cut_count += 1
                    break
        except OSError:
            pass
        self.cut(source, sink)

    @staticmethod
    def cut(*ends):
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class HoldingProxy(CuttingProxy):
    """Holds a connection when it has carried `hold_after` bytes to the server since begun() was true;
    cuts it when it is let go, unless it is to go on.  Later ones it forwards."""

    def __init__(self, target: str, hold_after: int, begun=lambda: True, cuts=True):
        self.begun, self.is_held, self.goes_on = begun, threading.Event(), threading.Event()
        self.cuts = cuts
        super().__init__(target, hold_after, 1)

    def pump(self, source, sink, limit):
        if limit is None or self.is_held.is_set():
            return super().pump(source, sink, None)
        carried = 0
        try:
            while data := source.recv(4096):
                carried += len(data) if self.begun() else 0
                if carried >= limit and not self.is_held.is_set():
                    self.is_held.set()
                    self.goes_on.wait()
                    if self.cuts:
                        break
                sink.sendall(data)
        except OSError:
            pass
        self.cut(source, sink)

    def let_go(self):
        self.goes_on.set()


def is_in_steps(run: pathlib.Path) -> bool:
    """Has the run in this folder records of a few steps?  Each has 500 bytes and more."""
    files = [run / "journal.bin", run / "journal.notes"]
    return (run / "session.json").exists() and \
        sum(path.stat().st_size for path in files if path.exists()) > 2500


def stopped_in_steps(begin, run: pathlib.Path, number=signal.SIGINT):
    """The signal in the middle of the run that begin() starts, which is made again where it ended before
    the signal came.  Returns its process, which has ended."""
    for _ in range(20):
        for name in ("session.json", "journal.bin", "journal.notes"):
            (run / name).unlink(missing_ok=True)
        process = begin()
        wait_for(lambda: process.poll() is not None or is_in_steps(run), what="steps")
        process.send_signal(number)
        process.wait(DEADLINE_S)
        if process.returncode != 0:
            return process
    raise AssertionError("each run ended before it was stopped")


def check_cuts(address, run, points, least):
    """run(address) once for each point, where a proxy cuts its first two connections; `least` cuts must
    come about in all.  Returns how many."""
    count = 0
    for cut_after in points:
        proxy = CuttingProxy(address, cut_after, 2)
        run(proxy.address)
        proxy.close()
        count += proxy.cut_count
    assert count >= least, count
    return count

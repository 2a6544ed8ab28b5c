#!/usr/bin/env python3
"""links.py BIN OUT cell MBIT RTT_MS LOSS_PERCENT     one cell of the link matrix
   links.py BIN OUT cuts MBIT RTT_MS LOSS_PERCENT     a run through 20 cuts of up to 30 s
   links.py BIN OUT overlap                           a server that is as slow as the wire
   links.py BIN OUT idle                              a device that thinks for 65 s: keepalive
   links.py BIN OUT table                             what OUT holds, as tables

`seam train` and seamd in two network namespaces (tests/e2e/wan_fixture.py): rate by tc tbf, delay, loss
and cuts by link_shim.  A model of one thin layer and 1,024 channels, bf16, all rows: 1 MiB a tensor, two
up and one down a micro-batch, so that the wire decides.  A cell's steps are compared with those of a run
on the loopback: the same losses and state hashes, none twice.  Needs root; each call is one line of
OUT/results.jsonl.  BIN: folder with seam, seamd, seamd_slow, link_shim.
"""
import fcntl
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from cli_fixture import Seam, write_rows, write_text_model  # noqa: E402
from service_fixture import Seamd  # noqa: E402
from wan_fixture import FAR, Wan  # noqa: E402

HIDDEN, ROWS, CUTS = 1024, 512, 20
TENSOR_BYTES = HIDDEN * ROWS * 2


class Bench:
    def __init__(self, binaries: str, out: str, folder: pathlib.Path):
        self.bin, self.out, self.folder = pathlib.Path(binaries), pathlib.Path(out), folder
        self.out.mkdir(parents=True, exist_ok=True)
        write_text_model(folder / "model", hidden=HIDDEN, layers=1, heads=4, kv_heads=4, head_dim=16,
                         intermediate=64, context=2 * ROWS)
        write_rows(folder / "rows.jsonl", [{"prompt": f"{i:4d} ", "completion": "x" * (ROWS - 8)}
                                           for i in range(128)])

    def train(self, seam: Seam, out: str, steps: int, micros: int, *args):
        """The steps of a run."""
        code, text, err = seam.run(
            "train", "--model", self.folder / "model", "--data", self.folder / "rows.jsonl", "--out",
            self.folder / out, "--steps", steps, "--batch", micros, "--rows-max", ROWS, "--rank", 4,
            "--codec", "bf16", "--labelled-rows-only", "off", "--distinct-rows-only", "off", "--quiet",
            "--threads", 1, "--lr", "1e-3", "--insecure", *args, timeout=3000)
        assert code == 0, text + err
        return json.loads((self.folder / out / "report.json").read_text())["steps"]

    def reference(self, steps: int, micros: int):
        with Seamd(str(self.bin / "seamd"), self.folder / "model") as server:
            return shown(self.train(Seam(str(self.bin / "seam"), server.address), "reference", steps, micros))

    def wan(self, mbit, rtt_ms, loss):
        return Wan(str(self.bin / "link_shim"), mbit=mbit, rtt_ms=rtt_ms, loss_percent=loss)

    def server(self, wan, binary="seamd"):
        return Seamd(wan.wrapper(self.folder, str(self.bin / binary), True), self.folder / "model",
                     "--force-insecure", listen=f"{FAR}:0")

    def seam(self, wan, server):
        return Seam(wan.wrapper(self.folder, str(self.bin / "seam"), False), server.address)

    def write(self, **result):
        with open(self.out / "results.jsonl", "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)


def shown(steps):
    return [(s["step"], s["loss"], s["state_hash"]) for s in steps]


def rate(steps):
    """Mbit/s up over whole steps: waits and both ends' work included."""
    return 8e-6 * sum(s["bytes_sent"] for s in steps) / sum(s["seconds"] for s in steps)


def cell(bench, mbit, rtt_ms, loss):
    """Steps of about 20 s of the shaped rate; TCP alone for as long, before and after."""
    micros = max(8, min(64, round(20 * mbit / 8 * 1e6 / (2 * TENSOR_BYTES))))
    with bench.wan(mbit, rtt_ms, loss) as wan:
        assert wan.usable, "needs root, ip, tc and /dev/net/tun"
        bare = [wan.bare(20)]
        with bench.server(wan) as server:
            steps = bench.train(bench.seam(wan, server), "run", 3, micros)
        bare.append(wan.bare(20, port=5002))
        lost = wan.counts()
    assert shown(steps) == bench.reference(3, micros)
    bench.write(kind="cell", mbit=mbit, rtt_ms=rtt_ms, loss=loss, micros=micros, up=rate(steps),
                up_steady=rate(steps[1:]), bare=statistics.mean(bare), bare_each=bare,
                ahead=[s["ahead"] for s in steps], seconds=[s["seconds"] for s in steps],
                shim=lost.split("\n")[:2])


def cuts(bench, mbit, rtt_ms, loss):
    micros, done, ended = 16, [], threading.Event()
    steps_count = 8 * mbit // 10
    random.seed(f"{mbit} {rtt_ms} {loss}")

    def cutter(wan):
        while len(done) < CUTS and not ended.wait(random.uniform(8, 18)):
            seconds = random.uniform(1, 30)
            wan.cut(seconds)
            done.append(seconds)
            time.sleep(seconds)

    begin = time.monotonic()
    with bench.wan(mbit, rtt_ms, loss) as wan:
        assert wan.usable, "needs root, ip, tc and /dev/net/tun"
        with bench.server(wan) as server:
            thread = threading.Thread(target=cutter, args=(wan,))
            thread.start()
            steps = bench.train(bench.seam(wan, server), "run", steps_count, micros)
            ended.set()
            thread.join()
            attaches = server.log.count("train_attached")
    seconds = time.monotonic() - begin
    assert shown(steps) == bench.reference(steps_count, micros)
    bench.write(kind="cuts", mbit=mbit, rtt_ms=rtt_ms, loss=loss, steps=len(steps), cuts=len(done),
                cut_seconds=sum(done), longest=max(done), seconds=seconds, attaches=attaches,
                transfer_seconds=8e-6 * sum(s["bytes_sent"] for s in steps) / mbit)


def overlap(bench):
    """The device sleeps as long as the wire takes for what goes up; depths in turn, three times."""
    mbit, rtt_ms, micros, rows = 50, 20, 48, []
    with bench.wan(mbit, rtt_ms, 0) as wan:
        assert wan.usable, "needs root, ip, tc and /dev/net/tun"
        goodput = statistics.mean(wan.bare(10, port=5001 + i) for i in range(2))
        wire_ms = 2 * TENSOR_BYTES * 8 / goodput / 1e3
        os.environ |= {"SLOW_FORWARD_MS": str(wire_ms / 3), "SLOW_BACKWARD_MS": str(2 * wire_ms / 3)}
        with bench.server(wan, "seamd_slow") as server:
            for turn in range(2):
                for depth in (1, 4, "auto"):
                    steps = bench.train(bench.seam(wan, server), f"depth{depth}-{turn}", 2, micros,
                                        "--pipeline-depth", depth, "--delete-session")
                    rows.append((depth, steps))
    assert len({str(shown(steps)) for _, steps in rows}) == 1  # the same updates
    result = {}
    for depth in (1, 4, "auto"):
        every = [s for d, steps in rows if d == depth for s in steps]
        step = statistics.median(s["seconds"] for s in every)
        server = statistics.median(s["server_seconds"] for s in every)
        up, down = (statistics.median(8e-6 * s[name] / goodput for s in every)
                    for name in ("bytes_sent", "bytes_received"))
        own = statistics.median(s["head_seconds"] + s["encode_seconds"] + s["decode_seconds"]
                                for s in every)
        result[str(depth)] = {"step": step, "up": up, "down": down, "server": server, "client": own,
                              "limit": 1.10 * max(up, down, server, own) + rtt_ms / 1e3,
                              "ahead": [s["ahead"] for s in every]}
    bench.write(kind="overlap", mbit=mbit, rtt_ms=rtt_ms, micros=micros, goodput=goodput, depths=result,
                gain=result["1"]["step"] / result["4"]["step"])


def idle(bench):
    """Nothing to say for a minute: pings keep the line (and a NAT's memory of it), and nobody objects."""
    os.environ["SLOW_FORWARD_MS"] = "65000"
    packets = []
    with bench.wan(10, 20, 0) as wan:
        assert wan.usable, "needs root, ip, tc and /dev/net/tun"
        with bench.server(wan, "seamd_slow") as server:
            def watch():
                for _ in range(12):
                    time.sleep(5)
                    shown_by_tc = wan.inside(False, "tc", "-s", "qdisc", "show", "dev", "wan0")
                    packets.append(int(shown_by_tc.split(" pkt")[0].split()[-1]))
            thread = threading.Thread(target=watch)
            thread.start()
            steps = bench.train(bench.seam(wan, server), "run", 1, 1)
            thread.join()
            attaches = server.log.count("train_attached")
    del os.environ["SLOW_FORWARD_MS"]
    quiet = packets[2:]  # the tensor has gone up by then
    assert attaches == 1 and len(steps) == 1 and steps[0]["seconds"] > 60
    assert 4 <= quiet[-1] - quiet[0] < 40, packets  # a ping and its answer each way, every 20 s
    bench.write(kind="idle", seconds=steps[0]["seconds"], attaches=attaches, packets=packets)


def table(bench):
    lines = [json.loads(line) for line in open(bench.out / "results.jsonl", encoding="utf-8")]
    print("| Mbit/s | RTT ms | loss % | up, Mbit/s (after the first step) | of the rate | bare TCP | of it | ahead |")
    print("|---|---|---|---|---|---|---|---|")
    for r in sorted((r for r in lines if r["kind"] == "cell"),
                    key=lambda r: (r["loss"], r["mbit"], r["rtt_ms"])):
        print(f"| {r['mbit']} | {r['rtt_ms']:.0f} | {r['loss']:.0f} | {r['up']:.2f} ({r['up_steady']:.2f}) | "
              f"{r['up_steady'] / r['mbit']:.3f} | {r['bare']:.2f} | {r['up'] / r['bare']:.3f} | "
              f"{', '.join(map(str, r['ahead']))} |")
    for r in lines:
        if r["kind"] != "cell":
            print(json.dumps(r))


def main():
    if len(sys.argv) < 4 or sys.argv[3] not in ("cell", "cuts", "overlap", "idle", "table"):
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(sys.argv[1], sys.argv[2], pathlib.Path(name))
        kind = globals()[sys.argv[3]]
        if sys.argv[3] in ("cell", "cuts"):
            kind(bench, int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6]))
        else:
            kind(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())

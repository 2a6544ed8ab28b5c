#!/usr/bin/env python3
"""`seam train` over a wide area network that loses packets and is cut: it ends by itself, with the
updates of a run on the loopback, none twice; without loss it uses the link.  A small piece of
tests/bench/links.sh.

    test_wan.py SEAMD SEAM LINK_SHIM

Needs root, ip, tc and /dev/net/tun: exits 77 without.
"""
import json
import pathlib
import sys
import tempfile
import threading

from cli_fixture import Seam, write_rows, write_text_model
from service_fixture import Seamd
from wan_fixture import FAR, Wan

SKIPPED = 77
SEAMD, SEAM, SHIM = sys.argv[1:4]
HIDDEN, ROWS, STEPS, MICROS = 512, 256, 3, 12  # 256 KiB a tensor, two up and one down a micro-batch


def train(folder, seam, out, *args):
    code, text, err = seam.run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / out,
        "--steps", STEPS, "--batch", MICROS, "--rows-max", ROWS, "--rank", 2, "--codec", "bf16",
        "--labelled-rows-only", "off", "--distinct-rows-only", "off", "--threads", 1, "--quiet",
        "--insecure", *args, timeout=300)
    assert code == 0, text + err
    return json.loads((folder / out / "report.json").read_text())["steps"]


def shown(steps):
    return [(s["step"], s["micros"], s["loss"], s["state_hash"]) for s in steps]


def far_run(folder, out, loss, cut_after):
    """Steps, and how often the client attached."""
    with Wan(SHIM, mbit=20, rtt_ms=60, loss_percent=loss) as wan:
        if not wan.usable:
            print("skipped: needs root, ip, tc and /dev/net/tun")
            sys.exit(SKIPPED)
        with Seamd(wan.wrapper(folder, SEAMD, True), folder / "model", "--force-insecure",
                   listen=f"{FAR}:0") as server:
            for seconds in cut_after:
                threading.Timer(seconds, wan.cut, [4.0]).start()
            steps = train(folder, Seam(wan.wrapper(folder, SEAM, False), server.address), out)
    return steps


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", hidden=HIDDEN, layers=1, heads=2, kv_heads=2, head_dim=8,
                         intermediate=16, context=2 * ROWS)
        write_rows(folder / "rows.jsonl", [{"prompt": f"{i:4d} ", "completion": "s" * (ROWS - 8)}
                                           for i in range(2 * MICROS)])
        with Seamd(SEAMD, folder / "model") as server:
            near = train(folder, Seam(SEAM, server.address), "near")
        clean = far_run(folder, "clean", 0, [])
        lossy = far_run(folder, "lossy", 1, [2.0, 9.0])
        assert shown(clean) == shown(near) == shown(lossy)
        # A server this far away has the next ones on their way: what goes up fills the link.
        assert [s["ahead"] for s in near] == [2] * STEPS and clean[0]["ahead"] == 8
        used = 8e-6 * sum(s["bytes_sent"] for s in clean[1:]) / sum(s["seconds"] for s in clean[1:])
        print(f"20 Mbit/s, 60 ms: {used:.2f} Mbit/s up")
        assert used > 0.75 * 20, used  # 0.85 on a quiet machine: tests/bench/RESULTS.md
    print("wan: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

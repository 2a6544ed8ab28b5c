#!/usr/bin/env python3
"""`seam train` over a wide area network that loses packets and whose connections are cut: it attaches
again by itself and ends with the updates of a run on the loopback, none twice.  A small piece of
tests/bench/links.sh, which has the rates and cuts of the line.

    test_wan.py SEAMD SEAM LINK_SHIM

Needs root, ip, tc and /dev/net/tun: exits 77 without.
"""
import json
import pathlib
import sys
import tempfile

from cli_fixture import Seam, write_rows, write_text_model
from service_fixture import Seamd
from wan_fixture import FAR, CuttingProxyNear, Wan

SKIPPED = 77
SEAMD, SEAM, SHIM = sys.argv[1:4]
HIDDEN, ROWS, STEPS, MICROS = 512, 256, 3, 12  # 256 KiB a tensor, two up and one down a micro-batch


def train(folder, seam, out, *args):
    code, text, err = seam.run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / out,
        "--steps", STEPS, "--batch", MICROS, "--rows-max", ROWS, "--rank", 2, "--codec", "bf16",
        "--labelled-rows-only", "off", "--distinct-rows-only", "off", "--threads", 1, "--quiet",
        "--insecure", *args)
    assert code == 0, text + err
    return json.loads((folder / out / "report.json").read_text())["steps"]


def shown(steps):
    return [(s["step"], s["micros"], s["loss"], s["state_hash"]) for s in steps]


def far_run(folder, out, loss, cut_after, cuts):
    """The steps, how often the client attached, how many connections were cut, packets lost.  The
    first `cuts` connections end once they have carried so many bytes to the server."""
    with Wan(SHIM, mbit=20, rtt_ms=60, loss_percent=loss) as wan:
        if not wan.usable:
            print("skipped: needs root, ip, tc and /dev/net/tun")
            sys.exit(SKIPPED)
        with Seamd(wan.wrapper(folder, SEAMD, True), folder / "model", "--force-insecure",
                   listen=f"{FAR}:0") as server:
            with CuttingProxyNear(wan, server.address, cut_after, cuts) as proxy:
                steps = train(folder, Seam(wan.wrapper(folder, SEAM, False), proxy.address), out)
            attaches = server.log.count("train_attached")
        lost = wan.lost_count()
    return steps, attaches, proxy.cut_count, lost


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_text_model(folder / "model", hidden=HIDDEN, layers=1, heads=2, kv_heads=2, head_dim=8,
                         intermediate=16, context=2 * ROWS)
        write_rows(folder / "rows.jsonl", [{"prompt": f"{i:4d} ", "completion": "s" * (ROWS - 8)}
                                           for i in range(2 * MICROS)])
        with Seamd(SEAMD, folder / "model") as server:
            near = train(folder, Seam(SEAM, server.address), "near", "--pipeline-depth", 1)
        sent = sum(s["bytes_sent"] for s in near)
        clean, attaches, cuts, lost = far_run(folder, "clean", 0, sent, 0)
        assert shown(clean) == shown(near)
        assert (attaches, cuts) == (1, 0)
        # A server this far away has the next ones on their way.
        assert clean[0]["ahead"] >= 4 # of 2 near by; by the quickest call, so 4 or 8
        lossy, attaches, cuts, lost = far_run(folder, "lossy", 1, int(0.3 * sent), 2)
        assert shown(lossy) == shown(near)
        assert attaches >= 1 + 2 and cuts == 2 and lost > 0, (attaches, cuts, lost)
        print(f"{cuts} cuts, {attaches} attaches, {lost} packets lost")
    print("wan: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

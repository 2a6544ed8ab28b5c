#!/usr/bin/env python3
"""Credit on the Train stream, with the real programs.

Goal: no end of a stream gets more tensor bytes than it has granted, who overruns is told so by name,
and the smallest windows both ways stop no run and change no bit of it, at any depth, when the device
is slow, when streams are cut.
Method: a Python client that floods a server whose device is held; `seam train` with tensors of three
frames each, through windows of two.

    test_credit.py SEAMD_SLOW SEAM
"""
import json
import pathlib
import sys
import tempfile
import time

from cli_fixture import CuttingProxy, Seam, write_rows, write_text_model
from service_fixture import (HeldDevice, Seamd, generate_messages, grpc, np, refused, seamd_path,
                             write_model)

WINDOW = 2 * (64 + (1 << 20))
HIDDEN, ROWS = 1024, 640  # rows of bf16: 1.25 MiB a tensor, f32: 2.5


def check_overrun(binary, folder):
    from service_trainer import FORWARD, Micro, Trainer, step_begin, tensor_frames
    generate_messages(str(folder))
    from seam.v1 import types_pb2
    from test_service_unary import session_config
    write_model(folder / "tiny", context=512)
    device = HeldDevice(folder)
    with Seamd(binary, folder / "tiny", "--credit-bytes", str(WINDOW),
               environment=device.environment) as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "tiny", session_config(codec=types_pb2.CODEC_F32))
        refused(grpc.StatusCode.INVALID_ARGUMENT, trainer.attach, credit_bytes=WINDOW - 1,
                text="attach.credit_bytes", reason="ARG", field="attach.credit_bytes")
        stream, attached = trainer.attach(credit_bytes=WINDOW)
        assert attached.credit_bytes == WINDOW
        micro = Micro([np.arange(3, 59)])
        stream.send(step_begin=step_begin(stream.pb, 0, [micro]))
        frame, = tensor_frames(trainer.embed(micro), phase=FORWARD, site=0, step=0, micro=0)
        with device:
            for _ in range(WINDOW // len(frame) + 2):  # it is at the first one until it is let go
                stream.send(frame=frame)
            refused(grpc.StatusCode.FAILED_PRECONDITION, stream.drain, text="credit: a frame of",
                    reason="OUT_OF_SEQUENCE", field="credit")
    print("overrun: named", flush=True)


def check_counts(binary, folder):
    """However small, only so many messages wait: frames within their credit, and control messages,
    which need none."""
    from service_trainer import FORWARD, Micro, Trainer, step_begin, tensor_frames
    from seam.v1 import types_pb2
    from test_service_unary import session_config
    frames_max, control_max = 4096 + WINDOW // 65536, 64
    device = HeldDevice(folder)
    with Seamd(binary, folder / "tiny", "--credit-bytes", str(WINDOW),
               environment=device.environment) as server, \
            grpc.insecure_channel(server.address) as channel:
        for text, count, body in (
                (f"message: more than {frames_max} frames wait", frames_max, {"frame": b"x" * 65}),
                (f"message: more than {control_max} control messages wait", control_max,
                 {"alloc_ack": {"site": 1, "version": 2}})):
            trainer = Trainer(channel, folder / "tiny", session_config(codec=types_pb2.CODEC_F32))
            stream, _ = trainer.attach()
            micro = Micro([np.arange(3, 59)])
            stream.send(step_begin=step_begin(stream.pb, 0, [micro]))
            frame, = tensor_frames(trainer.embed(micro), phase=FORWARD, site=0, step=0, micro=0)
            with device:
                stream.send(frame=frame)
                device.wait()
                for _ in range(count):
                    stream.send(**body)
                time.sleep(0.3)  # all of them wait, and that is no error
                assert stream.call.is_active(), text
                stream.send(**body)
                refused(grpc.StatusCode.RESOURCE_EXHAUSTED, stream.drain, text=text, reason="LIMIT")
    print("counts: named", flush=True)


def train(folder, address, seam_path, out, *args):
    code, text, err = Seam(seam_path, address).run(
        "train", "--model", folder / "model", "--data", folder / "rows.jsonl", "--out", folder / out,
        "--steps", 2, "--batch", 6, "--rows-max", ROWS, "--rank", 2, "--lr", "1e-2", "--quiet",
        "--labelled-rows-only", "off", "--distinct-rows-only", "off", "--codec", "bf16", *args)
    assert code == 0, text + err
    steps = json.loads((folder / out / "report.json").read_text())["steps"]
    assert [s["micros"] for s in steps] == [6, 6]
    return [(s["loss"], s["state_hash"], s["grad_norm"]) for s in steps], \
        sum(s["bytes_sent"] for s in steps)


def check_windows(binary, folder, seam_path):
    write_text_model(folder / "model", hidden=HIDDEN, layers=1, heads=2, kv_heads=2, head_dim=8,
                     intermediate=16, context=ROWS)
    write_rows(folder / "rows.jsonl", [{"prompt": f"{i:4d} ", "completion": "seam " * (ROWS // 5 - 2)}
                                       for i in range(12)])
    slow = {"SLOW_FORWARD_MS": "10", "SLOW_BACKWARD_MS": "20"}
    with Seamd(binary, folder / "model", environment=slow) as wide, \
            Seamd(binary, folder / "model", "--credit-bytes", str(WINDOW), environment=slow) as narrow:
        expected, sent = train(folder, wide.address, seam_path, "wide", "--pipeline-depth", 1)
        assert train(folder, wide.address, seam_path, "wide8", "--pipeline-depth", 8)[0] == expected
        for depth in (1, 2, 8):
            found, _ = train(folder, narrow.address, seam_path, f"narrow{depth}", "--credit-mib", 3,
                             "--pipeline-depth", depth)
            assert found == expected, depth
        print("windows of two frames: the same updates at depths 1, 2 and 8", flush=True)
        cuts = 0
        for part in (0.1, 0.25, 0.4):
            proxy = CuttingProxy(narrow.address, int(sent * part), 2)
            found, _ = train(folder, proxy.address, seam_path, "cut", "--credit-mib", 3,
                             "--pipeline-depth", 8)
            proxy.close()
            cuts += proxy.cut_count
            assert found == expected, part
        assert cuts >= 5, cuts
        print(f"with {cuts} cuts too", flush=True)


def main():
    binary, seam_path = seamd_path(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_windows(binary, folder, seam_path)
        check_overrun(binary, folder)
        check_counts(binary, folder)
    print("credit: passed")


if __name__ == "__main__":
    main()

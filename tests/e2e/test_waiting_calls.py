"""Calls that wait for a session: in which order they go on, and that none waits for ever.

A wake takes as long as a test wants where the newest checkpoint is a pipe that nobody writes into:
the engine stands in its open().

    test_waiting_calls.py SEAMD_FAULT SEAMD_SLOW
"""
import contextlib
import os
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service_fixture import (DEADLINE_S, Client, HeldDevice, Seamd, grpc, refused, run_cases,
                             wait_for, write_model)
from service_trainer import (BACKWARD, FORWARD, GENERATE, Micro, Stream, Trainer, some_micros,
                             step_begin, tensor_frames)
from test_save_checkpoint import create, save_of
from test_service_generate import Inference, export, import_files
from test_service_train import config_f32
from test_session_end import came, delete, memory_free, turn
from test_unreadable_checkpoint import Run

CODE = grpc.StatusCode
WINDOW = 2 * (64 + (1 << 20))  # the smallest


class HeldWake:
    """The run's session is being woken, by a call of `waker`; let_go() ends that, at step 2."""

    def __init__(self, run, threads, waker):
        self.newest, self.away = run.file(3), run.file(3).with_suffix(".away")
        self.newest.rename(self.away)
        os.mkfifo(self.newest)
        run.restart()
        grpc.channel_ready_future(run.channel).result(timeout=DEADLINE_S)
        free = memory_free(run.channel)
        self.first = threads.submit(waker)
        wait_for(lambda: memory_free(run.channel) < free, what="the wake")

    def let_go(self):
        os.close(os.open(self.newest, os.O_WRONLY))


def rows_done(trainer):
    from seam.v1 import service_pb2
    return Client(trainer.channel).unary("GetSession", service_pb2.GetSessionRequest(
        session_id=trainer.session.id, session_secret=trainer.secret),
        service_pb2.GetSessionResponse).session.tokens


def test_wake__attaches_that_come_meanwhile__the_newest_wins(binary, folder):
    """Whether a step before what was woken is loaded for it or not.  The older ones, the one that
    wakes among them, end at once as any stream that a newer one supersedes."""
    for step in (5, 1):
        with Run(binary, folder, f"newest{step}") as run, ThreadPoolExecutor(8) as threads:
            run.trainer.committed = step

            def fenced():
                refused(CODE.ABORTED, run.trainer.attach, reason="FENCED", text="newer attach")

            wake = HeldWake(run, threads, fenced)
            second = came(run.channel, threads.submit(fenced))
            forward = came(run.channel, threads.submit(Inference, run.trainer, "Forward", rows_max=64))
            third = threads.submit(run.trainer.attach)
            for older in (wake.first, second):
                older.result(timeout=DEADLINE_S)
            wake.let_go()
            stream, attached = third.result()
            back = min(step, 2)
            assert (attached.action, attached.rollback_step) == (3, back)
            run.trainer.committed = back
            if back == 2:
                assert forward.result().opened.committed_step_count == 2
            again = [run.trainer.step(stream, run.micros)[1].state_hash for _ in range(back, 5)]
            assert again == run.hashes[back:]


def test_attach__while_a_tensor_is_at_work__is_judged_as_any(_, folder):
    """Its widths too, which the server can look at only after; the attached stream stays."""
    device, micros = HeldDevice(folder), some_micros(np.random.default_rng(5))
    with Seamd(sys.argv[2], folder / "model", environment=device.environment) as server, \
            grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(1) as threads:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        stream.send(step_begin=step_begin(stream.pb, 0, micros))

        def attach_refused(code, reason, *widths):
            refused(code, trainer.attach, reason=reason, text="allocations",
                    allocations=[stream.pb.AllocVersion(**fields) for fields in widths])

        with device:
            trainer.send_tensor(stream, trainer.embed(micros[0]), phase=FORWARD, site=0, step=0, micro=0)
            device.wait()
            waiting = came(channel, threads.submit(attach_refused, CODE.ABORTED, "CONFLICT",
                                                   dict(site=0, version=0, hash=1)))
        waiting.result()
        attach_refused(CODE.INVALID_ARGUMENT, "ARG", dict(site=4))
        attach_refused(CODE.INVALID_ARGUMENT, "ARG", *[dict(site=0)] * 5)
        stream.tensor(FORWARD, 1)
        assert stream.call.is_active()


def test_delete__while_it_is_brought_back__who_waits_ends_with_it(binary, folder):
    """At once: the wake need not be over."""
    with Run(binary, folder, "deleted") as run, ThreadPoolExecutor(8) as threads:
        trainer = run.trainer

        def gone(call, *args, **kwargs):
            def ends():
                refused(CODE.NOT_FOUND, call, *args, reason="GONE", text="deleted", **kwargs)
            return ends

        wake = HeldWake(run, threads, gone(Inference, trainer, "Forward", rows_max=64))
        files = {"adapter_model.safetensors": b"x" * 64, "adapter_config.json": b"{}"}
        calls = [came(run.channel, threads.submit(call)) for call in (
            gone(Inference, trainer, "Forward", rows_max=64),
            gone(Inference, trainer, "Generate", rows_max=16), gone(trainer.attach),
            gone(export, trainer), gone(import_files, trainer, files))]
        deletion = came(run.channel, threads.submit(delete, run.channel, trainer.session.id, trainer.secret))
        try:
            for call in [wake.first, *calls]:
                call.result(timeout=DEADLINE_S)
            assert not deletion.done()
        finally:
            wake.let_go()
        deletion.result()
        assert not run.home.exists()
        refused(CODE.NOT_FOUND, trainer.attach, reason="NOT_FOUND")


def test_delete__just_after_a_rollback_that_failed__who_waits_for_its_wake_ends(binary, folder):
    """Nothing works for the session then: it goes at once, and nobody would tell them."""
    for i in range(3):
        with Run(binary, folder, f"failed{i}") as run:
            run.trainer.committed = 3
            for step in range(4):
                run.hide(step)
            stream = Stream(run.channel, "Forward")
            run.attach_refused(CODE.INTERNAL, "IO")
            stream.send(open=stream.pb.GenerateOpen(session_id=run.trainer.session.id,
                                                    session_secret=run.trainer.secret))
            for step in range(4):
                run.bring_back(step)
            delete(run.channel, run.trainer.session.id, run.trainer.secret)
            refused(CODE.NOT_FOUND, stream.drain)


class StalledStep:
    """After a step of few rows one whose second forward waits: its reply would take the place of
    the first one's, for which there is no credit.  Nothing works for the session then."""

    def __init__(self):
        self.pause_s = 0.5
        self.small, self.micro = some_micros(np.random.default_rng(5)), Micro([np.arange(83)] * 6)
        x = np.ones((len(self.micro.ids), 1024), np.float32)
        self.frames = []
        for phase, site, micro in ((FORWARD, 0, 0), (BACKWARD, 2, 0), (FORWARD, 0, 1)):
            self.frames += tensor_frames(x, phase=phase, site=site, step=1, micro=micro)

    def save(self, threads, trainer):
        """The stream and a SaveCheckpoint that waits.  None: it came before the backward was over, and
        was answered after that; the next time has twice as long."""
        stream, _ = trainer.attach(credit_bytes=WINDOW)
        trainer.step(stream, self.small)
        stream.send(step_begin=step_begin(stream.pb, 1, [self.micro, self.micro]))
        for data in self.frames:
            stream.send(frame=data)
        wait_for(lambda: rows_done(trainer) > len(self.micro.ids), what="the first forward")
        self.pause_s *= 2
        time.sleep(self.pause_s)  # and the backward
        saved = threads.submit(save_of, trainer)
        turn(trainer.channel)
        return None if saved.done() else (stream, saved)


def test_save__a_stream_ends_whose_tensor_waits__is_answered(binary, folder):
    write_model(folder / "wide", hidden=1024, layers=1, heads=2, kv_heads=2, context=1024)
    config = config_f32()
    config.codec.labelled_rows_only = False
    config.limits.rows_per_micro_max = 640
    config.limits.pipeline_depth = 1
    flags = ("--state-dir", str(folder / "waits"), "--sessions-max", "32")
    no_own = {"FAULT_CADENCE": "0"}  # by itself it would save before the call that is to wait
    step = StalledStep()
    with Seamd(binary, folder / "wide", *flags, environment=no_own) as server, \
            grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(1) as threads:
        for end in ("cancel", "attach", "error"):
            waits = None
            while waits is None:
                trainer = Trainer(channel, folder / "wide", config)
                waits = step.save(threads, trainer)
            stream, saved = waits
            if end == "cancel":
                stream.call.cancel()
            elif end == "attach":
                trainer.attach()
            else:
                stream.send(frame=b"none")
                refused(CODE.INVALID_ARGUMENT, stream.drain, reason="FORMAT")
            assert saved.result() == 1


def test_forward__streams_that_always_ask__each_has_its_turn(_, folder):
    """The oldest stream asks once, beside eight that have all sent what takes 80 s.  How far the server
    comes meanwhile is what a client sees, who may itself be slow: it asks again while they have more."""
    x, asked_count = np.zeros((60, 48), np.float32), 800
    with Seamd(sys.argv[2], folder / "model", environment={"SLOW_FORWARD_MS": "100"}) as server, \
            grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(8) as threads:
        trainer = Trainer(channel, folder / "model", config_f32())
        oldest, *others = [Inference(trainer, "Forward", rows_max=64) for _ in range(9)]
        for request in range(asked_count // len(others)):
            frames = tensor_frames(x, phase=GENERATE, site=0, step=request, micro=0)
            for other in others:
                other.stream.send(rows=other.stream.pb.GenerateRows(
                    request=request, rows_out=3, sequence_rows=[60]))
                for data in frames:
                    other.stream.send(frame=data)
        readers = [threads.submit(other.stream.drain) for other in others]

        def done_count():
            return rows_done(trainer) // len(x)

        wait_for(lambda: done_count() > 16, what="replies")
        between = []
        while not between or between[-1] >= 120:
            before = done_count()
            assert before < asked_count - 240, between
            oldest.ask(x, sequence_rows=[60])
            between.append(done_count() - before)
        for other in others:
            other.stream.call.cancel()
        assert all(isinstance(reader.exception(), grpc.RpcError) for reader in readers)


def test_stop__sessions_whose_creation_waits_cannot_be_stored__ends_in_order(binary, folder):
    """The engine comes to them when it is to end, and nobody waits for them any more."""
    with Run(binary, folder, "stored") as run, ThreadPoolExecutor(8) as threads:
        def stopped(call, *args):
            refused(CODE.UNAVAILABLE, call, *args, reason="UNAVAILABLE", text="stopping")

        wake = HeldWake(run, threads, lambda: stopped(run.trainer.attach))
        others = [came(run.channel, threads.submit(stopped, create, run.channel, config_f32()))
                  for _ in range(4)]
        run.server.process.terminate()
        for call in [wake.first, *others]:
            call.result()
        time.sleep(1.5)
        with contextlib.closing(sqlite3.connect(folder / "stored" / "sessions.db")) as database:
            database.execute("BEGIN EXCLUSIVE")
            wake.let_go()
            assert run.server.stop() == 0, run.server.log


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

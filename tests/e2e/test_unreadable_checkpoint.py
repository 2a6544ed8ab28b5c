"""Checkpoints that cannot be read or are not what they should be: the one before is loaded; a lack
that passes loses nothing.  Both when a parked session wakes and when a running one goes back.

EIO is here a folder in the file's place; the lack, a server that may open no more files.

    test_unreadable_checkpoint.py SEAMD_FAULT
"""
import os
import resource
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service_fixture import DEADLINE_S, Client, grpc, refused, run_cases, wait_for
from service_trainer import Trainer, some_micros
from test_save_checkpoint import save_of, serve
from test_service_generate import Inference, export, import_files
from test_service_train import config_f32
from test_session_end import memory_free

CODE = grpc.StatusCode
FLAGS = ("--lease-timeout", "3600000",)


class Run:
    """A session with checkpoints of 0..3 steps and, while its server lives, 5 steps committed."""

    def __init__(self, binary, folder, name):
        self.binary, self.folder, self.name = binary, folder, name
        self.micros = some_micros(np.random.default_rng(5))
        self.server = serve(binary, folder, name, *FLAGS)
        self.channel = grpc.insecure_channel(self.server.address)
        self.trainer = Trainer(self.channel, folder / "model", config_f32())
        stream, _ = self.trainer.attach()
        self.hashes = []
        for step in range(1, 6):
            self.hashes.append(self.trainer.step(stream, self.micros)[1].state_hash)
            if step <= 3:
                assert save_of(self.trainer) == step
        stream.close()
        stream.drain()
        self.home = folder / name / "sessions" / self.trainer.session.id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        self.server.process.kill()
        self.server.process.wait()

    def restart(self):
        self.__exit__()
        self.server = serve(self.binary, self.folder, self.name, *FLAGS, listen=self.server.address)
        self.channel = self.trainer.channel = grpc.insecure_channel(self.server.address)

    def file(self, step):
        return self.home / f"{step:020}.safetensors"

    def hide(self, step):
        self.file(step).rename(self.file(step).with_suffix(".away"))
        self.file(step).mkdir()

    def bring_back(self, step):
        self.file(step).rmdir()
        self.file(step).with_suffix(".away").rename(self.file(step))

    def make_foreign(self, step):
        """Intact, but of a session of another rank."""
        config = config_f32()
        config.lora.rank += 1
        other = Trainer(self.channel, self.folder / "model", config)
        stream, _ = other.attach()
        for _ in range(step):
            other.step(stream, self.micros)
        assert save_of(other) == step
        stream.close()
        stream.drain()
        home = self.home.parent / other.session.id
        for suffix in ("safetensors", "manifest"):
            shutil.copy(home / f"{step:020}.{suffix}", self.home)

    def limit_files(self, limited):
        """None can be opened; those that are open stay."""
        hard = resource.prlimit(self.server.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.server.process.pid, resource.RLIMIT_NOFILE,
                         (0 if limited else hard, hard))

    def attach_refused(self, code, reason):
        refused(code, self.trainer.attach, reason=reason)

    def goes_on_from(self, step):
        """Attach leads there, and to the bits of the first time."""
        stream, attached = self.trainer.attach()
        assert (attached.action, attached.rollback_step) == (3, step), attached
        assert attached.committed_step_count == step
        self.trainer.committed = step
        again = [self.trainer.step(stream, self.micros)[1].state_hash for _ in range(step, 5)]
        assert again == self.hashes[step:]
        stream.close()
        stream.drain()


def test_wake__newest_cannot_be_read_or_is_of_another__the_one_before(binary, folder):
    for name, harm in (("unread", Run.hide), ("foreign", Run.make_foreign)):
        with Run(binary, folder, name) as run:
            harm(run, 3)
            run.restart()
            run.goes_on_from(2)
            word = "checkpoint_unreadable" if name == "unread" else "checkpoint_damaged"
            assert word in run.server.log and "session_recovered" in run.server.log


def test_wake__none_can_be_read_now__nothing_is_lost(binary, folder):
    with Run(binary, folder, "none") as run:
        for step in range(4):
            run.hide(step)
        run.restart()
        for _ in range(2):
            run.attach_refused(CODE.INTERNAL, "IO")
        for step in range(4):
            run.bring_back(step)
        run.goes_on_from(3)


def test_wake__no_more_files__passes(binary, folder):
    with Run(binary, folder, "files") as run:
        run.restart()
        grpc.channel_ready_future(run.channel).result(timeout=DEADLINE_S)
        run.limit_files(True)
        run.attach_refused(CODE.RESOURCE_EXHAUSTED, "LIMIT")
        run.limit_files(False)
        run.goes_on_from(3)
        assert "damaged" not in run.server.log.replace("damaged=0", "")


def test_wake__fails_while_others_wait__they_wake_it_themselves(binary, folder):
    """The newest is a pipe that nobody writes into: the engine stands in its open() when they come."""
    with Run(binary, folder, "waiting") as run, ThreadPoolExecutor() as threads:
        for step in range(3):
            run.hide(step)
        newest, away, pipe = run.file(3), run.file(3).with_suffix(".away"), run.home / "pipe"
        newest.rename(away)
        os.mkfifo(newest)
        run.restart()
        grpc.channel_ready_future(run.channel).result(timeout=DEADLINE_S)
        free = memory_free(run.channel)
        first = threads.submit(run.attach_refused, CODE.INTERNAL, "IO")
        wait_for(lambda: memory_free(run.channel) < free, what="the wake")
        others = [threads.submit(Inference, run.trainer, "Forward", rows_max=64),
                  threads.submit(Inference, run.trainer, "Generate", rows_max=16),
                  threads.submit(export, run.trainer)]
        time.sleep(0.5)
        newest.rename(pipe)
        away.rename(newest)
        os.close(os.open(pipe, os.O_WRONLY))
        first.result()
        for other in others[:2]:
            inference = other.result()
            assert inference.opened.committed_step_count == 3
            inference.stream.close()
            inference.stream.drain()
        assert others[2].result()[1] == run.hashes[2]
        run.goes_on_from(3)


def test_rollback__newest_cannot_be_read_or_is_of_another__the_one_before(binary, folder):
    for name, harm in (("unread_back", Run.hide), ("foreign_back", Run.make_foreign)):
        with Run(binary, folder, name) as run:
            run.trainer.committed = 3
            harm(run, 3)
            run.goes_on_from(2)


def test_rollback__cannot_be_read_now__passes(binary, folder):
    with Run(binary, folder, "back") as run:
        forward = Inference(run.trainer, "Forward", rows_max=64)
        x = run.trainer.embedding[:6]
        forward.ask(x, sequence_rows=[6])
        run.trainer.committed = 3
        for step in range(4):
            run.hide(step)
        for _ in range(2):
            run.attach_refused(CODE.INTERNAL, "IO")
        refused(CODE.INTERNAL, export, run.trainer, reason="IO")
        refused(CODE.UNAVAILABLE, forward.stream.drain, reason="UNAVAILABLE", text="Attach")
        assert save_of(run.trainer) == 3  # is on the disk
        for step in range(4):
            run.bring_back(step)
        run.goes_on_from(3)
        assert save_of(run.trainer) == 5
        assert len(export(run.trainer)[0]) == 2
    with Run(binary, folder, "back_files") as run:
        run.trainer.committed = 3
        run.limit_files(True)
        run.attach_refused(CODE.RESOURCE_EXHAUSTED, "LIMIT")
        run.limit_files(False)
        run.goes_on_from(3)


def test_rollback__cannot_be_read_now__is_without_memory_until_it_is_needed(binary, folder):
    """Also beside a write of the step that it is to go back from, and for two that attach at once."""
    for beside_write in (False, True):
        with Run(binary, folder, f"memory{beside_write}") as run, ThreadPoolExecutor() as threads:
            free = memory_free(run.channel)
            run.trainer.committed = 3
            for step in range(4):
                run.hide(step)

            def attach():
                try:
                    run.trainer.attach()
                except grpc.RpcError as error:
                    return error.code()

            saved = threads.submit(save_of, run.trainer) if beside_write else None
            codes = [thread.result() for thread in [threads.submit(attach) for _ in range(2)]]
            # The first may wait for the save's job when the second comes.
            assert codes.count(CODE.INTERNAL) + codes.count(CODE.ABORTED) * beside_write == 2, codes
            assert CODE.INTERNAL in codes
            wait_for(lambda: memory_free(run.channel) > free, what="its memory")
            for step in range(4):
                run.bring_back(step)
            forward = Inference(run.trainer, "Forward", rows_max=64)  # nobody has attached
            assert forward.opened.committed_step_count == (saved.result() if saved else 3)
            forward.stream.close()
            forward.stream.drain()
            run.goes_on_from(3)
            assert memory_free(run.channel) == free


def test_rollback__cannot_be_read_now__an_import_that_comes_does_nothing(binary, folder):
    with serve(binary, folder, "import") as server, \
            grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor() as threads:
        trainer = Trainer(channel, folder / "model", config_f32())
        files, state_hash = export(trainer)
        begun, harmed = threading.Event(), threading.Event()

        class Slow(dict):
            def items(self):
                """The last file comes when the session has lost its memory."""
                first, last = super().items()
                yield first
                begun.set()
                harmed.wait()
                yield last

        importer = threads.submit(refused, CODE.UNAVAILABLE, import_files, trainer, Slow(files),
                                  text="import")
        begun.wait()
        stream, _ = trainer.attach()
        trainer.step(stream, some_micros(np.random.default_rng(5)))
        trainer.committed = 0
        path = folder / "import" / "sessions" / trainer.session.id / f"{0:020}.safetensors"
        path.rename(path.with_suffix(".away"))
        path.mkdir()
        refused(CODE.INTERNAL, trainer.attach, reason="IO")
        harmed.set()
        importer.result()
        path.rmdir()
        path.with_suffix(".away").rename(path)
        assert export(trainer)[1] == state_hash == import_files(trainer, files)


def asks_for_a_pause(error):
    from google.rpc import error_details_pb2, status_pb2
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    return any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
               for detail in status_pb2.Status.FromString(details).details)


def test_rollback__forward_and_generate_open__end_before_it(binary, folder):
    """What slots hold is of steps that are undone; those opened after it are as at that step.  A
    client that is ahead goes back alone: the server's state stays, and so do they."""
    with Run(binary, folder, "open") as run:
        x = run.trainer.embedding[:6]
        now = Inference(run.trainer, "Forward", rows_max=64)
        at_five = now.ask(x, sequence_rows=[6])
        run.trainer.committed = 7
        stream, attached = run.trainer.attach()
        assert (attached.action, attached.rollback_step) == (3, 5)
        assert np.array_equal(now.ask(x, sequence_rows=[6]), at_five)
        calls = [now, Inference(run.trainer, "Forward", base_model=True),
                 Inference(run.trainer, "Generate", rows_max=16)]
        calls[2].ask(x[:4], sequence_rows=[4], slots=[1])
        run.trainer.committed = 3
        stream, attached = run.trainer.attach()
        assert (attached.action, attached.rollback_step) == (3, 3)
        for call in calls:
            assert asks_for_a_pause(refused(CODE.UNAVAILABLE, call.stream.drain,
                                            reason="UNAVAILABLE", text="an earlier step"))
        forward = Inference(run.trainer, "Forward", rows_max=64)
        generate = Inference(run.trainer, "Generate", rows_max=16)
        assert forward.opened.committed_step_count == generate.opened.committed_step_count == 3
        at_three = forward.ask(x, sequence_rows=[6])
        assert np.abs(at_three - at_five).max() > 1e-4
        generate.ask(x[:4], sequence_rows=[4], slots=[1])
        rest = generate.ask(x[4:], sequence_rows=[2], slots=[1], first_positions=[4])
        assert np.allclose(rest, at_three[4:], atol=2e-5)


def test_rollback__server_stopped_while_it_cannot_be_read__nothing_is_lost(binary, folder):
    with Run(binary, folder, "stopped") as run:
        run.trainer.committed = 3
        for step in range(4):
            run.hide(step)
        run.attach_refused(CODE.INTERNAL, "IO")
        assert run.server.stop() == 0
        for step in range(4):
            run.bring_back(step)
        run.restart()
        run.goes_on_from(3)


def test_rollback__all_damaged__data_loss(binary, folder):
    with Run(binary, folder, "lost") as run:
        run.trainer.committed = 3
        for step in range(4):
            run.file(step).write_bytes(b"damaged")
        for _ in range(2):
            run.attach_refused(CODE.DATA_LOSS, "DATA_LOSS")
        assert "session_lost" in run.server.log


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

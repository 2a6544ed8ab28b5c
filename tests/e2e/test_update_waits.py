"""UpdateSession where things go wrong: steps that were undone, jobs that take long, sessions on their
way out or in, disks that refuse, rows that are damaged.

The engine works as long as a test wants where another session is woken whose newest checkpoint is a
pipe that nobody writes into: the engine stands in its open()."""
import contextlib
import os
import resource
import signal
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service_fixture import DEADLINE_S, Client, grpc, refused, run_cases, wait_for
from service_trainer import Trainer, some_micros
from test_save_checkpoint import save_of, serve
from test_service_train import config_f32
from test_session_end import came, delete, leave_and_park, memory_free, turn
from test_update_session import optimizer, steps_of, update_of

CODE = grpc.StatusCode
FLAGS = ("--lease-timeout", "3600000")
RATE = 2.0 ** -5


def updates_now(trainer):
    from seam.v1 import service_pb2
    return [(u.effective_step, u.optimizer.lr) for u in Client(trainer.channel).unary(
        "GetSession", service_pb2.GetSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret),
        service_pb2.GetSessionResponse).session.updates]


def too_early(trainer, step):
    refused(CODE.INVALID_ARGUMENT, update_of, trainer, step, optimizer(lr=1), reason="ARG",
            field="effective_step")


class World:
    """One server and, with wake_slowly(), an engine that stands still."""

    def __init__(self, binary, folder, name, *flags):
        self.binary, self.folder, self.name, self.flags = binary, folder, name, FLAGS + flags
        self.micros = some_micros(np.random.default_rng(11))
        self.server = serve(binary, folder, name, *self.flags)
        self.channel = grpc.insecure_channel(self.server.address)
        self.sleeper = self.trainer(1, saved=(1,))

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        self.channel.close()
        if error is None and self.server.process.poll() != -signal.SIGKILL:
            assert self.server.stop() == 0, self.server.log
        self.server.process.kill()
        self.server.process.wait()

    def trainer(self, steps, saved=()):
        """A session whose client has made so many steps and left."""
        trainer = Trainer(self.channel, self.folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.hashes = []
        for step in range(1, steps + 1):
            trainer.hashes.append(trainer.step(stream, self.micros)[1].state_hash)
            if step in saved:
                assert save_of(trainer) == step
        stream.close()
        stream.drain()
        return trainer

    def file(self, trainer, step):
        return (self.folder / self.name / "sessions" / trainer.session.id
                / f"{step:020}.safetensors")

    def database(self):
        return contextlib.closing(sqlite3.connect(self.folder / self.name / "sessions.db",
                                                  isolation_level=None))

    def restart(self, *trainers):
        """Killed and started anew."""
        self.channel.close()
        self.server.process.kill()
        self.server.process.wait()
        self.server = serve(self.binary, self.folder, self.name, *self.flags,
                            listen=self.server.address)
        self.channel = grpc.insecure_channel(self.server.address)
        for trainer in (self.sleeper, *trainers):
            trainer.channel = self.channel
        grpc.channel_ready_future(self.channel).result(timeout=DEADLINE_S)

    def begin_wake(self, threads):
        """The Attach has come, for its session's memory is taken."""
        free = memory_free(self.channel)
        waked = threads.submit(self.sleeper.attach)
        wait_for(lambda: memory_free(self.channel) < free, what="the wake")
        return waked

    def wake_slowly(self, threads):
        """Of a server that has been restarted: the engine stands until the returned is called."""
        pipe = self.file(self.sleeper, 1)
        pipe.unlink()
        os.mkfifo(pipe)
        waked = self.begin_wake(threads)

        def let_go():
            os.close(os.open(pipe, os.O_WRONLY))
            waked.result()[0].call.cancel()
        return let_go


def test_update__a_client_that_lost_its_state__steps_that_were_made_stay(binary, folder):
    """Whatever its Attach says that it has now: what it replays are the bits of the first time, and
    a checkpoint of theirs that is still on the disk is of the same history."""
    with World(binary, folder, "lost") as world:
        trainer = world.trainer(5, saved=(2, 5))
        for again in range(2):
            for back in (2, 0):
                trainer.committed = back
                stream, attached = trainer.attach()
                assert (attached.action, attached.rollback_step) == (3, back), attached
                too_early(trainer, back + 1)
                too_early(trainer, 4)
                assert steps_of(update_of(trainer, 0, optimizer(lr=RATE))) == [5]
                got = [trainer.step(stream, world.micros)[1] for _ in range(back, 4)]
                assert [c.state_hash for c in got] == trainer.hashes[back:4]
                trainer.committed = 3  # it comes back while it replays
                stream.call.cancel()
                stream, attached = trainer.attach(step_in_flight=True)
                too_early(trainer, 4)
                assert steps_of(update_of(trainer, 0, optimizer(lr=RATE))) == [5]
                stream.close()
                stream.drain()
            if again == 0:
                world.restart(trainer)
        trainer.committed = 5
        stream, attached = trainer.attach()
        trainer.committed = attached.rollback_step
        got = [trainer.step(stream, world.micros)[1] for _ in range(trainer.committed, 6)]
        assert got[-1].lr == RATE and got[-2].state_hash == trainer.hashes[4]
        stream.close()
        stream.drain()


def test_update__killed_again_while_its_client_replays__steps_that_were_made_stay(binary, folder):
    """Neither end has them at the second start, but the state directory remembers how many.  Where
    the server had gone back itself, before it was killed, too."""
    for restarts_first in (True, False):
        with World(binary, folder, f"again{restarts_first}") as world:
            trainer = world.trainer(6, saved=(2,))
            if restarts_first:
                world.restart(trainer)
            else:
                trainer.committed = 2
            stream, attached = trainer.attach()
            assert (attached.action, attached.rollback_step) == (3, 2), attached
            trainer.committed = 2
            assert trainer.step(stream, world.micros)[1].state_hash == trainer.hashes[2]
            for _ in range(2):
                world.restart(trainer)
                trainer.committed = 3
                stream, attached = trainer.attach()
                assert (attached.action, attached.rollback_step) == (3, 2), attached
                too_early(trainer, 3)
                too_early(trainer, 5)
            assert steps_of(update_of(trainer, 0, optimizer(lr=RATE))) == [6]
            trainer.committed = 2
            got = [trainer.step(stream, world.micros)[1] for _ in range(2, 7)]
            assert [c.state_hash for c in got[:4]] == trainer.hashes[2:]
            assert got[4].lr == RATE
            stream.close()
            stream.drain()


def test_attach__what_was_made_cannot_be_written_down__goes_on(binary, folder):
    with World(binary, folder, "unwritten") as world:
        trainer = world.trainer(3, saved=(2,))
        trainer.committed = 2
        with world.database() as database:
            database.execute("BEGIN EXCLUSIVE")
            stream, attached = trainer.attach()
        assert (attached.action, attached.rollback_step) == (3, 2), attached
        assert "made_not_stored" in world.server.log
        assert trainer.step(stream, world.micros)[1].state_hash == trainer.hashes[2]
        stream.close()
        stream.drain()


def test_update__repeated_at_the_next_process__is_known_before_its_client_comes(binary, folder):
    with World(binary, folder, "repeated") as world:
        trainer = world.trainer(2)
        update_of(trainer, 4, optimizer(lr=RATE), "one")
        world.restart(trainer)
        assert steps_of(update_of(trainer, 4, optimizer(lr=RATE), "one")) == [4]
        assert steps_of(update_of(trainer, 0, optimizer(lr=RATE), "one")) == [4]
        refused(CODE.ALREADY_EXISTS, update_of, trainer, 5, optimizer(lr=RATE), "one",
                reason="EXISTS", field="request_id")
        refused(CODE.FAILED_PRECONDITION, update_of, trainer, 5, optimizer(lr=RATE), "two",
                reason="STATE", text="not attached")


def test_update__while_its_job_runs__others_wait_their_turn(binary, folder):
    with World(binary, folder, "turns") as world, ThreadPoolExecutor(24) as threads:
        trainer = world.trainer(2, saved=(2,))
        world.restart(trainer)
        stream, _ = trainer.attach()
        trainer.step(stream, world.micros)
        let_go = world.wake_slowly(threads)
        first = came(world.channel, threads.submit(update_of, trainer, 0, optimizer(lr=RATE), "one"))
        same = [threads.submit(update_of, trainer, 0, optimizer(lr=RATE), "one") for _ in range(8)]
        later = came(world.channel, threads.submit(update_of, trainer, 7, optimizer(lr=RATE / 2)))
        saved = came(world.channel, threads.submit(save_of, trainer))
        newer = came(world.channel, threads.submit(trainer.attach))
        assert updates_now(trainer) == []
        let_go()
        assert steps_of(first.result())[0] == 3 and saved.result() == 3
        assert all(call.result().updates[0].effective_step == 3 for call in same)
        assert steps_of(later.result()) == [3, 7]
        stream, _ = newer.result()
        assert [trainer.step(stream, world.micros)[1].lr for _ in range(3, 9)] == \
            [RATE] * 4 + [RATE / 2] * 2
        stream.close()
        stream.drain()


def test_update__cancelled_while_its_job_runs__is_in_force(binary, folder):
    """For it is written.  One that only waits is not."""
    from seam.v1 import service_pb2
    with World(binary, folder, "cancelled") as world, ThreadPoolExecutor(8) as threads:
        trainer = world.trainer(2, saved=(2,))
        world.restart(trainer)
        stream, _ = trainer.attach()
        let_go = world.wake_slowly(threads)
        method = world.channel.unary_unary(
            "/seam.v1.SeamService/UpdateSession",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=service_pb2.UpdateSessionResponse.FromString)
        calls = [came(world.channel, method.future(service_pb2.UpdateSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret, effective_step=step,
            optimizer=optimizer(lr=RATE)))) for step in (3, 4)]
        for call in calls[::-1]:
            call.cancel()
        turn(world.channel)
        let_go()
        wait_for(lambda: updates_now(trainer) == [(3, RATE)], what="the update")
        assert [trainer.step(stream, world.micros)[1].lr == RATE for _ in range(2)] == [False, True]
        stream.close()
        stream.drain()


def test_update__deleted_while_its_job_runs__all_end(binary, folder):
    with World(binary, folder, "deleted") as world, ThreadPoolExecutor(8) as threads:
        trainer = world.trainer(2, saved=(2,))
        world.restart(trainer)
        stream, _ = trainer.attach()
        let_go = world.wake_slowly(threads)

        def gone(step):
            refused(CODE.NOT_FOUND, update_of, trainer, step, optimizer(lr=RATE), reason="GONE",
                    text="deleted")
        first, second = came(world.channel, threads.submit(gone, 3)), came(world.channel, threads.submit(gone, 4))
        deletion = came(world.channel, threads.submit(delete, world.channel, trainer.session.id, trainer.secret))
        second.result(timeout=DEADLINE_S)
        assert not first.done()
        let_go()
        first.result()
        deletion.result()
        refused(CODE.NOT_FOUND, stream.drain, reason="GONE")
        with world.database() as database:
            assert database.execute("SELECT * FROM optimizer_update").fetchall() == []


def test_update__server_stops_while_its_job_runs__is_answered_or_told(binary, folder):
    for in_time in (True, False):
        drain_ms = 1000 * DEADLINE_S if in_time else 1000
        with World(binary, folder, f"stops{in_time}", "--drain-timeout", str(drain_ms)) as world, \
                ThreadPoolExecutor(8) as threads:
            trainer = world.trainer(2, saved=(2,))
            world.restart(trainer)
            stream, _ = trainer.attach()
            let_go = world.wake_slowly(threads)
            calls = [came(world.channel, threads.submit(update_of, trainer, step, optimizer(lr=RATE)))
                     for step in (3, 4)]
            world.server.process.terminate()
            if in_time:
                with contextlib.suppress(grpc.RpcError):
                    let_go()
                for call in calls:
                    call.result()
            else:
                for call in calls:
                    assert call.exception().code() == CODE.UNAVAILABLE
                time.sleep(0.5)
                with contextlib.suppress(grpc.RpcError):
                    let_go()
            with contextlib.suppress(grpc.RpcError):
                stream.drain()
            assert world.server.stop() == 0, world.server.log
            with world.database() as database:
                steps = database.execute(
                    "SELECT effective_step FROM optimizer_update ORDER BY 1").fetchall()
            assert steps == ([(3,), (4,)] if in_time else [(3,)]), steps


def test_update__waits_for_a_rollback_that_fails__and_no_attach_has_what_it_left(binary, folder):
    """Its job is for a session that the next tick unloads: an Attach that comes meanwhile would be
    given memory that goes under it."""
    with World(binary, folder, "spoiled") as world, ThreadPoolExecutor(8) as threads:
        trainer = world.trainer(3, saved=(1,))
        world.restart(trainer)
        stream, attached = trainer.attach()
        trainer.committed = attached.rollback_step
        for _ in range(2):
            trainer.step(stream, world.micros)
        stream.close()
        stream.drain()
        files = {step: world.file(trainer, step) for step in (0, 1)}
        for path in files.values():
            path.rename(path.with_suffix(".away"))
        files[0].mkdir()  # EIO
        os.mkfifo(files[1])
        trainer.committed = 1
        back = came(world.channel, threads.submit(refused, CODE.INTERNAL, trainer.attach, reason="IO"))
        waits = came(world.channel, threads.submit(update_of, trainer, 0, optimizer(lr=RATE)))
        pipe = world.file(world.sleeper, 1)
        pipe.unlink()
        os.mkfifo(pipe)
        waked = world.begin_wake(threads)
        os.close(os.open(files[1], os.O_WRONLY))
        back.result()
        files[1].unlink()
        files[0].rmdir()
        for path in files.values():
            path.with_suffix(".away").rename(path)
        again = came(world.channel, threads.submit(trainer.attach))
        os.close(os.open(pipe, os.O_WRONLY))
        waked.result()[0].call.cancel()
        assert steps_of(waits.result()) == [3]
        stream, attached = again.result()
        assert attached.rollback_step == 1
        time.sleep(0.6)  # ticks
        commits = [trainer.step(stream, world.micros)[1] for _ in range(3)]
        assert [c.state_hash for c in commits[:2]] == trainer.hashes[1:3] and commits[2].lr == RATE
        stream.close()
        stream.drain()


def test_update__of_a_parked_session__holds_when_it_is_back(binary, folder):
    with World(binary, folder, "parked", "--lease-timeout", "200") as world:
        trainer = Trainer(world.channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, world.micros)
        leave_and_park(world.server, trainer, stream)
        assert steps_of(update_of(trainer, 0, optimizer(lr=RATE))) == [1]
        assert steps_of(update_of(trainer, 3, optimizer(lr=RATE / 2))) == [1, 3]
        stream, attached = trainer.attach()
        assert attached.rollback_step == 1
        assert [trainer.step(stream, world.micros)[1].lr for _ in range(3)] == \
            [RATE, RATE, RATE / 2]
        stream.close()
        stream.drain()


def test_update__a_disk_that_refuses__is_not_in_force_and_the_old_ones_stay(binary, folder):
    """Locked by another; failing between the rows; full when the transaction ends."""
    limited = folder / "limited.sh"
    limited.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {binary} \"$@\"\n")
    limited.chmod(0o755)
    with World(str(limited), folder, "refuses") as world:
        trainer = world.trainer(1)
        stream, _ = trainer.attach()
        old = [(2, RATE), (5, RATE / 2)]
        for step, rate in old:
            update_of(trainer, step, optimizer(lr=rate))

        def fails(text):
            refused(CODE.INTERNAL, update_of, trainer, 2, optimizer(lr=1), "same", reason="IO",
                    text=text)
            assert updates_now(trainer) == old
            with world.database() as database:
                rows = database.execute("SELECT effective_step FROM optimizer_update").fetchall()
            assert [step for step, in rows] == [2, 5], rows

        with world.database() as database:
            database.execute("BEGIN EXCLUSIVE")
            refused(CODE.INTERNAL, update_of, trainer, 2, optimizer(lr=1), "same", reason="IO",
                    text="locked")
            database.execute("ROLLBACK")
        fails_by = "CREATE TRIGGER broken BEFORE INSERT ON optimizer_update BEGIN " \
                   "SELECT RAISE(ABORT, 'no row today'); END"
        with world.database() as database:
            database.execute(fails_by)
        fails("no row today")
        with world.database() as database:
            database.execute("DROP TRIGGER broken")
        pid = world.server.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        fails("")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        rates = [trainer.step(stream, world.micros)[1].lr for _ in range(2)]
        assert rates[1] == RATE
        update_of(trainer, 3, optimizer(lr=1), "same")
        assert updates_now(trainer) == [(2, RATE), (3, 1)]
        world.restart(trainer)
        assert updates_now(trainer) == [(2, RATE), (3, 1)]


def test_start__rows_of_updates_that_are_damaged__leave_that_session_alone(binary, folder):
    with World(binary, folder, "rows") as world:
        ids = []
        for _ in range(6):
            trainer = world.trainer(1, saved=(1,))
            update_of(trainer, 2, optimizer(lr=RATE))
            ids.append(trainer.session.id)
        with world.database() as database:
            for number, change in enumerate(("optimizer = x'ffff'", "optimizer = x''",
                                             "optimizer = 7", f"request_id = '{'x' * 65}'",
                                             "effective_step = -1")):
                database.execute(f"UPDATE optimizer_update SET {change} WHERE id = ?",
                                 (ids[number],))
        world.restart(trainer)
        assert world.server.log.count("session_left") == 5, world.server.log
        assert updates_now(trainer) == [(2, RATE)]
        with world.database() as database:
            database.execute("DROP TABLE optimizer_update")  # as an earlier release left it
        world.restart(trainer)
        assert updates_now(trainer) == []
        trainer.attach()[0].close()
        assert steps_of(update_of(trainer, 0, optimizer(lr=RATE))) == [1]


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

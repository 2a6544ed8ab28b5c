"""How sessions end, and that nothing else does with them: clients that confirm no checkpoint, a
session deleted while it is brought back, a frozen one."""
import sys
import threading
import time

import numpy as np

from service_fixture import Client, grpc, refused, run_cases, wait_for
from service_trainer import Trainer, some_micros, step_begin
from test_save_checkpoint import create, save_of, serve
from test_service_train import config_f32

CODE = grpc.StatusCode


def delete(channel, session_id, secret, request_id="", timeout=20):
    from seam.v1 import service_pb2
    return Client(channel).unary("DeleteSession", service_pb2.DeleteSessionRequest(
        request_id=request_id, session_id=session_id, session_secret=secret),
        service_pb2.DeleteSessionResponse, timeout=timeout)


def steps_on_disk(folder, state, trainer):
    names = (folder / state / "sessions" / trainer.session.id).glob("*.manifest")
    return sorted(int(path.stem) for path in names)


def leave_and_park(server, trainer, stream):
    """The stream ends, the lease is over, the memory is gone."""
    parked = server.log.count("session_parked")
    stream.close()
    stream.drain()
    wait_for(lambda: server.log.count("session_parked") > parked, what="parking")


def test_park__eight_kept_and_none_confirmed__the_oldest_but_one_makes_room(binary, folder):
    """Before, it ended the server.  The bits that follow are those of a run without."""
    micros = some_micros(np.random.default_rng(31))
    with serve(binary, folder, "all", "--checkpoint-percent", "1") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        wanted = [trainer.step(stream, micros)[1].state_hash for _ in range(12)]
        stream.close()
        stream.drain()
    flags = ("--lease-timeout", "200", "--checkpoint-percent", "1")
    with serve(binary, folder, "park", *flags) as server, \
            grpc.insecure_channel(server.address) as channel:
        address = server.address
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        for i in range(7):
            trainer.step(stream, micros)
            assert save_of(trainer) == i + 1
        hashes = []
        for i in range(8, 11):  # however often
            hashes.append(trainer.step(stream, micros)[1].state_hash)
            leave_and_park(server, trainer, stream)
            stream, attached = trainer.attach()
            assert attached.committed_step_count == i == attached.durable_step_count
        wait_for(lambda: steps_on_disk(folder, "park", trainer) == [0, 4, 5, 6, 7, 8, 9, 10],
                 what="eight generations")
        trainer.step(stream, micros)
        stream.close()
        stream.drain()
    # SIGTERM has parked it once more; a server that starts finds nine.
    assert steps_on_disk(folder, "park", trainer) == [0, 4, 5, 6, 7, 8, 9, 10, 11]
    with serve(binary, folder, "park", listen=address) as server, \
            grpc.insecure_channel(server.address) as trainer.channel:
        assert steps_on_disk(folder, "park", trainer) == [0, 5, 6, 7, 8, 9, 10, 11]
        stream, attached = trainer.attach()
        assert attached.committed_step_count == 11
        assert hashes + [trainer.step(stream, micros)[1].state_hash] == wanted[7:10] + wanted[11:]
        stream.close()
        stream.drain()


def test_delete__while_it_is_brought_back__both_calls_are_answered(binary, folder):
    """Another session keeps the engine busy, so that the wake waits for it."""
    micros = some_micros(np.random.default_rng(5))
    with serve(binary, folder, "wake", "--lease-timeout", "200") as server, \
            grpc.insecure_channel(server.address) as channel, \
            grpc.insecure_channel(server.address, options=[("grpc.x", 1)]) as other:
        trainers = []
        for _ in range(12):
            trainer = Trainer(channel, folder / "model", config_f32())
            stream, _ = trainer.attach()
            trainer.step(stream, micros)
            stream.close()
            stream.drain()
            trainers.append(trainer)
        wait_for(lambda: server.log.count("session_parked") == len(trainers), what="parking")
        busy = Trainer(channel, folder / "model", config_f32())
        busy_stream, _ = busy.attach()
        ended = threading.Event()

        def work():
            while not ended.is_set():
                busy.step(busy_stream, micros)

        def wake(trainer, failures):
            try:
                trainer.attach()
            except grpc.RpcError as error:
                failures.append(error.code())

        worker = threading.Thread(target=work)
        worker.start()
        for i, trainer in enumerate(trainers):
            failures = []
            trainer.channel = other
            waker = threading.Thread(target=wake, args=(trainer, failures))
            waker.start()
            time.sleep(0.0005 * (i % 4))
            delete(channel, trainer.session.id, trainer.secret)
            waker.join(10)
            assert not waker.is_alive()
            # It may have attached before; then the stream's end comes later.
            assert failures in ([CODE.NOT_FOUND], []), failures
        ended.set()
        worker.join()
        busy_stream.close()
        busy_stream.drain()


def test_frozen__lease_over__gives_its_memory_back_and_expires(binary, folder):
    micros, others = (some_micros(np.random.default_rng(n)) for n in (5, 6))
    flags = ("--lease-timeout", "200", "--sessions-max", "1", "--park-timeout", "1")
    with serve(binary, folder, "frozen", *flags) as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        for named in (micros, others):
            stream.send(step_begin=step_begin(stream.pb, 1, named))
        refused(CODE.ABORTED, stream.drain, reason="CONFLICT")
        refused(CODE.RESOURCE_EXHAUSTED, create, channel, config_f32(), text="sessions-max")
        wait_for(lambda: "session_parked" in server.log, what="parking")
        assert steps_on_disk(folder, "frozen", trainer) == [0]  # nothing of it is kept
        refused(CODE.ABORTED, trainer.attach, text="frozen", reason="CONFLICT")
        created = create(channel, config_f32())  # there is room again
        wait_for(lambda: f"session_expired session={trainer.session.id}" in server.log,
                 what="the end")
        refused(CODE.NOT_FOUND, trainer.attach)
        wait_for(lambda: not (folder / "frozen" / "sessions" / trainer.session.id).exists(),
                 what="removal")
        delete(channel, created.session.id, created.session_secret)
        assert server.process.poll() is None


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

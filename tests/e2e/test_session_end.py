"""How sessions end, and that nothing else does with them: clients that confirm no checkpoint, a
session deleted while it is brought back or written, a frozen one.

    test_session_end.py SEAMD_FAULT
"""
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from service_fixture import DEADLINE_S, Client, grpc, refused, run_cases, wait_for
from service_trainer import Trainer, some_micros, step_begin
from test_save_checkpoint import create, save_of, serve
from test_service_generate import Inference, export, import_files
from test_service_train import config_f32

CODE = grpc.StatusCode


def delete(channel, session_id, secret, request_id=""):
    from seam.v1 import service_pb2
    return Client(channel).unary("DeleteSession", service_pb2.DeleteSessionRequest(
        request_id=request_id, session_id=session_id, session_secret=secret),
        service_pb2.DeleteSessionResponse)


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
    with serve(binary, folder, "all") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        wanted = [trainer.step(stream, micros)[1].state_hash for _ in range(12)]
        stream.close()
        stream.drain()
    with serve(binary, folder, "park", "--lease-timeout", "200") as server, \
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
    # With a lease that does not end by itself before SIGTERM parks it once more.
    with serve(binary, folder, "park", listen=address) as server, \
            grpc.insecure_channel(server.address) as trainer.channel:
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        stream.close()
        stream.drain()
    # A server that starts finds nine.
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
        wait_for(lambda: all(f"session_parked session={t.session.id}" in server.log
                             for t in trainers), what="parking")
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
            waker.join(DEADLINE_S)
            assert not waker.is_alive()
            # It may have attached before; then the stream's end comes later.
            assert failures in ([CODE.NOT_FOUND], []), failures
        ended.set()
        worker.join()
        busy_stream.close()
        busy_stream.drain()


def memory_free(channel):
    from seam.v1 import service_pb2
    return Client(channel).unary("GetServerInfo", service_pb2.GetServerInfoRequest(),
                                 service_pb2.GetServerInfoResponse).memory_bytes_free


def turn(channel):
    """What was sent before this is at the server, and it has looked at it: a busy machine gives the
    threads that send it, and the server, no less than what these many answers take."""
    time.sleep(0.1)
    for _ in range(50):
        memory_free(channel)


def came(channel, call):
    """It is at the server, and waits there."""
    turn(channel)
    assert not call.done()
    return call


def test_delete__forward_and_generate_open__end_with_it(binary, folder):
    """Whether they wait for a request, or one waits or is computed; another session's go on."""
    with serve(binary, folder, "streams") as server, \
            grpc.insecure_channel(server.address) as channel:
        x = np.zeros((60, 48), np.float32)
        beside = Inference(Trainer(channel, folder / "model", config_f32()), "Forward", rows_max=64)
        free = memory_free(channel)
        for i in range(8):
            trainer = Trainer(channel, folder / "model", config_f32())
            calls = [Inference(trainer, "Forward", rows_max=64),
                     Inference(trainer, "Generate", rows_max=64, positions_max=64),
                     Inference(trainer, "Forward", base_model=True)]
            calls[0].ask(x, sequence_rows=[60])
            for slot, call in enumerate(calls[1:i % 3 + 1]):
                call.send(x, sequence_rows=[60], **({} if slot else {"slots": [1]}))
            time.sleep(0.001 * (i // 3))
            delete(channel, trainer.session.id, trainer.secret)
            for call in calls:
                refused(CODE.NOT_FOUND, call.stream.drain, reason="GONE", text="deleted")
            wait_for(lambda: memory_free(channel) == free, what="their memory")
        assert len(beside.ask(x, sequence_rows=[60])) == 60


def frozen(channel, folder):
    """A session of one step that is frozen in the second."""
    micros, others = (some_micros(np.random.default_rng(n)) for n in (5, 6))
    trainer = Trainer(channel, folder / "model", config_f32())
    stream, _ = trainer.attach()
    trainer.step(stream, micros)
    for named in (micros, others):
        stream.send(step_begin=step_begin(stream.pb, 1, named))
    refused(CODE.ABORTED, stream.drain, reason="CONFLICT")
    return trainer


def test_frozen__lease_over__gives_its_memory_back_and_expires(binary, folder):
    """Before its lease is over, before it expires, and then: a server for each, since no time is
    long enough for a busy machine to ask within it."""
    with serve(binary, folder, "leased", "--sessions-max", "1") as server, \
            grpc.insecure_channel(server.address) as channel:
        frozen(channel, folder)
        refused(CODE.RESOURCE_EXHAUSTED, create, channel, config_f32(), text="sessions-max")
    flags = ("--lease-timeout", "700", "--sessions-max", "1")
    with serve(binary, folder, "frozen", *flags) as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = frozen(channel, folder)
        wait_for(lambda: f"session_parked session={trainer.session.id} link=FROZEN" in server.log,
                 what="parking")
        assert steps_on_disk(folder, "frozen", trainer) == [0]  # nothing of it is kept
        refused(CODE.ABORTED, trainer.attach, text="frozen", reason="CONFLICT")
        create(channel, config_f32())  # there is room again
    flags = ("--lease-timeout", "3000", "--park-timeout", "1")  # before it is attached it has 4 s
    with serve(binary, folder, "frozen", *flags) as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = frozen(channel, folder)
        wait_for(lambda: f"session_expired session={trainer.session.id}" in server.log,
                 what="the end")
        refused(CODE.NOT_FOUND, trainer.attach)
        wait_for(lambda: not (folder / "frozen" / "sessions" / trainer.session.id).exists(),
                 what="removal")


def test_frozen__its_checkpoints_damaged_while_parked__none_is_said_to_be_durable(binary, folder):
    """The one that parking had written is gone like the others when the lease of the freeze ends."""
    micros = some_micros(np.random.default_rng(5))
    with serve(binary, folder, "damaged", "--lease-timeout", "200") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        leave_and_park(server, trainer, stream)
        for path in (folder / "damaged" / "sessions" / trainer.session.id).glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
        refused(CODE.DATA_LOSS, trainer.attach)
        wait_for(lambda: "session_parked" in server.log.split("session_lost")[-1], what="lease")
        refused(CODE.FAILED_PRECONDITION, save_of, trainer, text="frozen", reason="STATE")


def test_delete__the_same_request_id__is_one_request(binary, folder):
    """Also for the process after, and where a killed one has left the files."""
    state = folder / "request"
    with serve(binary, folder, "request") as server, \
            grpc.insecure_channel(server.address) as channel:
        address = server.address
        one, two = (create(channel, config_f32()) for _ in range(2))
        home = state / "sessions" / one.session.id
        shutil.copytree(home, folder / "left")
        delete(channel, one.session.id, one.session_secret, "r1")
        assert not home.exists() and (state / "sessions" / two.session.id).exists()
        delete(channel, one.session.id, one.session_secret, "r1")
        refused(CODE.ALREADY_EXISTS, delete, channel, two.session.id, two.session_secret, "r1",
                reason="EXISTS", field="request_id")
        refused(CODE.NOT_FOUND, delete, channel, one.session.id, one.session_secret, "r2")
        delete(channel, two.session.id, two.session_secret, "r2")
        server.process.kill()  # right after the answer
        server.process.wait()
    (folder / "left").rename(home)
    with serve(binary, folder, "request", listen=address) as server, \
            grpc.insecure_channel(server.address) as channel:
        assert "recovered sessions=0" in server.log and "swept folders=1" in server.log
        assert not list((state / "sessions").iterdir())
        for known, request_id in ((one, "r1"), (two, "r2")):
            delete(channel, known.session.id, known.session_secret, request_id)
        refused(CODE.ALREADY_EXISTS, delete, channel, one.session.id, one.session_secret, "r2",
                reason="EXISTS")


def test_delete__answered_and_killed__never_comes_back(binary, folder):
    for _ in range(4):
        with serve(binary, folder, "answered") as server, \
                grpc.insecure_channel(server.address) as channel:
            assert "recovered sessions=0" in server.log
            created = create(channel, config_f32())
            delete(channel, created.session.id, created.session_secret)
            server.process.kill()
            server.process.wait()


def test_delete__files_that_cannot_go__is_refused_and_tried_again(binary, folder):
    with serve(binary, folder, "stuck") as server, grpc.insecure_channel(server.address) as channel:
        created = create(channel, config_f32())
        args = (channel, created.session.id, created.session_secret, "stuck")
        strange = folder / "stuck" / "sessions" / created.session.id / "strange"
        strange.write_text("not ours")
        refused(CODE.INTERNAL, delete, *args, reason="IO")
        strange.unlink()
        delete(*args)
        assert not strange.parent.exists()


def test_delete__others_join_it__each_request_id_is_remembered(binary, folder):
    """While it waits for the disk, or has failed; also by the process after.  One that comes when it
    is over finds no session."""
    def answer(created, request_id):
        try:
            delete(channel, created.session.id, created.session_secret, request_id)
            known.append((created, request_id))
        except grpc.RpcError as error:
            return error.code()

    def again():
        for created, request_id in known:
            delete(channel, created.session.id, created.session_secret, request_id)

    known = []
    with serve(binary, folder, "joined") as server, \
            grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(8) as threads:
        address = server.address
        for i in range(4):
            created = create(channel, config_f32())
            answers = [threads.submit(answer, created, f"{i}{name}") for name in "abcdefgh"]
            assert {thread.result() for thread in answers} <= {None, CODE.NOT_FOUND}
        assert len(known) > 4
        again()
        stuck = create(channel, config_f32())
        strange = folder / "joined" / "sessions" / stuck.session.id / "strange"
        strange.write_text("not ours")
        for name in "abcdefgh":
            assert answer(stuck, name) == CODE.INTERNAL
        refused(CODE.RESOURCE_EXHAUSTED, delete, channel, stuck.session.id, stuck.session_secret,
                "i", reason="LIMIT", field="request_id")
        other = create(channel, config_f32())
        assert answer(other, "h") == CODE.ALREADY_EXISTS
        strange.unlink()
        assert answer(stuck, "c") is None
        known += [(stuck, name) for name in "abcdefgh"]
        again()
        assert answer(other, "h") == CODE.ALREADY_EXISTS
        server.process.kill()
        server.process.wait()
    with serve(binary, folder, "joined", listen=address) as server, \
            grpc.insecure_channel(server.address) as channel:
        again()
        assert answer(other, "h") == CODE.ALREADY_EXISTS


def test_delete__while_an_import_writes__no_file_is_left(binary, folder):
    with serve(binary, folder, "import") as server, \
            grpc.insecure_channel(server.address) as channel:
        files, _ = export(Trainer(channel, folder / "model", config_f32()))
        for i in range(8):
            trainer = Trainer(channel, folder / "model", config_f32())

            def work(trainer=trainer):
                try:
                    import_files(trainer, files, chunk=1 << 20)
                except grpc.RpcError:
                    pass  # the session has gone

            worker = threading.Thread(target=work)
            worker.start()
            time.sleep(0.001 * i)
            delete(channel, trainer.session.id, trainer.secret)
            worker.join()
            assert not (folder / "import" / "sessions" / trainer.session.id).exists()


def test_import__after_a_step__is_refused(binary, folder):
    micros = some_micros(np.random.default_rng(5))
    with serve(binary, folder, "late") as server, grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        files, state_hash = export(trainer)
        assert import_files(trainer, files) == state_hash == import_files(trainer, files)
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        stream.close()
        stream.drain()
        refused(CODE.FAILED_PRECONDITION, import_files, trainer, files, reason="STATE",
                text="session_id: the session has committed 1 steps")


def test_save__repeated_at_the_next_process__answers_at_least_as_much(binary, folder):
    micros = some_micros(np.random.default_rng(5))
    with serve(binary, folder, "again") as server, grpc.insecure_channel(server.address) as channel:
        address = server.address
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        assert save_of(trainer, "one") == 1
        trainer.step(stream, micros)
        assert save_of(trainer, "two") == 2
        server.process.kill()
        server.process.wait()
    with serve(binary, folder, "again", listen=address) as server, \
            grpc.insecure_channel(server.address) as trainer.channel:
        assert save_of(trainer, "one") == 2 == save_of(trainer, "two")
        assert "session_recovered" not in server.log  # nothing was woken for it


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

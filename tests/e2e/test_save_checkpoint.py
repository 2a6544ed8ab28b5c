"""SaveCheckpoint: durable at once, also beside a step in flight, and what cannot be saved says why.

The server makes no checkpoint by itself, however long the machine takes for these runs
(device_fault.c).

    test_save_checkpoint.py SEAMD_FAULT
"""
import sys
import threading

import numpy as np

from service_fixture import Client, Seamd, grpc, refused, run_cases
from service_trainer import Trainer, some_micros, step_begin
from test_service_train import config_f32
from test_service_unary import session_config

CODE = grpc.StatusCode
STEPS = 5


def serve(binary, folder, state, *args, listen="127.0.0.1:0"):
    return Seamd(binary, folder / "model", "--state-dir", str(folder / state), *args, listen=listen,
                 environment={"FAULT_CADENCE": "0"})


def save(channel, session_id, secret, request_id=""):
    from seam.v1 import service_pb2
    return Client(channel).unary("SaveCheckpoint", service_pb2.SaveCheckpointRequest(
        request_id=request_id, session_id=session_id, session_secret=secret),
        service_pb2.SaveCheckpointResponse)


def save_of(trainer, request_id=""):
    return save(trainer.channel, trainer.session.id, trainer.secret, request_id).durable_step_count


def create(channel, config):
    from seam.v1 import service_pb2
    return Client(channel).unary("CreateSession", service_pb2.CreateSessionRequest(config=config),
                                 service_pb2.CreateSessionResponse)


def test_save__killed_right_after_the_answer__goes_on_from_that_step(binary, folder):
    """Between two steps, and with one in flight of which a micro-batch is whole: the bits that
    follow are those of a run that nothing disturbed."""
    micros = some_micros(np.random.default_rng(5))
    with serve(binary, folder, "undisturbed") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        wanted = [trainer.step(stream, micros)[1].state_hash for _ in range(STEPS)]
        stream.close()
        stream.drain()
    for in_flight in (False, True):
        state = f"killed{in_flight}"
        with serve(binary, folder, state) as server, \
                grpc.insecure_channel(server.address) as channel:
            address = server.address
            trainer = Trainer(channel, folder / "model", config_f32())
            stream, _ = trainer.attach()
            commits = [trainer.step(stream, micros)[1] for _ in range(3)]
            if in_flight:
                begin = step_begin(stream.pb, 3, micros)
                stream.send(step_begin=begin)
                trainer.forward_backward(stream, micros[0], 0, 3, begin.labelled_row_count)
            assert commits[-1].durable_step_count < 3
            assert save_of(trainer) == 3
            server.process.kill()
            server.process.wait()
        names = [path.name for path in (folder / state / "sessions" / trainer.session.id).iterdir()]
        assert any(int(n.split(".")[0]) == 3 for n in names if n.endswith(".manifest")), names
        with serve(binary, folder, state, listen=address) as server, \
                grpc.insecure_channel(server.address) as trainer.channel:
            assert save_of(trainer) == 3  # parked: it is there, and stays parked
            assert "session_recovered" not in server.log
            stream, attached = trainer.attach(step_in_flight=in_flight)
            assert attached.committed_step_count == 3 == attached.durable_step_count
            hashes = [trainer.step(stream, micros)[1].state_hash for _ in range(3, STEPS)]
            stream.close()
            stream.drain()
        assert [c.state_hash for c in commits] + hashes == wanted


def test_save__again_and_again_beside_steps__each_answer_is_the_newest_commit(binary, folder):
    micros = some_micros(np.random.default_rng(6))
    with serve(binary, folder, "beside") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        answers, failures, ended = [], [], threading.Event()

        def work():
            try:
                while not ended.is_set():
                    before = trainer.committed
                    answers.append((before, save_of(trainer)))
            except grpc.RpcError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while trainer.committed < 40 or len(answers) < 2 and not failures:
            _, commit = trainer.step(stream, micros)
            stream.send(checkpoint_confirm=stream.pb.CheckpointConfirm(
                step=commit.durable_step_count))
        ended.set()
        thread.join()
        assert not failures, failures
        assert answers[-1][1] > 0, answers
        assert all(before <= saved for before, saved in answers), answers
        assert save_of(trainer) == trainer.committed
        stream.close()
        stream.drain()


def test_save__a_request_repeated__is_answered_as_before(binary, folder):
    micros = some_micros(np.random.default_rng(7))
    with serve(binary, folder, "repeated") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        assert save_of(trainer, "first") == 0  # as it was created
        trainer.step(stream, micros)
        assert save_of(trainer, "first") == 0
        assert save_of(trainer, "second") == 1 == save_of(trainer)
        assert len(list((folder / "repeated" / "sessions" / trainer.session.id)
                        .glob("*.manifest"))) == 2
        refused(CODE.INVALID_ARGUMENT, save_of, trainer, "x" * 65, reason="ARG",
                field="request_id")
        for _ in range(6):
            trainer.step(stream, micros)
            save_of(trainer)
        trainer.step(stream, micros)  # eight are kept, none confirmed
        refused(CODE.RESOURCE_EXHAUSTED, save_of, trainer, text="checkpoint_confirm",
                reason="LIMIT")
        stream.close()
        stream.drain()


def test_save__what_cannot_be_saved__says_why(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        created = create(ch, session_config())
        args = (ch, created.session.id, created.session_secret)
        refused(CODE.FAILED_PRECONDITION, save, *args, text="--state-dir", reason="STATE")
        refused(CODE.PERMISSION_DENIED, save, ch, created.session.id, b"x" * 32, reason="DENIED")
        refused(CODE.NOT_FOUND, save, ch, "nonsense", created.session_secret, reason="NOT_FOUND")
        raw = ch.unary_unary("/seam.v1.SeamService/SaveCheckpoint")
        refused(CODE.INVALID_ARGUMENT, raw, b"\xff\xff\xff", text="malformed",
                reason="FORMAT")


def test_save__a_disk_that_refuses__fails_and_the_session_goes_on(binary, folder):
    """Here: a file stands where the session's folder was, so that nothing can be made in it."""
    micros = some_micros(np.random.default_rng(8))
    with serve(binary, folder, "full") as server, grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        home = folder / "full" / "sessions" / trainer.session.id
        away = home.rename(folder / "full" / "away")
        home.write_text("no folder")
        refused(CODE.INTERNAL, save_of, trainer, reason="IO")
        home.unlink()
        away.rename(home)
        assert "checkpoint_failed" in server.log
        trainer.step(stream, micros)
        assert save_of(trainer) == 2
        stream.close()
        stream.drain()


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

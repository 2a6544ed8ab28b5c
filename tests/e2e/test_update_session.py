"""UpdateSession: another optimizer from a step on, to the bit, through kills of the server; what cannot
be updated says why.

Goal: a constant rate that is updated before each step makes the bits of the schedule whose rates
these are (which unit.optimizer holds to transformers').  Method: a Python client with f32 frames.

    test_update_session.py SEAMD_FAULT
"""
import sys
import threading

import numpy as np

from service_fixture import Client, Seamd, grpc, refused, run_cases
from service_trainer import Trainer, some_micros, step_begin
from test_save_checkpoint import create, save_of, serve
from test_service_train import config_f32
from test_service_unary import session_config

CODE = grpc.StatusCode
STEPS, RATE = 8, 2.0 ** -7  # each eighth of it is a float


def optimizer(**changes):
    from seam.v1 import types_pb2
    result = types_pb2.OptimizerConfig()
    result.CopyFrom(config_f32().optimizer)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def update(channel, session_id, secret, step, changed, request_id=""):
    from seam.v1 import service_pb2
    return Client(channel).unary("UpdateSession", service_pb2.UpdateSessionRequest(
        request_id=request_id, session_id=session_id, session_secret=secret, effective_step=step,
        optimizer=changed), service_pb2.UpdateSessionResponse).session


def update_of(trainer, step, changed, request_id=""):
    return update(trainer.channel, trainer.session.id, trainer.secret, step, changed, request_id)


def steps_of(session):
    return [u.effective_step for u in session.updates]


def train(channel, folder, config, micros, before_step=lambda trainer: None, steps=STEPS):
    """Commits of a run whose `before_step` is called before each."""
    trainer = Trainer(channel, folder / "model", config)
    stream, _ = trainer.attach()
    commits = []
    for _ in range(steps):
        before_step(trainer)
        commits.append(trainer.step(stream, micros)[1])
    stream.close()
    stream.drain()
    return trainer, commits


def falling():
    from seam.v1 import types_pb2
    config = config_f32()
    config.optimizer.CopyFrom(optimizer(lr=RATE, schedule=types_pb2.SCHEDULE_LINEAR,
                                        total_steps=STEPS))
    return config


def test_update__before_each_step__is_the_schedule(binary, folder):
    micros = some_micros(np.random.default_rng(5))
    for state in ((), ("--state-dir", str(folder / "rates"))):
        with Seamd(binary, folder / "model", *state) as server, \
                grpc.insecure_channel(server.address) as channel:
            _, wanted = train(channel, folder, falling(), micros)
            _, plain = train(channel, folder, config_f32(), micros)

            def follow(trainer):
                step = trainer.committed
                update_of(trainer, step, optimizer(lr=wanted[step].lr))
            trainer, got = train(channel, folder, config_f32(), micros, follow)
            assert [c.state_hash for c in got] == [c.state_hash for c in wanted]
            assert [c.lr for c in got] == [c.lr for c in wanted]
            assert got[0].state_hash != plain[0].state_hash

            def at_four(trainer):  # asked for at once, and nothing of it before its step
                if trainer.committed == 0:
                    update_of(trainer, 4, optimizer(lr=RATE, weight_decay=0.5))
            _, late = train(channel, folder, config_f32(), micros, at_four)
            assert [c.state_hash for c in late][:4] == [c.state_hash for c in plain][:4]
            assert all(a.state_hash != b.state_hash for a, b in zip(late[4:], plain[4:]))
            assert [c.lr for c in late] == [c.lr for c in plain][:4] + [RATE] * 4
            if state:  # from its first step on each may be wanted again: no checkpoint was confirmed
                session = update_of(trainer, 0, optimizer(lr=1))
                assert steps_of(session) == list(range(STEPS + 1))


def test_update__killed_at_any_time__replays_by_what_each_step_went_by(binary, folder):
    """The server is killed after each step in turn and comes back with its checkpoint of step 2: the
    client replays, and the bits are those of the run that nobody disturbed."""
    micros = some_micros(np.random.default_rng(6))
    rates = {1: RATE / 2, 3: RATE / 4, 6: RATE}

    def updates(trainer):
        if trainer.committed == 1:
            update_of(trainer, 1, optimizer(lr=rates[1]), "one")
            update_of(trainer, 6, optimizer(lr=1))  # the next one is in its place
            update_of(trainer, 3, optimizer(lr=rates[3]))
            update_of(trainer, 6, optimizer(lr=rates[6]))
    with serve(binary, folder, "whole") as server, \
            grpc.insecure_channel(server.address) as channel:
        _, wanted = train(channel, folder, config_f32(), micros, updates)
    wanted = [c.state_hash for c in wanted]
    for killed_after in range(2, STEPS):
        state = f"killed{killed_after}"
        with serve(binary, folder, state) as server, \
                grpc.insecure_channel(server.address) as channel:
            address = server.address
            trainer = Trainer(channel, folder / "model", config_f32())
            stream, _ = trainer.attach()
            for _ in range(killed_after):
                updates(trainer)
                assert trainer.step(stream, micros)[1].state_hash == wanted[trainer.committed - 1]
                if trainer.committed == 2:
                    assert save_of(trainer) == 2
            server.process.kill()
            server.process.wait()
        with serve(binary, folder, state, listen=address) as server, \
                grpc.insecure_channel(server.address) as trainer.channel:
            # Its client may have made steps that the server does not know of.
            refused(CODE.FAILED_PRECONDITION, update_of, trainer, 7, optimizer(), reason="STATE",
                    field="session_id", text="not attached")
            stream, attached = trainer.attach()
            assert (attached.action, attached.rollback_step) == (3, 2), attached
            if killed_after > 2:  # that step was made: it stays as it was
                refused(CODE.INVALID_ARGUMENT, update_of, trainer, killed_after - 1, optimizer(),
                        reason="ARG", field="effective_step")
            session = update_of(trainer, 1, optimizer(lr=rates[1]), "one")  # a repetition
            assert steps_of(session) == [1, 3, 6]
            trainer.committed = attached.rollback_step
            hashes = [trainer.step(stream, micros)[1].state_hash for _ in range(2, STEPS)]
            assert hashes == wanted[2:], killed_after
            stream.close()
            stream.drain()


def test_update__beside_steps__no_step_waits_for_ever(binary, folder):
    micros = some_micros(np.random.default_rng(7))
    with serve(binary, folder, "beside") as server, \
            grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        answers, failures, ended = [], [], threading.Event()

        def work():
            try:
                while not ended.is_set():
                    session = update_of(trainer, 0, optimizer(lr=1e-4 * (len(answers) + 1)))
                    answers.append(steps_of(session)[-1])
            except grpc.RpcError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while trainer.committed < 30 or len(answers) < 2 and not failures:
            _, commit = trainer.step(stream, micros)
            stream.send(checkpoint_confirm=stream.pb.CheckpointConfirm(
                step=commit.durable_step_count))
        ended.set()
        thread.join()
        assert not failures and answers == sorted(answers), (failures, answers)
        assert answers[-1] <= trainer.committed
        session = update_of(trainer, 0, optimizer(lr=0.25))
        assert steps_of(session)[-1] == trainer.committed
        assert trainer.step(stream, micros)[1].lr == 0.25
        stream.close()
        stream.drain()


def test_update__many__old_ones_go_and_no_more_than_32_wait(binary, folder):
    micros = some_micros(np.random.default_rng(8), count=1)
    with Seamd(binary, folder / "model") as server, \
            grpc.insecure_channel(server.address) as channel:
        kept = []

        def each(trainer):
            kept.append(steps_of(update_of(trainer, trainer.committed, optimizer(lr=1e-3))))
        trainer, _ = train(channel, folder, config_f32(), micros, each, steps=40)
        assert kept[-1] == [38, 39]  # nothing goes back without a state directory
        for step in range(40, 71):
            update_of(trainer, step, optimizer(lr=1e-3), f"r{step}")
        waiting = steps_of(update_of(trainer, 71, optimizer(), "last"))
        assert waiting == list(range(40, 72))
        refused(CODE.RESOURCE_EXHAUSTED, update_of, trainer, 72, optimizer(), reason="LIMIT")
        for step in (71, 0):
            assert steps_of(update_of(trainer, step, optimizer(), "last")) == waiting
        refused(CODE.ALREADY_EXISTS, update_of, trainer, 72, optimizer(), "last", reason="EXISTS",
                field="request_id")
        refused(CODE.ALREADY_EXISTS, update_of, trainer, 71, optimizer(lr=7), "last",
                reason="EXISTS", field="request_id")
        assert steps_of(update_of(trainer, 50, optimizer())) == list(range(40, 51))


def test_update__a_step_in_flight__stays_as_it_is(binary, folder):
    micros = some_micros(np.random.default_rng(9))
    with serve(binary, folder, "flight") as server, \
            grpc.insecure_channel(server.address) as channel:
        _, wanted = train(channel, folder, config_f32(), micros, steps=2)
        trainer = Trainer(channel, folder / "model", config_f32())
        stream, _ = trainer.attach()
        trainer.step(stream, micros)
        begin = step_begin(stream.pb, 1, micros)
        stream.send(step_begin=begin)
        trainer.forward_backward(stream, micros[0], 0, 1, begin.labelled_row_count)
        refused(CODE.INVALID_ARGUMENT, update_of, trainer, 1, optimizer(lr=1), reason="ARG",
                field="effective_step", text="2 to")
        assert steps_of(update_of(trainer, 0, optimizer(lr=1))) == [2]
        trainer.forward_backward(stream, micros[1], 1, 1, begin.labelled_row_count)
        assert stream.receive().commit.state_hash == wanted[1].state_hash
        stream.close()
        stream.drain()


def test_update__what_cannot_be__says_why(binary, folder):
    from seam.v1 import types_pb2 as types
    with Seamd(binary, folder / "model", "--allow-text") as server, \
            grpc.insecure_channel(server.address) as ch:
        created = create(ch, session_config())
        args = (ch, created.session.id, created.session_secret)
        for changes, field in (({"lr": float("nan")}, "lr"), ({"lr": -1}, "lr"),
                               ({"eps": 0}, "eps"), ({"schedule": 7}, "schedule"),
                               ({"schedule": types.SCHEDULE_COSINE}, "total_steps")):
            refused(CODE.INVALID_ARGUMENT, update, *args, 3, optimizer(**changes), reason="ARG",
                    field=f"optimizer.{field}")
        refused(CODE.INVALID_ARGUMENT, update, *args, 3, None, field="optimizer", reason="ARG")
        refused(CODE.INVALID_ARGUMENT, update, *args, 3, optimizer(), "x" * 65, reason="ARG",
                field="request_id")
        refused(CODE.INVALID_ARGUMENT, update, *args, 1 << 63, optimizer(), reason="ARG",
                field="effective_step")
        refused(CODE.PERMISSION_DENIED, update, ch, created.session.id, b"x" * 32, 3, optimizer(),
                reason="DENIED")
        refused(CODE.NOT_FOUND, update, ch, "nonsense", created.session_secret, 3, optimizer(),
                reason="NOT_FOUND")
        raw = ch.unary_unary("/seam.v1.SeamService/UpdateSession")
        refused(CODE.INVALID_ARGUMENT, raw, b"\xff\xff\xff", text="malformed",
                reason="FORMAT")
        config = session_config(codec=types.CODEC_AFFINE, bits=4)
        config.topology, config.consent = (types.TOPOLOGY_ADAPTER_EXCHANGE, types.CONSENT_TEXT)
        exchange = create(ch, config)
        refused(CODE.FAILED_PRECONDITION, update, ch, exchange.session.id, exchange.session_secret,
                3, optimizer(), reason="STATE", field="session_id", text="its client")
        assert len(update(*args, 3, optimizer()).updates) == 1


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

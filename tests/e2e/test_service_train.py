"""seamd's Train stream: steps, repetition after a lost link, fencing, bad frames, the drain."""
import signal
import struct
import sys
import threading

import numpy as np

from service_fixture import (DEADLINE_S, SOURCE, Client, Seamd, grpc, refused, run_cases,
                             wait_for)
from service_trainer import (BACKWARD, FORWARD, Micro, Stream, Trainer, fnv1a, frame, some_micros,
                             step_begin, tensor_frames)
from test_service_unary import session_config

CODE = grpc.StatusCode


def config_f32(**changes):
    from seam.v1 import types_pb2
    config = session_config(codec=types_pb2.CODEC_F32)
    config.optimizer.lr = 1e-2
    for name, value in changes.items():
        setattr(config.lora, name, value)
    return config


def train(server, folder, steps, seed=5, **changes):
    """Losses and state hashes of a run of its own."""
    rng = np.random.default_rng(seed)
    micros = some_micros(rng)
    with grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config_f32(**changes))
        stream, attached = trainer.attach()
        assert attached.epoch == 1 and attached.action == 1 and attached.credit_bytes > 0
        results = [trainer.step(stream, micros) for _ in range(steps)]
        stream.close()
        stream.drain()
    return [loss for loss, _ in results], [commit.state_hash for _, commit in results]


def test_train__some_steps__loss_falls_and_repeats_to_the_bit(binary, folder):
    with Seamd(binary, folder / "model") as server:
        losses, hashes = train(server, folder, 8)
        assert losses[-1] < losses[0] - 0.05, losses
        assert len(set(hashes)) == 8
        assert train(server, folder, 8)[1] == hashes
        assert (code := server.stop()) == 0, (code, server.log)


def test_step_begin__lower_pipeline_depth__memory_goes_to_others(binary, folder):
    """What a session of eight micro-batches gives back when it needs two: the next session has it."""
    from seam.v1 import service_pb2 as service
    config = config_f32()
    config.limits.pipeline_depth = 8
    config.limits.rows_per_micro_max = 400
    micros = some_micros(np.random.default_rng(5), count=4)

    def free(client):
        return client.unary("GetServerInfo", service.GetServerInfoRequest(),
                            service.GetServerInfoResponse).memory_bytes_free

    def session(client, trainer):
        return client.unary("GetSession", service.GetSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret),
            service.GetSessionResponse).session

    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as channel:
        client = Client(channel)
        total = free(client)
        trainer = Trainer(channel, folder / "model", config)
        stream, _ = trainer.attach()
        eight = total - free(client)
        expected = [trainer.step(stream, micros)[1].state_hash for _ in range(3)]
        assert total - free(client) == eight
    state = ["--state-dir", str(folder / "slots"), "--lease-timeout", "300"]
    with Seamd(binary, folder / "model", "--memory-budget", str(2 * eight - 1024), *state) as server, \
            grpc.insecure_channel(server.address) as channel:
        client = Client(channel)
        other = service.CreateSessionRequest(config=config)
        trainer = Trainer(channel, folder / "model", config)
        stream, _ = trainer.attach()  # what is attached is not parked
        kept = session(client, trainer).memory_bytes  # with the image of its state
        assert 2 * eight - 1024 - free(client) == kept > eight
        refused(CODE.RESOURCE_EXHAUSTED, client.unary, "CreateSession", other,
                service.CreateSessionResponse, reason="LIMIT", text="session needs ")
        hashes = [trainer.step(stream, micros, depth)[1].state_hash for depth in (8, 2, 0)]
        assert hashes == expected
        two = session(client, trainer).memory_bytes
        assert two < kept and free(client) == 2 * eight - 1024 - two
        # No more than it has, neither announced nor done; and no more than two at once.
        stream.send(step_begin=step_begin(stream.pb, 3, micros, 3))
        refused(CODE.RESOURCE_EXHAUSTED, stream.drain, reason="LIMIT",
                text="step_begin.pipeline_depth: 3, the session has memory for 2 micro-batches")
        stream, _ = trainer.attach()
        stream.send(step_begin=step_begin(stream.pb, 3, micros))
        for index in range(3):
            trainer.send_tensor(stream, trainer.embed(micros[index]), phase=FORWARD, site=0, step=3,
                                micro=index)
        refused(CODE.FAILED_PRECONDITION, stream.drain, reason="OUT_OF_SEQUENCE", text="micro")
        # A parked session wakes with as much as it had.
        wait_for(lambda: session(client, trainer).memory_bytes == 0, what="parking")
        assert free(client) == 2 * eight - 1024
        stream, _ = trainer.attach()
        assert session(client, trainer).memory_bytes == two
        client.unary("CreateSession", other, service.CreateSessionResponse)


def test_step_begin__aqsgd_without_sample_ids__refused(binary, folder):
    from seam.v1 import types_pb2
    config = session_config(codec=types_pb2.CODEC_AQSGD, bits=4)
    config.codec.aqsgd.cache_bytes_max = 100000
    config.codec.aqsgd.cache_format = types_pb2.CACHE_FORMAT_FP16
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as channel:
        trainer = Trainer(channel, folder / "model", config)
        stream, _ = trainer.attach()
        stream.send(step_begin=step_begin(stream.pb, 0, some_micros(np.random.default_rng(1))))
        refused(CODE.INVALID_ARGUMENT, stream.drain, reason="ARG",
                text="micros[0].sample_ids: missing")


def test_two_sessions__at_once__as_alone(binary, folder):
    with Seamd(binary, folder / "model") as server:
        alone = [train(server, folder, 6, seed=5, rank=4), train(server, folder, 6, seed=6, rank=8)]
        together = [None, None]

        def work(i):
            together[i] = train(server, folder, 6, seed=5 + i, rank=4 + 4 * i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == alone


def amaq_config(types):
    return types.AmaqConfig(
        bits_min=1, bits_max=16, bits_start=8, bits_target=4, alpha=1, beta=0.02, bits_lr=0.1,
        bits_loss=types.BITS_LOSS_L2, clipping=types.CLIPPING_SOFT,
        gate_signal=types.GATE_SIGNAL_SURROGATE, alloc_lag_steps=2)


def train_amaq(server, folder, steps, seed):
    """State hashes and widths of an amaq run by python_client/: gates, proposals, answers."""
    sys.path[:0] = [str(SOURCE / "tests" / "e2e" / "python_client"),
                    str(SOURCE / "tests" / "oracle")]
    from local_model import LocalModel
    from seam.v1 import types_pb2 as types
    from seam_client import Micro, Session
    config = session_config(codec=types.CODEC_AMAQ, seed=seed)
    config.lora.rank, config.optimizer.lr = 7, 1e-2
    config.codec.amaq.CopyFrom(amaq_config(types))
    rng = np.random.default_rng(seed)
    labelled = np.arange(30) % 3 != 0
    labelled[[9, 29]] = False
    micros = [Micro(rng.integers(3, 96, 30), [10, 20], labelled) for _ in range(2)]
    session = Session(server.address, LocalModel(folder / "model"), config)
    hashes = [session.step(micros)["state_hash"] for _ in range(steps)]
    widths = [list(a.widths) for a in session.allocs[1]]
    session.close()
    return hashes, widths


def test_three_sessions__other_codecs_ranks_seeds__as_alone(binary, folder):
    with Seamd(binary, folder / "model") as server:
        runs = [lambda: train_amaq(server, folder, 6, 21), lambda: train_amaq(server, folder, 6, 22),
                lambda: train(server, folder, 6, seed=6, rank=8)]
        alone = [run() for run in runs]
        assert len(alone[0][1]) > 2 and alone[0] != alone[1]
        together = [None] * len(runs)

        def work(i):
            together[i] = runs[i]()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(runs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == alone


def test_commit__first_step__reports_what_happened(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        _, commit = trainer.step(stream, some_micros(np.random.default_rng(1)))
        assert commit.grad_norm > 0 and abs(commit.lr - 1e-2) < 1e-8 and not commit.skipped
        assert commit.compute_seconds > commit.codec_seconds > 0 and not commit.sites
        from seam.v1 import service_pb2
        session = Client(ch).unary("GetSession", service_pb2.GetSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret),
            service_pb2.GetSessionResponse).session
        assert session.committed_step_count == 1 and session.tokens > 0
        assert session.state == 1
        stream.send(detach=stream.pb.Detach())
        stream.drain()
        wait_for(lambda: Client(ch).unary("GetSession", service_pb2.GetSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret),
            service_pb2.GetSessionResponse).session.state == 3, what="DETACHED")


def test_lost_link__at_every_message__goes_on_to_the_same_bits(binary, folder):
    """The link breaks after `cut` messages of step 1; the client repeats what it has no answer to."""
    micros = some_micros(np.random.default_rng(9))
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        expected = [trainer.step(stream, micros)[1].state_hash for _ in range(3)]
        stream.close()
        for cut in range(6):
            trainer = Trainer(ch, folder / "model", config_f32())
            stream, _ = trainer.attach()
            hashes = [trainer.step(stream, micros)[1].state_hash]
            client = StepOne(trainer, micros)
            client.run(stream, cut)
            stream.call.cancel()
            stream, attached = trainer.attach(step_in_flight=True)
            # A StepBegin without a reply may be lost with the link.
            assert attached.action in ((1,), (1, 2), (2,))[min(cut, 2)], (cut, attached)
            hashes.append(client.run(stream).state_hash)
            trainer.committed += 1
            hashes.append(trainer.step(stream, micros)[1].state_hash)
            assert hashes == expected, cut
            stream.close()


class StepOne:
    """Step 1 as messages 0.. : StepBegin, then forward and backward of each micro-batch.  Keeps the
    replies; a second run repeats the newest forward tensor and goes on from there."""

    def __init__(self, trainer, micros):
        self.trainer, self.micros = trainer, micros
        self.forwards = []  # frames of the replies

    def run(self, stream, cut=None):
        """Send messages until `cut` of them are out, or to the end; returns the Commit."""
        trainer, micros = self.trainer, self.micros
        begin = step_begin(stream.pb, 1, micros)
        sent = 0
        first = max(0, len(self.forwards) - 1)
        for index in range(2 * len(micros) + 1):
            if cut is not None and sent == cut:
                return None
            sent += 1
            micro = micros[(index - 1) // 2]
            number = (index - 1) // 2
            if index == 0:
                stream.send(step_begin=begin)
            elif number < first:
                continue
            elif index % 2 == 1:
                trainer.send_tensor(stream, trainer.embed(micro), phase=FORWARD, site=0, step=1,
                                    micro=number)
                h, frames = stream.tensor(FORWARD, 1)
                if number < len(self.forwards):
                    assert frames == self.forwards[number], "another reply than the first time"
                else:
                    self.forwards.append(frames)
            else:
                _, dh = trainer.head(h, micro.targets, begin.labelled_row_count)
                trainer.send_tensor(stream, dh, phase=BACKWARD, site=2, step=1, micro=number)
        message = stream.receive()
        assert message.commit.step == 1, message
        return message.commit


def test_commit_lost__everything_sent__comes_again(binary, folder):
    micros = some_micros(np.random.default_rng(9), 1)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        begin = step_begin(stream.pb, 0, micros)
        stream.send(step_begin=begin)
        trainer.forward_backward(stream, micros[0], 0, 0, begin.labelled_row_count)
        commit = stream.receive().commit
        stream.call.cancel()
        stream, attached = trainer.attach(step_in_flight=True)
        assert (attached.action, attached.committed_step_count) == (2, 1)
        stream.send(step_begin=begin)
        trainer.forward_backward(stream, micros[0], 0, 0, begin.labelled_row_count)
        assert stream.receive().commit == commit  # the same bytes, compute_seconds too
        trainer.committed = 1
        trainer.step(stream, micros)


def test_step_dropped__client_starts_again__same_bits(binary, folder):
    micros = some_micros(np.random.default_rng(9))
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        expected = trainer.step(stream, micros)[1].state_hash
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        begin = step_begin(stream.pb, 0, micros)
        stream.send(step_begin=begin)
        trainer.forward_backward(stream, micros[0], 0, 0, begin.labelled_row_count)
        trainer.send_tensor(stream, trainer.embed(micros[1]), phase=FORWARD, site=0, step=0,
                            micro=1)
        stream.tensor(FORWARD, 1)
        stream.call.cancel()
        stream, attached = trainer.attach()  # nothing in flight, says the client
        assert attached.action == 1
        assert trainer.step(stream, micros)[1].state_hash == expected


def test_fencing__a_second_attach__ends_the_first(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        first, _ = trainer.attach()
        trainer.step(first, some_micros(np.random.default_rng(1)))
        second, attached = trainer.attach()
        assert attached.epoch == 2 and attached.committed_step_count == 1
        refused(CODE.ABORTED, first.drain, reason="FENCED")
        trainer.step(second, some_micros(np.random.default_rng(2)))
        second.close()


def test_attach__wrong_in_any_way__refused(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())

        def attach(**changes):
            return trainer.attach(**changes)

        refused(CODE.NOT_FOUND, attach, session_id="unknown", reason="NOT_FOUND")
        refused(CODE.PERMISSION_DENIED, attach, session_secret=b"s" * 32, reason="DENIED")
        refused(CODE.INVALID_ARGUMENT, attach, config_hash=1, text="config_hash")
        refused(CODE.INVALID_ARGUMENT, attach, model_identity=1, text="model_identity")
        refused(CODE.INVALID_ARGUMENT, attach, epoch_seen=2**64 - 1, reason="ARG",
                field="attach.epoch_seen")
        stream = Stream(ch)
        stream.send(detach=stream.pb.Detach())
        refused(CODE.FAILED_PRECONDITION, stream.drain, reason="OUT_OF_SEQUENCE", text="attach")
        stream = Stream(ch)
        stream.send_raw(b"\xff\x01")
        refused(CODE.INVALID_ARGUMENT, stream.drain, reason="FORMAT")
        stream, _ = attach()  # and the session is as good as before
        trainer.step(stream, some_micros(np.random.default_rng(1)))


def test_bad_messages__each_named__the_session_goes_on(binary, folder):
    rng = np.random.default_rng(4)
    micros = some_micros(rng, 1)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        x = trainer.embed(micros[0])
        rows, channels = x.shape
        key = dict(phase=FORWARD, site=0, step=0, micro=0)
        nan = x.copy()
        nan[1, 2] = np.nan

        def begun(stream):
            stream.send(step_begin=step_begin(stream.pb, 0, micros))

        def begin_with(change, redigest=False):
            def send(stream):
                begin = step_begin(stream.pb, 0, micros)
                change(begin)
                if redigest:
                    begin.digest = step_begin(stream.pb, begin.step, micros).digest
                stream.send(step_begin=begin)
            return send

        def after_begin(data):
            def send(stream):
                begun(stream)
                stream.send(frame=data)
            return send

        def good(data=None, **changes):
            return frame(x.astype("<f4").tobytes() if data is None else data,
                         **(key | dict(rows=rows, channels=channels) | changes))

        bad, state = CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION
        cases = [
            (bad, "FORMAT", "", lambda s: s.send_raw(b"\x7a\xff\xff\xff\xff\xff\xff")),
            (bad, "FORMAT", "frame: 0 bytes", lambda s: s.send_raw(b"\x7a\x00")),
            (bad, "FORMAT", "frame: 64 bytes", lambda s: s.send(frame=good()[:64])),
            (bad, "FORMAT", "", lambda s: s.send_raw(b"\x12\x03\xff\xff\xff")),
            (state, "OUT_OF_SEQUENCE", "step_begin.step", begin_with(
                lambda b: setattr(b, "step", 7), redigest=True)),
            (CODE.DATA_LOSS, "CHECKSUM", "digest", begin_with(lambda b: setattr(b, "digest", 1))),
            (bad, "ARG", "sequence_rows", begin_with(
                lambda b: b.micros[0].sequence_rows.__setitem__(0, 0))),
            (bad, "ARG", "labelled", begin_with(lambda b: setattr(b, "labelled_row_count", 1))),
            (CODE.RESOURCE_EXHAUSTED, "LIMIT", "", begin_with(
                lambda b: b.micros[0].sequence_rows.__setitem__(0, 1 << 20))),
            (state, "OUT_OF_SEQUENCE", "", lambda s: s.send(frame=good())),
            (bad, "FORMAT", "magic", after_begin(good(magic=b"MAES"))),
            (CODE.DATA_LOSS, "CHECKSUM", "", after_begin(good(crc=1))),
            (bad, "FORMAT", "payload", after_begin(good(b"\0" * 12))),
            (bad, "FORMAT", "rows", after_begin(tensor_frames(x[:-1], **key)[0])),
            (bad, "FORMAT", "channels", after_begin(tensor_frames(x[:, :-1], **key)[0])),
            (bad, "FORMAT", "codec", after_begin(frame(
                b"\0" * (2 * rows * channels), **key, rows=rows, channels=channels, codec=2))),
            (state, "OUT_OF_SEQUENCE", "", after_begin(good(micro=3))),
            (state, "OUT_OF_SEQUENCE", "", after_begin(good(site=2))),
            (state, "OUT_OF_SEQUENCE", "", after_begin(good(step=9))),
            (state, "OUT_OF_SEQUENCE", "", after_begin(good(phase=BACKWARD, site=2))),
            *[(state, "OUT_OF_SEQUENCE", "frame.kind", after_begin(frame(
                b"\0" * size, **key, rows=1, channels=channels if kind == 2 else 1, kind=kind)))
              for kind, size in [(2, 4 * channels), (3, 8), (5, 16), (6, 4)]],
            (bad, "NONFINITE", "payload.values", after_begin(good(nan.astype("<f4").tobytes()))),
            (state, "STATE", "budget", lambda s: s.send(budget=s.pb.Budget(beta=1))),
            (state, "STATE", "", lambda s: s.send(alloc_ack=s.pb.AllocAck(site=1, version=9))),
            (bad, "ARG", "alloc_propose.site", lambda s: s.send(
                alloc_propose=s.pb.AllocPropose(site=1, version=2))),
            (bad, "ARG", "", lambda s: s.send(
                checkpoint_confirm=s.pb.CheckpointConfirm(step=3))),
        ]
        for code, reason, text, send in cases:
            stream, attached = trainer.attach()
            assert attached.action == 1
            send(stream)
            refused(code, stream.drain, reason=reason, text=text)
        stream, _ = trainer.attach()
        loss, _ = trainer.step(stream, micros)
        assert np.isfinite(loss)


def test_attach__less_than_the_session_needs__names_the_capability(binary, folder):
    """8 bits, D = 3; and widths of 2..6 with gates.  What is not said, or is enough, is not refused."""
    from seam.v1 import stream_pb2, types_pb2 as types
    fixed, gated = (session_config(codec=codec) for codec in (types.CODEC_AFFINE, types.CODEC_AMAQ))
    fixed.codec.bits, fixed.limits.pipeline_depth = 8, 3
    gated.codec.amaq.CopyFrom(amaq_config(types))
    gated.codec.amaq.bits_min, gated.codec.amaq.bits_max = 2, 6
    gated.codec.amaq.bits_start = 5
    whole = dict(protocol_version=1, bits_min=1, bits_max=16, chunk_bytes_max=1 << 20,
                 pipeline_depth_max=64)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        for config, bad, good in (
                (fixed, dict(bits_max=7, bits_min=9, pipeline_depth_max=2, chunk_bytes_max=65536,
                             codecs=[types.CODEC_BF16]),
                 dict(bits_min=8, bits_max=8, pipeline_depth_max=3, codecs=[types.CODEC_AFFINE])),
                (gated, dict(bits_max=5, bits_min=3), dict(bits_min=2, bits_max=6)),
                (config_f32(), dict(chunk_bytes_max=1), dict(bits_min=9, bits_max=9))):
            trainer = Trainer(ch, folder / "model", config)
            for field, value in bad.items():
                refused(CODE.INVALID_ARGUMENT, trainer.attach, reason="ARG",
                        field=f"capabilities.{field}", text=f"capabilities.{field}: ",
                        capabilities=stream_pb2.Capabilities(**(whole | {field: value})))
            for fields in (dict(protocol_version=1), whole, whole | good):
                trainer.attach(capabilities=stream_pb2.Capabilities(**fields))[0].close()


def test_bad_budget__bits_total__bounded_by_the_widths(binary, folder):
    """One width a channel, or with granularity token one a row of the largest micro-batch."""
    from seam.v1 import types_pb2 as types
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        for granularity in (types.GRANULARITY_FEATURE, types.GRANULARITY_TOKEN):
            config = session_config(codec=types.CODEC_AMAQ)
            config.codec.amaq.CopyFrom(amaq_config(types))
            config.codec.amaq.granularity = granularity
            trainer = Trainer(ch, folder / "model", config)
            widths = (config.limits.rows_per_micro_max if granularity == types.GRANULARITY_TOKEN
                      else trainer.embedding.shape[1])
            for count, total in enumerate((widths - 1, 16 * widths + 1, 2 ** 32 - 1), 1):
                stream, _ = trainer.attach()
                for good in (0, widths, 16 * widths):
                    stream.send(budget=stream.pb.Budget(bits_total=good))
                stream.send(budget=stream.pb.Budget(bits_target=3.5, link_bits_per_second=2e7))
                stream.send(budget=stream.pb.Budget(bits_target=3.5, link_bits_per_second=2e7))
                stream.send(budget=stream.pb.Budget(bits_total=total))
                refused(CODE.INVALID_ARGUMENT, stream.drain, reason="ARG",
                        text=f"budget.bits_total: {total} is not in 1..16 bits for each of {widths}")
                assert server.log.count(  # said once, though told twice
                    f"session={trainer.session.id} step=0 bits_target=3.5 "
                    "link_bits_per_second=2e+07") == count


def test_bad_budget__vanilla__site_1_has_no_gates(binary, folder):
    from seam.v1 import types_pb2 as types
    with Seamd(binary, folder / "model", "--allow-labels") as server, \
            grpc.insecure_channel(server.address) as ch:
        config = session_config(codec=types.CODEC_AMAQ)
        config.codec.amaq.CopyFrom(amaq_config(types))
        config.topology = types.TOPOLOGY_VANILLA
        config.consent = types.CONSENT_LABELS
        stream, _ = Trainer(ch, folder / "model", config).attach()
        stream.send(budget=stream.pb.Budget(beta=1))
        refused(CODE.FAILED_PRECONDITION, stream.drain, reason="STATE", text="site 1 has no gates")


def test_bad_quantized_frames__each_named__the_session_goes_on(binary, folder):
    """Allocation fields, ranges and payload sizes of an affine session."""
    from seam.v1 import types_pb2 as types
    micros = some_micros(np.random.default_rng(4), 1)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        config = session_config(codec=types.CODEC_AFFINE, bits=4)
        trainer = Trainer(ch, folder / "model", config)
        rows, channels = trainer.embed(micros[0]).shape
        widths = fnv1a(struct.pack("<I", channels) + bytes([4] * channels))
        zeros = bytes(4 + 4 * channels)
        codes = bytes(rows * channels * 4 // 8)
        infinite = bytearray(zeros)
        infinite[4 + 4 * 7 + 2:4 + 4 * 7 + 4] = b"\x00\x7c"  # hi of channel 7

        def send(stream, payload, alloc):
            stream.send(step_begin=step_begin(stream.pb, 0, micros))
            stream.send(frame=frame(payload, phase=FORWARD, site=0, step=0, micro=0, rows=rows,
                                    channels=channels, codec=3, alloc=alloc))

        good = (1, 4 * channels, widths)
        bad, state = CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION
        for code, reason, text, payload, alloc in (
                (state, "STATE", "alloc_version", zeros + codes, (9, 4 * channels, widths)),
                (bad, "ARG", "alloc_hash", zeros + codes, (1, 4 * channels, 5)),
                (bad, "FORMAT", "payload", zeros + codes[:-1], good),
                (bad, "FORMAT", "payload", codes, good),
                (bad, "NONFINITE", "frame", bytes(infinite) + codes, good),
                (bad, "FORMAT", "frame", b"\0\0\1\0" + zeros[4:] + codes, good)):
            stream, attached = trainer.attach()
            assert attached.action == 1
            send(stream, payload, alloc)
            refused(code, stream.drain, reason=reason, text=text)
        stream, _ = trainer.attach()
        send(stream, zeros + codes, good)  # all zeros, but well formed
        assert stream.receive().WhichOneof("body") == "frame"


def test_coded_frames__only_where_the_session_has_rans__each_named(binary, folder):
    """Coding 1 is refused without `entropy`; with it, bad streams are, and a good one is taken as the
    codes that it stands for."""
    from seam.v1 import types_pb2 as types
    micros = [Micro([np.arange(3, 43), np.arange(43, 53)])]
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        answers = []
        for entropy in (types.ENTROPY_CODER_NONE, types.ENTROPY_CODER_RANS):
            config = session_config(codec=types.CODEC_AFFINE, bits=4)
            config.codec.entropy = entropy
            trainer = Trainer(ch, folder / "model", config)
            rows, channels = 50, trainer.embed(micros[0]).shape[1]
            alloc = (1, 4 * channels, fnv1a(struct.pack("<I", channels) + bytes([4] * channels)))
            zeros = bytes(4 + 4 * channels)  # ranges; codes then do not matter
            codes = bytes(rows * channels * 4 // 8)
            stream_of_zeros = b"\x01\x09" + bytes(18 * channels * 4 // 8)  # no word, then the tail

            def send(stream, payload, coding):
                stream.send(step_begin=step_begin(stream.pb, 0, micros))
                stream.send(frame=frame(payload, phase=FORWARD, site=0, step=0, micro=0, rows=rows,
                                        channels=channels, codec=3, alloc=alloc, coding=coding))

            coded = entropy == types.ENTROPY_CODER_RANS
            bad = [(zeros + stream_of_zeros, 1, "coding")] if not coded else [
                (zeros + stream_of_zeros, 2, "coding"),
                (zeros + stream_of_zeros[:-1], 1, "rans"),
                (zeros + stream_of_zeros + b"\0", 1, "rans"),
                (zeros, 1, "payload_bytes"), (zeros + codes, 1, "payload_bytes")]
            for payload, coding, text in bad:
                stream, _ = trainer.attach()
                send(stream, payload, coding)
                refused(CODE.INVALID_ARGUMENT, stream.drain, reason="FORMAT", text=text)
            stream, _ = trainer.attach()
            send(stream, zeros + (stream_of_zeros if coded else codes), 1 if coded else 0)
            answers.append(stream.receive().frame)
        assert answers[0][10] == 0 and len(answers[1]) <= len(answers[0])


def test_conflict__same_key_other_bytes__freezes(binary, folder):
    rng = np.random.default_rng(4)
    micros = some_micros(rng, 1)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        stream.send(step_begin=step_begin(stream.pb, 0, micros))
        x = trainer.embed(micros[0])
        trainer.send_tensor(stream, x, phase=FORWARD, site=0, step=0, micro=0)
        stream.tensor(FORWARD, 1)
        trainer.send_tensor(stream, x + 1, phase=FORWARD, site=0, step=0, micro=0)
        refused(CODE.ABORTED, stream.drain, reason="CONFLICT")
        refused(CODE.ABORTED, trainer.attach, reason="CONFLICT")


def test_delete__while_attached__ends_the_stream(binary, folder):
    from seam.v1 import service_pb2
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        Client(ch).unary("DeleteSession", service_pb2.DeleteSessionRequest(
            session_id=trainer.session.id, session_secret=trainer.secret),
            service_pb2.DeleteSessionResponse)
        refused(CODE.NOT_FOUND, stream.drain, reason="GONE")
        refused(CODE.NOT_FOUND, trainer.attach, reason="NOT_FOUND")
        assert (code := server.stop()) == 0, (code, server.log)


def test_sigterm__step_in_flight__is_finished_first(binary, folder):
    micros = some_micros(np.random.default_rng(3))
    with Seamd(binary, folder / "model", "--drain-timeout", "3600000") as server, \
            grpc.insecure_channel(server.address) as ch:
        busy, idle = (Trainer(ch, folder / "model", config_f32()) for _ in range(2))
        stream, _ = busy.attach()
        quiet, _ = idle.attach()
        begin = step_begin(stream.pb, 0, micros)
        stream.send(step_begin=begin)
        busy.forward_backward(stream, micros[0], 0, 0, begin.labelled_row_count)
        server.process.send_signal(signal.SIGTERM)
        refused(CODE.UNAVAILABLE, quiet.drain, reason="UNAVAILABLE", text="stopping")
        busy.forward_backward(stream, micros[1], 1, 0, begin.labelled_row_count)
        assert stream.receive().commit.step == 0
        refused(CODE.UNAVAILABLE, stream.drain, reason="UNAVAILABLE", text="stopping")
        assert server.process.wait(DEADLINE_S) == 0


def test_sigterm__a_client_that_does_nothing__ends_at_the_deadline(binary, folder):
    micros = some_micros(np.random.default_rng(3))
    with Seamd(binary, folder / "model", "--drain-timeout", "300") as server, \
            grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        stream.send(step_begin=step_begin(stream.pb, 0, micros))
        trainer.send_tensor(stream, trainer.embed(micros[0]), phase=FORWARD, site=0, step=0,
                            micro=0)
        stream.tensor(FORWARD, 1)
        server.process.send_signal(signal.SIGTERM)
        refused(CODE.UNAVAILABLE, stream.drain, text="stopping")
        assert server.process.wait(DEADLINE_S) == 0


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

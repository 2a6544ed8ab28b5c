"""seamd's Forward, Generate, ExportAdapter and ImportAdapter."""
import json
import signal
import sys
import threading

import numpy as np
from safetensors.numpy import load, save

from service_fixture import DEADLINE_S, Client, Seamd, grpc, refused, run_cases
from service_trainer import (CODEC_BF16, FRAME, GENERATE, Stream, Trainer, frame, some_micros,
                             tensor_frames)
from test_service_train import config_f32

CODE = grpc.StatusCode
LAST, LABELLED, ALL = 1, 2, 3


class Inference:
    """A Forward or Generate stream of a trainer's session."""

    def __init__(self, trainer, method, **fields):
        self.trainer = trainer
        self.stream = Stream(trainer.channel, method)
        options = dict(session_id=trainer.session.id, session_secret=trainer.secret)
        if method == "Generate":
            options |= dict(slot_count=2, positions_max=32)
        self.stream.send(open=self.stream.pb.GenerateOpen(**(options | fields)))
        self.opened = self.stream.receive().opened
        self.request = 0

    def send(self, x, rows_out=ALL, codec_out=0, **fields):
        self.stream.send(rows=self.stream.pb.GenerateRows(
            request=self.request, rows_out=rows_out, codec_out=codec_out, **fields))
        for data in tensor_frames(x, phase=GENERATE, site=0, step=self.request, micro=0):
            self.stream.send(frame=data)
        self.request += 1

    def ask(self, x, **fields):
        self.send(x, **fields)
        return self.stream.tensor(GENERATE, 1)[0]


def trained(ch, folder, steps=2):
    trainer = Trainer(ch, folder / "model", config_f32())
    stream, _ = trainer.attach()
    micros = some_micros(np.random.default_rng(2))
    for _ in range(steps):
        _, commit = trainer.step(stream, micros)
    stream.send(detach=stream.pb.Detach())
    stream.drain()
    return trainer, commit


def test_generate__token_by_token__as_forward(binary, folder):
    rng = np.random.default_rng(8)
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, _ = trained(ch, folder)
        ids = [rng.integers(3, 96, 9), rng.integers(3, 96, 7)]
        x = [trainer.embedding[i] for i in ids]
        forward = Inference(trainer, "Forward", rows_max=64)
        assert forward.opened.committed_step_count == 2
        both = forward.ask(np.concatenate(x), sequence_rows=[9, 7])
        last = forward.ask(np.concatenate(x), sequence_rows=[9, 7], rows_out=LAST)
        assert np.array_equal(last, both[[8, 15]])
        mask = np.zeros(16, np.uint8)
        mask[[1, 5, 12]] = 1
        some = forward.ask(np.concatenate(x), sequence_rows=[9, 7], rows_out=LABELLED,
                           labelled_rows=np.packbits(mask, bitorder="little").tobytes())
        assert np.array_equal(some, both[[1, 5, 12]])
        alone = forward.ask(x[1], sequence_rows=[7])
        assert np.array_equal(alone, both[9:]), "a sequence depends on its neighbour"

        generate = Inference(trainer, "Generate", rows_max=16)
        first = generate.ask(np.concatenate([x[0][:4], x[1][:3]]), sequence_rows=[4, 3],
                             slots=[0, 1])
        assert np.allclose(first, both[[0, 1, 2, 3, 9, 10, 11]], atol=2e-5)
        for t in range(4):
            now = generate.ask(np.stack([x[1][3 + t], x[0][4 + t]]), sequence_rows=[1, 1],
                               slots=[1, 0], first_positions=[3 + t, 4 + t])
            assert np.allclose(now, both[[12 + t, 4 + t]], atol=2e-5), t
        again = generate.ask(x[0][:4], sequence_rows=[4], slots=[1])  # slot 1 begins anew
        assert np.array_equal(again, first[:4])

        base = Inference(trainer, "Forward", base_model=True)
        plain = base.ask(np.concatenate(x), sequence_rows=[9, 7])
        assert not np.allclose(plain, both, atol=1e-4)
        assert (code := server.stop()) == 0, (code, server.log)


def test_commit__generate_open__later_requests_have_the_newer_adapter(binary, folder):
    """What a slot holds stays as it was computed."""
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, _ = trained(ch, folder)
        x = trainer.embedding[np.random.default_rng(8).integers(3, 96, 6)]
        forward = Inference(trainer, "Forward", rows_max=64)
        generate = Inference(trainer, "Generate", rows_max=16)
        before = forward.ask(x, sequence_rows=[6])
        generate.ask(np.concatenate([x[:5], x[:5]]), sequence_rows=[5, 5], slots=[0, 1])
        stream, _ = trainer.attach()
        for _ in range(4):
            trainer.step(stream, some_micros(np.random.default_rng(2)))
        after = forward.ask(x, sequence_rows=[6])
        mixed = generate.ask(x[5:], sequence_rows=[1], slots=[0], first_positions=[5])
        for whole in (before, after):
            assert np.abs(mixed - whole[5]).max() > 1e-4
        again = generate.ask(x, sequence_rows=[6], slots=[1])
        assert np.allclose(again, after, atol=2e-5)


def test_answers__in_other_codecs__bf16_below_64_rows(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, _ = trained(ch, folder, 1)
        forward = Inference(trainer, "Forward", rows_max=64)
        x = trainer.embedding[:6]
        exact = forward.ask(x, sequence_rows=[6])
        forward.send(x, sequence_rows=[6], codec_out=CODEC_BF16)
        data = forward.stream.receive().frame
        head = FRAME.unpack(data[:64])
        assert head[4] == CODEC_BF16 and head[9] == 6
        bits = np.frombuffer(data[64:], "<u2").astype(np.uint32) << 16
        assert np.allclose(bits.view(np.float32).reshape(6, -1), exact, rtol=8e-3)


def test_bad_requests__each_named(binary, folder):
    with Seamd(binary, folder / "model", "--rows-max", "128") as server, \
            grpc.insecure_channel(server.address) as ch:
        trainer, _ = trained(ch, folder, 1)
        bad, state, limit = CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION, CODE.RESOURCE_EXHAUSTED

        def opened(**fields):
            return lambda: Inference(trainer, "Generate", **fields)

        for code, text, call in (
                (CODE.PERMISSION_DENIED, "session_secret", opened(session_secret=b"no")),
                (bad, "open.slot_count", opened(slot_count=0)),
                (bad, "open.slot_count", opened(slot_count=100000)),
                (bad, "open.positions_max", opened(positions_max=1 << 20)),
                (bad, "open.rows_max", opened(rows_max=129))):
            refused(code, call, text=text)

        x = trainer.embedding[:4]
        nan = x.copy()
        nan[0, 0] = np.inf

        def ask(x=x, **fields):
            def call(g):
                g.send(x, **(dict(sequence_rows=[4], slots=[0]) | fields))
            return call

        def frame_only(g):
            g.stream.send(frame=frame(x.tobytes(), phase=GENERATE, site=0, step=0, micro=0,
                                      rows=4, channels=x.shape[1]))

        def request_five(g):
            g.request = 5
            ask()(g)

        for code, text, call in (
                (state, "GenerateRows", frame_only),
                (state, "request", request_five),
                (bad, "slots", ask(slots=[9])),
                (bad, "slots", ask(slots=[0, 0], sequence_rows=[2, 2])),
                (bad, "first_positions", ask(first_positions=[3])),
                (limit, "first_positions", ask(first_positions=[31])),
                (limit, "rows", ask(sequence_rows=[4000])),
                (bad, "rows_out", ask(rows_out=0)),
                (bad, "rows.codec_out", ask(codec_out=4)),
                (bad, "rows", ask(sequence_rows=[3])),
                (bad, "finite", ask(x=nan)),
                (bad, "rows", lambda g: g.stream.send(
                    open=g.stream.pb.GenerateOpen(session_id="x"))),
                (bad, "", lambda g: g.stream.send_raw(b"\x0a"))):
            g = Inference(trainer, "Generate")
            call(g)
            refused(code, g.stream.drain, text=text)


def test_training_and_generating__at_once__both_right(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        micros = some_micros(np.random.default_rng(2))
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        expected = [trainer.step(stream, micros)[1].state_hash for _ in range(6)]
        trainer = Trainer(ch, folder / "model", config_f32())
        stream, _ = trainer.attach()
        base = Inference(trainer, "Forward", base_model=True)
        x = trainer.embedding[5:25]
        want = base.ask(x, sequence_rows=[20])
        wrong, done = [], threading.Event()

        def work():
            while not done.is_set():
                if not np.array_equal(base.ask(x, sequence_rows=[20]), want):
                    wrong.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        hashes = [trainer.step(stream, micros)[1].state_hash for _ in range(6)]
        done.set()
        thread.join()
        assert hashes == expected and not wrong


def export(trainer):
    from seam.v1 import service_pb2
    files, hashes = {}, set()
    for part in Client(trainer.channel).server_stream(
            "ExportAdapter", service_pb2.ExportAdapterRequest(
                session_id=trainer.session.id, session_secret=trainer.secret),
            service_pb2.ExportAdapterResponse):
        data = files.setdefault(part.file_name, b"")
        assert part.offset == len(data)
        files[part.file_name] = data + part.data
        hashes.add(part.state_hash)
        sizes = part.file_bytes
    assert len(hashes) == 1 and sizes == len(files[part.file_name])
    return files, hashes.pop()


def import_files(trainer, files, chunk=1000, **changes):
    from seam.v1 import service_pb2

    def parts():
        for name, data in files.items():
            for begin in range(0, len(data), chunk):
                yield service_pb2.ImportAdapterRequest(**(dict(
                    session_id=trainer.session.id, session_secret=trainer.secret,
                    file_name=name, file_bytes=len(data), offset=begin,
                    data=data[begin:begin + chunk]) | changes))

    return Client(trainer.channel).client_stream("ImportAdapter", parts(),
                                                 service_pb2.ImportAdapterResponse).state_hash


def test_export_import__a_trained_adapter__same_hash_and_answers(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, commit = trained(ch, folder)
        files, state_hash = export(trainer)
        assert state_hash == commit.state_hash
        assert set(files) == {"adapter_model.safetensors", "adapter_config.json"}
        config = json.loads(files["adapter_config.json"])
        assert config["r"] == 4 and config["peft_type"] == "LORA"
        assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
        tensors = load(files["adapter_model.safetensors"])
        name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
        assert tensors[name].shape == (16, 4) and np.abs(tensors[name]).max() > 0
        assert len(tensors) == 8

        other = Trainer(ch, folder / "model", config_f32(seed=99))
        assert import_files(other, files) == commit.state_hash
        assert export(other)[0] == files
        x = trainer.embedding[3:20]
        answers = [Inference(t, "Forward").ask(x, sequence_rows=[17]) for t in (trainer, other)]
        assert np.array_equal(*answers)

        bad = CODE.INVALID_ARGUMENT
        wide = Trainer(ch, folder / "model", config_f32(rank=8))
        refused(bad, import_files, wide, files, reason="FORMAT")
        narrow = Trainer(ch, folder / "model", config_f32(rank=1))
        refused(CODE.RESOURCE_EXHAUSTED, import_files, narrow,
                files | {"adapter_model.safetensors": bytes(1 << 20)}, text="of another rank")
        refused(bad, import_files, other, {"adapter_config.json": b"{}"}, text="whole")
        refused(bad, import_files, other, files | {"adapter_config.json": b"{"})
        refused(bad, import_files, other, {"other.bin": b"x"}, text="file_name")
        refused(CODE.FAILED_PRECONDITION, import_files, other, files, offset=7, text="offset")
        tensors[name] = tensors[name] * np.nan
        refused(bad, import_files, other,
                files | {"adapter_model.safetensors": save(tensors)}, reason="NONFINITE", text=name)
        assert export(other)[1] == commit.state_hash  # nothing was changed
        stream, _ = other.attach()
        refused(CODE.FAILED_PRECONDITION, import_files, other, files, reason="STATE")
        stream.close()
        assert (code := server.stop()) == 0, (code, server.log)


def test_sigterm__an_open_generate_stream__ends(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer, _ = trained(ch, folder, 1)
        g = Inference(trainer, "Generate")
        server.process.send_signal(signal.SIGTERM)
        refused(CODE.UNAVAILABLE, g.stream.drain, text="stopping")
        assert server.process.wait(DEADLINE_S) == 0


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

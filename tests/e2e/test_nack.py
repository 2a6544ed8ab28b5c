"""A proposal that is refused: the NACK says why, the widths before stay in force and the run goes on.

Both directions, each end as the one that refuses and as the one refused: seamd with a Python client,
then seamd and libseam with a proxy between them that spoils proposals' hashes.

    test_nack.py SEAMD SEAM
"""
import json
import pathlib
import sys
from concurrent import futures

import numpy as np

from cli_fixture import Seam, colour_rows, write_rows, write_text_model
from service_fixture import SOURCE, Seamd, grpc, refused, run_cases
from service_trainer import Trainer
from test_service_train import amaq_config
from test_service_unary import session_config

CODE = grpc.StatusCode
SEAM = sys.argv[2]
STEPS = 10


def quick_config():
    from seam.v1 import types_pb2 as types
    config = session_config(codec=types.CODEC_AMAQ, seed=5)
    config.optimizer.lr = 1e-2
    config.codec.amaq.CopyFrom(amaq_config(types))
    config.codec.amaq.bits_lr, config.codec.amaq.beta = 0.5, 0.1
    return config


def refusing_session():
    """A client that proposes nonsense before each good proposal, and refuses the server's first."""
    sys.path[:0] = [str(SOURCE / "tests" / "e2e" / "python_client"),
                    str(SOURCE / "tests" / "oracle")]
    import seam_client
    from seam.v1 import stream_pb2 as stream

    class RefusingSession(seam_client.Session):
        def __init__(self, *args):
            self.nacks, self.refused_widths, self.later = [], None, []
            super().__init__(*args)

        def judge(self, propose):
            if self.refused_widths is None:
                self.refused_widths = propose.widths
                return dict(alloc_nack=stream.AllocNack(
                    site=propose.site, version=propose.version, reason="too fine", bits_min=2,
                    bits_max=max(propose.widths) - 1))
            self.later.append(propose)
            return super().judge(propose)

        def send(self, **body):
            if "alloc_propose" not in body:
                super().send(**body)
                return
            good = body["alloc_propose"]
            bad = stream.AllocPropose()
            bad.CopyFrom(good)
            spoil = len(self.nacks) // 2 % 3
            if spoil == 0:
                bad.widths = good.widths[:-1] + bytes([17])
            elif spoil == 1:
                bad.widths = good.widths[:-1]
            else:
                bad.hash ^= 1
            for _ in range(2):  # a refusal repeated is the same refusal
                super().send(alloc_propose=bad)
                self.nacks.append((bad, self.receive("alloc_nack")))
            good.version += 1
            super().send(alloc_propose=good)

    return RefusingSession


def test_nack__python_client__reason_bounds_and_the_run_goes_on(binary, folder):
    session_class = refusing_session()
    from local_model import LocalModel
    from seam_client import Micro
    rng = np.random.default_rng(7)
    labelled = np.arange(30) % 3 != 0
    labelled[[9, 29]] = False
    micros = [Micro(rng.integers(3, 96, 30), [10, 20], labelled) for _ in range(2)]
    with Seamd(binary, folder / "model") as server:
        session = session_class(server.address, LocalModel(folder / "model"), quick_config())
        losses = [session.step(micros)["loss"] for _ in range(STEPS)]
        session.close()
    assert losses[-1] < losses[0]
    assert len(session.nacks) >= 6, session.nacks
    for i, (bad, nack) in enumerate(session.nacks):
        assert (nack.site, nack.version, nack.bits_min, nack.bits_max) == (0, bad.version, 1, 16)
        name = (f"widths[{len(bad.widths) - 1}] 17", "widths: ", "hash: ")[i // 2 % 3]
        # A repetition has the content of one that was refused; its widths are not looked at again.
        assert nack.reason.startswith(name if i % 2 == 0 else "version"), nack.reason
    versions = [alloc.version for alloc in session.allocs[0]]
    assert versions == [1 + 2 * i for i in range(len(versions))]  # each refused one has its number
    # The server's: what was refused never comes, what follows keeps within the bounds.
    low, high = 2, max(session.refused_widths) - 1
    assert session.later and session.later[0].version == 3
    for propose in session.later:
        assert low <= min(propose.widths) and max(propose.widths) <= high, propose


def test_bad_nack__each_named__ends_the_stream(binary, folder):
    with Seamd(binary, folder / "model") as server, grpc.insecure_channel(server.address) as ch:
        trainer = Trainer(ch, folder / "model", quick_config())
        for fields, code, reason, text in (
                (dict(site=0, version=2, bits_min=1, bits_max=8), CODE.INVALID_ARGUMENT, "ARG",
                 "alloc_nack.site: 0"),
                (dict(site=1, version=2, bits_min=1, bits_max=8), CODE.FAILED_PRECONDITION,
                 "STATE", "alloc_nack.version"),
                (dict(site=1, version=2, bits_min=1, bits_max=17), CODE.INVALID_ARGUMENT, "ARG",
                 "alloc_nack.bits_min")):
            stream, _ = trainer.attach()
            stream.send(alloc_nack=stream.pb.AllocNack(reason="no", **fields))
            refused(code, stream.drain, reason=reason, text=text)


class SpoilingProxy(grpc.GenericRpcHandler if grpc else object):
    """Forwards every method; on Train it flips a bit in the hash of every second proposal, and keeps
    the answers."""

    def __init__(self, target):
        self.channel = grpc.insecure_channel(target)
        self.proposals, self.nacks, self.acks = [0, 0], [[], []], [[], []]
        self.pool = futures.ThreadPoolExecutor(16)
        self.server = grpc.server(self.pool, handlers=[self])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()
        self.channel.close()

    def service(self, details):
        is_train = details.method.endswith("/Train")

        def forward(requests, context):
            call = self.channel.stream_stream(details.method)(
                (self.passed(m, 0) for m in requests) if is_train else requests,
                metadata=[(k, v) for k, v in context.invocation_metadata() if k != "user-agent"])
            try:
                for message in call:
                    yield self.passed(message, 1) if is_train else message
            except grpc.RpcError as error:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(forward)

    def passed(self, data, direction):
        """direction: 0 to the server, 1 to the client; answers are counted for the other one's
        proposals."""
        from seam.v1 import stream_pb2
        message = (stream_pb2.TrainRequest, stream_pb2.TrainResponse)[direction].FromString(data)
        kind = message.WhichOneof("body")
        if kind == "alloc_propose":
            self.proposals[direction] += 1
            message.alloc_propose.hash ^= self.proposals[direction] % 2
            return message.SerializeToString()
        if kind == "alloc_nack":
            self.nacks[1 - direction].append(message.alloc_nack)
        elif kind == "alloc_ack":
            self.acks[1 - direction].append(message.alloc_ack)
        return data


def test_nack__libseam__both_directions_and_the_run_goes_on(binary, folder):
    write_text_model(folder / "text_model")
    rows = write_rows(folder / "rows.jsonl", colour_rows(40))
    with Seamd(binary, folder / "text_model") as server:
        proxy = SpoilingProxy(server.address)
        code, out, err = Seam(SEAM, f"127.0.0.1:{proxy.port}").run(
            "train", "--model", folder / "text_model", "--data", rows, "--out", folder / "run",
            "--steps", 20, "--batch", 4, "--rank", 4, "--lr", "1e-2", "--allocator", "gates",
            "--beta", "0.1", "--bits-lr", "0.5")
        proxy.stop()
    assert code == 0, out + err
    report = json.loads((pathlib.Path(folder) / "run" / "report.json").read_text())
    assert report["complete"] and len(report["steps"]) == 20
    for direction in (0, 1):  # of the client's proposals, of the server's
        nacks, acks = proxy.nacks[direction], proxy.acks[direction]
        assert len(nacks) >= 2 and len(acks) >= 2, (direction, nacks, acks)
        assert all(n.site == direction and n.reason.startswith("hash: ") for n in nacks), nacks
        assert [n.version for n in nacks] == [2 + 2 * i for i in range(len(nacks))]
        assert [a.version for a in acks] == [3 + 2 * i for i in range(len(acks))]
    assert "the server refused allocation version 2: hash: " in err
    means = [step["sites"]["fwd_in"]["mean_bits"] for step in report["steps"]]
    assert means[0] == 8 and means[-1] < 8, means  # the ones that were not refused are in force


if __name__ == "__main__":
    sys.exit(run_cases(globals()))

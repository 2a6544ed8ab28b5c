"""A small U-shaped client in NumPy for the service tests: embedding, final norm and tied head here,
blocks on the server; f32 frames by WIRE.md section 2 (other codecs are the business of
python_client/, written apart from this)."""
import queue
import struct

import numpy as np

from service_fixture import DEADLINE_S, Client
from safetensors.numpy import load_file

FRAME = struct.Struct("<4sBBBBHHIQIIIIIIQII")
assert FRAME.size == 64
CHUNK_BYTES_MAX = 1 << 20
FORWARD, BACKWARD, GENERATE = 1, 2, 3
CODEC_F32, CODEC_BF16 = 1, 2

_CRC_TABLE = []
for _i in range(256):
    _crc = _i
    for _ in range(8):
        _crc = (_crc >> 1) ^ (0x82F63B78 if _crc & 1 else 0)
    _CRC_TABLE.append(_crc)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def fnv1a(data: bytes, value=0xCBF29CE484222325) -> int:
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def frame(payload: bytes, *, phase, site, step, micro, rows, channels, row_begin=0, row_count=None,
          codec=CODEC_F32, kind=1, alloc=(0, 0, 0), magic=b"SEAM", crc=None, coding=0) -> bytes:
    head = [magic, 1, kind, phase, codec, site, coding, micro, step, rows, channels, row_begin,
            rows if row_count is None else row_count, alloc[0], alloc[1], alloc[2], len(payload)]
    value = crc32c(FRAME.pack(*head, 0) + payload) if crc is None else crc
    return FRAME.pack(*head, value) + payload


def tensor_frames(x: np.ndarray, *, chunk_rows=None, **key) -> list:
    """f32 frames of a tensor, cut into chunks of chunk_rows (a multiple of 32)."""
    rows, channels = x.shape
    chunk_rows = chunk_rows or max(32, CHUNK_BYTES_MAX // (channels * 4) // 32 * 32)
    return [frame(np.ascontiguousarray(x[begin:begin + chunk_rows], "<f4").tobytes(), rows=rows,
                  channels=channels, row_begin=begin,
                  row_count=min(chunk_rows, rows - begin), **key)
            for begin in range(0, rows, chunk_rows)]


class Stream:
    """A Train (or Forward, Generate) stream: send(message), receive() -> message."""

    def __init__(self, channel, method="Train", timeout=DEADLINE_S):
        from seam.v1 import stream_pb2
        self.pb = stream_pb2
        prefix = {"Train": "Train", "Forward": "Forward", "Generate": "Generate"}[method]
        self.request = getattr(stream_pb2, prefix + "Request")
        self.response = getattr(stream_pb2, prefix + "Response")
        self.queue = queue.Queue()
        self.limit = 0  # of the newest grant
        self.call = Client(channel).stream(method, iter(self.queue.get, None), self.response,
                                           timeout=timeout)

    def send(self, **body):
        self.queue.put(self.request(**body))

    def send_raw(self, data: bytes):
        self.queue.put(data)

    def close(self):
        self.queue.put(None)

    def receive(self):
        """The next message that is not a Credit; those are counted."""
        while True:
            message = next(self.call)
            if message.WhichOneof("body") != "credit":
                return message
            assert message.credit.limit_bytes > self.limit
            self.limit = message.credit.limit_bytes

    def drain(self):
        """Everything until the end; raises the stream's error."""
        return list(self.call)

    def tensor(self, phase, site):
        """Frames of one f32 tensor -> array; returns (array, frames)."""
        parts, frames, row = [], [], 0
        while True:
            message = self.receive()
            assert message.WhichOneof("body") == "frame", message
            data = message.frame
            head = FRAME.unpack(data[:64])
            assert head[0] == b"SEAM" and head[3] == phase and head[5] == site, head
            assert head[-1] == crc32c(data[:60] + b"\0\0\0\0" + data[64:])
            assert head[11] == row and len(data) == 64 + head[-2]
            parts.append(np.frombuffer(data[64:], "<f4").reshape(head[12], head[10]))
            frames.append(data)
            row += head[12]
            if row == head[9]:
                return np.concatenate(parts), frames


class Micro:
    """One micro-batch: token sequences; every row but each sequence's last is labelled, minus
    those before `prompt`."""

    def __init__(self, sequences, prompt=2):
        self.ids = np.concatenate(sequences)
        self.sequence_rows = [len(s) for s in sequences]
        self.labelled, self.targets, row = [], [], 0
        for s in sequences:
            for i in range(len(s) - 1):
                if i >= prompt:
                    self.labelled.append(row + i)
                    self.targets.append(s[i + 1])
            row += len(s)
        bitmap = np.zeros(len(self.ids), np.uint8)
        bitmap[self.labelled] = 1
        self.bitmap = np.packbits(bitmap, bitorder="little").tobytes()


def step_begin(pb, step, micros, pipeline_depth=0):
    begin = pb.StepBegin(step=step, labelled_row_count=sum(len(m.labelled) for m in micros),
                         pipeline_depth=pipeline_depth)
    data = struct.pack("<QQI", step, begin.labelled_row_count, len(micros))
    for m in micros:
        begin.micros.add(sequence_rows=m.sequence_rows, labelled_rows=m.bitmap)
        data += struct.pack(f"<I{len(m.sequence_rows)}I", len(m.sequence_rows), *m.sequence_rows)
        data += struct.pack("<I", len(m.bitmap)) + m.bitmap + bytes(16)  # four counts of 0
    begin.digest = fnv1a(data)
    return begin


class Trainer:
    """One session's client side, with f32 frames."""

    def __init__(self, channel, folder, config, request_id=""):
        from seam.v1 import service_pb2
        self.channel, self.config = channel, config
        tensors = load_file(str(folder / "model.safetensors"))
        self.embedding = tensors["model.embed_tokens.weight"].astype(np.float32)
        self.norm = tensors["model.norm.weight"].astype(np.float64)
        created = Client(channel).unary("CreateSession", service_pb2.CreateSessionRequest(
            config=config, request_id=request_id), service_pb2.CreateSessionResponse)
        self.session, self.secret = created.session, created.session_secret
        self.identity = Client(channel).unary(
            "ListModels", service_pb2.ListModelsRequest(),
            service_pb2.ListModelsResponse).models[0].identity
        self.committed, self.epoch = 0, 0

    def attach(self, stream=None, **changes):
        """Open a stream and attach; returns (stream, Attached)."""
        stream = stream or Stream(self.channel)
        fields = dict(session_id=self.session.id, session_secret=self.secret,
                      epoch_seen=self.epoch, committed_step_count=self.committed,
                      config_hash=self.session.config_hash, model_identity=self.identity)
        stream.send(attach=stream.pb.Attach(**(fields | changes)))
        attached = stream.receive().attached
        self.epoch = attached.epoch
        return stream, attached

    def embed(self, micro):
        return self.embedding[micro.ids]

    def head(self, h, targets, labelled_count):
        """Sum of losses and gradient of the step's mean loss."""
        h = h.astype(np.float64)
        rstd = 1 / np.sqrt((h * h).mean(1, keepdims=True) + 1e-5)
        head = self.embedding.astype(np.float64)
        logits = (h * rstd * self.norm) @ head.T
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        rows = np.arange(len(targets))
        loss = -np.log(p[rows, targets]).sum()
        p[rows, targets] -= 1
        dn = (p / labelled_count) @ head * self.norm
        dh = rstd * (dn - h * rstd * rstd * (dn * h).mean(1, keepdims=True))
        return loss, dh.astype(np.float32)

    def send_tensor(self, stream, x, **key):
        for data in tensor_frames(x, **key):
            stream.send(frame=data)

    def forward_backward(self, stream, micro, index, step, labelled_count):
        self.send_tensor(stream, self.embed(micro), phase=FORWARD, site=0, step=step, micro=index)
        h, frames = stream.tensor(FORWARD, 1)
        loss, dh = self.head(h, micro.targets, labelled_count)
        self.send_tensor(stream, dh, phase=BACKWARD, site=2, step=step, micro=index)
        return loss, frames

    def step(self, stream, micros, pipeline_depth=0):
        """One step; returns (mean loss, Commit)."""
        step = self.committed
        begin = step_begin(stream.pb, step, micros, pipeline_depth)
        stream.send(step_begin=begin)
        loss = 0.0
        for index, micro in enumerate(micros):
            loss += self.forward_backward(stream, micro, index, step,
                                          begin.labelled_row_count)[0]
        commit = stream.receive().commit
        assert commit.step == step
        self.committed += 1
        return loss / begin.labelled_row_count, commit


def some_micros(rng, count=2, vocab=96):
    return [Micro([rng.integers(3, vocab, rng.integers(5, 14)) for _ in range(3)])
            for _ in range(count)]

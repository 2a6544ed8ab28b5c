"""A Seam training client from seam/v1/*.proto and WIRE.md alone (cited by section): codec amaq with
surrogate gate signals, L2 bits loss and soft clipping; tensors of one frame, that is up to 1 MiB.

    session = Session("127.0.0.1:7070", LocalModel(folder), types_pb2.SessionConfig(...))
    report = session.step([Micro(ids, sequence_rows, labelled), ...])
"""
import collections
import queue
import struct

import grpc
import numpy as np
from seam.v1 import service_pb2 as service, stream_pb2 as stream, types_pb2 as types  # by protoc

FWD_IN, FWD_OUT, BWD_OUT = 0, 1, 2  # sites, section 1
TENSOR, GATE_SIGNAL, FORWARD, BACKWARD = 1, 2, 1, 2  # kinds and phases, section 2
HEADER = struct.Struct("<4sBBBBHHIQIIIIIIQI")  # all but the CRC
Micro = collections.namedtuple("Micro", "ids sequence_rows labelled")  # labelled: bool of each row


def fnv(data, value=0xCBF29CE484222325):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2 ** 64
    return value


def crc32c(data, crc=0xFFFFFFFF):
    table = np.arange(256)
    for _ in range(8):
        table = table >> 1 ^ (table & 1) * 0x82F63B78
    table = table.tolist()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return struct.pack("<I", crc ^ 0xFFFFFFFF)


def make_alloc(version, effective_step, widths):
    text = struct.pack("<I", len(widths)) + bytes(widths)
    return stream.AllocPropose(site=FWD_IN, version=version, effective_step=effective_step,
                               widths=bytes(widths), hash=fnv(text))


def grid(ranges, widths):
    """lo, D (0: constant) and N of each channel, section 3.2; (C, 16): which bits it has."""
    widths = np.frombuffer(widths, np.uint8).astype(int)
    bounds = np.frombuffer(ranges, "<f2", offset=4).reshape(-1, 2).astype(np.float64)
    lo, hi = np.ldexp(bounds, struct.unpack_from("<h", ranges)[0]).astype(np.float32).T
    levels = np.ldexp(np.float32(1), widths) - np.float32(1)
    step = (hi - lo) / levels
    step[step < 2.0 ** -126] = 0
    return lo, step, levels, np.arange(16) < widths[:, None]


def encode(x, widths, u=None):
    k = int(np.frexp(np.float64(np.abs(x).max()))[1]) - 15 if x.any() else 0
    exact = np.ldexp(np.stack([x.min(0), x.max(0)]).astype(np.float64), -k)
    half = exact.astype(np.float16)
    outside = np.nextafter(half, np.float16([[-np.inf], [np.inf]]))
    half = np.where([half[0] > exact[0], half[1] < exact[1]], outside, half)
    half[half == 0] = 0  # no -0
    ranges = struct.pack("<hH", k, 0) + half.T.astype("<f2").tobytes()
    lo, step, levels, planes = grid(ranges, widths)
    t = (x - lo) * np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
    q = np.clip(np.rint(t) if u is None else np.floor(t + u), 0, levels).astype(np.uint32)
    bits = (q[:, :, None] >> np.arange(16) & 1).astype(np.uint8)[:, planes]
    groups = [bits[r:r + 32].T.ravel() for r in range(0, len(x), 32)]
    return ranges + np.packbits(np.concatenate(groups), bitorder="little").tobytes()


def decode(payload, rows, widths):
    front, total = 4 + 4 * len(widths), sum(widths)
    lo, step, _, planes = grid(payload[:front], widths)
    bits = np.unpackbits(np.frombuffer(payload[front:], np.uint8), bitorder="little")
    groups = [bits[r * total:min(r + 32, rows) * total].reshape(total, -1).T
              for r in range(0, rows, 32)]
    q = np.zeros((rows, len(widths), 16), np.uint32)
    q[:, planes] = np.concatenate(groups)
    return lo + (q << np.arange(16)).sum(axis=2).astype(np.float32) * step


def uniform(seed, step, micro, rows, channels):
    """u of stochastic rounding: Philox4x32-10."""
    low, quads = 0xFFFFFFFF, np.arange((channels + 3) // 4)
    a, b, c, d = np.stack(np.broadcast_arrays(
        quads, rows[:, None], BWD_OUT | micro << 16, step & low)).astype(np.uint64)
    for r in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = q >> 32 ^ b ^ (seed + r * 0x9E3779B9 & low), q & low
        c, d = p >> 32 ^ d ^ ((seed >> 32) + r * 0xBB67AE85 & low), p & low
    words = np.stack([a, b, c, d], axis=-1).reshape(len(rows), -1)[:, :channels]
    return ((words >> 8) * 2.0 ** -24).astype(np.float32)


class Session:
    def __init__(self, address, model, config):
        self.model, self.config, self.step_next, self.weights = model, config, 0, None
        channel, g = grpc.insecure_channel(address), config.codec.amaq
        created = channel.unary_unary(
            "/seam.v1.SeamService/CreateSession", service.CreateSessionRequest.SerializeToString,
            service.CreateSessionResponse.FromString)(service.CreateSessionRequest(config=config))
        self.channels = created.session.sites[FWD_IN].channels
        self.gates = np.zeros((3, self.channels), np.float32)  # Q and its moments
        self.gates[0] = np.log((g.bits_start - g.bits_min) / (g.bits_max - g.bits_start)) / g.alpha
        self.budget = stream.Budget(bits_loss_active=True, beta=g.beta, bits_lr=g.bits_lr,
                                    bits_target=g.bits_target)
        first = make_alloc(1, 0, [int(np.rint(g.bits_start))] * self.channels)
        self.allocs, self.acks = {FWD_IN: [first], FWD_OUT: [first]}, []
        self.to_send = queue.SimpleQueue()
        self.responses = channel.stream_stream(
            "/seam.v1.SeamService/Train", stream.TrainRequest.SerializeToString,
            stream.TrainResponse.FromString)(iter(self.to_send.get, None))
        self.send(attach=stream.Attach(
            session_id=created.session.id, session_secret=created.session_secret,
            config_hash=created.session.config_hash, model_identity=model.identity,
            capabilities=stream.Capabilities(
                protocol_version=1, codecs=[types.CODEC_AMAQ], chunk_bytes_max=1 << 20)))
        self.credit = self.receive("attached").credit_bytes or float("inf")

    def close(self):
        self.send(detach=stream.Detach())
        self.to_send.put(None)

    def send(self, **body):
        self.to_send.put(stream.TrainRequest(**body))

    def receive(self, wanted, kind=None):
        """The next message of this kind; credit and the server's proposals may come before it."""
        while kind != wanted:
            response = next(self.responses)
            kind = response.WhichOneof("body")
            body = getattr(response, kind)
            if kind == "credit":
                self.credit += body.bytes
            elif kind == "alloc_propose":
                self.allocs[body.site].append(body)
                self.acks.append(stream.AllocAck(site=body.site, version=body.version))
            elif kind != wanted:
                raise RuntimeError(f"{kind} instead of {wanted}: {body}")
        return body

    def make_frame(self, kind, phase, site, micro, alloc, rows, payload):
        head = HEADER.pack(
            b"SEAM", 1, kind, phase, types.CODEC_AMAQ, site, 0, micro, self.step_next, rows,
            self.channels, 0, rows, alloc.version, sum(alloc.widths), alloc.hash, len(payload))
        return head + crc32c(head + bytes(4) + payload) + payload

    def send_tensor(self, *key_and_payload):
        frame = self.make_frame(TENSOR, *key_and_payload)
        while self.credit < len(frame):
            self.receive("credit")
        self.credit -= len(frame)
        self.send(frame=frame)

    def receive_payload(self, *key):
        frame = self.receive("frame")
        if frame != self.make_frame(*key, frame[64:]):
            raise RuntimeError(f"not a frame of {key}")
        return frame[64:]

    def step(self, micros):
        """One optimizer step, section 4."""
        step, n_lab = self.step_next, int(sum(m.labelled.sum() for m in micros))
        self.weights = self.weights or [sum(len(m.ids) for m in micros), n_lab]
        while self.acks:
            self.send(alloc_ack=self.acks.pop())
        begin = stream.StepBegin(step=step, labelled_row_count=n_lab)
        text = struct.pack("<QQI", step, n_lab, len(micros))
        for ids, rows, labelled in micros:
            bitmap = np.packbits(labelled, bitorder="little").tobytes()
            begin.micros.add(sequence_rows=rows, labelled_rows=bitmap)
            text += struct.pack(f"<{len(rows) + 2}I", len(rows), *rows, len(bitmap))
            text += bitmap + bytes(8)  # no sample ids, no positions
        begin.digest = fnv(text)
        self.send(step_begin=begin)
        into, out = ([a for a in self.allocs[site] if a.effective_step <= step][-1]
                     for site in (FWD_IN, FWD_OUT))
        loss, db = 0.0, np.zeros(self.channels)
        for m, (ids, _, labelled) in enumerate(micros):
            rows = np.flatnonzero(labelled)
            self.send_tensor(FORWARD, FWD_IN, m, into, len(ids),
                             encode(self.model.embed(ids), into.widths))
            y = self.receive_payload(TENSOR, FORWARD, FWD_OUT, m, out, len(rows))
            part, dy = self.model.loss(decode(y, len(rows), out.widths), ids[rows + 1], n_lab)
            u = uniform(self.config.codec.seed, step, m, rows, self.channels)
            self.send_tensor(BACKWARD, BWD_OUT, m, out, len(rows), encode(dy, out.widths, u))
            signal = self.receive_payload(GATE_SIGNAL, BACKWARD, FWD_IN, m, into, 1)
            loss, db = loss + part / n_lab, db + np.frombuffer(signal, "<f4")
        commit = self.receive("commit")
        if commit.skipped:
            raise RuntimeError("the step's gradient is not finite")
        self.step_next += 1
        return dict(step=step, loss=loss, state_hash=commit.state_hash,
                    gate_mean_bits=self.settle(commit, db))

    def settle(self, commit, db):
        """Adam on the gates, then budget and proposal; the mean width of both forward sites."""
        g, t, (q, m, v) = self.config.codec.amaq, self.step_next, self.gates.astype(float)
        span, newest = g.bits_max - g.bits_min, self.allocs[FWD_IN][-1]
        b = g.bits_min + span / (1 + np.exp(-g.alpha * q))
        db += self.budget.bits_loss_active * self.budget.beta * 2 * b / len(b)
        dq = db * g.alpha * (b - g.bits_min) * (g.bits_max - b) / span
        m, v = 0.9 * m + 0.1 * dq, 0.999 * v + 0.001 * dq * dq
        q -= g.bits_lr * m / (1 - 0.9 ** t) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)
        self.gates = np.stack([q, m, v]).astype(np.float32)
        b = (g.bits_min + span / (1 + np.exp(-g.alpha * self.gates[0].astype(float)))).astype("f4")
        totals = [round(b.sum(dtype=float)), commit.sites[0].gate_bits_total]
        mean = float(np.average(totals, weights=self.weights)) / self.channels
        if self.budget.bits_loss_active != (mean > g.bits_target):
            self.budget.bits_loss_active, self.budget.effective_step = mean > g.bits_target, t
            self.send(budget=self.budget)
        widths = np.floor(b).astype(int)
        widths[np.argsort(widths - b, kind="stable")[:totals[0] - widths.sum()]] += 1
        if newest.effective_step < t and bytes(widths.tolist()) != newest.widths:
            new = make_alloc(newest.version + 1, commit.step + g.alloc_lag_steps, widths.tolist())
            self.allocs[FWD_IN].append(new)
            self.send(alloc_propose=new)
            self.receive("alloc_ack")
        return mean

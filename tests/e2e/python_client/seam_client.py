"""A Seam training client in Python: codec amaq, surrogate gate signals, L2 bits loss, soft clipping.

The bytes of WIRE.md come from the NumPy package wire_numpy, the messages from seam/v1/*.proto.
Tensors of one frame, that is up to 1 MiB of payload.

    session = Session("127.0.0.1:7070", LocalModel(folder), types_pb2.SessionConfig(...))
    report = session.step([Micro(ids, sequence_rows, labelled), ...])
"""
import collections
import queue

import grpc
import numpy as np
from seam.v1 import service_pb2 as service, stream_pb2 as stream, types_pb2 as types  # by protoc
from wire_numpy import affine, messages
from wire_numpy.bits import alloc_hash
from wire_numpy.frames import AMAQ, BACKWARD, FORWARD, GATE_SIGNAL, Header, open_frame
from wire_numpy.gates import Gates, integer_widths
from wire_numpy.rounding import Rounding

FWD_IN, FWD_OUT, BWD_OUT = 0, 1, 2  # sites, WIRE.md 1
Micro = collections.namedtuple("Micro", "ids sequence_rows labelled")  # labelled: bool of each row


def make_alloc(version, effective_step, widths):
    return stream.AllocPropose(site=FWD_IN, version=version, effective_step=effective_step,
                               widths=bytes(widths), hash=alloc_hash(widths))


class Session:
    def __init__(self, address, model, config):
        self.model, self.config, self.step_next, self.weights = model, config, 0, None
        self.durable = 0
        channel, g = grpc.insecure_channel(address), config.codec.amaq
        created = channel.unary_unary(
            "/seam.v1.SeamService/CreateSession", service.CreateSessionRequest.SerializeToString,
            service.CreateSessionResponse.FromString)(service.CreateSessionRequest(config=config))
        self.channel, self.id, self.secret = channel, created.session.id, created.session_secret
        self.channels = created.session.sites[FWD_IN].channels
        self.gates = Gates(self.channels, g.bits_min, g.bits_max, g.bits_start, alpha=g.alpha)
        self.budget = stream.Budget(bits_loss_active=True, beta=g.beta, bits_lr=g.bits_lr,
                                    bits_target=g.bits_target)
        first = make_alloc(1, 0, [int(np.rint(g.bits_start))] * self.channels)
        self.allocs, self.acks = {FWD_IN: [first], FWD_OUT: [first]}, []  # acks: to be sent
        self.to_send = queue.SimpleQueue()
        self.responses = channel.stream_stream(
            "/seam.v1.SeamService/Train", stream.TrainRequest.SerializeToString,
            stream.TrainResponse.FromString)(iter(self.to_send.get, None))
        self.send(attach=stream.Attach(
            session_id=created.session.id, session_secret=created.session_secret,
            config_hash=created.session.config_hash, model_identity=model.identity,
            capabilities=stream.Capabilities(
                protocol_version=1, codecs=[types.CODEC_AMAQ], chunk_bytes_max=1 << 20)))
        # Frame bytes since Attach: sent, and allowed by the server.  This client grants without bound.
        self.sent, self.limit = 0, self.receive("attached").credit_bytes or float("inf")

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
                self.limit = max(self.limit, body.limit_bytes)
            elif kind == "alloc_propose":
                self.acks.append(self.judge(body))
            elif kind != wanted:
                raise RuntimeError(f"{kind} instead of {wanted}: {body}")
        return body

    def judge(self, propose):
        """The answer to the server's proposal, whose widths are as many as the channels."""
        self.allocs[propose.site].append(propose)
        return dict(alloc_ack=stream.AllocAck(site=propose.site, version=propose.version))

    def header(self, alloc, rows, **key):
        return Header(codec=AMAQ, step=self.step_next, rows=rows, row_count=rows,
                      channels=self.channels, alloc_version=alloc.version,
                      alloc_bits_total=sum(alloc.widths), alloc_hash=alloc.hash, **key)

    def send_tensor(self, alloc, x, rounding=None, row_ids=None, **key):
        widths, ranges = np.frombuffer(alloc.widths, np.uint8), affine.measure(x)
        codes, _ = affine.encode(AMAQ, x, widths, ranges, rounding, row_ids)
        frame = self.header(alloc, len(x), **key).seal(ranges + codes)
        while self.sent + len(frame) > self.limit:
            self.receive("credit")
        self.sent += len(frame)
        self.send(frame=frame)

    def receive_payload(self, alloc, rows, **key):
        header, payload = open_frame(self.receive("frame"))
        if header != self.header(alloc, rows, **key):
            raise RuntimeError(f"{header} instead of {key}")
        return payload

    def receive_tensor(self, alloc, rows, **key):
        payload, head = self.receive_payload(alloc, rows, **key), affine.range_bytes(self.channels)
        affine.check_ranges(payload[:head])
        widths = np.frombuffer(alloc.widths, np.uint8)
        return affine.decode(AMAQ, payload[head:], rows, self.channels, widths, payload[:head])

    def begin(self, micros, n_lab):
        """Announces the step: WIRE.md 4."""
        bitmaps = [np.packbits(m.labelled, bitorder="little").tobytes() for m in micros]
        layout = [(m.sequence_rows, bitmap, [], [], []) for m, bitmap in zip(micros, bitmaps)]
        self.send(step_begin=stream.StepBegin(
            step=self.step_next, labelled_row_count=n_lab,
            micros=[stream.MicroBatch(sequence_rows=rows, labelled_rows=bitmap)
                    for rows, bitmap, _, _, _ in layout],
            digest=messages.step_begin_digest(self.step_next, n_lab, layout)))

    def step(self, micros):
        """One optimizer step; its loss (nats), state hash and the gates' mean bits."""
        step, n_lab = self.step_next, int(sum(m.labelled.sum() for m in micros))
        # Values by which the sites' bits count: distinct tokens, though all rows are sent here.
        self.weights = self.weights or [sum(len(np.unique(m.ids)) for m in micros), n_lab]
        while self.acks:
            self.send(**self.acks.pop())
        if self.durable:  # all that this client has is at least as new: older ones may go
            self.send(checkpoint_confirm=stream.CheckpointConfirm(step=self.durable))
        self.begin(micros, n_lab)
        into, out = ([a for a in self.allocs[site] if a.effective_step <= step][-1]
                     for site in (FWD_IN, FWD_OUT))
        loss, db = 0.0, np.zeros(self.channels)
        for m, (ids, _, labelled) in enumerate(micros):
            rows = np.flatnonzero(labelled)
            self.send_tensor(into, self.model.embed(ids), phase=FORWARD, site=FWD_IN, micro=m)
            y = self.receive_tensor(out, len(rows), phase=FORWARD, site=FWD_OUT, micro=m)
            part, dy = self.model.loss(y, ids[rows + 1], n_lab)
            rounding = Rounding(True, self.config.codec.seed, step, BWD_OUT, m)
            self.send_tensor(out, dy, rounding, rows, phase=BACKWARD, site=BWD_OUT, micro=m)
            signal = self.receive_payload(into, 1, kind=GATE_SIGNAL, phase=BACKWARD, micro=m)
            loss, db = loss + part / n_lab, db + np.frombuffer(signal, "<f4")
        commit = self.receive("commit")
        if commit.skipped:
            raise RuntimeError("the step's gradient is not finite")
        self.step_next, self.durable = self.step_next + 1, commit.durable_step_count
        return dict(step=step, loss=loss, state_hash=commit.state_hash,
                    gate_mean_bits=self.settle(commit, db))

    def settle(self, commit, db):
        """The gates' step, then budget and proposal; the mean width of both forward sites."""
        g, newest, budget = self.config.codec.amaq, self.allocs[FWD_IN][-1], self.budget
        self.gates.step(db, g.bits_lr, budget.beta, budget.bits_loss_active)
        bits = self.gates.bits()
        totals = [round(bits.astype("f4").sum(dtype=float)), commit.sites[0].gate_bits_total]
        mean = float(np.average(totals, weights=self.weights)) / self.channels
        if budget.bits_loss_active != (mean > g.bits_target):
            budget.bits_loss_active, budget.effective_step = mean > g.bits_target, self.step_next
            self.send(budget=budget)
        widths = integer_widths(bits, g.bits_min, g.bits_max)
        if newest.effective_step < self.step_next and bytes(widths) != newest.widths:
            new = make_alloc(newest.version + 1, commit.step + g.alloc_lag_steps, widths)
            self.allocs[FWD_IN].append(new)
            self.send(alloc_propose=new)
            self.receive("alloc_ack")
        return mean

"""A training client in Python with the stateful codecs: dictionary or aqsgd into the blocks, aqsgd out
of them.  WIRE.md by tests/oracle/wire_numpy; no gates, so nothing is negotiated.

    session = StatefulSession(address, model, config)     config.codec.codec: CODEC_AQSGD
    report = session.step([Micro(ids, sequence_rows, labelled, sample_ids), ...])
"""
import collections
import queue
import uuid

import grpc
import numpy as np
from seam.v1 import service_pb2, stream_pb2
from wire_numpy import aqsgd, dictionary, frames, messages
from wire_numpy.bits import alloc_hash

FWD_IN, FWD_OUT, BWD_OUT = 0, 1, 2
CHUNK_BYTES_MAX = 1 << 20
Micro = collections.namedtuple("Micro", "ids sequence_rows labelled sample_ids")


class StatefulSession:
    def __init__(self, address, model, config):
        self.model, codec = model, config.codec
        self.channel = grpc.insecure_channel(address)
        created = self.channel.unary_unary(
            "/seam.v1.SeamService/CreateSession",
            service_pb2.CreateSessionRequest.SerializeToString,
            service_pb2.CreateSessionResponse.FromString)(service_pb2.CreateSessionRequest(
                request_id=uuid.uuid4().hex, config=config, model_identity=model.identity))
        self.channels = created.session.sites[FWD_IN].channels
        self.widths, self.bits = np.full(self.channels, codec.bits, np.uint8), codec.bits
        self.ends = {site: aqsgd.Aqsgd(self.channels, self.bits, codec.aqsgd.cache_bytes_max,
                                          codec.aqsgd.cache_bits) for site in (FWD_IN, FWD_OUT)}
        if codec.codec_fwd_in == dictionary.DICTIONARY:
            self.ends[FWD_IN] = dictionary.Dictionary(self.channels, codec.dictionary_rows_max)
        self.step_next, self.sent, self.to_send = 0, {}, queue.SimpleQueue()
        self.responses = self.channel.stream_stream(
            "/seam.v1.SeamService/Train", stream_pb2.TrainRequest.SerializeToString,
            stream_pb2.TrainResponse.FromString)(iter(self.to_send.get, None))
        self.send(attach=stream_pb2.Attach(
            session_id=created.session.id, session_secret=created.session_secret,
            model_identity=model.identity, config_hash=created.session.config_hash,
            capabilities=stream_pb2.Capabilities(
                protocol_version=1, chunk_bytes_max=CHUNK_BYTES_MAX, bits_min=1, bits_max=16,
                codecs=[c for c in (codec.codec, codec.codec_fwd_in) if c])))
        self.frame_bytes, self.limit = 0, self.receive("attached").credit_bytes or float("inf")

    def close(self):
        self.send(detach=stream_pb2.Detach())
        self.to_send.put(None)
        self.channel.close()

    def send(self, **body):
        self.to_send.put(stream_pb2.TrainRequest(**body))

    def receive(self, wanted):
        for response in self.responses:
            kind = response.WhichOneof("body")
            if kind == "credit":
                self.limit = max(self.limit, response.credit.limit_bytes)
            if kind == wanted:
                return getattr(response, kind)
            assert kind == "credit", f"{kind} instead of {wanted}"
        raise RuntimeError("the server ended the stream")

    def sequences(self, micro, site):
        """(sample id, rows in the tensor)."""
        bounds = np.cumsum([0, *micro.sequence_rows])
        rows = (micro.sequence_rows if site == FWD_IN else
                [int(micro.labelled[a:b].sum()) for a, b in zip(bounds, bounds[1:])])
        return list(zip(micro.sample_ids, rows))

    def payloads(self, micro, site, x, chunks):
        if site == BWD_OUT:
            block, codes, _ = aqsgd.gradient_encode(x, self.bits)
            return [block + codes]
        if isinstance(self.ends[site], dictionary.Dictionary):
            return self.ends[site].encode(x, chunks)[0]
        return self.ends[site].encode(self.sequences(micro, site), x, chunks)[0]

    def send_tensor(self, batch, x, site, **key):
        # Small chunks of activations, so that a tensor has several.
        chunk = 32 if site == FWD_IN else len(x)
        chunks = [min(chunk, len(x) - row) for row in range(0, len(x), chunk)]
        fields = dict(codec=dictionary.DICTIONARY)
        if not isinstance(self.ends.get(site), dictionary.Dictionary):
            fields = dict(codec=aqsgd.AQSGD, alloc_version=1, alloc_hash=alloc_hash(self.widths),
                          alloc_bits_total=int(self.widths.sum()))
        row = 0
        payloads = self.payloads(batch, site, x.astype(np.float32), chunks)
        for count, payload in zip(chunks, payloads):
            frame = frames.Header(rows=len(x), channels=self.channels, row_begin=row,
                                  row_count=count, site=site, **key, **fields).seal(payload)
            while self.frame_bytes + len(frame) > self.limit:
                self.receive("credit")
            self.frame_bytes += len(frame)
            self.send(frame=frame)
            row += count
        self.sent[site] = sum(map(len, payloads))

    def receive_tensor(self, micro, site, rows):
        payloads, chunks = [], []
        while sum(chunks) < rows:
            header, payload = frames.open_frame(self.receive("frame"))
            assert (header.kind, header.site, header.phase, header.rows, header.row_begin) == (
                frames.TENSOR, site, frames.FORWARD, rows, sum(chunks))
            payloads.append(payload)
            chunks.append(header.row_count)
        self.sent[site] = sum(map(len, payloads))
        return self.ends[site].decode(self.sequences(micro, site), payloads, chunks)

    def step(self, micros):
        """One optimizer step; a dict of its loss and state hash."""
        step, n_lab = self.step_next, int(sum(m.labelled.sum() for m in micros))
        bitmaps = [np.packbits(m.labelled.astype(np.uint8), bitorder="little").tobytes()
                   for m in micros]
        layout = [(m.sequence_rows, b, m.sample_ids, [], []) for m, b in zip(micros, bitmaps)]
        self.send(step_begin=stream_pb2.StepBegin(
            step=step, labelled_row_count=n_lab,
            micros=[stream_pb2.MicroBatch(sequence_rows=s, labelled_rows=b, sample_ids=i)
                    for s, b, i, _, _ in layout],
            digest=messages.step_begin_digest(step, n_lab, layout)))
        loss = 0.0
        for m, micro in enumerate(micros):
            key = dict(step=step, micro=m)
            rows = np.flatnonzero(micro.labelled)
            self.send_tensor(micro, self.model.embed(micro.ids), FWD_IN, phase=frames.FORWARD, **key)
            y = self.receive_tensor(micro, FWD_OUT, len(rows))
            part, dy = self.model.loss(y, micro.ids[rows + 1], n_lab)
            loss += part / n_lab
            self.send_tensor(micro, dy, BWD_OUT, phase=frames.BACKWARD, **key)
        commit = self.receive("commit")
        assert commit.step == step and not commit.skipped
        self.step_next += 1
        return dict(loss=loss, state_hash=commit.state_hash)

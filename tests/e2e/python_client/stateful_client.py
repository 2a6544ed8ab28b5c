"""The Python client with the stateful codecs: dictionary into the blocks, aqsgd, or both; WIRE.md 3.5
and 3.6 by tests/oracle/stateful_numpy.py.  What is not tensors is seam_client.py's.

    session = StatefulSession(address, model, config)     config.codec.codec: CODEC_AQSGD
"""
import frames
import numpy as np
import seam_client
import stateful_numpy as stateful
from seam_client import BWD_OUT, FWD_IN, FWD_OUT


class StatefulSession(seam_client.Session):
    def __init__(self, address, model, config):
        super().__init__(address, model, config)
        codec, C = config.codec, self.channels
        self.bits = codec.bits
        cache_bits = codec.aqsgd.cache_bits
        make = lambda: stateful.Aqsgd(C, self.bits, codec.aqsgd.cache_bytes_max,  # noqa: E731
                                      cache_bits)
        self.ends = {FWD_IN: make(), FWD_OUT: make()}
        if codec.codec_fwd_in == stateful.DICTIONARY:
            self.ends[FWD_IN] = stateful.Dictionary(C, codec.dictionary_rows_max)
        widths = np.full(C, self.bits, np.uint8)
        self.allocs = {s: [seam_client.Alloc(1, 0, widths)] for s in (FWD_IN, FWD_OUT)}
        self.sent = {FWD_IN: 0, FWD_OUT: 0, BWD_OUT: 0}

    def sequences(self, site):
        """(sample id, rows in the tensor) of the micro-batch."""
        bounds = np.cumsum([0, *self.micro.sequence_rows])
        rows = (self.micro.sequence_rows if site == FWD_IN else
                [int(self.micro.labelled[a:b].sum()) for a, b in zip(bounds, bounds[1:])])
        return list(zip(self.micro.sample_ids, rows))

    def header_fields(self, site, alloc):
        if isinstance(self.ends.get(site), stateful.Dictionary):
            return dict(codec=stateful.DICTIONARY)
        return dict(codec=stateful.AQSGD, alloc_version=1, alloc_hash=seam_client.amaq.alloc_hash(
            alloc.widths), alloc_bits_total=int(alloc.widths.sum()))

    def payloads(self, site, x, chunks):
        if site == BWD_OUT:
            block, codes, _ = stateful.gradient_encode(x, self.bits)
            assert len(chunks) == 1
            return [block + codes]
        if isinstance(self.ends[site], stateful.Dictionary):
            return self.ends[site].encode(x, chunks)[0]
        return self.ends[site].encode(self.sequences(site), x, chunks)[0]

    def send_tensor(self, x, alloc, rounding=None, row_ids=None, *, site, **key):
        # Small chunks of activations, so that a tensor has several.
        chunk = 32 if site != BWD_OUT else len(x)
        chunks = [min(chunk, len(x) - row) for row in range(0, len(x), chunk)]
        total, row = 0, 0
        for count, payload in zip(chunks, self.payloads(site, x.astype(np.float32), chunks)):
            frame = frames.Header(rows=len(x), channels=self.channels, row_begin=row,
                                  row_count=count, site=site, **key,
                                  **self.header_fields(site, alloc)).seal(payload)
            while self.credit < len(frame):
                self.receive("credit")
            self.credit -= len(frame)
            self.send(frame=frame)
            total, row = total + len(payload), row + count
        self.sent[site] = total
        return total

    def receive_tensor(self, kind, site, phase, rows):
        if kind == frames.GATE_SIGNAL:  # no gates: nothing comes
            return np.zeros(self.channels)
        payloads, chunks = [], []
        while sum(chunks) < rows:
            header, payload, _ = frames.open_frame(self.receive("frame"))
            assert (header.kind, header.site, header.phase, header.rows, header.row_begin) == (
                kind, site, phase, rows, sum(chunks))
            payloads.append(payload)
            chunks.append(header.row_count)
        self.sent[site] = sum(map(len, payloads))
        return self.ends[site].decode(self.sequences(site), payloads, chunks)

    def settle(self, commit, signal):
        return 0.0

"""Every line of proto/golden/manifest.tsv, read by this package: python -m wire_numpy.reader

Good files decode to the values beside them and are made again to the same bytes, from what was
read; malformed ones are refused with the status and the error's name that the manifest gives.
Prints the count of files and of those that are not as the manifest says; fails when there is one,
or no file."""
import pathlib
import re
import struct
import sys

import numpy as np

from . import Refused, affine, allocation, aqsgd, coders, dictionary, frames, messages

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "proto" / "golden"
GROUP_CHANNELS = 4  # of the golden files: make_frame_golden.py, stateful_golden.py
TABLE_ROWS, CACHE_BYTES, AQSGD_BITS = 4, 90, 3
VOCAB = 96  # of the sessions that have labels
LIMITS = messages.Limits(rows=64, sequences=8, micros=2, positions=64)


class Reader:
    def __init__(self, folder=GOLDEN):
        self.folder, self.frames = folder, []
        self.plain = coders.Plain(GROUP_CHANNELS)
        self.table = dictionary.Dictionary(2, TABLE_ROWS)
        self.ends = {"aqsgd": aqsgd.Aqsgd(3, AQSGD_BITS, CACHE_BYTES),
                     "aqsgd4": aqsgd.Aqsgd(3, AQSGD_BITS, CACHE_BYTES, 4)}
        self.site = allocation.Receiver(5, 1, 8)
        self.classes = {
            "frame": self.frame, "chunk": self.frame, "payload": self.payload, "bad": self.bad,
            "message": self.message, "badmsg": self.bad_message, "begin": self.begin,
            "labels": self.begin, "labels_bad": self.begin_bad,
            "begin_bad": self.begin_bad, "first_bad": self.not_awaited,
            "next_bad": self.not_awaited, "alloc": self.alloc,
            "config": self.config, "dictionary": self.dictionary, "aqsgd": self.aqsgd,
            "aqsgd4": self.aqsgd, "dictionary_bad": self.stateful_bad,
            "aqsgd_bad": self.stateful_bad, "gradient": self.gradient}

    def beside(self, name, suffix):
        path = (self.folder / name).with_suffix("." + suffix)
        return path.read_bytes() if path.exists() else None

    def check(self, name, kind, expectation):
        """None, or what is not as the manifest says."""
        data = (self.folder / name).read_bytes()
        try:
            self.classes[kind](name, kind, data, expectation)
        except Refused as refused:
            return f"refused: {refused}"
        except AssertionError as difference:
            return str(difference)
        return None

    # -- good --

    def open(self, data, expectation):
        """Header and payload; the digest of the tensor so far is the expected one."""
        header, payload = frames.open_frame(data)
        self.frames = self.frames + [data] if header.row_begin else [data]
        assert frames.digest(self.frames) == int(expectation, 16), "another digest"
        assert header.seal(payload) == data, "another frame when sealed again"
        return header, payload

    def same_values(self, name, values):
        expected = self.beside(name, "values")
        assert values.astype("<f4").tobytes() == expected, "other values"

    def frame(self, name, _kind, data, expectation):
        header, payload = self.open(data, expectation)
        if header.kind == frames.GRAD_NORM:
            assert struct.pack("<d", *struct.unpack("<d", payload)) == payload
        elif header.kind == frames.GATE_SIGNAL:
            assert len(np.frombuffer(payload, "<f4")) == header.channels
        elif header.kind == frames.RANGE:
            affine.check_ranges(payload)
        elif header.kind == frames.LOSS:
            assert struct.pack("<dQ", *struct.unpack("<dQ", payload)) == payload
        elif header.kind == frames.TOKENS:
            assert len(np.frombuffer(payload, "<u4")) == header.rows
        else:
            widths = self.widths(name, header)
            self.same_values(name, self.plain.chunk(header, payload, widths))
            assert self.plain.again(header, payload, widths) == payload, "another payload"

    def widths(self, name, header):
        data = self.beside(name, "widths")
        if data is None:
            assert header.codec in frames.NO_WIDTHS, "no widths"
            return None
        widths = np.frombuffer(data, np.uint8).astype(np.int64)
        if header.codec != frames.AMAQ_TOKEN:
            return widths
        gates = np.frombuffer(self.beside(name, "gates"), np.uint8)
        return widths[gates[header.row_begin:header.row_begin + header.row_count]]

    def dictionary(self, name, _kind, data, expectation):
        header, payload = self.open(data, expectation)
        table = self.table
        if header.row_begin == 0:
            table.begin()
        before, seen = list(table.open), table.chunk_seen
        values = table.decode_chunk(payload, header.row_count)
        self.same_values(name, values)
        sender = dictionary.Dictionary(table.channels, TABLE_ROWS)
        sender.open, sender.chunk_seen = before, seen
        half = np.ascontiguousarray(values).view("<u4") >> 16
        assert sender.encode_chunk(half.astype("<u2")) == payload, "another payload"
        if header.row_begin + header.row_count == header.rows:
            table.commit()

    def sequences(self, name):
        return [pair for pair in struct.iter_unpack("<QI", self.beside(name, "sequences"))]

    def aqsgd(self, name, kind, data, expectation):
        header, payload = self.open(data, expectation)
        end, head = self.ends[kind], b""
        if header.row_begin == 0:
            end.begin(self.sequences(name))
        self.same_values(name, end.decode_chunk(payload, header.row_count))
        if header.row_begin == 0:
            head = end.head(end.hits()) + end.block
        rows = slice(header.row_begin, header.row_begin + header.row_count)
        assert head + end.body(rows, end.codes) == payload, "another payload"
        if rows.stop == header.rows:
            end.commit()

    def gradient(self, name, _kind, data, expectation):
        header, payload = self.open(data, expectation)
        values = aqsgd.gradient_decode(payload, header.row_count, header.channels, AQSGD_BITS)
        self.same_values(name, values)
        block = payload[:aqsgd.scale_bytes(header.channels)]
        q = aqsgd.quantize(values, aqsgd.scales_of(block), AQSGD_BITS)
        assert block + aqsgd.code_string(q, AQSGD_BITS) == payload, "another payload"

    def message(self, _name, _kind, data, expectation):
        number, body = messages.walk(data)
        assert f"{number} {len(body)}" == expectation, "another field"
        assert messages.field(number, body) == data, "another message"
        if number != messages.FRAME_FIELD:
            assert messages.write("TrainRequest", messages.read("TrainRequest", data)) == data

    def begin(self, _name, kind, data, expectation):
        request = messages.read("TrainRequest", data)
        messages.check_limits(request["step_begin"], LIMITS)
        messages.check_step_begin(request["step_begin"], VOCAB if kind == "labels" else None)
        assert request["step_begin"]["digest"] == int(expectation, 16), "another digest"
        assert messages.write("TrainRequest", request) == data, "another message"

    def config(self, _name, _kind, data, expectation):
        config = messages.read("SessionConfig", data)
        assert messages.config_hash(config) == int(expectation, 16), "another hash"
        assert messages.write("SessionConfig", config) == data, "another message"

    def alloc(self, _name, _kind, data, expectation):
        step_now, answer = expectation.split(" ", 1)
        request = messages.read("TrainRequest", data)
        assert messages.write("TrainRequest", request) == data, "another message"

        def judge():
            self.site.judge(request["alloc_propose"], int(step_now))

        if answer == "OK":
            judge()
        else:
            refusal(answer, judge)

    # -- malformed --

    def payload(self, name, _kind, data, expectation):
        header, payload = frames.open_frame(data)
        widths = self.widths(name, header)
        refusal(expectation, lambda: self.plain.chunk(header, payload, widths))

    def bad(self, _name, _kind, data, expectation):
        refusal(expectation, lambda: frames.open_frame(data))

    def bad_message(self, _name, _kind, data, expectation):
        try:
            messages.walk(data)
        except Refused as refused:
            assert expectation in str(refused), f"refused: {refused}"
        else:
            raise AssertionError("is not refused")

    def begin_bad(self, _name, kind, data, expectation):
        begin = messages.read("TrainRequest", data)["step_begin"]

        def check():
            messages.check_limits(begin, LIMITS)
            messages.check_step_begin(begin, VOCAB if kind == "labels_bad" else None)

        refusal(expectation, check)

    def not_awaited(self, _name, kind, data, expectation):
        tensor, _ = frames.open_frame((self.folder / "amaq_chunk0.bin").read_bytes())
        header, _ = frames.open_frame(data)
        before = tensor if kind == "next_bad" else None
        refusal(expectation, lambda: frames.check_awaited(header, tensor, before))

    def stateful_bad(self, name, kind, data, expectation):
        header, payload = frames.open_frame(data)
        if kind == "dictionary_bad":
            self.table.begin()
            refusal(expectation, lambda: self.table.decode_chunk(payload, header.row_count))
        else:
            self.ends["aqsgd"].begin(self.sequences(name))
            refusal(expectation,
                    lambda: self.ends["aqsgd"].decode_chunk(payload, header.row_count))


def refusal(expectation, act):
    """`act` is refused with the status and name that the expectation begins with."""
    status, name = (re.sub(r"\[\d+\]", "", expectation).split() + [""])[:2]
    try:
        act()
    except Refused as refused:
        got = re.sub(r"\[\d+\]", "", refused.name)
        assert refused.status == status and name.rstrip(":") in ("", got), f"refused: {refused}"
    else:
        raise AssertionError("is not refused")


def main():
    reader, files, wrong = Reader(), 0, 0
    for line in (reader.folder / "manifest.tsv").read_text().splitlines():
        name, kind, expectation = line.split("\t")
        difference = reader.check(name, kind, expectation)
        files += 1
        if difference is not None:
            wrong += 1
            print(f"{name}: {difference}; the manifest says {kind} {expectation}")
    print(f"{files} files, {wrong} not as the manifest says")
    sys.exit(wrong > 0 or files == 0)


if __name__ == "__main__":
    main()

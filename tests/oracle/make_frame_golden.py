#!/usr/bin/env python3
"""Golden frames and messages of proto/golden, and the hex examples in proto/WIRE.md.

    make_frame_golden.py            writes proto/golden and the hex blocks of WIRE.md
    make_frame_golden.py --check    compares them with what it would write

Built from the text of WIRE.md with NumPy (wire_numpy); tests/golden reads them in C.
manifest.tsv, one line a file: name, class, expectation.
  frame    opens; expectation: the digest of a tensor of this one frame (hex)
  chunk    as frame, but the later chunk of a tensor; expectation: digest of both
  bad      does not open; expectation: STATUS and the field that the error names
  payload  opens, but its payload is refused; expectation: STATUS and the error's name
  message  bytes of a stream message; expectation: field number and body bytes
  badmsg   a message that the walk refuses; expectation: words of the error
  begin    a TrainRequest with a StepBegin; expectation: its digest
  begin_bad   one that is refused by a session of at most 64 rows and 8 sequences a micro-batch, 2
           micro-batches and 64 positions; expectation: STATUS and the error's name
  alloc    an AllocPropose for a site of 5 channels, widths 1..8, in the order of the lines;
           expectation: the step that has begun, then OK, or STATUS and the error's name (ARG: NACK)
  config   a SessionConfig; expectation: its hash
  first_bad, next_bad  a frame that opens, but is not awaited: reception_golden.py
  dictionary, aqsgd, ...  frames of the stateful codecs: stateful_golden.py
Beside a tensor frame NAME.bin: NAME.values (decoded f32) and, if quantized, NAME.widths (u8).
Of codec amaq_token NAME.widths is the allocation and NAME.gates (u8) the gate of each row of the tensor.
Of a module site NAME.stack has the modules: wire_numpy.modules.
Codec group has groups of 4 channels here.
"""
import os
import re
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import coded_golden  # noqa: E402
import module_golden  # noqa: E402
import reception_golden  # noqa: E402
import stateful_golden  # noqa: E402
import token_golden  # noqa: E402
from wire_numpy import affine, frames, messages, symmetric  # noqa: E402
from wire_numpy.bits import alloc_hash, crc32c, fnv  # noqa: E402
from wire_numpy.frames import Header  # noqa: E402
from wire_numpy.messages import field, varint  # noqa: E402
from wire_numpy.rounding import Rounding  # noqa: E402

GOLDEN = os.path.join(ROOT, "proto", "golden")
WIRE = os.path.join(ROOT, "proto", "WIRE.md")


class Golden:
    def __init__(self):
        self.files = {}
        self.lines = []

    def add(self, name, data, kind, expectation):
        self.files[name + ".bin"] = data
        self.lines.append(f"{name}.bin\t{kind}\t{expectation}\n")

    def add_tensor(self, name, header, payload, values, widths=None, before=None):
        frame = header.seal(payload)
        of = [frame] if before is None else [before, frame]
        self.add(name, frame, "frame" if before is None else "chunk",
                 f"{frames.digest(of):016x}")
        self.files[name + ".values"] = values.astype("<f4").tobytes()
        if widths is not None:
            self.files[name + ".widths"] = bytes(int(w) for w in widths)
        return frame


def quantized(codec, x, widths, **kwargs):
    widths = np.array(widths, np.uint8)
    return dict(codec=codec, rows=x.shape[0], channels=x.shape[1], row_count=x.shape[0],
                alloc_bits_total=int(widths.sum()), alloc_hash=alloc_hash(widths), **kwargs)


def make_tensors(g):
    small = np.array([[0.0, 1.0, -2.0], [0.5, -1.5, 3.0]], np.float32)
    for name, codec in (("f32", affine.F32), ("bf16", affine.BF16)):
        payload, values = affine.encode(codec, small, None, None)
        g.add_tensor(name, Header(codec=codec, site=0, step=7, rows=2, channels=3, row_count=2),
                     payload, values)
    widths = [4, 4, 4]
    ranges = affine.measure(small)
    codes, values = affine.encode(affine.AFFINE, small, widths, ranges)
    g.add_tensor("affine", Header(**quantized(affine.AFFINE, small, widths, site=0, step=7,
                                              alloc_version=1)), ranges + codes, values, widths)

    rng = np.random.default_rng(20250101)
    x = (rng.standard_normal((40, 5)) * [1, 0.01, 30, 1, 0]).astype(np.float32)
    widths = [3, 8, 1, 16, 4]
    ranges = affine.measure(x)
    codes, values = affine.encode(affine.AMAQ, x, widths, ranges)
    base = quantized(affine.AMAQ, x, widths, site=1, step=300, micro=1, alloc_version=9)
    g.add_tensor("amaq", Header(**base), ranges + codes, values, widths)
    # The same tensor in two chunks: the range block stands in the first.
    group = 4 * int(np.sum(widths))
    first = g.add_tensor("amaq_chunk0", Header(**{**base, "row_count": 32}),
                         ranges + codes[:group], values[:32], widths)
    g.add_tensor("amaq_chunk1", Header(**{**base, "row_begin": 32, "row_count": 8}), codes[group:],
                 values[32:], widths, before=first)

    # A gradient: stochastic, only rows 1, 4, 5 and 9 of the micro-batch travel.
    row_ids = [1, 4, 5, 9]
    grad = (rng.standard_normal((4, 5)) * 1e-7).astype(np.float32)
    rounding = Rounding(True, seed=2 ** 40 + 17, step=300, site=2, micro=1)
    ranges = affine.measure(grad)
    codes, values = affine.encode(affine.AMAQ, grad, widths, ranges, rounding, row_ids)
    g.add_tensor("amaq_gradient",
                 Header(**quantized(affine.AMAQ, grad, widths, phase=frames.BACKWARD, site=2, step=300,
                                    micro=1, alloc_version=9)), ranges + codes, values, widths)
    return ranges


GROUP_CHANNELS = 4


def make_symmetric(g):
    """tensor, channel, group: whole, in two chunks, as a stochastic gradient; bad scale blocks."""
    rng = np.random.default_rng(20251125)
    names = {symmetric.TENSOR: "tensor", symmetric.CHANNEL: "channel", symmetric.GROUP: "group"}
    small = np.array([[0.0, 1.0, -2.0, 0.25], [0.5, -1.5, 3.0, 0.0]], np.float32)
    x = (rng.standard_normal((40, 8)) * [1, 0.01, 30, 1, 0, 1e-6, 1, 2]).astype(np.float32)
    row_ids = [1, 4, 5, 9]
    grad = (rng.standard_normal((4, 8)) * 1e-7).astype(np.float32)
    rounding = Rounding(True, seed=2 ** 40 + 17, step=300, site=2, micro=1)
    for (codec, name), bits in zip(names.items(), (3, 9, 5)):
        group = GROUP_CHANNELS
        payloads, values = symmetric.chunks(codec, small, 4, group=group)
        g.add_tensor(name, Header(**quantized(codec, small, [4] * 4, site=0, step=7,
                                              alloc_version=1)), payloads[0], values, [4] * 4)
        widths = [bits] * 8
        base = quantized(codec, x, widths, site=1, step=300, micro=1, alloc_version=1)
        payloads, values = symmetric.chunks(codec, x, bits, group=group, rows_first=32)
        first = g.add_tensor(name + "_chunk0", Header(**{**base, "row_count": 32}), payloads[0],
                             values[:32], widths)
        g.add_tensor(name + "_chunk1", Header(**{**base, "row_begin": 32, "row_count": 8}),
                     payloads[1], values[32:], widths, before=first)
        payloads, values = symmetric.chunks(codec, grad, bits, group=group, rounding=rounding,
                                            row_ids=row_ids)
        header = Header(**quantized(codec, grad, widths, phase=frames.BACKWARD, site=2, step=300,
                                    micro=1, alloc_version=1))
        g.add_tensor(name + "_gradient", header, payloads[0], values, widths)
        scales = "FORMAT payload.scales"
        for what, at, data, status in (("exponent", 0, struct.pack("<h", 111), scales),
                                       ("exponent_low", 0, struct.pack("<h", -179), scales),
                                       ("zero", 2, b"\1", scales),
                                       ("negative", 5, b"\x80", scales),
                                       ("infinite", 4, b"\0\x7c", "NONFINITE payload.scales"),
                                       ("huge", 0, b"\x6e\0\0\0\xff\x7b",
                                        "NONFINITE payload.scales"),
                                       ("padding", -1, b"\xff", "FORMAT payload.codes")):
            if what == "huge" and bits == 3:
                continue  # 65504 * 2^110 * 2^2 is finite
            if what == "padding":  # 3 rows of 4 channels of 3 bits: 36 bits in 5 bytes
                of = small[[0, 1, 0]]
                payload, values = symmetric.chunks(codec, of, 3, group=group)
                header = Header(**quantized(codec, of, [3] * 4, site=0, step=7, alloc_version=1))
                payload = payload[0]
                widths = [3] * 4
            else:
                payload = payloads[0]
            at %= len(payload)
            payload = payload[:at] + data + payload[at + len(data):]
            g.add(f"badcode_{name}_{what}", header.seal(payload), "payload", status)
            g.files[f"badcode_{name}_{what}.widths"] = bytes(widths)
    payloads, _ = symmetric.chunks(symmetric.GROUP, small, 4, group=GROUP_CHANNELS)
    header = Header(**quantized(symmetric.GROUP, small, [4] * 4, site=0, step=7, alloc_version=1))
    for what, payload in (("short", payloads[0][:-1]), ("long", payloads[0] + b"\0")):
        g.add(f"badcode_group_{what}", header.seal(payload), "payload", "FORMAT payload.bytes")
        g.files[f"badcode_group_{what}.widths"] = bytes([4] * 4)


def make_other_kinds(g, ranges):
    signal = np.array([-0.5, 0.25, -1e-3], "<f4").tobytes()
    widths = np.array([3, 8, 1], np.uint8)
    common = dict(site=0, step=7, codec=affine.AMAQ, channels=3, alloc_version=2,
                  alloc_bits_total=12, alloc_hash=alloc_hash(widths))
    frame = Header(kind=frames.GATE_SIGNAL, phase=frames.BACKWARD, **common).seal(signal)
    g.add("gate_signal", frame, "frame", f"{frames.digest([frame]):016x}")
    frame = Header(kind=frames.GRAD_NORM, phase=frames.BACKWARD, site=2, micro=3,
                   step=7).seal(struct.pack("<d", 2.5))
    g.add("grad_norm", frame, "frame", f"{frames.digest([frame]):016x}")
    frame = Header(kind=frames.RANGE, **{**common, "channels": 5, "alloc_bits_total": 32}).seal(ranges)
    g.add("range", frame, "frame", f"{frames.digest([frame]):016x}")
    frame = Header(kind=frames.LOSS, step=7, micro=1).seal(struct.pack("<dQ", 6.5, 2))
    g.add("loss", frame, "frame", f"{frames.digest([frame]):016x}")
    frame = Header(kind=frames.TOKENS, step=7, rows=5, row_count=5).seal(struct.pack("<5I", 1, 0, 95, 7, 2))
    g.add("tokens", frame, "frame", f"{frames.digest([frame]):016x}")


def make_bad(g):
    good = g.files["amaq.bin"]

    def patch(name, at, data, error, crc=True):
        frame = bytearray(good)
        frame[at:at + len(data)] = data
        if crc:
            frame[60:64] = struct.pack("<I", crc32c(frame[:60] + bytes(4) + frame[64:]))
        g.add("bad_" + name, bytes(frame), "bad", error)

    u32 = struct.Struct("<I").pack
    patch("magic", 0, b"SEAN", "FORMAT frame.magic")
    patch("version", 4, b"\2", "FORMAT frame.version")
    patch("kind", 5, b"\0", "FORMAT frame.kind")
    patch("kind_high", 5, b"\7", "FORMAT frame.kind")
    patch("phase", 6, b"\4", "FORMAT frame.phase")
    patch("codec", 7, b"\13", "FORMAT frame.codec")
    patch("coding", 10, b"\2", "FORMAT frame.coding")
    patch("reserved", 11, b"\1", "FORMAT frame.reserved")
    patch("micro", 12, u32(4096), "FORMAT frame.micro")
    patch("generate_micro", 6, b"\3", "FORMAT frame.micro")
    patch("rows", 24, u32(0), "FORMAT frame.rows")
    patch("rows_huge", 24, u32(2 ** 31), "FORMAT frame.rows")
    patch("channels", 28, u32(65537), "FORMAT frame.channels")
    patch("row_begin", 32, u32(8), "FORMAT frame.row_begin")
    patch("row_begin_outside", 32, u32(64), "FORMAT frame.row_begin")
    patch("row_count", 36, u32(41), "FORMAT frame.row_count")
    patch("row_count_split", 36, u32(31), "FORMAT frame.row_count")
    patch("alloc_version", 40, u32(0), "FORMAT frame.alloc_version")
    patch("alloc_bits_total", 44, u32(81), "FORMAT frame.alloc_bits_total")
    patch("payload_bytes", 56, u32(5), "FORMAT frame.payload_bytes")
    patch("payload_huge", 56, u32(2 ** 21), "FORMAT frame.payload_bytes")
    patch("payload_bit", 100, bytes([good[100] ^ 1]), "CHECKSUM frame.crc32c", crc=False)
    patch("step_bit", 16, bytes([good[16] ^ 1]), "CHECKSUM frame.crc32c", crc=False)
    g.add("bad_short", good[:63], "bad", "FORMAT frame")
    g.add("bad_truncated", good[:-1], "bad", "FORMAT frame.payload_bytes")
    g.add("bad_trailing", good + b"\0", "bad", "FORMAT frame.payload_bytes")


def make_bad_rules(g):
    """One frame for each rule that make_bad's base, a chunk of amaq, cannot break alone."""
    def bad(name, header, payload, error):
        g.add("bad_" + name, Header(**header).seal(payload), "bad", "FORMAT frame." + error)

    raw = dict(codec=affine.F32, step=7, rows=2, channels=3, row_count=2)
    bad("alloc_version_none", {**raw, "alloc_version": 1}, bytes(24), "alloc_version")
    bad("alloc_bits_none", {**raw, "alloc_bits_total": 12}, bytes(24), "alloc_bits_total")
    bad("alloc_hash_none", {**raw, "alloc_hash": 1}, bytes(24), "alloc_hash")
    bad("row_count_zero", {**raw, "row_count": 0}, bytes(24), "row_count")
    bad("payload_empty", raw, b"", "payload_bytes")
    bad("channels_zero", {**raw, "channels": 0}, bytes(24), "channels")
    norm = dict(kind=frames.GRAD_NORM, phase=frames.BACKWARD, step=7)
    bad("rows_kind", {**norm, "rows": 2}, bytes(8), "rows")
    bad("channels_kind", {**norm, "channels": 2}, bytes(8), "channels")
    loss = dict(kind=frames.LOSS, step=7)
    bad("loss_rows", {**loss, "rows": 2}, bytes(16), "rows")
    bad("loss_channels", {**loss, "channels": 2}, bytes(16), "channels")
    bad("loss_codec", {**loss, "codec": affine.BF16}, bytes(16), "codec")
    bad("loss_short", loss, bytes(8), "payload_bytes")
    tokens = dict(kind=frames.TOKENS, step=7, rows=40, row_count=40)
    bad("tokens_channels", {**tokens, "channels": 2}, bytes(160), "channels")
    bad("tokens_chunk", {**tokens, "row_count": 32}, bytes(128), "row_count")
    bad("tokens_long", tokens, bytes(164), "payload_bytes")


def make_bad_payloads(g):
    """f32, bf16 and amaq: values, range blocks and padding that a receiver refuses."""
    def bad(of, what, at, data, error):
        header, payload = frames.open_frame(g.files[of + ".bin"])
        at %= len(payload)
        payload = payload[:at] + data + payload[at + len(data):]
        name = f"badcode_{of}_{what}"
        g.add(name, header.seal(payload), "payload", error)
        if of + ".widths" in g.files:
            g.files[name + ".widths"] = g.files[of + ".widths"]

    for of, infinite, nan in (("f32", b"\0\0\x80\x7f", b"\1\0\x80\xff"),
                              ("bf16", b"\x80\xff", b"\x81\x7f")):
        bad(of, "infinite", 4, infinite, "NONFINITE payload.values")
        bad(of, "nan", 4, nan, "NONFINITE payload.values")
    h16 = struct.Struct("<h").pack
    for what, at, data in (("exponent", 0, h16(111)), ("exponent_low", 0, h16(-164)),
                           ("zero", 2, b"\1"), ("order", 4, b"\0\x50\0\x40")):
        bad("amaq_gradient", what, at, data, "FORMAT payload.ranges")
    bad("amaq_gradient", "infinite", 6, b"\0\x7c", "NONFINITE payload.ranges")
    widths = [1, 2, 4]  # 2 rows: 14 bits in 2 bytes
    x = np.array([[0.0, 1.0, -2.0], [0.5, -1.5, 3.0]], np.float32)
    ranges = affine.measure(x)
    codes, _ = affine.encode(affine.AMAQ, x, widths, ranges)
    header = Header(**quantized(affine.AMAQ, x, widths, site=0, step=7, alloc_version=2))
    g.add("badcode_amaq_padding", header.seal(ranges + codes[:-1] + bytes([codes[-1] | 0x80])),
          "payload", "FORMAT payload.codes")
    g.files["badcode_amaq_padding.widths"] = bytes(widths)


def make_bad_messages(g):
    g.add("badmsg_empty", b"", "badmsg", "message: empty")
    g.add("badmsg_tag", b"\xfa\x00\x00", "badmsg", "message: malformed tag")
    g.add("badmsg_field", b"\x82\x01\x00", "badmsg", "message: field 16")
    request = messages.read("TrainRequest", g.files["step_begin.bin"])

    def bad(what, error, micro=None, **fields):
        begin = dict(request["step_begin"], **fields)
        if micro is not None:
            begin["micros"] = [dict(begin["micros"][0], **micro)]
        if what != "digest":
            begin["digest"] = messages.digest_of(begin)
        g.add("bad_begin_" + what, messages.write("TrainRequest", {"step_begin": begin}),
              "begin_bad", error)

    bad("micros", "ARG micros", micros=[])
    bad("sequence_rows", "ARG micros[0].sequence_rows", {"sequence_rows": []})
    bad("sequence_empty", "ARG micros[0].sequence_rows", {"sequence_rows": [5, 0, 5]})
    bad("sample_ids", "ARG micros[0].sample_ids", {"sample_ids": [100, 101]})
    bad("positions", "ARG micros[0].positions", {"positions": [0, 1, 2]})
    bad("row_sources", "ARG micros[0].row_sources", {"row_sources": [0, 1, 2]})
    bad("row_sources_order", "ARG micros[0].row_sources",
        {"row_sources": [0, 1, 3, 2, 0, 0, 0, 0, 0, 0]})
    bad("micros_limit", "LIMIT micros", micros=3 * request["step_begin"]["micros"], labelled_row_count=9)
    bad("sequences_limit", "LIMIT micros[0].sequence_rows",
        {"sequence_rows": 9 * [1], "sample_ids": [], "labelled_rows": b"\x13\x00"})
    bad("context_limit", "LIMIT micros[0].sequence_rows",
        {"sequence_rows": [65], "sample_ids": [], "labelled_rows": b"\x13" + bytes(8)})
    bad("rows_limit", "LIMIT micros[0].sequence_rows",
        {"sequence_rows": [40, 25], "sample_ids": [], "labelled_rows": b"\x13" + bytes(8)})
    bad("positions_limit", "LIMIT micros[0].positions", {"positions": [*range(9), 64]})
    bad("bitmap_short", "ARG micros[0].labelled_rows", {"labelled_rows": b"\x12"})
    bad("bitmap_padding", "ARG micros[0].labelled_rows", {"labelled_rows": b"\x12\x06"})
    bad("unlabelled", "ARG micros[0].labelled_rows", {"labelled_rows": bytes(2)})
    bad("labelled_row_count", "ARG labelled_row_count", labelled_row_count=4)
    bad("digest", "CHECKSUM digest", digest=request["step_begin"]["digest"] ^ 1)
    bad("labels", "ARG micros[0].labels", {"labels": [1, 2, 3]})
    for what, labels in (("missing", []), ("count", [1, 2]), ("vocab", [1, 96, 2])):
        begin = dict(request["step_begin"])
        begin["micros"] = [dict(begin["micros"][0], labels=labels)]
        begin["digest"] = messages.digest_of(begin)
        g.add("bad_labels_" + what, messages.write("TrainRequest", {"step_begin": begin}), "labels_bad",
              "ARG micros[0].labels")


def make_messages(g):
    frame = g.files["bf16.bin"]
    g.add("message_frame", field(15, frame), "message", f"15 {len(frame)}")
    g.add("message_credit", field(7, b"\x10\xac\x02"), "message", "7 3")
    g.add("badmsg_trailing", field(15, frame) + field(15, frame), "badmsg", "only one is allowed")
    g.add("badmsg_short", field(15, frame)[:-1], "badmsg", "announced")
    g.add("badmsg_overlong", b"\x7a\x81\x00\x01", "badmsg", "malformed length")
    g.add("badmsg_type", b"\x78\x01", "badmsg", "wire type 0")
    # StepBegin: step 7, one micro-batch of sequences 5, 1, 4; rows 1, 4 and 9 are labelled.
    micro = ([5, 1, 4], bytes([0x12, 0x02]), [100, 101, 10 ** 12], [], [])
    digest = messages.step_begin_digest(7, 3, [micro])
    body = field(1, b"".join(varint(v) for v in micro[0])) + field(2, micro[1])
    body += field(3, b"".join(varint(v) for v in micro[2]))
    begin = b"\x08\x07\x10\x03" + field(3, body) + b"\x21" + struct.pack("<Q", digest)
    g.add("step_begin", field(2, begin), "begin", f"{digest:016x}")
    again = messages.read("TrainRequest", field(2, begin))["step_begin"]
    again["micros"][0]["row_sources"] = [0, 1, 2, 1, 0, 0, 3, 2, 4, 4]
    again["digest"] = messages.digest_of(again)
    g.add("step_begin_sources", messages.write("TrainRequest", {"step_begin": again}), "begin",
          f"{again['digest']:016x}")
    labelled = messages.read("TrainRequest", field(2, begin))["step_begin"]
    labelled["micros"][0]["labels"] = [5, 0, 95]
    labelled["digest"] = messages.digest_of(labelled)
    g.add("step_begin_labels", messages.write("TrainRequest", {"step_begin": labelled}), "labels",
          f"{labelled['digest']:016x}")
    return micro, digest


def make_alloc(g):
    """What a receiver of site 0 is told one after another, and its answers."""
    good = [3, 8, 1, 4, 4]
    for name, step_now, answer, version, effective_step, widths in (
            ("alloc_2", 10, "OK", 2, 12, good), ("alloc_2_again", 10, "OK", 2, 12, good),
            ("bad_alloc_conflict", 10, "CONFLICT version", 2, 12, [3, 8, 1, 4, 5]),
            ("bad_alloc_skipped", 10, "STATE version", 4, 13, good),
            ("bad_alloc_pending", 10, "STATE version", 3, 13, good),
            ("bad_alloc_step", 12, "STATE effective_step", 3, 12, good),
            ("bad_alloc_channels", 12, "ARG widths", 3, 14, good[:4]),
            ("bad_alloc_refused", 12, "ARG version", 3, 14, good[:4]),
            ("bad_alloc_wide", 12, "ARG widths", 4, 14, [3, 9, 1, 4, 4]),
            ("bad_alloc_zero", 12, "ARG widths", 5, 14, [3, 8, 0, 4, 4]),
            ("bad_alloc_hash", 12, "ARG hash", 6, 14, good[::-1]),
            ("alloc_7", 12, "OK", 7, 14, good[::-1])):
        digest = alloc_hash(widths) ^ (name == "bad_alloc_hash")
        propose = dict(version=version, effective_step=effective_step, widths=bytes(widths),
                       hash=digest)
        g.add(name, messages.write("TrainRequest", {"alloc_propose": propose}), "alloc",
              f"{step_now} {answer}")


def make_config(g):
    """A SessionConfig and its hash, field by field as WIRE.md section 6 lists them."""
    f32 = struct.Struct("<f").pack
    model, name = b"tiny", b"golden"
    lora = b"\x08\x10\x15" + f32(16) + field(3, b"\1\3") + b"\x28\x2a"
    optimizer = (b"\x0d" + f32(1e-3) + b"\x15" + f32(0.9) + b"\x1d" + f32(0.999) + b"\x25" +
                 f32(1e-8) + b"\x35" + f32(1.0) + b"\x38\x03\x40\x0a\x48\xac\x02")
    gates = (b"\x0d" + f32(1) + b"\x15" + f32(16) + b"\x1d" + f32(8) + b"\x25" + f32(4) + b"\x2d" +
             f32(1) + b"\x35" + f32(0.5) + b"\x3d" + f32(0.01) + b"\x40\x01\x48\x01\x50\x01\x58\x02" +
             b"\x60\x02\x68\x01\x70\xf4\x03")
    aqsgd = b"\x08" + varint(2 ** 33) + b"\x10\x02\x18\x08"
    codec = b"\x08\x04" + field(3, gates) + b"\x20\x01\x28\x07\x30\x40" + field(7, aqsgd)
    codec += b"\x40\x02\x48\x09\x50\x80\x20\x58\x01"
    limits = b"\x08\x80\x04\x10\x08\x18\x02\x20\x03"
    config = (field(1, model) + b"\x10\x01" + field(5, lora) + field(6, optimizer) +
              field(7, codec) + field(8, limits) + field(9, name) + b"\x50\x01\x58\x01" + field(12, b"\x08\x1e\x10\x05") +
              b"\x68\x02\x70\x01\x78\x02\x80\x01\x01")
    data = struct.pack("<I", len(model)) + model + struct.pack("<III", 1, 0, 0)
    data += struct.pack("<IfIIIfQB", 16, 16, 2, 1, 3, 0, 42, 0)
    data += struct.pack("<ffffffIQQ", 1e-3, 0.9, 0.999, 1e-8, 0, 1, 3, 10, 300)
    data += struct.pack("<II", 4, 0) + struct.pack("<fffffffIIII", 1, 16, 8, 4, 1, 0.5, 0.01, 1, 1,
                                                   1, 2) + struct.pack("<IIQ", 2, 1, 500)
    data += struct.pack("<BQ", 1, 7) + struct.pack("<IQIIIIIB", 64, 2 ** 33, 2, 8, 2, 9, 4096, 1)
    data += struct.pack("<IIII", 512, 8, 2, 3) + struct.pack("<I", len(name)) + name + b"\1\1"
    data += struct.pack("<IQ", 30, 5)  # a server takes one of the three; the hash has all
    for number, value in enumerate([2, 1, 2, 1], 13):  # consent, resend_parameters, lora_side, full
        data += struct.pack("<II", number, value)
    g.add("session_config_16", config, "config", f"{fnv(data):016x}")  # of before 17 was there
    config += b"\x8d\x01" + f32(4) + b"\x90\x01\xc8\x01"
    data += struct.pack("<IfII", 17, 4, 18, 200)  # all_layer_bits, all_layer_steps
    g.add("session_config_18", config, "config", f"{fnv(data):016x}")  # of before 19 was there
    config += b"\x9d\x01" + f32(3) + b"\xa0\x01\xd8\x04"
    data += struct.pack("<IfII", 19, 3, 20, 600)  # prefix_bits, prefix_steps
    g.add("session_config", config, "config", f"{fnv(data):016x}")


# ---- the hex blocks of WIRE.md ----

def dump(data, notes):
    """Lines of at most 16 bytes, broken where a note begins."""
    starts = sorted(notes) + [len(data)]
    lines = []
    for begin, end in zip(starts, starts[1:]):
        for at in range(begin, end, 16):
            text = " ".join(f"{b:02x}" for b in data[at:min(at + 16, end)])
            note = notes[begin] if at == begin else ""
            lines.append(f"    {at:4d}  {text:<47}  {note}".rstrip())
    return "\n".join(lines)


HEADER_NOTES = {0: '"SEAM", version, kind, phase, codec', 8: "site, coding, reserved, micro", 16: "step",
                24: "rows, channels", 32: "row_begin, row_count",
                40: "alloc_version, alloc_bits_total", 48: "alloc_hash",
                56: "payload_bytes, crc32c"}


def hex_blocks(g, micro, digest):
    blocks = {}
    for name, notes in (
            ("f32", {64: "row 0: 0, 1, -2", 76: "row 1: 0.5, -1.5, 3"}),
            ("bf16", {64: "row 0", 70: "row 1"}),
            ("affine", {64: "k = -13, zero", 68: "lo, hi of channel 0", 72: "of channel 1",
                        76: "of channel 2", 80: "codes: 24 bits in 3 bytes"}),
            ("group", {64: "k = -16, zero", 68: "scale of row 0", 70: "of row 1",
                       72: "codes: 32 bits in 4 bytes"}),
            ("token", token_golden.NOTES),
            ("gate_signal", {64: "dL/db: -0.5, 0.25, -0.001"})):
        data = g.files[name + ".bin"]
        blocks[name] = dump(data, {**HEADER_NOTES, **notes})
    sequence_rows, bitmap, sample_ids, _, _ = micro
    data = struct.pack("<QQI", 7, 3, 1) + struct.pack("<4I", 3, *sequence_rows)
    data += struct.pack("<I", len(bitmap)) + bitmap + struct.pack("<I3Q", 3, *sample_ids)
    data += struct.pack("<III", 0, 0, 0)
    blocks["step_begin"] = dump(data, {
        0: "step 7", 8: "labelled_row_count 3", 16: "1 micro-batch", 20: "3 sequences",
        24: "5, 1, 4 rows", 36: "2 bytes of bitmap", 40: "16 + 256*2 = rows 1, 4, 9",
        42: "3 sample ids", 46: "100", 54: "101", 62: "10^12", 70: "no positions",
        74: "no row sources", 78: "no labels"})
    blocks["step_begin"] += f"\n    digest {digest:016x}"
    return blocks


def make():
    g = Golden()
    ranges = make_tensors(g)
    make_symmetric(g)
    coded_golden.make_coded(g)
    token_golden.make_token(g)
    module_golden.make_modules(g)
    make_other_kinds(g, ranges)
    make_bad(g)
    make_bad_rules(g)
    make_bad_payloads(g)
    micro, digest = make_messages(g)
    make_bad_messages(g)
    make_alloc(g)
    make_config(g)
    reception_golden.make_reception(g)
    stateful_golden.make_stateful(g)
    g.files["manifest.tsv"] = "".join(g.lines).encode()
    with open(WIRE, encoding="utf-8") as file:
        wire = file.read()
    for name, block in hex_blocks(g, micro, digest).items():
        pattern = re.compile(rf"(<!-- hex {name} -->\n).*?(<!-- end -->)", re.S)
        if not pattern.search(wire):
            sys.exit(f"WIRE.md has no block {name}")
        wire = pattern.sub(lambda m, b=block: m.group(1) + "\n" + b + "\n\n" + m.group(2), wire)
    return g.files, wire


def main():
    files, wire = make()
    if "--check" in sys.argv:
        bad = [n for n, data in files.items()
               if not os.path.exists(os.path.join(GOLDEN, n)) or
               open(os.path.join(GOLDEN, n), "rb").read() != data]
        bad += sorted(set(os.listdir(GOLDEN)) - set(files))
        if open(WIRE, encoding="utf-8").read() != wire:
            bad.append("WIRE.md")
        print(f"golden: {len(files)} files, differing: {', '.join(bad) or 'none'}")
        sys.exit(bool(bad))
    os.makedirs(GOLDEN, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(GOLDEN, name), "wb") as file:
            file.write(data)
    with open(WIRE, "w", encoding="utf-8") as file:
        file.write(wire)


if __name__ == "__main__":
    main()

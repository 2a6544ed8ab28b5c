"""Golden frames of coding 1 (proto/WIRE.md 2, 3.4) for make_frame_golden.py: streams of
wire_numpy.rans in place of the codes that its affine and symmetric make."""
import struct

import numpy as np

from wire_numpy import affine, frames, rans, symmetric
from wire_numpy.bits import alloc_hash, crc32c
from wire_numpy.frames import Header

ROWS, CHANNELS, GROUP = 100, 8, 4  # three full groups of rows and a tail of 4


def header_of(codec, widths, **kwargs):
    return dict(codec=codec, site=1, step=300, micro=1, rows=ROWS, channels=CHANNELS,
                row_count=ROWS, alloc_version=9, alloc_bits_total=sum(widths),
                alloc_hash=alloc_hash(np.array(widths, np.uint8)), coding=1, **kwargs)


def stream_of(codes, widths, kinds):
    stream = rans.encode(codes, widths, ROWS, kinds)
    assert rans.decode(stream, widths, ROWS) == codes and len(stream) < len(codes)
    return stream


def amaq_tensor(rng):
    """Normal channels with an outlier each; channel 5 is constant, its codes are all 0."""
    x = (rng.standard_normal((ROWS, CHANNELS)) * 0.05).astype(np.float32)
    x[7] = 2.0
    x[:, 5] = 0.25
    widths = [4, 5, 4, 8, 4, 3, 6, 4]
    kinds = [4, 4, 4, 4, 4, rans.KIND_ZERO, 4, 4]
    head = affine.measure(x)
    codes, values = affine.encode(affine.AMAQ, x, widths, head)
    return head, codes, stream_of(codes, widths, kinds), values, widths


def group_tensor(rng):
    """One large value in each group of 4: the other codes are the one of 0."""
    x = (rng.standard_normal((ROWS, CHANNELS)) * 0.01).astype(np.float32)
    x[:, ::GROUP] = 1.0
    widths = [4] * CHANNELS
    [payload], values = symmetric.chunks(symmetric.GROUP, x, 4, group=GROUP)
    head = 4 + 2 * ROWS * CHANNELS // GROUP
    return payload[:head], stream_of(payload[head:], widths, [4] * CHANNELS), values, widths


def broken_rules(stream):
    """Streams that break one rule each of a stream of classes 4 and 9 (amaq_tensor)."""
    reader = rans.Reader(stream[1:])
    _, freqs = rans.read_class(reader)
    coded, packed = stream[1:1 + reader.at], 2 + reader.at  # the class of kind 9 is one byte
    behind, rest = stream[1 + reader.at:], stream[packed + 1:]
    common = freqs.index(max(freqs))
    one_less = [f - (s == common) for s, f in enumerate(freqs)]
    yield "sum", b"\2" + rans.class_bytes(4, one_less) + behind
    long_form = b"".join(bytes([f | 128, 0]) if f < 128 else bytes([f & 127 | 128, f >> 7])
                         for f in freqs)
    yield "frequency", b"\2\4" + long_form + behind
    yield "class", b"\3" + coded + b"\x09\x09\xff\xff" + rest
    # Channel 5 has 3 bits: not enough for class 0.
    yield "planes", stream[:packed] + bytes([stream[packed] & ~(1 << 5)]) + rest
    size = struct.unpack_from("<I", rest)[0]
    yield "sizes", stream[:packed + 1] + struct.pack("<I", size - 1) + rest[4:]
    block = len(stream) - size
    yield "state", stream[:block] + struct.pack("<I", 2 ** 15 - 1) + stream[block + 4:]
    yield "state_high", stream[:block] + struct.pack("<I", 2 ** 31) + stream[block + 4:]


def add_refused(g, name, header, payload, widths, text):
    g.add("badcode_rans_" + name, Header(**header).seal(payload), "payload", text)
    g.files[f"badcode_rans_{name}.widths"] = bytes(widths)


def make_coded(g):
    rng = np.random.default_rng(20251126)
    head, codes, stream, values, widths = amaq_tensor(rng)
    base = header_of(affine.AMAQ, widths)
    g.add_tensor("amaq_rans", Header(**base), head + stream, values, widths)
    # Chunks of a tensor may differ: here the second is a tail, which nothing is gained from.
    group_bytes = 4 * sum(widths)
    first_rows = rans.encode(codes[:3 * group_bytes], widths, 96,
                             [4, 4, 4, 4, 4, rans.KIND_ZERO, 4, 4])
    first = g.add_tensor("amaq_rans_chunk0", Header(**{**base, "row_count": 96}),
                         head + first_rows, values[:96], widths)
    g.add_tensor("amaq_rans_chunk1",
                 Header(**{**base, "row_begin": 96, "row_count": 4, "coding": 0}),
                 codes[3 * group_bytes:], values[96:], widths, before=first)
    group_head, group_stream, group_values, group_widths = group_tensor(rng)
    g.add_tensor("group_rans", Header(**header_of(symmetric.GROUP, group_widths)),
                 group_head + group_stream, group_values, group_widths)

    no_stream = "FORMAT rans: not a stream"
    for name, bad in (("truncated", stream[:-1]), ("long", stream + b"\0"),
                      ("classes", b"\x21" + stream[1:]), ("kind", stream[:1] + b"\x0a" + stream[2:]),
                      ("end", stream[:-2] + bytes(255 - b for b in stream[-2:])),
                      ("stored", b"\0" + codes[:-2])):
        add_refused(g, name, base, head + bad, widths, no_stream)
    for name, bad in broken_rules(stream):
        add_refused(g, name, base, head + bad, widths, no_stream)
    add_refused(g, "range", base, b"\x6f" + b"\0" + head[2:] + stream, widths,
                "FORMAT payload.ranges")
    header = header_of(symmetric.GROUP, group_widths)
    code_bytes = ROWS * sum(group_widths) // 8
    add_refused(g, "scales", header, group_head, group_widths,
                "FORMAT rans:")
    add_refused(g, "size", header, group_head + bytes(code_bytes), group_widths,
                "FORMAT rans:")

    def refuse(name, header, payload, field):
        bytes_ = bytearray(Header(**{**header, "coding": 0}).seal(payload))
        bytes_[10] = 1
        bytes_[60:64] = struct.pack("<I", crc32c(bytes(bytes_[:60]) + bytes(4) +
                                                        bytes(bytes_[64:])))
        g.add("bad_rans_" + name, bytes(bytes_), "bad", "FORMAT " + field)

    refuse("planes", base, head + codes, "frame.payload_bytes")
    refuse("empty", base, head, "frame.payload_bytes")
    refuse("rows", {**base, "rows": 2 ** 20, "row_count": 2 ** 20}, head + stream, "frame.row_count")
    raw = dict(codec=affine.BF16, rows=2, channels=3, row_count=2)
    refuse("bf16", raw, bytes(12), "frame.coding")
    refuse("aqsgd", {**base, "codec": 8}, head + stream, "frame.coding")
    refuse("gate_signal", {**base, "kind": frames.GATE_SIGNAL, "rows": 1, "row_count": 1},
           bytes(4 * CHANNELS), "frame.coding")

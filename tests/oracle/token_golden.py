"""Golden frames of codec amaq_token (proto/WIRE.md 3.7) for make_frame_golden.py, by wire_numpy.token."""
import struct

import numpy as np

from wire_numpy import frames, token
from wire_numpy.bits import alloc_hash
from wire_numpy.frames import AMAQ_TOKEN, Header
from wire_numpy.rounding import Rounding

NOTES = {64: "k = -13, zero", 68: "lo, hi of row 0", 72: "of row 1", 76: "codes: 18 bits in 3 bytes"}


def header_of(x, widths, **kwargs):
    """widths: the allocation, one a gate."""
    widths = np.array(widths, np.uint8)
    return dict(codec=AMAQ_TOKEN, rows=x.shape[0], channels=x.shape[1], row_count=x.shape[0],
                alloc_bits_total=int(widths.sum()), alloc_hash=alloc_hash(widths), **kwargs)


def add(g, name, header, payload, values, widths, gates, before=None):
    frame = g.add_tensor(name, header, payload, values, widths, before=before)
    g.files[name + ".gates"] = bytes(int(p) for p in gates)
    return frame


def add_refused(g, name, header, payload, widths, gates, text="FORMAT payload.ranges"):
    g.add("badcode_token_" + name, header.seal(payload), "payload", text)
    g.files[f"badcode_token_{name}.widths"] = bytes(widths)
    g.files[f"badcode_token_{name}.gates"] = bytes(int(p) for p in gates)


def make_small(g):
    """The worked example, and what a receiver refuses of it."""
    x = np.array([[0.0, 1.0, -2.0], [0.5, -1.5, 3.0]], np.float32)
    widths, gates = [4, 2, 3], token.gates_of([2], 3)
    [payload], values = token.chunks(x, np.array(widths)[gates])
    header = Header(**header_of(x, widths, site=0, step=7, alloc_version=2))
    add(g, "token", header, payload, values, widths, gates)
    for what, at, data, status in (("exponent", 0, struct.pack("<h", 111), "FORMAT"),
                                   ("exponent_low", 0, struct.pack("<h", -164), "FORMAT"),
                                   ("zero", 2, b"\1", "FORMAT"),
                                   ("order", 4, payload[6:8] + payload[4:6], "FORMAT"),
                                   ("infinite", 6, b"\0\x7c", "NONFINITE"),
                                   ("nan", 8, b"\1\x7e", "NONFINITE")):
        bad = payload[:at] + data + payload[at + len(data):]
        add_refused(g, what, header, bad, widths, gates, status + " payload.ranges")
    add_refused(g, "padding", header, payload[:-1] + b"\xff", widths, gates,
                "FORMAT payload.codes")
    add_refused(g, "short", header, payload[:-1], widths, gates, "FORMAT payload.bytes")
    add_refused(g, "long", header, payload + b"\0", widths, gates,
                "FORMAT payload.bytes")
    signal = np.array([-0.5, 0.25, -1e-3], "<f4").tobytes()
    kind = dict(header_of(x, widths, site=0, step=7, alloc_version=2), rows=1, row_count=1)
    frame = Header(**kind, kind=frames.GATE_SIGNAL, phase=frames.BACKWARD).seal(signal)
    g.add("token_gate_signal", frame, "frame", f"{frames.digest([frame]):016x}")
    for what, field, fields in (
            ("range", "kind", dict(kind, kind=frames.RANGE)),
            ("coding", "coding", dict(header_of(x, widths, alloc_version=2), coding=1)),
            ("bits_none", "alloc_bits_total",
             dict(header_of(x, widths, alloc_version=2), alloc_bits_total=0)),
            ("bits", "alloc_bits_total",
             dict(header_of(x, widths, alloc_version=2), alloc_bits_total=16 * 1024 + 1)),
            ("signal_bits", "alloc_bits_total",
             dict(kind, kind=frames.GATE_SIGNAL, alloc_bits_total=49))):
        g.add("bad_token_" + what, Header(**fields).seal(bytes(16)), "bad", f"FORMAT frame.{field}")


def make_token(g):
    make_small(g)
    # Three samples of 25, 1 and 14 rows, 16 gates, every width; a constant row, one of zeros.
    rng = np.random.default_rng(20251128)
    x = (rng.standard_normal((40, 37)) * 10.0 ** rng.uniform(-3, 2, (40, 1))).astype(np.float32)
    x[3], x[30] = 0.75, 0.0
    widths = list(rng.permutation(np.arange(1, 17)))
    gates = token.gates_of([25, 1, 14], 16)
    row_widths = np.array(widths)[gates]
    base = header_of(x, widths, site=1, step=300, micro=1, alloc_version=9)
    [payload], values = token.chunks(x, row_widths)
    add(g, "token_rows", Header(**base), payload, values, widths, gates)
    payloads, values = token.chunks(x, row_widths, rows_first=32)
    first = add(g, "token_chunk0", Header(**{**base, "row_count": 32}), payloads[0], values[:32],
                widths, gates)
    later = Header(**{**base, "row_begin": 32, "row_count": 8})
    moved = struct.pack("<h", struct.unpack_from("<h", payloads[1])[0] + 1) + payloads[1][2:]
    add_refused(g, "other_exponent", later, moved, widths, gates)
    add(g, "token_chunk1", later, payloads[1], values[32:], widths, gates, before=first)

    # A gradient: stochastic, only rows 1, 4, 5 and 9 of the micro-batch (samples of 5 and 6) travel.
    row_ids = [1, 4, 5, 9]
    gates = token.gates_of([5, 6], 16)[row_ids]
    grad = (rng.standard_normal((4, 37)) * 1e-7).astype(np.float32)
    rounding = Rounding(True, seed=2 ** 40 + 17, step=300, site=2, micro=1)
    [payload], values = token.chunks(grad, np.array(widths)[gates], rounding=rounding,
                                     row_ids=row_ids)
    header = Header(**header_of(grad, widths, phase=frames.BACKWARD, site=2, step=300, micro=1,
                                alloc_version=9))
    add(g, "token_gradient", header, payload, values, widths, gates)

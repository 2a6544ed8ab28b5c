"""Golden frames of the stateful codecs, for make_frame_golden.py.

Lines of manifest.tsv: a session of one codec is the lines of one class in their order; each `NAME.bin`
is a frame that a receiver decodes with the state that the earlier ones left.
  dictionary   a table of 4 rows of 2 channels; expectation: digest of the tensor so far (hex)
  aqsgd        3 bits, a cache of 90 bytes of fp16 rows of 3 channels; likewise
  aqsgd4       the same with a cache of 4 bits
  CLASS_bad    a payload that the receiver refuses, its state unchanged; expectation: STATUS and the
               beginning of the error
  gradient     of aqsgd, 3 bits: no state
Beside an aqsgd tensor stands NAME.sequences: of each its sample id (u64) and rows (u32).
"""
import copy
import struct

import numpy as np

from wire_numpy import aqsgd, dictionary, frames
from wire_numpy.bits import alloc_hash, crc32c
from wire_numpy.frames import Header

ROWS_MAX, BITS, CACHE_BYTES = 4, 3, 90


def add_tensor(g, kind, name, header, payloads, chunks, values):
    """The frames of one tensor; the receiver's values stand beside each."""
    row, sealed = 0, []
    for i, (payload, count) in enumerate(zip(payloads, chunks)):
        sealed.append(Header(**header, row_begin=row, row_count=count).seal(payload))
        full = name if len(chunks) == 1 else f"{name}_chunk{i}"
        g.add(full, sealed[-1], kind, f"{frames.digest(sealed):016x}")
        g.files[full + ".values"] = values[row:row + count].astype("<f4").tobytes()
        row += count
    return sealed


def add_bad(g, kind, name, frame, at, data, error, cut=0):
    """A frame with other payload bytes, sealed again."""
    payload = bytearray(frame[64:len(frame) - cut])
    payload[at:at + len(data)] = data
    head = bytearray(frame[:64])
    head[56:60] = struct.pack("<I", len(payload))
    head[60:64] = bytes(4)
    head[60:64] = struct.pack("<I", crc32c(bytes(head) + bytes(payload)))
    g.add("bad_" + name, bytes(head + payload), kind + "_bad", error)


def make_dictionary(g):
    token = [np.array(row, np.float32) for row in
             ((0, 1), (0.5, -2), (3, 0.25), (-1, -1), (8, 7), (1e-3, 1e3))]
    end = dictionary.Dictionary(2, ROWS_MAX)
    long = [i % 6 for i in range(40)]
    for number, text in enumerate(([0, 1, 0, 0, 2], [1, 3, 4, 4, 0], long)):
        x = np.stack([token[i] for i in text])
        chunks = [32, 8] if len(text) > 32 else [len(text)]
        payloads, values = end.encode(x, chunks)
        header = dict(codec=dictionary.DICTIONARY, site=0, step=number, rows=len(text), channels=2)
        if number == 1:  # 4 rows in the place of 3 and a new one, which the receiver has not
            head = struct.pack("<III", 4, 0, 3)
            g.add("bad_dictionary_state", Header(**header, row_count=len(text)).seal(
                head + payloads[0][12:]), "dictionary_bad", "STATE dictionary")
        last = add_tensor(g, "dictionary", f"dictionary_{number}", header, payloads, chunks, values)
        if number == 1:
            frame = last[0]
    u32 = struct.Struct("<I").pack
    bad = lambda *args, **kwargs: add_bad(g, "dictionary", *args, **kwargs)  # noqa: E731
    # The tensor of rows 1, 3, 4, 4, 0 again: the table is full now, so it lacks room for a new one.
    bad("dictionary_table_rows", frame, 0, u32(5), "FORMAT dictionary.table_rows")
    bad("dictionary_new_rows", frame, 0, u32(4), "FORMAT dictionary.new_rows")
    bad("dictionary_inline_rows", frame, 8, u32(5), "FORMAT dictionary.inline_rows")
    bad("dictionary_room", frame, 4, u32(0), "FORMAT dictionary.inline_rows")
    bad("dictionary_payload", frame, 0, b"", "FORMAT dictionary.payload", cut=1)
    bad("dictionary_head", frame, 0, b"", "FORMAT dictionary.head", cut=len(frame) - 64 - 11)
    bad("dictionary_padding", frame, 13, bytes([frame[64 + 13] | 0x80]),
        "FORMAT dictionary.indices")
    bad("dictionary_index", frame, 12, bytes([frame[64 + 12] | 7]), "FORMAT dictionary.indices")
    bad("dictionary_order", frame, 12, bytes([frame[64 + 12] & 0xC7]),
        "FORMAT dictionary.indices")
    bad("dictionary_not_finite", frame, 14, b"\x80\x7f", "NONFINITE dictionary.rows")


def sequences_bytes(sequences):
    return b"".join(struct.pack("<QI", *s) for s in sequences)


def make_aqsgd_session(g, kind, cache_bits):
    rng = np.random.default_rng(20250601)
    end = aqsgd.Aqsgd(3, BITS, CACHE_BYTES, cache_bits)
    widths = np.full(3, BITS, np.uint8)
    alloc = dict(alloc_version=1, alloc_bits_total=9, alloc_hash=alloc_hash(widths))
    base = {i: (rng.standard_normal((8, 3)) * [1, 20, 0.01]).astype(np.float32) for i in range(4)}
    steps = [[(7, 3), (10 ** 12, 2)], [(7, 3), (8, 0), (10 ** 12, 2)], [(7, 2), (9, 5), (9, 5)],
             [(10 ** 12, 2), (9, 5)], [(i, 8) for i in range(4)] + [(9, 5)]]
    for number, sequences in enumerate(steps):
        x = np.concatenate([base[i % 4][:rows] for i, (_, rows) in enumerate(sequences)])
        x = (x + 0.1 * number).astype(np.float32)
        chunks = [32, len(x) - 32] if len(x) > 32 else [len(x)]
        payloads, values = end.encode(sequences, x, chunks)
        header = dict(codec=aqsgd.AQSGD, site=1, step=number, rows=len(x), channels=3, **alloc)
        name = f"{kind}_{number}"
        sealed = add_tensor(g, kind, name, header, payloads, chunks, values)
        for i in range(len(sealed)):
            full = name if len(chunks) == 1 else f"{name}_chunk{i}"
            g.files[full + ".sequences"] = sequences_bytes(sequences)
        if number == 1:
            frame = sealed[0]
    return frame, sequences_bytes(steps[1]), alloc, end


def make_aqsgd_changes(g, end, alloc):
    """Changes of sample 9, which the session's end has cached with 5 rows."""
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((5, 3)) + 1).astype(np.float32)
    [good], _ = copy.deepcopy(end).encode([(9, 5)], x, [5])
    head, tag, block, codes = good[:5], good[5:9], good[9:19], good[19:]
    assert head == b"\1\0\0\0\0" and len(codes) == 6

    def bad(name, payload, error, sequences=((9, 5),)):
        rows = sum(n for _, n in sequences)
        header = Header(codec=aqsgd.AQSGD, site=1, step=5, rows=rows, channels=3, row_count=rows,
                        **alloc)
        g.add("bad_aqsgd_" + name, header.seal(payload), "aqsgd_bad", error)
        g.files[f"bad_aqsgd_{name}.sequences"] = sequences_bytes(sequences)

    for what, other, status in (("exponent", b"\x6f\0" + block[2:], "FORMAT"),
                                ("zero", block[:2] + b"\1\0" + block[4:], "FORMAT"),
                                ("negative", block[:4] + b"\0\x80" + block[6:], "FORMAT"),
                                ("infinite", block[:4] + b"\0\x7c" + block[6:], "NONFINITE")):
        bad("scales_" + what, head + tag + other + codes, status + " aqsgd.scales")
    bad("codes", good[:-1] + bytes([good[-1] | 0x80]), "FORMAT aqsgd.codes")
    bad("other_values", head + bytes([tag[0] ^ 1]) + tag[1:] + block + codes, "STATE aqsgd")
    bad("other_rows", head + tag + block + codes[:5], "STATE aqsgd", [(9, 4)])
    bad("repeated", b"\2" + head[1:] + tag + tag + block + bytes(12), "FORMAT aqsgd.whole",
        [(9, 5), (9, 5)])
    bad("not_finite", b"\1\0\0\0\1" + b"\0\x7c" * 6, "NONFINITE aqsgd.rows", [(77, 2)])


def make_aqsgd(g):
    make_aqsgd_session(g, "aqsgd4", 4)
    frame, sequences, alloc, end = make_aqsgd_session(g, "aqsgd", 0)

    def bad(name, *args, **kwargs):
        add_bad(g, "aqsgd", "aqsgd_" + name, frame, *args, **kwargs)
        g.files[f"bad_aqsgd_{name}.sequences"] = sequences

    # Samples 7 and 10^12, both as changes; the session's end has cached 9 and not 7.
    bad("not_cached", 0, b"", "STATE aqsgd: sample 7 comes as a change")
    bad("sequences", 0, b"\2", "FORMAT aqsgd.sequences")
    bad("padding", 4, b"\x10", "FORMAT aqsgd.whole")
    bad("no_rows", 4, b"\7", "FORMAT aqsgd.whole")
    bad("head", 0, b"", "FORMAT aqsgd.head", cut=len(frame) - 64 - 20)
    bad("payload", 4, b"\5", "FORMAT aqsgd.payload")
    make_aqsgd_changes(g, end, alloc)
    # A gradient, 1e-7 in size, and one row of zeros.
    rng = np.random.default_rng(7)
    grad = (rng.standard_normal((5, 3)) * [1e-7, 1e-8, 0]).astype(np.float32)
    grad[2] = 0
    block, codes, values = aqsgd.gradient_encode(grad, BITS)
    header = dict(codec=aqsgd.AQSGD, phase=frames.BACKWARD, site=2, step=3, rows=5, channels=3,
                  **alloc)
    add_tensor(g, "gradient", "aqsgd_gradient", header, [block + codes], [5], values)


def make_stateful(g):
    make_dictionary(g)
    make_aqsgd(g)

"""Golden frames that open but are not the awaited ones (proto/WIRE.md 7.1, last two rows), for
make_frame_golden.py.

first_bad: where the tensor of amaq_chunk0.bin is to begin; next_bad: where it is to go on after that
chunk.  The session has codec amaq and no entropy coder."""
from dataclasses import replace

from wire_numpy import frames


def make_reception(g):
    first, _ = frames.open_frame(g.files["amaq_chunk0.bin"])
    more, _ = frames.open_frame(g.files["amaq_chunk1.bin"])
    assert (first.row_begin, first.row_count, first.rows) == (0, 32, 40)
    signal = dict(kind=frames.GATE_SIGNAL, rows=1, row_begin=0, row_count=1)
    for name, base, before in (("first", first, None), ("next", more, first)):
        late, bits = base.row_begin + base.row_count, base.alloc_bits_total
        changes = {
            "OUT_OF_SEQUENCE frame.kind": signal,
            "OUT_OF_SEQUENCE frame.phase": dict(phase=frames.BACKWARD),
            "OUT_OF_SEQUENCE frame.site": dict(site=base.site + 1),
            "OUT_OF_SEQUENCE frame.step": dict(step=base.step + 1),
            "OUT_OF_SEQUENCE frame.micro": dict(micro=base.micro + 1),
            "OUT_OF_SEQUENCE frame.row_begin": dict(row_begin=late - late % 32, row_count=8,
                                                    rows=late - late % 32 + 8)
            if before is None else dict(row_begin=0, row_count=32),
            "FORMAT frame.rows": dict(rows=base.rows - 1, row_count=base.row_count - 1)
            if before is not None else dict(rows=base.rows - 1),
            "FORMAT frame.channels": dict(channels=base.channels - 1),
            "FORMAT frame.codec": dict(codec=frames.AFFINE),
            "FORMAT frame.coding": dict(coding=1),
        }
        if before is not None:
            changes |= {"FORMAT frame.alloc_version": dict(alloc_version=base.alloc_version + 1),
                        "FORMAT frame.alloc_bits_total": dict(alloc_bits_total=bits + 1),
                        "FORMAT frame.alloc_hash": dict(alloc_hash=base.alloc_hash ^ 1)}
        for expectation, change in changes.items():
            header = replace(base, **change)
            count = header.payload_bytes() - header.coding
            g.add(f"{name}_bad_{expectation.split('.')[1]}", header.seal(bytes(count)),
                  f"{name}_bad", expectation)

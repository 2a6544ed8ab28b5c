"""Bytes of tensors by proto/WIRE.md: the payload of every chunk and its header of 64 bytes.

Codes of R rows take exactly ceil(R * sum(widths) / 8) bytes.  In front of them: for the affine grid
the range block, 4 + 4 C; for the symmetric grids a scale block of an exponent (4 bytes) and fp16
scales: one (tensor), C (channel, aqsgd) or one for each row and group (group).
"""
HEADER, CHUNK = 64, 2 ** 20


def chunk_count(rows, bits_a_row, first):
    """Chunks hold whole groups of 32 rows and at most 1 MiB."""
    def groups(room):
        return max(1, room * 8 // max(1, 32 * bits_a_row))

    count, left = 1, -(-rows // 32) - groups(CHUNK - first)
    while left > 0:
        count, left = count + 1, left - groups(CHUNK)
    return count


def tensor_bytes(rows, bits_a_row, side):
    """(payload, headers) of one tensor whose range or scale block has `side` bytes."""
    bits = int(round(bits_a_row))
    return side + (rows * bits + 7) // 8, HEADER * chunk_count(rows, bits, side)


def side_bytes(kind, rows, channels, group):
    return {"raw": 0, "affine": 4 + 4 * channels, "tensor": 4 + 2, "channel": 4 + 2 * channels,
            "aqsgd": 4 + 2 * channels, "group": 4 + 2 * rows * (channels // group)}[kind]


def dictionary_bytes(steps, channels):
    """fwd_in's payload step by step when a distinct row travels once; steps: lists of token ids."""
    known, out = set(), []
    for ids in steps:
        new = set(ids) - known
        known |= new
        index = 2 if len(known) <= 2 ** 16 else 3
        out.append(index * len(ids) + 2 * channels * len(new))
    return out

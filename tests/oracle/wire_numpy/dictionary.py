"""Codec dictionary: proto/WIRE.md 3.5.  The table is a list of the rows' bytes."""
import struct

import numpy as np

from . import bits, require
from .frames import DICTIONARY  # noqa: F401  callers name it here


def index_width(rows):
    """ceil(log2(rows + 1))"""
    return int(rows).bit_length()


class Dictionary:
    """One end.  A tensor: begin, a chunk after another, commit; or all of it by encode, decode."""

    def __init__(self, channels, rows_max):
        self.channels, self.rows_max, self.rows = channels, rows_max, []
        self.open, self.chunk_seen = [], False

    def begin(self):
        self.open, self.chunk_seen = list(self.rows), False

    def commit(self):
        self.rows = self.open

    def encode(self, x, chunk_rows):
        """Payloads of the chunks, and what the receiver sees."""
        half = bits.bf16_round(x)
        if not np.all(np.isfinite(x)) or bits.bf16_special(half).any():
            raise ValueError("not finite in bf16")
        self.begin()
        ends = np.cumsum([0, *chunk_rows])
        payloads = [self.encode_chunk(half[a:b]) for a, b in zip(ends, ends[1:])]
        self.commit()
        return payloads, bits.bf16_values(half).reshape(x.shape)

    def encode_chunk(self, half):
        """half: rows in bf16."""
        table = {row: i for i, row in enumerate(self.open)}
        base, indices, inline = len(self.open), [], []
        for row in (values.tobytes() for values in half):
            if row not in table and len(self.open) < self.rows_max:
                table[row] = len(self.open)
                self.open.append(row)
            indices.append(table.get(row, -1))
            if indices[-1] < 0:
                inline.append(row)
        total = len(self.open)
        indices = [total if i < 0 else i for i in indices]
        return (struct.pack("<III", base, total - base, len(inline)) +
                bits.bit_string(indices, index_width(total)) + b"".join(self.open[base:]) +
                b"".join(inline))

    def decode(self, payloads, chunk_rows):
        self.begin()
        values = [self.decode_chunk(*of) for of in zip(payloads, chunk_rows)]
        self.commit()
        return np.concatenate(values)

    def decode_chunk(self, payload, rows):
        """Values (rows, channels).  Refused: the table is as before, but rows that the sender has
        dropped are gone."""
        base, new, inline, indices, body = self._read(payload, rows)
        require(base <= len(self.open), "dictionary",
                f"the sender's table has {base} rows, this one {len(self.open)}", "STATE")
        require(base == len(self.open) or not self.chunk_seen, "dictionary.table_rows",
                f"{base} in the middle of a tensor")
        self._check_indices(base, new, inline, indices)
        self.open, self.rows = self.open[:base], self.rows[:base]
        self.chunk_seen = True
        row_bytes = 2 * self.channels
        body = [body[i:i + row_bytes] for i in range(0, len(body), row_bytes)]
        self.open += body[:new]
        rest = iter(body[new:])
        half = np.frombuffer(b"".join(next(rest) if i == base + new else self.open[i]
                                      for i in indices), "<u2")
        require(not bits.bf16_special(half).any(), "dictionary.rows", "not finite", "NONFINITE")
        return bits.bf16_values(half).reshape(-1, self.channels)

    def _read(self, payload, rows):
        """The head's three counts, the indices and what stands behind them."""
        require(len(payload) >= 12, "dictionary.head", f"{len(payload)} bytes")
        base, new, inline = struct.unpack_from("<III", payload)
        require(base <= self.rows_max, "dictionary.table_rows", f"{base} of {self.rows_max}")
        require(new <= min(rows, self.rows_max - base), "dictionary.new_rows", f"{new}")
        require(inline <= rows - new, "dictionary.inline_rows", f"{inline} of {rows} rows")
        require(inline == 0 or base + new == self.rows_max, "dictionary.inline_rows",
                "the table has room")
        width = index_width(base + new)
        index_bytes = bits.bit_string_bytes(rows, width)
        expected = 12 + index_bytes + (new + inline) * 2 * self.channels
        require(len(payload) == expected, "dictionary.payload", f"{len(payload)}, not {expected}")
        indices = bits.bit_string_read(payload[12:12 + index_bytes], rows, width,
                                       "dictionary.indices")
        return base, new, inline, indices, payload[12 + index_bytes:]

    @staticmethod
    def _check_indices(base, new, inline, indices):
        name, seen = "dictionary.indices", base
        for i in indices:
            require(i <= base + new, name, f"{i} is outside the table")
            if seen <= i < base + new:
                require(i == seen, name, f"{i}, the next new one is {seen}")
                seen += 1
        require(seen == base + new, name, f"{seen - base} of {new} new rows appear")
        count = int(np.sum(indices == base + new))
        require(count == inline, name, f"{count} inline rows, not {inline}")

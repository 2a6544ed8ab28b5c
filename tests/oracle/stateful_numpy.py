"""Codecs dictionary and aqsgd in NumPy, from proto/WIRE.md 3.5 and 3.6 alone.

Plain dicts and lists instead of the C code's tables and blocks: the table of rows is a dict from
bytes to an index, the cache an ordered dict from sample id to bytes.
"""
import collections
import struct

import frames
import numpy as np

DICTIONARY, AQSGD = 9, 8
F = np.float32


class State(Exception):
    """The two ends have come apart."""


class Format(Exception):
    """Malformed bytes."""


def bit_string(values, width):
    """Values below 2^width, one after another, least significant bit first."""
    values = np.asarray(values, np.uint64).reshape(-1)
    bits = values[:, None] >> np.arange(width, dtype=np.uint64)[None, :] & np.uint64(1)
    return np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()


def bit_string_read(data, count, width):
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if len(data) != (count * width + 7) // 8 or bits[count * width:].any():
        raise Format("bit string")
    bits = bits[:count * width].reshape(count, width).astype(np.uint64)
    return (bits << np.arange(width, dtype=np.uint64)).sum(axis=1).astype(np.int64)


# ---- dictionary ----

def bf16_bytes(x):
    bits = np.ascontiguousarray(x, "<f4").view("<u4").astype(np.uint64)
    half = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    if not np.all(np.isfinite(x)) or np.any((half & 0x7F80) == 0x7F80):
        raise ValueError("not finite in bf16")
    return half.astype("<u2")


def bf16_values(half):
    return (np.asarray(half, "<u2").astype(np.uint32) << 16).view(np.float32)


class Dictionary:
    """One end.  encode and decode take a whole tensor: chunks of given row counts."""

    def __init__(self, channels, rows_max):
        self.channels, self.rows_max, self.rows = channels, rows_max, []

    def encode(self, x, chunk_rows):
        table = {row: i for i, row in enumerate(self.rows)}
        rows = list(self.rows)
        payloads, at = [], 0
        for count in chunk_rows:
            base, indices, inline = len(rows), [], []
            for half in bf16_bytes(x[at:at + count]):
                row = half.tobytes()
                if row not in table and len(rows) < self.rows_max:
                    table[row] = len(rows)
                    rows.append(row)
                indices.append(table.get(row, -1))
                if indices[-1] < 0:
                    inline.append(row)
            total = len(rows)
            width = int(total).bit_length()  # ceil(log2(total + 1))
            indices = [total if i < 0 else i for i in indices]
            payloads.append(struct.pack("<III", base, total - base, len(inline)) +
                            bit_string(indices, width) + b"".join(rows[base:]) + b"".join(inline))
            at += count
        self.rows = rows
        return payloads, bf16_values(bf16_bytes(x)).reshape(x.shape)

    def decode(self, payloads, chunk_rows):
        rows, out = list(self.rows), []
        for number, (payload, count) in enumerate(zip(payloads, chunk_rows)):
            base, new, inline = struct.unpack_from("<III", payload)
            if base > len(rows):
                raise State("dictionary")
            if base < len(rows):
                if number:
                    raise Format("table_rows")
                rows = rows[:base]
            width = int(base + new).bit_length()
            index_bytes = (count * width + 7) // 8
            indices = bit_string_read(payload[12:12 + index_bytes], count, width)
            row_bytes = 2 * self.channels
            body = payload[12 + index_bytes:]
            if len(body) != (new + inline) * row_bytes:
                raise Format("payload")
            body = [body[i:i + row_bytes] for i in range(0, len(body), row_bytes)]
            rows += body[:new]
            rest = iter(body[new:])
            out += [next(rest) if i == len(rows) else rows[i] for i in indices]
        self.rows = rows
        return bf16_values(np.frombuffer(b"".join(out), "<u2")).reshape(-1, self.channels)


# ---- aqsgd ----

def scale_block(absmax):
    largest = float(np.max(absmax)) if len(absmax) else 0.0
    k = int(np.frexp(np.float64(largest))[1]) - 1 - 14 if largest > 0 else 0
    scaled = np.ldexp(np.asarray(absmax, np.float64), -k)
    return struct.pack("<hH", k, 0) + scaled.astype("<f2").tobytes()


def scales_of(block):
    k = struct.unpack_from("<h", block)[0]
    scales = np.ldexp(np.frombuffer(block, "<f2", offset=4).astype(np.float64), k).astype(F)
    return np.where(scales < F(2.0 ** -126), F(0), scales)


def quantize(x, scales, bits):
    half = F(2.0 ** (bits - 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        q = np.clip(np.rint(x / scales * half), -half, half - F(1))
    return np.where(scales == 0, F(0), q).astype(np.int64)


def dequantize(q, scales, bits):
    half = F(2.0 ** (bits - 1))
    return np.where(scales == 0, F(0), (q.astype(F) / half) * scales).astype(F)


def absmax_of(x, mask):
    x = np.abs(x[mask])
    return x.max(axis=0) if len(x) else np.zeros(x.shape[1], F)


def fp16(x):
    with np.errstate(over="ignore"):
        half = np.asarray(x, F).astype("<f2")
    return np.where(np.isinf(half), np.copysign(np.float16(65504), half), half).astype("<f2")


def gradient_encode(x, bits, mask=None):
    """Scale block and codes of a gradient tensor, and what the receiver sees."""
    mask = np.ones(len(x), bool) if mask is None else mask
    block = scale_block(absmax_of(x, mask))
    q = quantize(x, scales_of(block), bits)
    return block, bit_string(q + 2 ** (bits - 1), bits), dequantize(q, scales_of(block), bits)


class Cache:
    """Entries by sample id, least recently used first: (rows, bytes)."""

    def __init__(self, channels, bytes_max, cache_bits):
        self.channels, self.bits = channels, cache_bits
        self.row_bytes = 2 * channels if not cache_bits else (channels * cache_bits + 7) // 8
        self.blocks = bytes_max // self.row_bytes
        self.entries = collections.OrderedDict()

    def blocks_of(self, rows):
        return rows + (-(-(4 + 2 * self.channels) // self.row_bytes) if self.bits else 0)

    def put(self, sample_id, values, mask):
        self.entries.pop(sample_id, None)
        need = self.blocks_of(len(values))
        if need > self.blocks:
            return
        while sum(self.blocks_of(r) for r, _ in self.entries.values()) + need > self.blocks:
            self.entries.popitem(last=False)
        if not self.bits:
            data = values.astype("<f2").tobytes()
        else:
            data = scale_block(absmax_of(values, mask))
            for q in quantize(values, scales_of(data), self.bits):
                data += bit_string(q + 2 ** (self.bits - 1), self.bits)
        self.entries[sample_id] = (len(values), data)

    def get(self, sample_id):
        rows, data = self.entries[sample_id]
        if not self.bits:
            return np.frombuffer(data, "<f2").astype(F).reshape(rows, self.channels)
        scales = scales_of(data[:4 + 2 * self.channels])
        rows = [data[i:i + self.row_bytes]
                for i in range(4 + 2 * self.channels, len(data), self.row_bytes)]
        q = np.array([bit_string_read(r, self.channels, self.bits) for r in rows])
        return dequantize(q - 2 ** (self.bits - 1), scales, self.bits)


class Aqsgd:
    """One end of a site.  sequences: (sample id, rows) in order."""

    def __init__(self, channels, bits, bytes_max, cache_bits=0):
        self.channels, self.bits = channels, bits
        self.cache = Cache(channels, bytes_max, cache_bits)

    def _resolve(self, sequences):
        seen, cached = set(), []
        for sample_id, rows in sequences:
            entry = self.cache.entries.get(sample_id)
            hit = rows > 0 and entry is not None and entry[0] == rows and sample_id not in seen
            cached.append(hit)
            if rows > 0:
                seen.add(sample_id)
        return cached

    def _commit(self, sequences, values, mask):
        at = 0
        for sample_id, rows in sequences:
            if rows > 0:
                self.cache.put(sample_id, values[at:at + rows], mask[at:at + rows])
            at += rows

    def encode(self, sequences, x, chunk_rows, mask=None):
        """Payloads of the chunks, and what the receiver sees."""
        mask = np.ones(len(x), bool) if mask is None else np.asarray(mask, bool)
        if not np.all(np.isfinite(x)) or np.any(np.abs(x) >= 65520):
            raise ValueError("not finite in fp16")
        hits = self._resolve(sequences)
        m, change = np.zeros_like(x), np.zeros(len(x), bool)
        head = struct.pack("<I", len(sequences))
        head += bit_string([not hit and rows > 0 for hit, (_, rows) in zip(hits, sequences)], 1)
        at = 0
        for hit, (sample_id, rows) in zip(hits, sequences):
            if hit:
                m[at:at + rows] = self.cache.get(sample_id)
                change[at:at + rows] = True
                head += struct.pack("<I", frames.crc32c(self.cache.entries[sample_id][1]))
            at += rows
        values = fp16(x).astype(F)
        codes = np.zeros(x.shape, np.int64)
        if change.any():
            block = scale_block(absmax_of(x - m, mask & change))
            head += block
            codes = quantize(x - m, scales_of(block), self.bits)
            new = fp16(m + dequantize(codes, scales_of(block), self.bits)).astype(F)
            values[change] = new[change]
        payloads, at = [], 0
        for count in chunk_rows:
            rows = slice(at, at + count)
            whole = values[rows][~change[rows]].astype("<f2").tobytes()
            payloads.append(head + whole +
                            bit_string(codes[rows][change[rows]] + 2 ** (self.bits - 1), self.bits))
            head = b""
            at += count
        self._commit(sequences, values, mask)
        return payloads, values

    def decode(self, sequences, payloads, chunk_rows, mask=None):
        total = sum(rows for _, rows in sequences)
        mask = np.ones(total, bool) if mask is None else np.asarray(mask, bool)
        data = payloads[0]
        if struct.unpack_from("<I", data)[0] != len(sequences):
            raise Format("sequences")
        bitmap_bytes = (len(sequences) + 7) // 8
        travels_whole = bit_string_read(data[4:4 + bitmap_bytes], len(sequences), 1)
        at, row = 4 + bitmap_bytes, 0
        m, change = np.zeros((total, self.channels), F), np.zeros(total, bool)
        for is_whole, (sample_id, rows) in zip(travels_whole, sequences):
            if rows and not is_whole:
                entry = self.cache.entries.get(sample_id)
                if entry is None or entry[0] != rows or \
                        struct.unpack_from("<I", data, at)[0] != frames.crc32c(entry[1]):
                    raise State(f"sample {sample_id}")
                m[row:row + rows] = self.cache.get(sample_id)
                change[row:row + rows] = True
                at += 4
            row += rows
        scales = None
        if change.any():
            scales = scales_of(data[at:at + 4 + 2 * self.channels])
            at += 4 + 2 * self.channels
        values, row = np.zeros_like(m), 0
        for number, (payload, count) in enumerate(zip(payloads, chunk_rows)):
            body = payload[at:] if number == 0 else payload
            rows = np.arange(row, row + count)
            kept, moved = rows[~change[rows]], rows[change[rows]]
            whole_bytes = 2 * len(kept) * self.channels
            whole = np.frombuffer(body[:whole_bytes], "<f2").astype(F)
            values[kept] = whole.reshape(-1, self.channels)
            if len(moved) == 0:
                if len(body) != whole_bytes:
                    raise Format("payload")
            else:
                codes = bit_string_read(body[whole_bytes:], len(moved) * self.channels, self.bits)
                q = codes.reshape(-1, self.channels) - 2 ** (self.bits - 1)
                values[moved] = fp16(m[moved] + dequantize(q, scales, self.bits)).astype(F)
            row += count
        self._commit(sequences, values, mask)
        return values

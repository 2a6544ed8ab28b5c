"""Codec aqsgd: proto/WIRE.md 3.6.  The cache is an ordered dict from sample id to bytes."""
import collections
import struct

import numpy as np

from . import bits as bits_, require
from .frames import AQSGD  # noqa: F401  callers name it here

F = np.float32
K_MIN, K_MAX = -163, 110
CACHE_ENTRIES_MAX = 2 ** 20


# ---- scales and codes ----

def scale_bytes(channels):
    return 4 + 2 * channels


def scale_block(absmax):
    largest = float(np.max(absmax)) if len(absmax) else 0.0
    k = bits_.exponent(largest)
    scaled = np.ldexp(np.asarray(absmax, np.float64), -k)
    return struct.pack("<hH", k, 0) + scaled.astype("<f2").tobytes()


def check_block(block):
    """What a receiver refuses of a scale block of the right size."""
    k, zero = struct.unpack_from("<hH", block)
    require(K_MIN <= k <= K_MAX and zero == 0, "aqsgd.scales", f"exponent {k}, zero {zero}")
    halves = np.frombuffer(block, "<u2", offset=4)
    require(not bits_.fp16_special(halves).any(), "aqsgd.scales", "not finite", "NONFINITE")
    require(not (halves >> 15).any(), "aqsgd.scales", "a sign bit")


def scales_of(block):
    k = struct.unpack_from("<h", block)[0]
    scales = np.ldexp(np.frombuffer(block, "<f2", offset=4).astype(np.float64), k).astype(F)
    return np.where(scales < bits_.FLT_MIN, F(0), scales)


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


def code_string(q, bits):
    return bits_.bit_string(q + 2 ** (bits - 1), bits)


def code_string_read(data, rows, channels, bits):
    codes = bits_.bit_string_read(data, rows * channels, bits, "aqsgd.codes")
    return codes.reshape(rows, channels) - 2 ** (bits - 1)


# ---- gradients ----

def gradient_encode(x, bits, mask=None):
    """Scale block and codes of a gradient tensor, and what the receiver sees."""
    mask = np.ones(len(x), bool) if mask is None else mask
    block = scale_block(absmax_of(x, mask))
    q = quantize(x, scales_of(block), bits)
    return block, code_string(q, bits), dequantize(q, scales_of(block), bits)


def gradient_decode(payload, rows, channels, bits, block=b""):
    """Values of one chunk; block: the first chunk's scale block, for the later ones.  Refused."""
    head = 0 if block else scale_bytes(channels)
    expected = head + bits_.bit_string_bytes(rows * channels, bits)
    require(len(payload) == expected, "aqsgd.payload", f"{len(payload)} bytes, not {expected}")
    block = block or payload[:head]
    check_block(block)
    q = code_string_read(payload[head:], rows, channels, bits)
    return dequantize(q, scales_of(block), bits)


# ---- activations ----

class Cache:
    """Entries by sample id, least recently used first: (rows, bytes)."""

    def __init__(self, channels, bytes_max, cache_bits):
        self.channels, self.bits = channels, cache_bits
        self.row_bytes = 2 * channels if not cache_bits else (channels * cache_bits + 7) // 8
        self.blocks = bytes_max // self.row_bytes
        self.entries = collections.OrderedDict()

    def blocks_of(self, rows):
        return rows + (-(-scale_bytes(self.channels) // self.row_bytes) if self.bits else 0)

    def put(self, sample_id, values, mask):
        self.entries.pop(sample_id, None)
        need = self.blocks_of(len(values))
        if need > self.blocks:
            return
        while (sum(self.blocks_of(r) for r, _ in self.entries.values()) + need > self.blocks or
               len(self.entries) == CACHE_ENTRIES_MAX):
            self.entries.popitem(last=False)
        if not self.bits:
            data = values.astype("<f2").tobytes()
        else:
            data = scale_block(absmax_of(values, mask))
            for q in quantize(values, scales_of(data), self.bits):
                data += code_string(q, self.bits)
        self.entries[sample_id] = (len(values), data)

    def get(self, sample_id):
        rows, data = self.entries[sample_id]
        if not self.bits:
            return np.frombuffer(data, "<f2").astype(F).reshape(rows, self.channels)
        head = scale_bytes(self.channels)
        q = [code_string_read(data[i:i + self.row_bytes], 1, self.channels, self.bits)
             for i in range(head, len(data), self.row_bytes)]
        return dequantize(np.concatenate(q), scales_of(data[:head]), self.bits)


class Aqsgd:
    """One end of a site.  sequences: (sample id, rows) in order; mask: rows in range.

    A received tensor: begin, a chunk after another, commit; or all of it by decode."""

    def __init__(self, channels, bits, bytes_max, cache_bits=0):
        self.channels, self.bits = channels, bits
        self.cache = Cache(channels, bytes_max, cache_bits)

    def begin(self, sequences, mask=None):
        self.sequences = sequences
        total = sum(rows for _, rows in sequences)
        self.mask = np.ones(total, bool) if mask is None else np.asarray(mask, bool)
        self.m, self.change = np.zeros((total, self.channels), F), np.zeros(total, bool)
        self.values, self.block, self.row_next = np.zeros_like(self.m), b"", None

    def commit(self):
        at = 0
        for sample_id, rows in self.sequences:
            if rows > 0:
                self.cache.put(sample_id, self.values[at:at + rows], self.mask[at:at + rows])
            at += rows

    # -- sender --

    def hits(self):
        """Whether each sequence travels as a change."""
        seen, cached = set(), []
        for sample_id, rows in self.sequences:
            entry = self.cache.entries.get(sample_id)
            cached.append(rows > 0 and entry is not None and entry[0] == rows and
                          sample_id not in seen)
            if rows > 0:
                seen.add(sample_id)
        return cached

    def head(self, changes):
        """The first chunk's bytes up to the scale block; sets which rows change, and from what."""
        at = 0
        out = struct.pack("<I", len(self.sequences))
        out += bits_.bit_string([not change and rows > 0 for change, (_, rows) in
                                 zip(changes, self.sequences)], 1)
        for change, (sample_id, rows) in zip(changes, self.sequences):
            if change:
                self.m[at:at + rows] = self.cache.get(sample_id)
                self.change[at:at + rows] = True
                out += struct.pack("<I", bits_.crc32c(self.cache.entries[sample_id][1]))
            at += rows
        return out

    def encode(self, sequences, x, chunk_rows, mask=None):
        """Payloads of the chunks, and what the receiver sees."""
        if not np.all(np.isfinite(x)) or np.any(np.abs(x) >= 65520):
            raise ValueError("not finite in fp16")
        self.begin(sequences, mask)
        head = self.head(self.hits())
        self.values = bits_.fp16_nearest(x).astype(F)
        codes = np.zeros(x.shape, np.int64)
        if self.change.any():
            block = scale_block(absmax_of(x - self.m, self.mask & self.change))
            head += block
            codes = quantize(x - self.m, scales_of(block), self.bits)
            self.values[self.change] = self._changed(codes, scales_of(block), self.change)
        payloads, at = [], 0
        for count in chunk_rows:
            payloads.append(head + self.body(slice(at, at + count), codes))
            head, at = b"", at + count
        self.commit()
        return payloads, self.values

    def body(self, rows, codes):
        whole = self.values[rows][~self.change[rows]].astype("<f2").tobytes()
        return whole + code_string(codes[rows][self.change[rows]], self.bits)

    def _changed(self, codes, scales, rows):
        """m' of `rows`."""
        moved = self.m[rows] + dequantize(codes[rows], scales, self.bits)
        return bits_.fp16_nearest(moved).astype(F)

    # -- receiver --

    def decode(self, sequences, payloads, chunk_rows, mask=None):
        self.begin(sequences, mask)
        for payload, count in zip(payloads, chunk_rows):
            self.decode_chunk(payload, count)
        self.commit()
        return self.values

    def decode_chunk(self, payload, count):
        """Values (count, channels).  Refused: the cache is as before."""
        at = 0
        if self.row_next is None:
            at = self._read_head(payload)
            self.row_next = 0
        rows = np.arange(self.row_next, self.row_next + count)
        kept, moved = rows[~self.change[rows]], rows[self.change[rows]]
        whole = at + 2 * len(kept) * self.channels
        expected = whole + bits_.bit_string_bytes(len(moved) * self.channels, self.bits)
        require(len(payload) == expected, "aqsgd.payload", f"{len(payload)} bytes, not {expected}")
        halves = np.frombuffer(payload[at:whole], "<u2")
        require(not bits_.fp16_special(halves).any(), "aqsgd.rows", "not finite", "NONFINITE")
        self.values[kept] = halves.view("<f2").astype(F).reshape(-1, self.channels)
        self.codes = np.zeros(self.m.shape, np.int64)
        self.codes[moved] = code_string_read(payload[whole:], len(moved), self.channels, self.bits)
        if len(moved):
            self.values[moved] = self._changed(self.codes, scales_of(self.block), moved)
        self.row_next += count
        return self.values[rows]

    def _read_head(self, payload):
        """Bytes of the head."""
        count, channels = len(self.sequences), self.channels
        at = 4 + (count + 7) // 8
        require(len(payload) >= at, "aqsgd.head", f"{len(payload)} bytes")
        told = struct.unpack_from("<I", payload)[0]
        require(told == count, "aqsgd.sequences", f"{told}, the step has {count}")
        whole = bits_.bit_string_read(payload[4:at], count, 1, "aqsgd.whole")
        changes = [rows > 0 and not w for w, (_, rows) in zip(whole, self.sequences)]
        end = at + 4 * sum(changes) + scale_bytes(channels) * any(changes)
        require(len(payload) >= end, "aqsgd.head", f"{len(payload)} bytes, {end} follow from it")
        tags = iter(struct.unpack_from(f"<{sum(changes)}I", payload, at))
        seen = set()
        for w, change, (sample_id, rows) in zip(whole, changes, self.sequences):
            require(rows > 0 or not w, "aqsgd.whole", "a sequence without rows")
            if change:
                self._check_change(sample_id, rows, next(tags), seen)
            if rows > 0:
                seen.add(sample_id)
        self.block = payload[end - scale_bytes(channels):end] if any(changes) else b""
        if self.block:
            check_block(self.block)
        self.head(changes)
        return end

    def _check_change(self, sample_id, rows, tag, seen):
        entry = self.cache.entries.get(sample_id)
        sample = f"sample {sample_id}"
        require(entry is not None, "aqsgd", f"{sample} comes as a change, but is not cached",
                "STATE")
        require(sample_id not in seen, "aqsgd.whole", f"{sample} is repeated")
        require(entry[0] == rows, "aqsgd", f"{sample} comes with {rows} rows, not {entry[0]}",
                "STATE")
        require(bits_.crc32c(entry[1]) == tag, "aqsgd", f"{sample}: other values", "STATE")

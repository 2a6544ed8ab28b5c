"""Frames of proto/WIRE.md section 2, in Python: header, CRC-32C, digests, chunks.

Written from that text alone, for make_frame_golden.py.  Payloads of codecs are amaq_numpy.py.
"""
import dataclasses
import struct

TENSOR, GATE_SIGNAL, GRAD_NORM, RANGE = 1, 2, 3, 4
FORWARD, BACKWARD, GENERATE = 1, 2, 3
HEADER = struct.Struct("<4sBBBBHHIQIIIIIIQI")  # all but the CRC
FNV_INIT = 0xCBF29CE484222325


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def fnv(data, value=FNV_INIT):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2 ** 64
    return value


@dataclasses.dataclass
class Header:
    kind: int = TENSOR
    phase: int = FORWARD
    codec: int = 1
    site: int = 0
    micro: int = 0
    step: int = 0
    rows: int = 1
    channels: int = 1
    row_begin: int = 0
    row_count: int = 1
    alloc_version: int = 0
    alloc_bits_total: int = 0
    alloc_hash: int = 0
    coding: int = 0

    def seal(self, payload):
        """The whole frame."""
        head = HEADER.pack(b"SEAM", 1, self.kind, self.phase, self.codec, self.site, self.coding,
                           self.micro, self.step, self.rows, self.channels, self.row_begin, self.row_count,
                           self.alloc_version, self.alloc_bits_total, self.alloc_hash, len(payload))
        return head + struct.pack("<I", crc32c(head + bytes(4) + payload)) + payload


def digest(frames):
    """Digest of a keyed message: FNV-1a over the CRC fields."""
    value = FNV_INIT
    for frame in frames:
        value = fnv(frame[60:64], value)
    return value


def step_begin_digest(step, labelled_row_count, micros):
    """micros: (sequence_rows, bitmap, sample_ids, positions) of each."""
    data = struct.pack("<QQI", step, labelled_row_count, len(micros))
    for sequence_rows, bitmap, sample_ids, positions in micros:
        data += struct.pack(f"<I{len(sequence_rows)}I", len(sequence_rows), *sequence_rows)
        data += struct.pack("<I", len(bitmap)) + bitmap
        data += struct.pack(f"<I{len(sample_ids)}Q", len(sample_ids), *sample_ids)
        data += struct.pack(f"<I{len(positions)}I", len(positions), *positions)
    return fnv(data)

"""Frames of proto/WIRE.md section 2: header, CRC, digests, and how the chunks of a tensor agree."""
import dataclasses
import struct

from . import Refused, require
from .bits import FNV_INIT, crc32c, fnv

TENSOR, GATE_SIGNAL, GRAD_NORM, RANGE, LOSS, TOKENS = range(1, 7)
FORWARD, BACKWARD, GENERATE = 1, 2, 3
F32, BF16, AFFINE, AMAQ, TENSOR_SCALE, CHANNEL, GROUP, AQSGD, DICTIONARY, AMAQ_TOKEN = range(1, 11)
HEADER = struct.Struct("<4sBBBBHBBIQIIIIIIQI")  # all but the CRC
HEADER_BYTES, PAYLOAD_BYTES_MAX, POSITIONS_MAX = 64, 2 ** 20, 1024
NO_WIDTHS = (F32, BF16, DICTIONARY)
PLANES = (AFFINE, AMAQ, TENSOR_SCALE, CHANNEL, GROUP)


@dataclasses.dataclass
class Header:
    kind: int = TENSOR
    phase: int = FORWARD
    codec: int = F32
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
        """The whole frame; the header's rules are the caller's affair."""
        head = HEADER.pack(b"SEAM", 1, self.kind, self.phase, self.codec, self.site, self.coding, 0,
                           self.micro, self.step, self.rows, self.channels, self.row_begin,
                           self.row_count, self.alloc_version, self.alloc_bits_total,
                           self.alloc_hash, len(payload))
        return head + struct.pack("<I", crc32c(head + bytes(4) + payload)) + payload

    def head_bytes(self):
        """Range or scale block in front of the codes; of codec group its fixed part."""
        first = self.row_begin == 0
        return {AFFINE: first * (4 + 4 * self.channels), AMAQ: first * (4 + 4 * self.channels),
                TENSOR_SCALE: first * 6, CHANNEL: first * (4 + 2 * self.channels),
                GROUP: 4}.get(self.codec, 0)

    def code_bytes(self):
        return (self.row_count * self.alloc_bits_total + 7) // 8

    def payload_bytes(self):
        """What coding 0 has; None where it does not follow from the header."""
        if self.kind != TENSOR:
            return {GATE_SIGNAL: 4 * self.channels, GRAD_NORM: 8,
                    RANGE: 4 + 4 * self.channels, LOSS: 16, TOKENS: 4 * self.rows}[self.kind]
        values = self.row_count * self.channels
        return {F32: 4 * values, BF16: 2 * values, GROUP: None, AQSGD: None,
                DICTIONARY: None, AMAQ_TOKEN: None}.get(self.codec, self.head_bytes() + self.code_bytes())


def open_frame(frame):
    """Header and payload; Refused, field by field."""
    require(len(frame) >= HEADER_BYTES, "frame", f"{len(frame)} bytes are less than a header")
    (magic, version, kind, phase, codec, site, coding, reserved, micro, step, rows, channels,
     row_begin, row_count, alloc_version, alloc_bits_total, alloc_hash,
     payload_bytes) = HEADER.unpack_from(frame)
    require(magic == b"SEAM", "frame.magic", "not SEAM")
    require(version == 1, "frame.version", f"{version}")
    require(reserved == 0, "frame.reserved", "not zero")
    header = Header(kind, phase, codec, site, micro, step, rows, channels, row_begin, row_count,
                    alloc_version, alloc_bits_total, alloc_hash, coding)
    _check_fields(header)
    _check_alloc(header)
    _check_payload_bytes(header, payload_bytes)
    follow = len(frame) - HEADER_BYTES
    require(payload_bytes == follow, "frame.payload_bytes", f"{payload_bytes}, but {follow} follow")
    crc = crc32c(frame[:60] + bytes(4) + frame[HEADER_BYTES:])
    require(frame[60:64] == crc.to_bytes(4, "little"), "frame.crc32c", "damaged", "CHECKSUM")
    return header, frame[HEADER_BYTES:]


def check_awaited(header, tensor, before=None, coding_max=0):
    """A frame that opens, where a tensor's next chunk is awaited.  tensor: a header of what the
    session expects; before: the chunk in front.  Refused."""
    row_next = 0 if before is None else before.row_begin + before.row_count
    for field, awaited in (*((f, getattr(tensor, f)) for f in ("kind", "phase", "site", "step", "micro")),
                           ("row_begin", row_next)):
        require(getattr(header, field) == awaited, "frame." + field, f"expected {awaited}",
                "OUT_OF_SEQUENCE")
    require(header.coding <= coding_max, "frame.coding", f"{header.coding}")
    alloc = ("alloc_version", "alloc_bits_total", "alloc_hash") if before is not None else ()
    for field in ("rows", "channels", "codec", *alloc):
        require(getattr(header, field) == getattr(before or tensor, field), "frame." + field,
                "not the tensor's")


def _check_fields(h):
    require(TENSOR <= h.kind <= TOKENS, "frame.kind", f"{h.kind}")
    require(FORWARD <= h.phase <= GENERATE, "frame.phase", f"{h.phase}")
    require(F32 <= h.codec <= AMAQ_TOKEN, "frame.codec", f"{h.codec}")
    require(h.micro < 4096 and (h.phase != GENERATE or h.micro == 0), "frame.micro", f"{h.micro}")
    require(1 <= h.rows <= 2 ** 20, "frame.rows", f"{h.rows}")
    require(1 <= h.channels <= 2 ** 16, "frame.channels", f"{h.channels}")
    require(h.kind in (TENSOR, TOKENS) or h.rows == 1, "frame.rows", f"{h.rows} in kind {h.kind}")
    require(h.kind not in (GRAD_NORM, LOSS, TOKENS) or h.channels == 1, "frame.channels",
            f"{h.channels} in kind {h.kind}")
    require(h.kind < LOSS or h.codec == F32, "frame.codec", f"{h.codec} in kind {h.kind}")
    require(h.row_begin % 32 == 0 and h.row_begin < h.rows, "frame.row_begin", f"{h.row_begin}")
    require(1 <= h.row_count <= h.rows - h.row_begin, "frame.row_count", f"{h.row_count}")
    require(h.row_count % 32 == 0 or h.row_begin + h.row_count == h.rows, "frame.row_count",
            f"{h.row_count} before the last chunk")
    require(h.kind != TOKENS or h.row_count == h.rows, "frame.row_count", "kind 6 is one frame")
    require(h.kind != RANGE or h.codec != AMAQ_TOKEN, "frame.kind", "codec 10 has no kind 4")


def _check_alloc(h):
    if h.codec in NO_WIDTHS:
        for field in ("alloc_version", "alloc_bits_total", "alloc_hash"):
            require(getattr(h, field) == 0, "frame." + field, "this codec has none")
        return
    require(h.alloc_version >= 1, "frame.alloc_version", "0")
    counted = h.codec != AMAQ_TOKEN or h.kind != TENSOR  # else the header does not tell P
    least, most = (h.channels, h.channels) if counted else (1, POSITIONS_MAX)
    require(least <= h.alloc_bits_total <= 16 * most, "frame.alloc_bits_total",
            f"{h.alloc_bits_total} bits for {least} to {most} widths")


def _check_payload_bytes(h, payload_bytes):
    name = "frame.payload_bytes"
    coded = h.coding == 1 and h.kind == TENSOR and h.codec in PLANES
    require(h.coding == 0 or coded, "frame.coding", f"{h.coding}")
    require(1 <= payload_bytes <= PAYLOAD_BYTES_MAX, name, f"{payload_bytes}")
    if not coded:
        expected = h.payload_bytes()
        require(expected in (None, payload_bytes), name, f"{payload_bytes}, not {expected}")
        return
    head, plain = h.head_bytes(), h.head_bytes() + h.code_bytes()
    require(plain <= PAYLOAD_BYTES_MAX, "frame.row_count", f"{h.row_count}: too many for a frame")
    require(payload_bytes > head, name, f"{payload_bytes} are not above {head}")
    require(h.codec == GROUP or payload_bytes < plain, name,
            f"{payload_bytes} are not below {plain}")


def digest(frames):
    """Digest of a keyed message: FNV-1a over the CRC fields."""
    value = FNV_INIT
    for frame in frames:
        value = fnv(frame[60:64], value)
    return value

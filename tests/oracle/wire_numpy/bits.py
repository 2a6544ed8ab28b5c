"""Checksums, strings of bits, bit planes and the roundings of proto/WIRE.md."""
import numpy as np

from . import require

FNV_INIT = 0xCBF29CE484222325
FLT_MIN = np.float32(2.0 ** -126)
FP16_MAX = 65504.0


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


def alloc_hash(widths):
    """FNV-1a over channels (u32) and the width bytes."""
    return fnv(len(widths).to_bytes(4, "little") + bytes(int(w) for w in widths))


# ---- one string of bits: indices, codes of aqsgd ----

def bit_string_bytes(count, width):
    return (count * width + 7) // 8


def bit_string(values, width):
    """Values below 2^width, one after another, least significant bit first."""
    values = np.asarray(values, np.uint64).reshape(-1)
    bits = values[:, None] >> np.arange(width, dtype=np.uint64)[None, :] & np.uint64(1)
    return np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()


def bit_string_read(data, count, width, name):
    """`data` has the right count of bytes; `name`: the error of bits behind the last value."""
    assert len(data) == bit_string_bytes(count, width)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    require(not bits[count * width:].any(), name, "the bits that fill the last byte are not zero")
    bits = bits[:count * width].reshape(count, width).astype(np.uint64)
    return (bits << np.arange(width, dtype=np.uint64)).sum(axis=1).astype(np.int64)


# ---- bit planes: codes of affine, amaq, tensor, channel, group ----

def planes_bytes(rows, widths):
    return (rows * int(np.sum(widths)) + 7) // 8


def pack(q, widths):
    """Groups of 32 rows (the last one shorter): for each channel, each bit j, the rows' bits j."""
    bits = []
    for begin in range(0, len(q), 32):
        group = q[begin:begin + 32]
        for c, width in enumerate(widths):
            for j in range(int(width)):
                bits.append(group[:, c] >> j & 1)
    return np.packbits(np.concatenate(bits).astype(np.uint8), bitorder="little").tobytes()


def unpack(codes, rows, widths):
    """Codes (rows, channels); `codes` has the right count of bytes."""
    assert len(codes) == planes_bytes(rows, widths)
    bits = np.unpackbits(np.frombuffer(codes, np.uint8), bitorder="little").astype(np.uint32)
    q = np.zeros((rows, len(widths)), np.uint32)
    at = 0
    for begin in range(0, rows, 32):
        n = min(32, rows - begin)
        for c, width in enumerate(widths):
            for j in range(int(width)):
                q[begin:begin + n, c] |= bits[at:at + n] << np.uint32(j)
                at += n
    require(not bits[at:].any(), "payload.codes", "the bits behind the last code are not zero")
    return q


# ---- roundings ----

def fp16_directed(values, up):
    """f64 -> fp16 toward +inf (up) or -inf; zero is +0."""
    half = values.astype(np.float16)
    wrong = half.astype(np.float64) < values if up else half.astype(np.float64) > values
    half[wrong] = np.nextafter(half[wrong], np.float16(np.inf if up else -np.inf))
    return half + np.float16(0.0)  # -0 + 0 = +0


def fp16_nearest(x):
    """f32 -> fp16 to nearest even; beyond fp16 its largest finite value."""
    with np.errstate(over="ignore"):
        half = np.asarray(x, np.float32).astype("<f2")
    return np.where(np.isinf(half), np.copysign(np.float16(FP16_MAX), half), half).astype("<f2")


def fp16_special(halves):
    """Which fp16 (as u16) are not finite."""
    return (np.asarray(halves, "<u2") & 0x7C00) == 0x7C00


def bf16_round(x):
    """f32 -> upper 16 bits, to nearest even."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")


def bf16_values(half):
    return (np.asarray(half, "<u2").astype(np.uint32) << 16).view(np.float32)


def bf16_special(half):
    return (np.asarray(half, "<u2") & 0x7F80) == 0x7F80


def exponent(largest):
    """k: floor(log2 largest) - 14, 0 for 0."""
    return int(np.frexp(np.float64(largest))[1]) - 1 - 14 if largest > 0 else 0

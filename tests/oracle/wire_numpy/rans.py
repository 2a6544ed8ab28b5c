"""Entropy coding of proto/WIRE.md 3.4 in plain Python: a decoder of any stream, and an encoder that
makes the simplest choice of classes."""
import struct

from . import Refused

PROB_SUM = 4096
STATE_MIN = 1 << 15
BLOCK_STEPS = 2048
KIND_ZERO = 9
CELLS = {1: 8, 2: 4, 3: 2, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1}


def require(condition, why):
    if not condition:
        raise Refused("FORMAT", "rans", why)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        require(count <= len(self.data) - self.at, "too short")
        self.at += count
        return self.data[self.at - count:self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]


def read_frequency(reader):
    value = reader.u8()
    if value >= 128:
        high = reader.u8()
        require(0 < high < 32, "frequency")
        value = (value & 127) | high << 7
    return value


def read_class(reader):
    kind = reader.u8()
    require(kind <= KIND_ZERO, "kind")
    freqs = []
    if 1 <= kind <= 8:
        freqs = [read_frequency(reader) for _ in range(1 << kind)]
        require(sum(freqs) == PROB_SUM, "sum of frequencies")
    return kind, freqs


def unit_frequencies(kind, freqs):
    weights = [f << 12 for f in freqs]
    cells = CELLS[kind]
    while cells > 1:
        pairs = []
        for b in weights:
            for a in weights:
                pairs.append(max(a * b >> 24, 1) if a and b else 0)
        weights = pairs
        cells //= 2
    present = sum(w != 0 for w in weights)
    excess = [max(w - 4096, 0) for w in weights]
    total, running, given, out = sum(excess), 0, 0, []
    for w, e in zip(weights, excess):
        running += e
        upto = running * (PROB_SUM - present) // total
        out.append((w != 0) + upto - given)
        given = upto
    return out


def decode_block(data, steps, slots):
    """Bytes of the units, 32 a step."""
    require(len(data) >= 128, "block")
    states = list(struct.unpack("<32I", data[:128]))
    require(all(STATE_MIN <= x < 1 << 31 for x in states), "state")
    at, units = 128, []
    for _ in range(steps):
        for lane in range(32):
            x = states[lane]
            symbol, freq, start = slots[x % PROB_SUM]
            units.append(symbol)
            x = freq * (x // PROB_SUM) + x % PROB_SUM - start
            if x < STATE_MIN:
                require(at + 2 <= len(data), "words")
                x = x << 16 | data[at] | data[at + 1] << 8
                at += 2
            states[lane] = x
    require(at == len(data) and all(x == STATE_MIN for x in states), "end of block")
    return units


def decode_class(codes, reader, sizes, kind, freqs, cells_at):
    """cells_at: first byte of the modelled planes of each cell, in order."""
    slots, start = [], 0
    for symbol, freq in enumerate(unit_frequencies(kind, freqs)):
        slots += [(symbol, freq, start)] * freq
        start += freq
    per_unit = CELLS[kind]
    pad = freqs.index(max(freqs))
    steps = -(-len(cells_at) // per_unit)
    for begin in range(0, steps, BLOCK_STEPS):
        count = min(steps - begin, BLOCK_STEPS)
        units = decode_block(reader.take(sizes.pop(0)), count, slots)
        for step in range(count):
            row_bytes = units[32 * step:32 * step + 32]
            for i in range(per_unit):
                symbols = [b >> (i * kind) & ((1 << kind) - 1) for b in row_bytes]
                cell = (begin + step) * per_unit + i
                if cell >= len(cells_at):
                    require(all(s == pad for s in symbols), "pad")
                    continue
                for j in range(kind):
                    word = sum((s >> j & 1) << row for row, s in enumerate(symbols))
                    at = cells_at[cell] + 4 * j
                    codes[at:at + 4] = struct.pack("<I", word)


def read_classes(reader, class_count, widths):
    """(kind, frequencies) of each class, and the class of each channel."""
    require(class_count <= 32, "classes")
    classes = [read_class(reader) for _ in range(class_count)]
    channels, bits = len(widths), (class_count - 1).bit_length()
    packed = int.from_bytes(reader.take(-(-channels * bits // 8)), "little")
    class_of = [packed >> (bits * c) & ((1 << bits) - 1) for c in range(channels)]
    require(packed >> (bits * channels) == 0, "bits behind the classes")
    require(all(k < class_count for k in class_of), "class")
    kinds = [classes[k][0] for k in class_of]
    require(all(k == KIND_ZERO or k <= w for k, w in zip(kinds, widths)), "planes")
    return classes, class_of


def kinds_of(stream, widths):
    """Kind of each channel's class: what encode needs to make the stream again."""
    classes, class_of = read_classes(Reader(stream[1:]), stream[0], widths)
    return [classes[k][0] for k in class_of]


def decode(stream, widths, rows):
    """The packed codes of a chunk; Refused."""
    channels, total_bits = len(widths), sum(widths)
    groups, tail_rows = divmod(rows, 32)
    tail_bytes = -(-total_bits * tail_rows // 8)
    tail_used = total_bits * tail_rows % 8
    group_bytes = 4 * total_bits
    reader = Reader(stream)
    class_count = reader.u8()
    if class_count == 0:
        codes = bytearray(reader.take(groups * group_bytes + tail_bytes))
        require(reader.at == len(stream), "too long")
        require(not tail_used or codes[-1] >> tail_used == 0, "bits behind the tail")
        return bytes(codes)
    classes, class_of = read_classes(reader, class_count, widths)
    offsets = [4 * sum(widths[:c]) for c in range(channels)]
    cells_at = []
    for k, (kind, _) in enumerate(classes):
        members = [c for c in range(channels) if class_of[c] == k]
        cells_at.append([g * group_bytes + offsets[c] + 4 * (widths[c] - kind)
                         for g in range(groups) for c in members])
    coded = [k for k in range(class_count) if 1 <= classes[k][0] <= 8]
    sizes = []
    for k in coded:
        steps = -(-len(cells_at[k]) // CELLS[classes[k][0]])
        sizes += [reader.u32() for _ in range(-(-steps // BLOCK_STEPS))]
    codes = bytearray(groups * group_bytes)
    for g in range(groups):
        for c in range(channels):
            kind = classes[class_of[c]][0]
            if kind != KIND_ZERO:
                at = g * group_bytes + offsets[c]
                part = reader.take(4 * (widths[c] - kind))
                codes[at:at + len(part)] = part
    tail = reader.take(tail_bytes)
    require(not tail_used or tail[-1] >> tail_used == 0, "bits behind the tail")
    for k in coded:
        decode_class(codes, reader, sizes, *classes[k], cells_at[k])
    require(reader.at == len(stream), "too long")
    return bytes(codes) + tail


# ---- encode ----

def class_bytes(kind, freqs):
    out = bytes([kind])
    for f in freqs:
        out += bytes([f]) if f < 128 else bytes([f & 127 | 128, f >> 7])
    return out


def frequencies(symbols, count):
    """Near the symbols' own, sum 4096, two or more above zero."""
    counts = [symbols.count(s) for s in range(count)]
    freqs = [max(1, n * (PROB_SUM - count) // len(symbols)) if n else 0 for n in counts]
    common = freqs.index(max(freqs))
    if max(freqs) == sum(freqs):
        freqs[(common + 1) % count] = 1
    freqs[common] += PROB_SUM - sum(freqs)
    return freqs


def encode_block(units, freqs, starts):
    states, words = [STATE_MIN] * 32, []
    for step in reversed(range(len(units) // 32)):
        for lane in reversed(range(32)):
            u, x = units[32 * step + lane], states[lane]
            if x >= freqs[u] << 19:
                words.insert(0, x & 0xffff)
                x >>= 16
            states[lane] = (x // freqs[u] << 12) + x % freqs[u] + starts[u]
    return struct.pack("<32I", *states) + struct.pack(f"<{len(words)}H", *words)


def encode(codes, widths, rows, kinds):
    """A stream of one class for each of `kinds`' values; kinds: m of each channel, 9 where all
    codes of its full groups are 0."""
    groups, total = rows // 32, sum(widths)
    order = sorted(set(kinds))
    bits = (len(order) - 1).bit_length()
    words = struct.unpack_from(f"<{groups * total}I", codes)
    classes, sizes, stored, blocks = b"", b"", b"", b""
    packed = sum(order.index(kind) << (bits * c) for c, kind in enumerate(kinds))
    cells = {kind: [] for kind in order}  # symbols of the 32 rows
    for g in range(groups):
        at = g * total
        for width, kind in zip(widths, kinds):
            cell, at = words[at:at + width], at + width
            assert kind != KIND_ZERO or not any(cell)
            planes = 0 if kind == KIND_ZERO else kind
            if kind != KIND_ZERO:
                stored += struct.pack(f"<{width - planes}I", *cell[:width - planes])
            top = cell[width - planes:]
            cells[kind].append([sum((w >> row & 1) << j for j, w in enumerate(top))
                                for row in range(32)])
    for kind in order:
        if not 1 <= kind <= 8:
            classes += class_bytes(kind, [])
            continue
        freqs = frequencies([s for cell in cells[kind] for s in cell], 1 << kind)
        unit_freqs = unit_frequencies(kind, freqs)
        starts = [sum(unit_freqs[:u]) for u in range(len(unit_freqs))]
        classes += class_bytes(kind, freqs)
        own, n = cells[kind], CELLS[kind]
        own += [[freqs.index(max(freqs))] * 32] * (-len(own) % n)
        units = [sum(own[i + k][row] << (k * kind) for k in range(n))
                 for i in range(0, len(own), n) for row in range(32)]
        for begin in range(0, len(units), 32 * BLOCK_STEPS):
            block = encode_block(units[begin:begin + 32 * BLOCK_STEPS], unit_freqs, starts)
            sizes += struct.pack("<I", len(block))
            blocks += block
    return (bytes([len(order)]) + classes + packed.to_bytes(-(-len(widths) * bits // 8), "little") +
            sizes + stored + codes[4 * groups * total:] + blocks)

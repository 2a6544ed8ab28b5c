"""Stream messages: the walk, protobuf by the .proto files, StepBegin, the config's hash.

The schema is read from proto/seam/v1/*.proto, so a field is named once.  A message is a dict;
what is absent has its default."""
import dataclasses
import pathlib
import re
import struct

from . import require
from .bits import fnv

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto" / "seam" / "v1"
FRAME_FIELD = 15
FIXED = {"float": ("<f", 5), "fixed64": ("<Q", 1), "double": ("<d", 1)}


# ---- the walk ----

def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def varint_read(data, at, bytes_max, name, why):
    """Value and where it ends; in its shortest form."""
    for i, byte in enumerate(data[at:at + bytes_max]):
        if byte < 128:
            require(i == 0 or byte != 0, name, why)
            return sum((b & 127) << 7 * j for j, b in enumerate(data[at:at + i + 1])), at + i + 1
    require(False, name, why)
    return None


def walk(message):
    """Number and body of the one field that a stream message is.  Refused."""
    require(len(message) > 0, "message", "empty")
    tag, at = varint_read(message, 0, 5, "message", "malformed tag")
    require(1 <= tag >> 3 <= FRAME_FIELD and tag & 7 == 2, "message",
            f"field {tag >> 3} of wire type {tag & 7}")
    count, at = varint_read(message, at, 5, "message.field", "malformed length")
    left = len(message) - at
    require(count <= left, "message.field", f"{count} bytes announced, {left} came")
    require(count == left, "message", f"{left - count} more bytes, only one is allowed")
    return tag >> 3, message[at:]


def field(number, body):
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


# ---- protobuf ----

def _schema():
    """Message name -> [(number, name, type, repeated)], rising; and the enums' names."""
    text = "".join((PROTO / name).read_text() for name in ("types.proto", "stream.proto"))
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"oneof \w+ \{([^}]*)\}", r"\1", text)
    messages = {}
    for name, body in re.findall(r"message (\w+) \{([^}]*)\}", text):
        fields = re.findall(r"(repeated )?(\w+) (\w+) = (\d+);", body)
        messages[name] = sorted((int(n), f, t, bool(r)) for r, t, f, n in fields)
    return messages, set(re.findall(r"enum (\w+)", text))


MESSAGES, ENUMS = _schema()


def _scalar_read(data, at, kind):
    if kind in FIXED:
        form = FIXED[kind][0]
        require(at + struct.calcsize(form) <= len(data), "message", f"a {kind} is cut")
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    return varint_read(data, at, 10, "message", "malformed varint")


def _wire_type(kind):
    if kind in FIXED:
        return FIXED[kind][1]
    return 2 if kind in MESSAGES or kind in ("bytes", "string") else 0


def read(name, data):
    """A dict of all fields of message `name`; an absent message is None."""
    fields = {number: rest for number, *rest in MESSAGES[name]}
    out = {f: [] if repeated else None if kind in MESSAGES else b"" if _wire_type(kind) == 2 else 0
           for f, kind, repeated in fields.values()}
    at = 0
    while at < len(data):
        tag, at = varint_read(data, at, 5, "message", "malformed tag")
        require(tag >> 3 in fields, "message", f"{name} has no field {tag >> 3}")
        f, kind, repeated = fields[tag >> 3]
        if tag & 7 == 2:
            count, at = varint_read(data, at, 5, "message", "malformed length")
            require(at + count <= len(data), "message", f"{f} is cut")
            body, at = data[at:at + count], at + count
            if _wire_type(kind) == 2:
                value = read(kind, body) if kind in MESSAGES else body
                out[f] = out[f] + [value] if repeated else value
                continue
            require(repeated, "message", f"{f} has wire type 2")
            inner = 0
            while inner < len(body):
                value, inner = _scalar_read(body, inner, kind)
                out[f].append(value)
            continue
        require(tag & 7 == _wire_type(kind), "message", f"{f} has wire type {tag & 7}")
        value, at = _scalar_read(data, at, kind)
        out[f] = out[f] + [value] if repeated else value
    return out


def write(name, values):
    """The canonical bytes: fields in order, defaults left out, repeated numbers packed."""
    out = b""
    for number, f, kind, repeated in MESSAGES[name]:
        value = values.get(f)
        if not value and value != {}:
            continue
        if kind in MESSAGES:
            for one in value if repeated else [value]:
                out += field(number, write(kind, one))
        elif _wire_type(kind) == 2:
            for one in value if repeated else [value]:
                out += field(number, one)
        else:
            put = (lambda v, k=kind: struct.pack(FIXED[k][0], v)) if kind in FIXED else varint
            out += (field(number, b"".join(put(v) for v in value)) if repeated else
                    varint(number << 3 | _wire_type(kind)) + put(value))
    return out


# ---- StepBegin ----

def step_begin_digest(step, labelled_row_count, micros):
    """micros: (sequence_rows, bitmap, sample_ids, positions, row_sources[, labels]) of each."""
    data = struct.pack("<QQI", step, labelled_row_count, len(micros))
    for sequence_rows, bitmap, sample_ids, positions, row_sources, *more in micros:
        data += struct.pack(f"<I{len(sequence_rows)}I", len(sequence_rows), *sequence_rows)
        data += struct.pack("<I", len(bitmap)) + bitmap
        data += struct.pack(f"<I{len(sample_ids)}Q", len(sample_ids), *sample_ids)
        data += struct.pack(f"<I{len(positions)}I", len(positions), *positions)
        data += struct.pack(f"<I{len(row_sources)}I", len(row_sources), *row_sources)
        labels = more[0] if more else []
        data += struct.pack(f"<I{len(labels)}I", len(labels), *labels)
    return fnv(data)


def digest_of(begin):
    """Of a StepBegin as read() gives it."""
    return step_begin_digest(begin["step"], begin["labelled_row_count"],
                             [(m["sequence_rows"], m["labelled_rows"], m["sample_ids"],
                               m["positions"], m["row_sources"], m["labels"])
                              for m in begin["micros"]])


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of a session; positions are the model's context."""
    rows: int
    sequences: int
    micros: int
    positions: int


def check_limits(begin, limits):
    """Refused with LIMIT."""
    require(len(begin["micros"]) <= limits.micros, "micros", f"{len(begin['micros'])}", "LIMIT")
    for i, micro in enumerate(begin["micros"]):
        rows, at = micro["sequence_rows"], f"micros[{i}]."
        for what, most in ((len(rows), limits.sequences), (sum(rows), limits.rows),
                           (max(rows, default=0), limits.positions)):
            require(what <= most, at + "sequence_rows", f"{what}, at most {most}", "LIMIT")
        require(max(micro["positions"], default=0) < limits.positions, at + "positions",
                f"not below {limits.positions}", "LIMIT")


def check_step_begin(begin, vocab=None):
    """What does not hang on a session's limits; vocab: where the topology has labels.  Refused."""
    labelled = 0
    require(begin["micros"], "micros", "a step has at least one", "ARG")
    for i, micro in enumerate(begin["micros"]):
        rows, at = sum(micro["sequence_rows"]), f"micros[{i}]."
        require(micro["sequence_rows"] and min(micro["sequence_rows"]) > 0, at + "sequence_rows",
                "empty, or a sequence of no rows", "ARG")
        require(len(micro["sample_ids"]) in (0, len(micro["sequence_rows"])), at + "sample_ids",
                f"{len(micro['sample_ids'])}", "ARG")
        require(len(micro["positions"]) in (0, rows), at + "positions", "not one a row", "ARG")
        require(len(micro["row_sources"]) in (0, rows), at + "row_sources", "not one a row", "ARG")
        distinct = 0
        for source in micro["row_sources"]:
            require(source <= distinct, at + "row_sources", f"{source} after {distinct}", "ARG")
            distinct += source == distinct
        bitmap = int.from_bytes(micro["labelled_rows"], "little")
        require(len(micro["labelled_rows"]) == (rows + 7) // 8 and bitmap >> rows == 0,
                at + "labelled_rows", f"not a bitmap of {rows} rows", "ARG")
        require(bitmap != 0, at + "labelled_rows", "no row is labelled", "ARG")
        labelled += bitmap.bit_count()
        require(len(micro["labels"]) == (0 if vocab is None else bitmap.bit_count()), at + "labels",
                f"{len(micro['labels'])}", "ARG")
        require(vocab is None or max(micro["labels"]) < vocab, at + "labels", f"not below {vocab}", "ARG")
    require(labelled == begin["labelled_row_count"], "labelled_row_count", f"not {labelled}", "ARG")
    require(digest_of(begin) == begin["digest"], "digest", "not that of the message", "CHECKSUM")


# ---- the hash of a config ----

def _hashed(name, message):
    """Bytes of a message's fields in the order of their numbers: WIRE.md 6."""
    message, out = message or read(name, b""), b""
    for number, f, kind, repeated in MESSAGES[name]:
        value = message[f]
        if name == "SessionConfig" and number > 12:
            form = "<If" if kind == "float" else "<II"
            out += struct.pack(form, number, value) if value else b""
            continue
        if repeated:
            out += struct.pack(f"<I{len(value)}I", len(value), *value)
        elif kind in MESSAGES:
            out += _hashed(kind, value)
        elif kind == "string":
            out += struct.pack("<I", len(value)) + value
        else:
            form = {"float": "<f", "uint64": "<Q", "bool": "<B"}.get(kind, "<I")
            out += struct.pack(form, value)
    return out


def config_hash(config):
    """Of a SessionConfig as read() gives it."""
    return fnv(_hashed("SessionConfig", config))

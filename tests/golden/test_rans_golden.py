"""Goal: WIRE.md 3.4 is enough to write a decoder: one in Python reads the C encoder's streams.

test_rans_golden.py FILE WIRE_MD    FILE as rans_golden.c writes it

Each stream must decode to codes of the recorded hash; one cut short or made longer must be refused,
one whose end is changed refused or other codes; WIRE.md's example must be the second stream."""
import pathlib
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
from wire_numpy import rans  # noqa: E402


def fnv1a(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 % 2 ** 64
    return value


def records(path):
    reader = rans.Reader(pathlib.Path(path).read_bytes())
    assert reader.take(8) == b"SEAMRAN1"
    for _ in range(reader.u32()):
        rows, channels = reader.u32(), reader.u32()
        widths = list(reader.take(channels))
        digest = struct.unpack("<Q", reader.take(8))[0]
        yield rows, widths, digest, reader.take(reader.u32())
    assert reader.at == len(reader.data)


def refused(stream, widths, rows):
    try:
        rans.decode(stream, widths, rows)
    except rans.Refused:
        return True
    return False


def example(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    block = re.search(r"<!-- rans example -->\n(.*?)<!-- end -->", text, re.S).group(1)
    found = b""
    for line in block.split("\n"):
        match = re.match(r"\s+(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:  |$)", line)
        if match:
            assert int(match.group(1)) == len(found), line
            found += bytes.fromhex(match.group(2))
    return found


def main():
    streams = list(records(sys.argv[1]))
    for rows, widths, digest, stream in streams:
        name = f"{rows} rows, {len(widths)} channels, {len(stream)} bytes"
        assert fnv1a(rans.decode(stream, widths, rows)) == digest, name
        assert refused(stream[:-1], widths, rows), name
        assert refused(stream + b"\0", widths, rows), name
        other = stream[:-2] + bytes(255 - b for b in stream[-2:])
        assert refused(other, widths, rows) or fnv1a(rans.decode(other, widths, rows)) != digest, name
    assert example(sys.argv[2]) == streams[1][3], "WIRE.md's example is not the second stream"
    print(f"{len(streams)} streams")


main()

"""Goal: WIRE.md is enough to write both ends: the package written from it (tests/oracle/wire_numpy)
reads and makes again every file of proto/golden's manifest, and refuses the malformed ones by name.

Method: wire_numpy/reader.py over the manifest; before that two canaries, a value and an expected
error that are changed, which it must notice."""
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
try:
    import numpy  # noqa: F401
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)
from wire_numpy import reader  # noqa: E402


def canaries():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for suffix in ("bin", "values", "widths"):
            shutil.copy(reader.GOLDEN / f"affine.{suffix}", folder)
        shutil.copy(reader.GOLDEN / "bad_magic.bin", folder)
        digest = next(line.split("\t")[2] for line in
                      (reader.GOLDEN / "manifest.tsv").read_text().splitlines()
                      if line.startswith("affine.bin"))
        values = folder / "affine.values"
        assert reader.Reader(folder).check("affine.bin", "frame", digest) is None
        values.write_bytes(bytes([values.read_bytes()[0] ^ 1]) + values.read_bytes()[1:])
        assert reader.Reader(folder).check("affine.bin", "frame", digest) == "other values"
        assert reader.Reader(folder).check("bad_magic.bin", "bad", "FORMAT frame.kind") is not None


canaries()
reader.main()

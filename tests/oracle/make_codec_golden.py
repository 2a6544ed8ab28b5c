"""Write tests/golden/codec_vectors.bin and codec_trajectory.bin from the NumPy oracle.

make_codec_golden.py [--check]    --check: compare with the files instead of writing them
"""
import pathlib
import struct
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not installed")
    sys.exit(77)
import codec_cases  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"


def main() -> int:
    cases = codec_cases.golden(np.random.Generator(np.random.PCG64(20251121)))
    vectors = codec_cases.MAGIC + struct.pack("<I", len(cases))
    for case in cases:
        vectors += case.question() + case.answer_bytes()
    files = {"codec_vectors.bin": vectors, "codec_trajectory.bin": codec_cases.trajectory_bytes()}
    changed = 0
    for name, content in files.items():
        path = GOLDEN / name
        if "--check" in sys.argv[1:]:
            same = path.read_bytes() == content
            changed += not same
            print(f"{name}: {'same' if same else 'DIFFERS'}")
        else:
            path.write_bytes(content)
            print(f"{name}: {len(content)} bytes, numpy {np.__version__}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())

"""proto/WIRE.md in NumPy: every frame, payload and message of the wire, read and written.

Written from WIRE.md and proto/seam/v1/*.proto alone, one formula at a time; it imports nothing of
the C code and knows none of its tiles, tables and blocks.  It makes the golden
files (make_frame_golden.py), reads them back (reader.py; ctest golden.wire_numpy) and stands
against the C code live (tests/golden/test_*_live.py).

    bits        CRC-32C, FNV-1a, strings of bits, planes, roundings to fp16 and bf16
    rounding    Philox and the stochastic rounding of gradients
    frames      headers, digests, the chunks of a tensor                     WIRE.md 2
    affine      f32, bf16, affine, amaq                                      3.1, 3.2
    symmetric   tensor, channel, group                                       3.3
    rans        the entropy coder, in plain Python                           3.4
    dictionary, aqsgd   the codecs with state                                3.5, 3.6
    token       amaq_token                                                   3.7
    coders      the chunks of the codecs without state, in one place
    gates       gate signals, gates, waterfill                               4
    allocation  a receiver's judgement of AllocPropose                       4
    modules     the rows of module sites                                     1.1
    messages    the walk, protobuf, StepBegin, the config's hash             head, 4, 6
    reader      the lines of proto/golden/manifest.tsv; what ctest runs
"""


class Refused(Exception):
    """What a receiver answers to bytes that break a rule.

    The text begins with the error's name (WIRE.md 7.1), in which indices may stand in brackets."""

    def __init__(self, status, name, why):
        super().__init__(f"{status} {name}: {why}")
        self.status, self.name = status, name


def require(condition, name, why, status="FORMAT"):
    if not condition:
        raise Refused(status, name, why)

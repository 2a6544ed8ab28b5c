"""Tensors of codecs without state, chunk by chunk, and the payloads again from what was read."""
import numpy as np

from . import affine, bits, rans, require, symmetric, token
from .frames import AFFINE, AMAQ, AMAQ_TOKEN, GROUP, PAYLOAD_BYTES_MAX


class Plain:
    """Codecs without state: all but dictionary and aqsgd, with their coding.

    group: channels of a scale of codec group, 0: the default of WIRE.md 3.3.
    widths: of the channels; amaq_token: of the chunk's rows."""

    def __init__(self, group=0):
        self.group, self.head = group, b""

    def chunk(self, header, payload, widths=None):
        """Values of one chunk; the first one's head is kept for the later ones.  Refused."""
        if header.row_begin == 0:
            self.head = b""
        return self._values(header, self.plain(header, payload, widths), widths)

    def head_bytes(self, header):
        if header.codec == GROUP:
            return 4 + 2 * symmetric.scale_count(GROUP, header.row_count, header.channels,
                                                 self.group)
        return header.head_bytes()

    def plain(self, header, payload, widths):
        """The payload of coding 0 that stands for this one."""
        if header.coding == 0:
            return payload
        head = self.head_bytes(header)
        plain = head + header.code_bytes()
        require(plain <= PAYLOAD_BYTES_MAX, "rans", f"the codes of {header.row_count} rows")
        require(head < len(payload) < plain, "rans", f"{len(payload)}: not in {head}..{plain}")
        return payload[:head] + rans.decode(payload[head:], list(widths), header.row_count)

    def again(self, header, payload, widths):
        """The payload made from its parts: the head, and the codes that were read."""
        if widths is None:
            values = self._values(header, payload, None)
            return affine.encode(header.codec, values, None, None)[0]
        if header.codec == AMAQ_TOKEN:
            opened = token.open_payload(payload, header.channels, widths)
            return token.payload_of(*opened, widths)
        head, plain = self.head_bytes(header), self.plain(header, payload, widths)
        codes = bits.pack(bits.unpack(plain[head:], header.row_count, widths), widths)
        if header.coding == 1:
            kinds = rans.kinds_of(payload[head:], list(widths))
            codes = rans.encode(codes, list(widths), header.row_count, kinds)
        return plain[:head] + codes

    def _values(self, header, payload, widths):
        rows, channels = header.row_count, header.channels
        if widths is None:
            return affine.decode(header.codec, payload, rows, channels, None, None)
        if header.codec == AMAQ_TOKEN:
            k_first = None if header.row_begin == 0 else self.head
            k, bounds, q = token.open_payload(payload, channels, widths, k_first)
            self.head = k
            return token.dequantize(q, k, bounds, widths)
        if header.codec not in (AFFINE, AMAQ):
            size = 4 + 2 * symmetric.scale_count(header.codec, rows, channels, self.group)
            if header.codec != GROUP and header.row_begin == 0:
                self.head = payload[:size]
                return symmetric.decode(header.codec, payload, rows, channels, int(widths[0]))
            head = b"" if header.codec == GROUP else self.head
            return symmetric.decode(header.codec, payload, rows, channels, int(widths[0]),
                                    self.group, head)
        if header.row_begin == 0:
            size = affine.range_bytes(channels)
            self.head, payload = payload[:size], payload[size:]
        affine.check_ranges(self.head)
        require(len(payload) == bits.planes_bytes(rows, widths), "payload.bytes", "wrong count")
        return affine.decode(header.codec, payload, rows, channels, np.asarray(widths), self.head)

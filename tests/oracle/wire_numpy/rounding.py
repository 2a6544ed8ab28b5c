"""Philox4x32-10 (Salmon et al. 2011) and the stochastic rounding of gradients, WIRE.md 3.2."""
import dataclasses

import numpy as np


def philox(counter, key):
    """counter: 4 broadcastable integer arrays; key: 2 integers.  Returns 4 uint64 arrays < 2^32."""
    mask = np.uint64(0xFFFFFFFF)
    x = [np.asarray(c, np.uint64) & mask for c in counter]
    x = list(np.broadcast_arrays(*x))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * x[0]
        p1 = np.uint64(0xCD9E8D57) * x[2]
        x = [(p1 >> np.uint64(32)) ^ x[1] ^ np.uint64(k0), p1 & mask,
             (p0 >> np.uint64(32)) ^ x[3] ^ np.uint64(k1), p0 & mask]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return x


@dataclasses.dataclass
class Rounding:
    stochastic: bool = False
    seed: int = 0
    step: int = 0
    site: int = 0
    micro: int = 0

    def uniform(self, row_ids, channels):
        """u (rows, channels) in [0, 1), f32: multiples of 2^-16, two of a word, eight of a draw."""
        row_ids = np.asarray(row_ids, np.uint64)[:, None]
        eighth = np.arange((channels + 7) // 8, dtype=np.uint64)[None, :]
        words = philox((eighth, row_ids, self.site | self.micro << 16, self.step & 0xFFFFFFFF),
                       (self.seed & 0xFFFFFFFF, self.seed >> 32))
        halves = [half for word in words
                  for half in (word & np.uint64(0xFFFF), word >> np.uint64(16))]
        halves = np.stack(halves, axis=-1).reshape(len(row_ids), -1)[:, :channels]
        return halves.astype(np.float32) * np.float32(2.0 ** -16)


def whole(t, rounding, row_ids):
    """t (rows, channels) to whole numbers: to nearest even, or down after adding 2^-17 in t's
    type and then u, a sum that does not round.  In f64 it rounds below 2^-37, which is less than
    what f32's v can lack of a whole number."""
    if rounding is None or not rounding.stochastic:
        return np.rint(t)
    ids = np.arange(len(t)) if row_ids is None else row_ids
    v = t + t.dtype.type(2.0 ** -17)
    return np.floor(v.astype(np.float64) + rounding.uniform(ids, t.shape[1])).astype(t.dtype)

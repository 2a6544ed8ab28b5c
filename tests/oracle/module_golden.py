"""Golden frames of module sites (proto/WIRE.md 1.1) for make_frame_golden.py: stacks of
wire_numpy.modules through its affine and symmetric.  NAME.stack: the modules (modules.file_of)."""
import numpy as np

from wire_numpy import affine, frames, modules as module, symmetric
from wire_numpy.bits import alloc_hash
from wire_numpy.frames import AFFINE, AMAQ, BF16, GROUP, Header
from wire_numpy.rounding import Rounding


def header_of(codec, x, site, widths=None, **kwargs):
    fields = dict(codec=codec, site=site, step=5, rows=x.shape[0], channels=x.shape[1],
                  row_count=x.shape[0], **kwargs)
    if widths is not None:
        widths = np.array(widths, np.uint8)
        fields.update(alloc_version=1, alloc_bits_total=int(widths.sum()),
                      alloc_hash=alloc_hash(widths))
    return Header(**fields)


def rounding(site):
    return Rounding(True, seed=2 ** 33 + 5, step=5, site=site, micro=0)


def add(g, name, modules, header, payload, values, widths=None):
    g.add_tensor(name, header, payload, values, widths)
    g.files[name + ".stack"] = module.file_of(modules)


def make_modules(g):
    rng = np.random.default_rng(20251129)
    # LoRA A of two layers' q and v, rank 4: (4, in).  One of them is zero.
    a = [(rng.standard_normal((4, rows)).astype(np.float32) * 0.02, module.COLUMNS)
         for rows in (24, 24, 20, 20)]
    a[2] = (np.zeros_like(a[2][0]), module.COLUMNS)
    b = [(rng.standard_normal((rows, 4)).astype(np.float32) * 1e-3, module.ROWS)
         for rows in (24, 9, 24, 9)]
    prefix = [(rng.standard_normal((6, 10)).astype(np.float32), module.ROWS) for _ in range(2)]

    x, widths = module.stack(a), [4] * 4
    ranges = affine.measure(x)
    codes, values = affine.encode(AFFINE, x, widths, ranges)
    add(g, "module_lora_a", a, header_of(AFFINE, x, module.LORA_A, widths), ranges + codes,
        values, widths)

    x, widths = module.stack(b), [5, 1, 16, 3]
    ranges = affine.measure(x)
    codes, values = affine.encode(AMAQ, x, widths, ranges)
    add(g, "module_lora_b", b, header_of(AMAQ, x, module.LORA_B, widths), ranges + codes,
        values, widths)
    codes, values = affine.encode(AMAQ, x, widths, ranges, rounding(module.LORA_B_GRADIENT))
    add(g, "module_lora_b_gradient", b,
        header_of(AMAQ, x, module.LORA_B_GRADIENT, widths, phase=frames.BACKWARD),
        ranges + codes, values, widths)

    x = module.stack(prefix)
    payload, values = affine.encode(BF16, x, None, None)
    add(g, "module_prefix", prefix, header_of(BF16, x, module.PREFIX), payload, values)

    x, widths = module.stack(a), [3] * 4
    [payload], values = symmetric.chunks(GROUP, x, 3, group=4,
                                         rounding=rounding(module.LORA_A_GRADIENT))
    add(g, "module_lora_a_gradient", a,
        header_of(GROUP, x, module.LORA_A_GRADIENT, widths, phase=frames.BACKWARD),
        payload, values, widths)

"""Module sites: proto/WIRE.md 1.1.

A module is (values, order): order ROWS for (rows, rank) as LoRA B and a prefix are, COLUMNS for
(rank, rows) as LoRA A is.
"""
import struct

import numpy as np

LORA_A, LORA_B, PREFIX, LORA_A_GRADIENT, LORA_B_GRADIENT, PREFIX_GRADIENT = range(4, 10)
ROWS, COLUMNS = 1, 2
ROWS_MAX = 2 ** 20


def stack(modules):
    """(rows, rank): the modules' rows, one module after another."""
    return np.concatenate([values if order == ROWS else values.T for values, order in modules])


def tensors(rows, tensor_rows_max=ROWS_MAX):
    return [rows[begin:begin + tensor_rows_max] for begin in range(0, len(rows), tensor_rows_max)]


def file_of(modules):
    """How the golden files keep a stack: u32 count, then rows, rank, order (u32 each) and the values as
    the module has them."""
    data = struct.pack("<I", len(modules))
    for values, order in modules:
        rows, rank = values.shape if order == ROWS else values.T.shape
        data += struct.pack("<III", rows, rank, order) + values.astype("<f4").tobytes()
    return data

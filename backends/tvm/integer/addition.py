"""Sums of two tensors in fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offramp.backends.tvm.integer.scaling import Quantized

ADDEND_BITS = 14
"""Bits of the larger factor of a sum: products with bytes and their sum stay within 32 bits."""


@dataclass(frozen=True)
class Addition:
    """A sum in fixed point: `(a * left + b * right + offset) >> shift`."""

    left: int
    right: int
    offset: int
    shift: int


def addition(addends: Sequence[Quantized], output: Quantized) -> Addition | None:
    """Two addends to one sum, in fixed point; None if their scales are too far from its."""
    real = np.array([addend.scale / output.scale for addend in addends])
    shift = ADDEND_BITS - int(np.ceil(np.log2(real.max())))
    left, right = (int(factor) for factor in np.rint(real * 2.0**shift))
    if not 1 <= shift <= 22:
        return None
    zeros = left * addends[0].zero + right * addends[1].zero
    offset = (output.zero << shift) - zeros + (1 << (shift - 1))
    return Addition(left, right, offset, shift)

"""Sums of two tensors, in fixed point or as TFLite's reference kernels compute them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.scaling import Quantized, exact
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call

EXACT_SCALES = 9
"""Words of the table of an exact sum: three for each addend and the sum."""

ADDEND_BITS = 14
"""Bits of the larger factor of a sum: products with bytes and their sum stay within 32 bits."""


@dataclass(frozen=True)
class Addition:
    """A sum in fixed point: `(a * left + b * right + offset) >> shift`."""

    left: int
    right: int
    offset: int
    shift: int


@dataclass(frozen=True)
class ExactAddition:
    """A sum as TFLite's reference kernel computes it, with scales from a table.

    zeros: of addends and sum. low, high: bounds of the sum.
    """

    zeros: tuple[int, int, int]
    low: int
    high: int


def exact_addition(
    addends: Sequence[Quantized], output: Quantized, bounds: tuple[int, int]
) -> tuple[ExactAddition, npt.NDArray[np.int32]] | None:
    """Two addends to one sum, with the table of scales; None if they are too far from each other.

    Addends are shifted by 20 bits and brought to twice the larger of their scales.
    """
    scales = [addend.scale for addend in addends]
    twice = 2.0 * max(scales)
    real = np.array([*(scale / twice for scale in scales), twice / (2.0**20 * output.scale)])
    factors = exact(real, 2**30)
    if factors is None or factors.shift:
        return None
    zeros = (addends[0].zero, addends[1].zero, output.zero)
    return ExactAddition(zeros, *bounds), factors.columns.ravel()


def exact_arrays(code: FunctionBuilder, size: int) -> tuple[Array, Array]:
    """Parameters of a kernel that adds a residual of `size` bytes exactly: scales, residual."""
    return code.pointer("sum_scales", EXACT_SCALES, "int32"), code.pointer("residual", size, "int8")


def add_exactly(
    name: str, added: ExactAddition, ends: tuple[Expr, Expr, Expr, Expr], count: int
) -> Expr:
    """A call of the function `name`; ends: addresses of sum, two addends and scales."""
    return external_call(name, *ends, count, *added.zeros)


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

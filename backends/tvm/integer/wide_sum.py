"""Sums of two tensors of which one, or the sum, has 16 bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.scaling import LARGEST, Quantized
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.wide_add import WideAdd
from offramp.backends.tvm.tir import FunctionBuilder, external_call
from offramp.passes.layout import rules

SHIFTS = range(18, 47)
"""Bits by which 64-bit sums are shifted: numbers of 17 bits times factors of 31 then fit 32."""


@dataclass(frozen=True)
class WideSum:
    """Structure of a sum.

    meanings: of addends and sum. factors: of the addends, times 2^shift.
    """

    count: int
    meanings: tuple[Quantized, Quantized, Quantized]
    factors: tuple[int, int]
    shift: int
    low: int
    high: int
    macs: int = 0
    workspace: int = 0

    @property
    def overwritten(self) -> tuple[int, ...]:
        """Positions of the addends that the sum may overwrite: those of as many bits."""
        *addends, total = (meaning.bits for meaning in self.meanings)
        return tuple(place for place, bits in enumerate(addends) if bits == total)

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        left, right, total = (meaning.bits for meaning in self.meanings)
        return (WideAdd((left, right, total), self.low, self.high, self.shift),)


def specify(kernel: IntegerKernel) -> WideSum | None:
    """The specification of a sum; None if its scale is too far from those of its addends."""
    left, right = kernel.inputs
    found = _factors([left.scale / kernel.output.scale, right.scale / kernel.output.scale])
    if found is None:
        return None
    count = prod(rules.static_shape(kernel.result))
    factors, shift = found
    return WideSum(count, (left, right, kernel.output), factors, shift, *kernel.bounds)


def _factors(real: Sequence[float]) -> tuple[tuple[int, int], int] | None:
    shift = 30 - int(np.floor(np.log2(max(real))))
    while max(real) * 2.0**shift > LARGEST:
        shift -= 1
    if shift not in SHIFTS:
        return None
    left, right = (int(np.rint(factor * 2.0**shift)) for factor in real)
    return (left, right), shift


def build(spec: WideSum) -> Any:
    """The kernel: two inputs, output."""
    code = FunctionBuilder()
    names = ("left", "right", "output")
    left, right, output = (
        code.pointer(name, spec.count, f"int{meaning.bits}")
        for name, meaning in zip(names, spec.meanings, strict=True)
    )
    (kernel,) = spec.microkernels()
    a, b, total = spec.meanings
    code.run(
        external_call(
            kernel.name,
            output.address(0),
            left.address(0),
            right.address(0),
            spec.count,
            a.zero,
            spec.factors[0],
            b.zero,
            spec.factors[1],
            total.zero,
        )
    )
    return code.build()

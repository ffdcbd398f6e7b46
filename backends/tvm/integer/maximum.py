"""Maxima over windows: integers order as the real numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.integer_maximum import IntegerMaximum
from offramp.backends.tvm.templates.channelwise import Reduction
from offramp.backends.tvm.tir import FunctionBuilder, external_call
from offramp.backends.tvm.window import Window


@dataclass(frozen=True)
class Maximum:
    """Structure of a pool. low, high: bounds of the outputs. bits: of inputs and outputs."""

    window: Window
    channels: int
    low: int
    high: int
    bits: int = 8
    macs: int = 0
    workspace: int = 0

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the input: none lies behind the first tap of a later one."""
        rows, columns = self.window.rows, self.window.columns
        return (
            rows.pad == columns.pad == 0 and columns.out <= columns.size and rows.out <= rows.size
        )

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        return (IntegerMaximum(self.low, self.high, self.bits),)


def specify(kernel: IntegerKernel) -> Maximum | None:
    """The specification of a pool; None unless integers mean the same before and after."""
    anchor = kernel.anchor
    if anchor is None or anchor.reduction is not Reduction.MAXIMUM:
        return None
    if kernel.inputs[0] != kernel.output:
        return None
    return Maximum(anchor.window, anchor.channels, *kernel.bounds, kernel.output.bits)


def build(spec: Maximum) -> Any:
    """The kernel: input, output."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, f"int{spec.bits}")
    output = code.pointer("output", window.outputs * spec.channels, f"int{spec.bits}")
    (kernel,) = spec.microkernels()
    with (
        code.loop("image", window.batch) as image,
        code.loop("row", rows.out) as row,
        code.loop("column", columns.out) as column,
    ):
        position = (image * rows.out + row) * columns.out + column
        code.run(
            external_call(
                kernel.name,
                output.address(position * spec.channels),
                source.address(image * (rows.size * columns.size * spec.channels)),
                row * rows.stride - rows.pad,
                column * columns.stride - columns.pad,
                rows.size,
                columns.size,
                spec.channels,
                rows.taps,
                columns.taps,
                rows.dilation,
                columns.dilation,
            )
        )
    return code.build()

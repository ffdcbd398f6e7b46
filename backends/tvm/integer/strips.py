"""Integer depthwise convolutions channel by channel, on cores without dual multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.structure import DepthwiseConvolution
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.integer_strip import WIDEST, CopyPlane, IntegerStrip
from offramp.backends.tvm.microkernels.rounding import Rounding, arguments
from offramp.backends.tvm.tir import FunctionBuilder, external_call, tirx
from offramp.backends.tvm.window import Axis


@dataclass(frozen=True)
class Strips(DepthwiseConvolution):
    """For cores without dual multiplies.

    A plane is one channel of an image with a border of zero points, in the workspace.
    """

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the inputs: a channel is copied before it is written."""
        return self.window.outputs == self.window.inputs

    @property
    def line(self) -> int:
        """Bytes of a row of the plane."""
        return _extent(self.window.columns)

    @property
    def workspace(self) -> int:
        """Bytes of the plane."""
        return _extent(self.window.rows) * self.line

    def strips(self) -> Iterator[tuple[int, int, IntegerStrip]]:
        """(first column, strips, microkernel): strips of outputs as even as can be."""
        columns = self.window.columns
        width = -(-columns.out // -(-columns.out // WIDEST))
        whole, rest = divmod(columns.out, width)
        for first, count, size in ((0, whole, width), (whole * width, 1, rest)):
            if size:
                yield first, count, self._kernel(size)

    def _kernel(self, width: int) -> IntegerStrip:
        rows, columns = self.window.rows, self.window.columns
        steps = (columns.stride, columns.dilation)
        return IntegerStrip(width, rows.taps, columns.taps, *steps, Rounding.of(self.scaling))

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        return (CopyPlane(), *(kernel for _, _, kernel in self.strips()))


def _extent(axis: Axis) -> int:
    """Positions from the first that any window reads, or that is copied, to the last."""
    read = (axis.out - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1
    return max(read, axis.pad + axis.size)


def pack(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights `[channels, 1, rows, columns]` in reading order: as they are."""
    return np.ascontiguousarray(weights).ravel()


def build(spec: Strips) -> Any:
    """The kernel: input, weights, scales, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, "int8")
    weights = code.pointer("weights", window.taps * spec.channels, "int8")
    scales = code.pointer("scales", spec.scaling.words * spec.channels, "int32")
    output = code.pointer("output", window.outputs * spec.channels, "int8")
    plane = code.pointer("workspace", spec.workspace, "uint8")
    with code.loop("place", spec.workspace) as place:
        code.store(plane, place, tirx.IntImm("uint8", spec.zero & 0xFF))
    with code.loop("image", window.batch) as image, code.loop("channel", spec.channels) as channel:
        code.run(
            external_call(
                CopyPlane().name,
                plane.address(rows.pad * spec.line + columns.pad),
                source.address(image * (rows.size * columns.size * spec.channels) + channel),
                rows.size,
                columns.size,
                spec.channels,
                spec.line,
            )
        )
        for first, count, kernel in spec.strips():
            with code.loop("strip", count) as strip:
                column = first + strip * kernel.width
                position = image * (rows.out * columns.out) + column
                code.run(
                    external_call(
                        kernel.name,
                        output.address(position * spec.channels + channel),
                        plane.address(column * columns.stride),
                        weights.address(channel * window.taps),
                        scales.address(channel * spec.scaling.words),
                        rows.out,
                        rows.stride * spec.line,
                        rows.dilation * spec.line,
                        spec.channels,
                        columns.out * spec.channels,
                        *arguments(spec.scaling),
                    )
                )
    return code.build()

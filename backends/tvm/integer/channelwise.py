"""Integer operators that keep channels apart: depthwise convolutions, means, sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.addition import EXACT_SCALES, Addition, ExactAddition, add_exactly
from offramp.backends.tvm.integer.structure import DepthwiseConvolution
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.helium_elementwise import HeliumExactAdd
from offramp.backends.tvm.microkernels.integer_depthwise import IntegerDepthwise, KeepRow
from offramp.backends.tvm.microkernels.integer_elementwise import Elementwise, IntegerElementwise
from offramp.backends.tvm.tir import FunctionBuilder, external_call, tirx
from offramp.backends.tvm.window import Window


@dataclass(frozen=True)
class Depthwise(DepthwiseConvolution):
    """For dual multiplies; channels come in fours."""

    @property
    def kept_rows(self) -> int:
        """Rows of the input that are copied so that outputs may overwrite it; 0: they may not."""
        rows, columns = self.window.rows, self.window.columns
        same = rows.out == rows.size and columns.out == columns.size
        if rows.dilation > 1 or not (same if rows.stride == 1 else rows.pad == 0):
            return 0
        return rows.pad + 1 if self.keeps_bits and columns.out <= columns.size else 0

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the inputs."""
        return self.kept_rows > 0

    @property
    def workspace(self) -> int:
        """Bytes of zero points, read by taps outside the image, and of kept rows."""
        kept = self.kept_rows * self.window.columns.size
        return self.channels * (1 + kept) * self.source_bits // 8

    @property
    def weights(self) -> int:
        """Words of packed weights."""
        return self.channels * (self.window.taps // 2) + self.channels // 2 * (self.window.taps % 2)

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        kernel = IntegerDepthwise(self.window.taps, self.scaling, self.source_bits)
        return (kernel, KeepRow()) if self.kept_rows else (kernel,)


@dataclass(frozen=True)
class Mean:
    """Structure of a pool without padding. scaling: (bias, shift to the left, factor,
    zero point) of every sum; None: integers mean the same before and after, and are rounded as
    TFLite does. bits: of inputs and outputs.
    """

    window: Window
    channels: int
    low: int
    high: int
    scaling: tuple[int, int, int, int] | None
    bits: tuple[int, int] = (8, 8)
    macs: int = 0
    workspace: int = 0

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        kind = Elementwise.EXACT_MEAN if self.scaling is None else Elementwise.MEAN
        return (IntegerElementwise(kind, self.low, self.high, self.bits),)


@dataclass(frozen=True)
class Sum:
    """Structure of a sum of two tensors."""

    count: int
    addition: Addition
    low: int
    high: int
    macs: int = 0
    workspace: int = 0

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        return (IntegerElementwise(Elementwise.ADD, self.low, self.high),)


@dataclass(frozen=True)
class ExactSum:
    """Structure of a sum as TFLite's reference kernel computes it.

    helium: whether there are vectors.
    """

    count: int
    addition: ExactAddition
    helium: bool = False
    macs: int = 0
    workspace: int = 0

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        bounds = (self.addition.low, self.addition.high)
        if self.helium:
            return (HeliumExactAdd(*bounds),)
        return (IntegerElementwise(Elementwise.EXACT_ADD, *bounds),)


def pack_depthwise(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Weights `[channels, 1, rows, columns]` as words of two 16-bit weights.

    The order is group of four channels, pair of taps, channel; a last tap without partner takes
    two words, channels (0, 2) and (1, 3).
    """
    taps = weights.reshape(len(weights) // 4, 4, -1).transpose(0, 2, 1).astype(np.int16)
    whole = taps.shape[1] // 2 * 2
    pairs = taps[:, :whole].reshape(len(taps), whole // 2, 2, 4).transpose(0, 1, 3, 2)
    parts = [pairs.reshape(len(taps), -1)]
    if whole < taps.shape[1]:
        parts.append(taps[:, whole][:, [0, 2, 1, 3]])
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view(np.int32).ravel()


def build_depthwise(spec: Depthwise) -> Any:
    """The kernel: input, weights, scales, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, f"int{spec.source_bits}")
    weights = code.pointer("weights", spec.weights, "int32")
    scales = code.pointer("scales", spec.scaling.words * spec.channels, "int32")
    output = code.pointer("output", window.outputs * spec.channels, f"int{spec.scaling.bits}")
    zeros = code.pointer("workspace", spec.workspace, "uint8")
    kernel, *_ = spec.microkernels()
    item = spec.source_bits // 8
    with code.loop("channel", spec.channels) as channel:
        for byte in range(item):
            part = tirx.IntImm("uint8", spec.zero >> (8 * byte) & 0xFF)
            code.store(zeros, channel * item + byte, part)
    line = columns.size * spec.channels
    with code.loop("image", window.batch) as image, code.loop("row", rows.out) as row:
        if spec.kept_rows:
            place = (spec.channels + row * rows.stride % spec.kept_rows * line) * item
            own = source.address((image * rows.size + row * rows.stride) * line)
            code.run(external_call(KeepRow().name, zeros.address(place), own, line * item))
        with code.loop("column", columns.out) as column:
            position = (image * rows.out + row) * columns.out + column
            code.run(
                external_call(
                    kernel.name,
                    output.address(position * spec.channels),
                    source.address(image * (rows.size * line)),
                    zeros.address(0),
                    weights.address(0),
                    scales.address(0),
                    row * rows.stride - rows.pad,
                    column * columns.stride - columns.pad,
                    rows.size,
                    columns.size,
                    spec.channels,
                    columns.taps,
                    rows.dilation,
                    columns.dilation,
                    spec.scaling.zero,
                    row * rows.stride,
                    spec.kept_rows,
                )
            )
    return code.build()


def build_mean(spec: Mean) -> Any:
    """The kernel: input, output."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    read, written = (f"int{bits}" for bits in spec.bits)
    source = code.pointer("input", window.inputs * spec.channels, read)
    output = code.pointer("output", window.outputs * spec.channels, written)
    (kernel,) = spec.microkernels()
    with (
        code.loop("image", window.batch) as image,
        code.loop("row", rows.out) as row,
        code.loop("column", columns.out) as column,
    ):
        line = (image * rows.size + row * rows.stride) * columns.size
        position = (image * rows.out + row) * columns.out + column
        code.run(
            external_call(
                kernel.name,
                output.address(position * spec.channels),
                source.address((line + column * columns.stride) * spec.channels),
                rows.taps,
                columns.taps,
                columns.size * spec.channels,
                spec.channels,
                *(spec.scaling or ()),
            )
        )
    return code.build()


def build_sum(spec: Sum) -> Any:
    """The kernel: two inputs, output."""
    code = FunctionBuilder()
    left, right = (code.pointer(name, spec.count, "int8") for name in ("left", "right"))
    output = code.pointer("output", spec.count, "int8")
    (kernel,) = spec.microkernels()
    added = spec.addition
    packed = int(np.array([added.left, added.right], np.int16).view(np.int32)[0])
    code.run(
        external_call(
            kernel.name,
            output.address(0),
            left.address(0),
            right.address(0),
            spec.count,
            packed,
            added.offset,
            added.shift,
        )
    )
    return code.build()


def build_exact_sum(spec: ExactSum) -> Any:
    """The kernel: two inputs, scales, output."""
    code = FunctionBuilder()
    left, right = (code.pointer(name, spec.count, "int8") for name in ("left", "right"))
    scales = code.pointer("scales", EXACT_SCALES, "int32")
    output = code.pointer("output", spec.count, "int8")
    (kernel,) = spec.microkernels()
    ends = (output.address(0), left.address(0), right.address(0), scales.address(0))
    code.run(add_exactly(kernel.name, spec.addition, ends, spec.count))
    return code.build()

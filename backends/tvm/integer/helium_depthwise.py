"""Integer depthwise convolutions through a microkernel for Helium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.channelwise import Depthwise
from offramp.backends.tvm.integer.scaling import Factors
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.helium import BYTES, LANES, words
from offramp.backends.tvm.microkernels.helium_depthwise import ORDER, HeliumDepthwiseKernel
from offramp.backends.tvm.tir import FunctionBuilder, external_call


@dataclass(frozen=True)
class HeliumDepthwise(Depthwise):
    """Structure of a depthwise convolution; channels come in fours."""

    @property
    def kept_rows(self) -> int:
        """As elsewhere, but for strides: the microkernel copies one row for each that it writes."""
        return super().kept_rows if self.window.rows.stride == 1 else 0

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the inputs.

        Without padding in front no output lies behind its first tap, and later ones read on.
        """
        rows, columns = self.window.rows, self.window.columns
        is_behind = rows.pad == columns.pad == 0 and columns.out <= columns.size
        return self.kept_rows > 0 or is_behind

    @property
    def filled(self) -> int:
        """Channels as whole vectors."""
        return -(-self.channels // BYTES) * BYTES

    @property
    def together(self) -> int:
        """Neighbouring outputs that make a vector; their inputs are neighbours too."""
        return max(BYTES // self.channels, 1) if self.window.columns.stride == 1 else 1

    @property
    def workspace(self) -> int:
        """Bytes of zero points, read by taps outside the image, and of kept rows."""
        return self.channels * (self.together + self.kept_rows * self.window.columns.size)

    @property
    def weights(self) -> int:
        """Bytes of packed weights."""
        return self.filled * self.window.taps

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        rows, columns = self.window.rows, self.window.columns
        return (HeliumDepthwiseKernel(rows.taps, columns.taps, self.scaling),)


def pack_weights(spec: HeliumDepthwise, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights `[channels, 1, rows, columns]` by vector of sixteen channels, tap, channel."""
    flat = np.tile(weights.reshape(len(weights), -1), (spec.together, 1))
    filled = np.pad(flat, ((0, -len(flat) % BYTES), (0, 0)))
    return filled.reshape(-1, BYTES, flat.shape[1]).swapaxes(1, 2).ravel()


def pack_scales(
    spec: HeliumDepthwise, factors: Factors, sums: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """For each vector of sums where they start, their multipliers, and shifts to the left.

    A vector has four channels of sixteen, see the microkernel.
    """
    columns = factors.columns
    parts = [sums, columns[:, 0], *([-columns[:, 1]] if columns.shape[1] > 1 else [])]
    table = np.tile(np.stack(parts), spec.together)
    table = np.pad(table, ((0, 0), (0, -table.shape[1] % BYTES)))
    vectors = table.reshape(len(parts), -1, LANES, LANES)[..., ORDER]
    return np.ascontiguousarray(vectors.transpose(1, 3, 0, 2), np.int32).ravel()


def build(spec: HeliumDepthwise) -> Any:
    """The kernel: input, weights, scales, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, "int8")
    weights = code.pointer("weights", spec.weights, "int8")
    scales = code.pointer("scales", words(spec.scaling) * spec.filled, "int32")
    output = code.pointer("output", window.outputs * spec.channels, "int8")
    scratch = code.pointer("workspace", spec.workspace, "uint8")
    (kernel,) = spec.microkernels()
    size = rows.size * columns.size * spec.channels
    with code.loop("image", window.batch) as image:
        code.run(
            external_call(
                kernel.name,
                output.address(image * (rows.out * columns.out * spec.channels)),
                source.address(image * size),
                scratch.address(0),
                weights.address(0),
                scales.address(0),
                rows.size,
                columns.size,
                spec.channels,
                rows.out,
                columns.out,
                rows.stride,
                columns.stride,
                rows.pad,
                columns.pad,
                rows.dilation,
                columns.dilation,
                spec.together,
                spec.zero,
                spec.scaling.zero,
                spec.kept_rows,
            )
        )
    return code.build()

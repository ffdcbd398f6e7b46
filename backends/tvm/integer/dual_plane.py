"""Depthwise convolutions of 3 x 3 and 5 x 5 taps, channel by channel.

See `microkernels.dual_plane` and `microkernels.wide_plane`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.integer.structure import DepthwiseConvolution
from offramp.backends.tvm.microkernels.dual_plane import MOST_LEFT, SLACK, DualPlaneKernel
from offramp.backends.tvm.microkernels.wide_plane import WidePlaneKernel
from offramp.backends.tvm.tir import FunctionBuilder, external_call
from offramp.backends.tvm.window import Window

KERNELS: dict[int, type[DualPlaneKernel]] = {3: DualPlaneKernel, 5: WidePlaneKernel}
"""By taps of a row and of a column."""

LARGEST = 4096
"""Bytes of copies above which they are too dear."""


@dataclass(frozen=True)
class DualPlane(DepthwiseConvolution):
    """For dual multiplies, 3 x 3 or 5 x 5 taps and stride 1."""

    @property
    def taps(self) -> int:
        """Of a row of the window."""
        return self.window.rows.taps

    @property
    def workspace(self) -> int:
        """Bytes of the copies."""
        return self.together * _plane(self.window) + SLACK

    @property
    def together(self) -> int:
        """Channels that are copied at a time."""
        return 4 if self.channels % 4 == 0 and 4 * _plane(self.window) <= LARGEST else 1

    @property
    def is_sideways(self) -> bool:
        """Whether rows of a plane are columns of the image: these are longer."""
        return self.window.rows.out > self.window.columns.out

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the input: they take the places of their own channel."""
        rows, columns = self.window.rows, self.window.columns
        return (rows.size, columns.size) == (rows.out, columns.out)

    def microkernels(self) -> tuple[DualPlaneKernel, ...]:
        """All C functions that the kernel calls."""
        return (KERNELS[self.taps](self.scaling, self.together),)


def fits(window: Window, scaling: Scaling) -> bool:
    """Whether the microkernel computes this window, on planes of a suitable size."""
    shapes = {(axis.taps, axis.stride, axis.dilation) for axis in (window.rows, window.columns)}
    is_known = shapes in [{(taps, 1, 1)} for taps in KERNELS] and scaling.shift <= MOST_LEFT
    return is_known and _plane(window) <= LARGEST


def pack(spec: DualPlane, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Weights `[channels, 1, taps, taps]` by row of a plane.

    Three taps and a zero are a word of bytes. Five are words of 16 bits, taps (0, 2), (1, 3) and
    (4, none), shifted to the left as the sums would have to be.
    """
    taps = weights[:, 0].swapaxes(1, 2) if spec.is_sideways else weights[:, 0]
    padded = np.pad(taps, ((0, 0), (0, 0), (0, 1)))
    if spec.taps == 3:
        return np.ascontiguousarray(padded).view(np.int32).ravel()
    wide = padded[:, :, [0, 2, 1, 3, 4, 5]].astype(np.int16) << spec.scaling.shift
    return np.ascontiguousarray(wide).view(np.int32).ravel()


def build(spec: DualPlane) -> Any:
    """The kernel: input, weights, scales, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, "int8")
    (kernel,) = spec.microkernels()
    weights = code.pointer("weights", kernel.weight_words * spec.channels, "int32")
    scales = code.pointer("scales", spec.scaling.words * spec.channels, "int32")
    output = code.pointer("output", window.outputs * spec.channels, "int8")
    scratch = code.pointer("workspace", spec.workspace, "uint8")
    line = spec.channels * columns.out
    across, along = (columns, rows) if spec.is_sideways else (rows, columns)
    distances = (columns.size * spec.channels, spec.channels, line, spec.channels)
    in_line, in_step, out_line, out_step = distances
    if spec.is_sideways:
        in_line, in_step, out_line, out_step = in_step, in_line, out_step, out_line
    with code.loop("image", window.batch) as image:
        code.run(
            external_call(
                kernel.name,
                output.address(image * (rows.out * line)),
                source.address(image * (rows.size * columns.size * spec.channels)),
                scratch.address(0),
                weights.address(0),
                scales.address(0),
                spec.channels,
                across.size,
                along.size,
                across.out,
                along.out,
                across.pad,
                along.pad,
                in_step,
                in_line,
                out_step,
                out_line,
                spec.zero,
                spec.scaling.zero,
            )
        )
    return code.build()


def _plane(window: Window) -> int:
    border = window.rows.taps - 1
    return (window.rows.out + border) * (window.columns.out + border)

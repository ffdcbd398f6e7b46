"""Depthwise convolutions of 3 x 3 taps, channel by channel; see `microkernels.dual_plane`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.scaling import Scaling
from offramp.backends.tvm.integer.structure import DepthwiseConvolution
from offramp.backends.tvm.microkernels.dual_plane import MOST_LEFT, SLACK, TAPS, DualPlaneKernel
from offramp.backends.tvm.tir import FunctionBuilder, external_call
from offramp.backends.tvm.window import Window

LARGEST = 4096
"""Bytes of copies above which they are too dear."""


@dataclass(frozen=True)
class DualPlane(DepthwiseConvolution):
    """For dual multiplies, 3 x 3 taps and stride 1."""

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
        return (DualPlaneKernel(self.scaling, self.together),)


def fits(window: Window, scaling: Scaling) -> bool:
    """Whether the microkernel computes this window, on planes of a suitable size."""
    shapes = {(axis.taps, axis.stride, axis.dilation) for axis in (window.rows, window.columns)}
    is_known = shapes == {(TAPS, 1, 1)} and scaling.shift <= MOST_LEFT
    return is_known and _plane(window) <= LARGEST


def pack(spec: DualPlane, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Weights `[channels, 1, 3, 3]` as words of a row of a plane's taps and a zero each."""
    taps = weights[:, 0].swapaxes(1, 2) if spec.is_sideways else weights[:, 0]
    padded = np.pad(taps, ((0, 0), (0, 0), (0, 1)))
    return np.ascontiguousarray(padded).view(np.int32).ravel()


def build(spec: DualPlane) -> Any:
    """The kernel: input, weights, scales, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    rows, columns = window.rows, window.columns
    source = code.pointer("input", window.inputs * spec.channels, "int8")
    weights = code.pointer("weights", TAPS * spec.channels, "int32")
    scales = code.pointer("scales", spec.scaling.words * spec.channels, "int32")
    output = code.pointer("output", window.outputs * spec.channels, "int8")
    scratch = code.pointer("workspace", spec.workspace, "uint8")
    (kernel,) = spec.microkernels()
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
    return (window.rows.out + TAPS - 1) * (window.columns.out + TAPS - 1)

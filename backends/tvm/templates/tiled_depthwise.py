"""Depthwise convolutions through microkernels, for scalar floating-point units.

The loops around a microkernel are output row and output; it computes all channels of one output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm import epilogue as ep
from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.microkernels.depthwise import WIDEST, DepthwiseColumn
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call
from offramp.backends.tvm.window import Tiles, Window, uniform_tiles, valid_rows


@dataclass(frozen=True)
class TiledDepthwise:
    """Structure of a depthwise convolution.

    activation: the epilogue began with it. epilogue: what was left of it.
    """

    window: Window
    channels: int
    activation: Activation
    epilogue: ep.Epilogue

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(first channel, blocks, channels of each): full blocks, then a narrower one."""
        whole, rest = divmod(self.channels, WIDEST)
        if whole:
            yield 0, whole, WIDEST
        if rest:
            yield whole * WIDEST, 1, rest

    def microkernels(self) -> tuple[DepthwiseColumn, ...]:
        """All microkernels that the kernel calls."""
        taps = {len(g.segments[0].taps) for g in uniform_tiles(self.window.columns, 1)}
        return tuple(
            DepthwiseColumn(channels, count, self.activation)
            for _, _, channels in self.blocks()
            for count in sorted(taps)
        )


def pack_weights(spec: TiledDepthwise, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[channels, 1, rows, columns]` in the order block, row, column, channel in block."""
    ordered = weights[:, 0].transpose(1, 2, 0)
    parts = [
        ordered[..., start + i * size : start + (i + 1) * size].ravel()
        for start, count, size in spec.blocks()
        for i in range(count)
    ]
    return np.concatenate(parts).astype(np.float32)


def build(spec: TiledDepthwise) -> Any:
    """The kernel: input, weights, bias, epilogue arguments, output."""
    code = FunctionBuilder()
    window = spec.window
    builder = _Builder(
        spec=spec,
        code=code,
        input=code.pointer("input", window.inputs * spec.channels),
        weights=code.pointer("weights", window.taps * spec.channels),
        bias=code.pointer("bias", spec.channels),
        operands=ep.parameters(code, spec.epilogue, window.outputs, spec.channels),
        output=code.pointer("output", window.outputs * spec.channels),
    )
    with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
        builder.row(image, row)
    return code.build()


@dataclass(frozen=True)
class _Builder:
    """Emits code for one row of outputs at a time."""

    spec: TiledDepthwise
    code: FunctionBuilder
    input: Array
    weights: Array
    bias: Array
    operands: list[Array]
    output: Array

    def row(self, image: Expr, row: Expr) -> None:
        """All outputs of one row."""
        code, window = self.code, self.spec.window
        rows, columns = window.rows, window.columns
        valid = valid_rows(code, rows, row)
        line = image * rows.size + row * rows.stride - rows.pad + valid[0] * rows.dilation
        position = (image * rows.out + row) * columns.out
        for group in uniform_tiles(columns, 1):
            taps = group.segments[0].taps
            shift = taps.start * columns.dilation - columns.pad
            with code.loop("tile", group.count) as index:
                column = group.start + index
                source = line * columns.size + column * columns.stride + shift
                self._output(group, valid, source, position + column)

    def _output(self, group: Tiles, valid: tuple[Expr, Expr], source: Expr, position: Expr) -> None:
        """All channels of one output; `source` is the position of the first valid tap."""
        spec, code, columns = self.spec, self.code, self.spec.window.columns
        taps = group.segments[0].taps
        first_row, rows = valid
        for start, count, channels in spec.blocks():
            skipped = (first_row * columns.taps + taps.start) * channels
            code.run(
                external_call(
                    DepthwiseColumn(channels, len(taps), spec.activation).name,
                    self.output.address(position * spec.channels + start),
                    self.input.address(source * spec.channels + start),
                    self.weights.address(start * spec.window.taps + skipped),
                    self.bias.address(start),
                    count,
                    rows if len(taps) else 0,
                    columns.dilation * spec.channels,
                    spec.window.rows.dilation * columns.size * spec.channels,
                    columns.taps * channels,
                    spec.window.taps * channels,
                )
            )
        ep.apply_in_memory(
            code,
            spec.epilogue,
            self.operands,
            self.output,
            index=position * spec.channels,
            channel=0,
            count=spec.channels,
        )

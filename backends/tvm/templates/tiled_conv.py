"""Convolutions and dense layers through microkernels, for scalar floating-point units.

The loops around a microkernel are channel block, output row and tile of outputs. A tile's valid
taps form a rectangle, so outputs at the left and right border are tiles of their own; within a
window row the input is contiguous across columns and channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm import epilogue as ep
from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.microkernels.matrix import MatrixTile, unroll
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call
from offramp.backends.tvm.window import Tiles, Window, uniform_tiles, valid_rows

WIDEST = 10
"""Output channels up to which one tile holds them all beside a second pixel."""


@dataclass(frozen=True)
class TiledConv:
    """Structure of a convolution that is neither dilated along rows nor grouped.

    window: over the image, already flattened where it slides nowhere. residual: the epilogue
    began with the sum of a tensor. activation: how it went on. epilogue: what was left of it.
    """

    window: Window
    channels: int
    filters: int
    residual: bool
    activation: Activation
    epilogue: ep.Epilogue

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.channels * self.filters

    @property
    def pixels(self) -> int:
        """Outputs of a full tile."""
        return min(2, self.window.columns.out)

    @property
    def width(self) -> int:
        """Output channels of a full tile."""
        if self.pixels == 1:
            return min(self.filters, 16)
        return self.filters if self.filters <= WIDEST else 8

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(first channel, blocks, channels of each): full tiles, then a narrower one."""
        whole = self.filters // self.width
        yield 0, whole, self.width
        if self.filters % self.width:
            yield whole * self.width, 1, self.filters % self.width

    def microkernel(self, tile: Tiles, filters: int) -> MatrixTile:
        """What computes the tiles of one group."""
        steps = len(tile.segments[0].taps) * self.channels
        rounds, rest = divmod(steps, unroll(tile.width, filters))
        return MatrixTile(tile.width, filters, rest, rounds > 0, self.residual, self.activation)

    def microkernels(self) -> tuple[MatrixTile, ...]:
        """All microkernels that the kernel calls."""
        groups = list(uniform_tiles(self.window.columns, self.pixels))
        found = (self.microkernel(g, filters) for _, _, filters in self.blocks() for g in groups)
        return tuple(dict.fromkeys(found))


def pack_weights(spec: TiledConv, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[filters, channels, rows, columns]` in reading order.

    The order is block of output channels, window row, window column, input channel, channel in
    block.
    """
    ordered = weights.transpose(2, 3, 1, 0)
    parts = [
        ordered[..., start + i * size : start + (i + 1) * size].ravel()
        for start, count, size in spec.blocks()
        for i in range(count)
    ]
    return np.concatenate(parts).astype(np.float32)


def build(spec: TiledConv) -> Any:
    """The kernel: input, weights, bias, residual if any, epilogue arguments, output."""
    code = FunctionBuilder()
    window = spec.window
    size = window.outputs * spec.filters
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * spec.channels),
        weights=code.pointer("weights", window.taps * spec.channels * spec.filters),
        bias=code.pointer("bias", spec.filters),
        residual=code.pointer("residual", size) if spec.residual else None,
        operands=ep.parameters(code, spec.epilogue, window.outputs, spec.filters),
        output=code.pointer("output", size),
    )
    for start, count, filters in spec.blocks():
        with code.loop("block", count) as index:
            _BlockBuilder(spec, code, arrays, start + index * filters, filters).images()
    return code.build()


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function."""

    input: Array
    weights: Array
    bias: Array
    residual: Array | None
    operands: list[Array]
    output: Array


@dataclass(frozen=True)
class _BlockBuilder:
    """Emits the code of one block of `filters` output channels from `first` on."""

    spec: TiledConv
    code: FunctionBuilder
    arrays: _Arrays
    first: Expr
    filters: int

    def images(self) -> None:
        """All outputs, row by row."""
        code, window = self.code, self.spec.window
        with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
            tap, count = valid_rows(code, window.rows, row)
            line = image * window.rows.size + row * window.rows.stride - window.rows.pad
            first_line = line + tap * window.rows.dilation
            position = (image * window.rows.out + row) * window.columns.out
            for group in uniform_tiles(window.columns, self.spec.pixels):
                with code.loop("tile", group.count) as index:
                    column = group.start + index * group.width
                    source = self._source(first_line, column, group)
                    self._tile(group, source, tap, count, position + column)

    def _source(self, line: Expr, column: Expr, group: Tiles) -> Expr:
        """Index of the first input that the first output of a tile reads."""
        columns, taps = self.spec.window.columns, group.segments[0].taps
        place = line * columns.size + column * columns.stride - columns.pad + taps.start
        return place * self.spec.channels

    def _tile(self, group: Tiles, source: Expr, tap: Expr, count: Expr, position: Expr) -> None:
        spec, arrays, window = self.spec, self.arrays, self.spec.window
        columns, taps = window.columns, group.segments[0].taps
        step = spec.channels * self.filters
        weights = self.first * window.taps * spec.channels
        weights = weights + (tap * columns.taps + taps.start) * step
        place = position * spec.filters + self.first
        residual = arrays.bias if arrays.residual is None else arrays.residual
        self.code.run(
            external_call(
                spec.microkernel(group, self.filters).name,
                arrays.output.address(place),
                arrays.input.address(source),
                arrays.weights.address(weights),
                arrays.bias.address(self.first),
                residual.address(0 if arrays.residual is None else place),
                count if len(taps) else 0,
                len(taps) * spec.channels,
                window.rows.dilation * columns.size * spec.channels,
                columns.taps * step,
                columns.stride * spec.channels,
                spec.filters,
            )
        )
        with self.code.loop("pixel", group.width) as pixel:
            ep.apply_in_memory(
                self.code,
                spec.epilogue,
                arrays.operands,
                arrays.output,
                index=place + pixel * spec.filters,
                channel=self.first,
                count=self.filters,
            )

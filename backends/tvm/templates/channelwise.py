"""Depthwise convolution and pooling: windows that keep channels apart, over channels-last data.

The loop nest is output row, channel vector, tile of neighbouring outputs; a tile's inputs and
weights are loaded once. Pools are the same nest without weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import tirx

from offramp.backends.tvm import epilogue as ep
from offramp.backends.tvm.tir import (
    Array,
    Expr,
    FunctionBuilder,
    constant,
    fused_multiply_add,
    splat,
)
from offramp.backends.tvm.window import Segment, Tiles, Window, tiles, valid_rows

LOWEST = float(np.finfo(np.float32).min)
LONGEST_UNROLLED = 8
"""Taps of a window row up to which the row is unrolled."""


class Reduction(Enum):
    """What a window does with its taps."""

    WEIGHTED_SUM = "depthwise"
    MAXIMUM = "max_pool"
    AVERAGE = "average_pool"
    """Divides by the number of taps inside the image."""
    AVERAGE_PADDED = "average_pool_padded"
    """Divides by the number of taps, padding included."""


@dataclass(frozen=True)
class Channelwise:
    """Structure of a channelwise window kernel.

    pixels: outputs of one tile. lanes: channels of one vector.
    """

    window: Window
    channels: int
    reduction: Reduction
    bias: bool
    epilogue: ep.Epilogue
    lanes: int
    pixels: int

    @property
    def has_weights(self) -> bool:
        """Whether the kernel reads weights `[rows, columns, channels]`."""
        return self.reduction is Reduction.WEIGHTED_SUM

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a depthwise convolution; pools have none."""
        return self.window.outputs * self.window.taps * self.channels if self.has_weights else 0

    def parts(self) -> Iterator[tuple[int, int, int]]:
        """(first channel, vectors, lanes): whole vectors, then half a one, a quarter, ..."""
        start, lanes = 0, self.lanes
        while lanes:
            count = (self.channels - start) // lanes
            if count:
                yield start, count, lanes
            start += count * lanes
            lanes //= 2


def pack_weights(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[channels, 1, rows, columns]` as `[rows, columns, channels]`."""
    return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0), dtype=np.float32)


def build(spec: Channelwise) -> Any:
    """The kernel: input, weights and bias if any, epilogue arguments, output."""
    code = FunctionBuilder()
    window, channels = spec.window, spec.channels
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * channels),
        weights=code.pointer("weights", window.taps * channels) if spec.has_weights else None,
        bias=code.pointer("bias", channels) if spec.bias else None,
        operands=ep.parameters(code, spec.epilogue, window.outputs, channels),
        output=code.pointer("output", window.outputs * channels),
    )
    with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
        valid = valid_rows(code, window.rows, row)
        line = image * window.rows.size + row * window.rows.stride - window.rows.pad
        position = (image * window.rows.out + row) * window.columns.out
        for start, vectors, lanes in spec.parts():
            with code.loop("vector", vectors) as vector:
                builder = _RowBuilder(
                    spec, code, arrays, valid, line, start + vector * lanes, lanes
                )
                builder.tiles(position)
    return code.build()


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function."""

    input: Array
    weights: Array | None
    bias: Array | None
    operands: list[Array]
    output: Array


@dataclass(frozen=True)
class _RowBuilder:
    """Emits one row of outputs for `lanes` channels from `channel` on.

    valid: first valid window row and how many. line: input row of window row 0.
    """

    spec: Channelwise
    code: FunctionBuilder
    arrays: _Arrays
    valid: tuple[Expr, Expr]
    line: Expr
    channel: Expr
    lanes: int

    def tiles(self, position: Expr) -> None:
        """All tiles of the row, whose first output is `position`."""
        for group in tiles(self.spec.window.columns, self.spec.pixels):
            with self.code.loop("tile", group.count) as index:
                column = group.start + index * group.width
                values = self._accumulate(group, column)
                self._finish(values, group, position + column)

    def _accumulate(self, group: Tiles, column: Expr) -> Array:
        """Reduce the valid taps of one tile in registers."""
        code, spec, bias = self.code, self.spec, self.arrays.bias
        rows, columns = spec.window.rows, spec.window.columns
        values = code.registers("value", group.width * self.lanes)
        neutral = LOWEST if spec.reduction is Reduction.MAXIMUM else 0.0
        initial = bias.load(self.channel, self.lanes) if bias else constant(neutral, self.lanes)
        for pixel in range(group.width):
            code.store(values, pixel * self.lanes, initial, self.lanes)
        first, count = self.valid
        with code.loop("tap", count) as step:
            tap = first + step
            row = (self.line + tap * rows.dilation) * columns.size
            source = (row + column * columns.stride - columns.pad) * spec.channels
            for segment in group.segments:
                self._segment(values, segment, source + self.channel, tap)
        return values

    def _segment(self, values: Array, segment: Segment, source: Expr, tap: Expr) -> None:
        """All taps of one window row; long rows in a loop, short ones unrolled."""
        if len(segment.taps) > LONGEST_UNROLLED and len(segment.outputs) == 1:
            with self.code.loop("column_tap", len(segment.taps)) as index:
                column = segment.taps.start + index
                self._taps(values, segment.outputs, source, (tap, column))
            return
        for column in segment.taps:
            self._taps(values, segment.outputs, source, (tap, column))

    def _taps(self, values: Array, outputs: range, source: Expr, tap: tuple[Expr, Expr]) -> None:
        """One tap (window row, window column) of every output of the tile."""
        spec, lanes, columns = self.spec, self.lanes, self.spec.window.columns
        for pixel in outputs:
            place = pixel * columns.stride + tap[1] * columns.dilation
            item = self.arrays.input.load(source + place * spec.channels, lanes)
            value = values.load(pixel * lanes, lanes)
            if self.arrays.weights is not None:
                index = (tap[0] * columns.taps + tap[1]) * spec.channels + self.channel
                weight = self.arrays.weights.load(index, lanes)
                value = fused_multiply_add(item, weight, value, lanes)
            elif spec.reduction is Reduction.MAXIMUM:
                value = tirx.max(value, item)
            else:
                value = value + item
            self.code.store(values, pixel * lanes, value, lanes)

    def _scale(self, group: Tiles, pixel: int) -> Expr | None:
        """The factor of one output of a tile: averages divide."""
        if self.spec.reduction is Reduction.AVERAGE_PADDED:
            return constant(1.0 / self.spec.window.taps)
        if self.spec.reduction is not Reduction.AVERAGE:
            return None
        inside = sum(len(s.taps) for s in group.segments if pixel in s.outputs)
        count = self.valid[1]
        if isinstance(count, int):
            return constant(1.0 / (inside * count))
        taps = tirx.Cast("float32", count * inside)
        return self.code.bind("scale", constant(1.0) / taps)

    def _finish(self, values: Array, group: Tiles, position: Expr) -> None:
        """Scale, apply the epilogue and store a tile."""
        spec, lanes = self.spec, self.lanes
        is_long = ep.is_long(spec.epilogue)
        for pixel in range(group.width):
            value, scale = values.load(pixel * lanes, lanes), self._scale(group, pixel)
            if scale is not None:
                value = value * splat(scale, lanes)
            self._store(position + pixel, value, () if is_long else spec.epilogue)
        if is_long:
            with self.code.loop("pixel", group.width) as step:
                index = (position + step) * spec.channels + self.channel
                value = self.arrays.output.load(index, lanes)
                self._store(position + step, value, spec.epilogue)

    def _store(self, position: Expr, value: Expr, epilogue: ep.Epilogue) -> None:
        index = position * self.spec.channels + self.channel
        place = ep.Place(index, self.channel, self.lanes)
        value = ep.apply(epilogue, value, self.arrays.operands, place)
        self.code.store(self.arrays.output, index, value, self.lanes)

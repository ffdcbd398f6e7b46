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
        """(first channel, vectors, lanes): whole vectors, then single channels."""
        whole = self.channels // self.lanes
        if whole:
            yield 0, whole, self.lanes
        if self.channels % self.lanes:
            yield whole * self.lanes, self.channels % self.lanes, 1


def pack_weights(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[channels, 1, rows, columns]` as `[rows, columns, channels]`."""
    return np.ascontiguousarray(weights[:, 0].transpose(1, 2, 0), dtype=np.float32)


def build(spec: Channelwise) -> Any:
    """The kernel: input, weights and bias if any, epilogue arguments, output."""
    return _Builder(spec).build()


class _Builder:
    def __init__(self, spec: Channelwise) -> None:
        self.spec = spec
        self.code = FunctionBuilder()
        window, channels = spec.window, spec.channels
        self.input = self.code.pointer("input", window.inputs * channels)
        self.weights = (
            self.code.pointer("weights", window.taps * channels) if spec.has_weights else None
        )
        self.bias = self.code.pointer("bias", channels) if spec.bias else None
        self.arguments = ep.parameters(self.code, spec.epilogue, window.outputs, channels)
        self.output = self.code.pointer("output", window.outputs * channels)

    def build(self) -> Any:
        code, window = self.code, self.spec.window
        with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
            tap, count = valid_rows(code, window.rows, row)
            for start, vectors, lanes in self.spec.parts():
                with code.loop("vector", vectors) as vector:
                    channel = start + vector * lanes
                    for group in tiles(window.columns, self.spec.pixels):
                        with code.loop("tile", group.count) as index:
                            column = group.start + index * group.width
                            self._tile(image, row, column, tap, count, group, channel, lanes)
        return code.build()

    def _tile(
        self,
        image: Expr,
        row: Expr,
        column: Expr,
        tap: Expr,
        count: Expr,
        group: Tiles,
        channel: Expr,
        lanes: int,
    ) -> None:
        code, spec = self.code, self.spec
        rows, columns = spec.window.rows, spec.window.columns
        values = code.registers("value", group.width * lanes)
        initial = self.bias.load(channel, lanes) if self.bias else constant(self._neutral, lanes)
        for pixel in range(group.width):
            code.store(values, pixel * lanes, initial, lanes)
        with code.loop("tap", count) as step:
            tap_row = tap + step
            line = image * rows.size + row * rows.stride + tap_row * rows.dilation - rows.pad
            source = (line * columns.size + column * columns.stride - columns.pad) * spec.channels
            for segment in group.segments:
                self._segment(values, segment, source + channel, tap_row, channel, lanes)
        scale = self._scales(group, count)
        position = (image * rows.out + row) * columns.out + column
        self._finish(values, scale, position, channel, lanes)

    @property
    def _neutral(self) -> float:
        return LOWEST if self.spec.reduction is Reduction.MAXIMUM else 0.0

    def _segment(
        self,
        values: Array,
        segment: Segment,
        source: Expr,
        tap_row: Expr,
        channel: Expr,
        lanes: int,
    ) -> None:
        """All taps of one window row; long rows in a loop, short ones unrolled."""
        if len(segment.taps) > 8 and len(segment.outputs) == 1:
            with self.code.loop("column_tap", len(segment.taps)) as tap:
                column_tap = segment.taps.start + tap
                self._taps(values, segment.outputs, source, tap_row, column_tap, channel, lanes)
            return
        for column_tap in segment.taps:
            self._taps(values, segment.outputs, source, tap_row, column_tap, channel, lanes)

    def _taps(
        self,
        values: Array,
        outputs: range,
        source: Expr,
        tap_row: Expr,
        column_tap: Expr,
        channel: Expr,
        lanes: int,
    ) -> None:
        """One tap of every output of the tile."""
        spec, code = self.spec, self.code
        columns = spec.window.columns
        for pixel in outputs:
            place = pixel * columns.stride + column_tap * columns.dilation
            item = self.input.load(source + place * spec.channels, lanes)
            value = values.load(pixel * lanes, lanes)
            if self.weights is not None:
                index = (tap_row * columns.taps + column_tap) * spec.channels + channel
                weight = self.weights.load(index, lanes)
                value = fused_multiply_add(item, weight, value, lanes)
            elif spec.reduction is Reduction.MAXIMUM:
                value = tirx.max(value, item)
            else:
                value = value + item
            code.store(values, pixel * lanes, value, lanes)

    def _scales(self, group: Tiles, count: Expr) -> list[Expr | None]:
        """The factor of every output of a tile: averages divide."""
        reduction, taps = self.spec.reduction, self.spec.window.taps
        if reduction is Reduction.AVERAGE_PADDED:
            return [constant(1.0 / taps)] * group.width
        if reduction is not Reduction.AVERAGE:
            return [None] * group.width
        return [self._reciprocal(group, pixel, count) for pixel in range(group.width)]

    def _reciprocal(self, group: Tiles, pixel: int, count: Expr) -> Expr:
        inside = sum(len(s.taps) for s in group.segments if pixel in s.outputs)
        if isinstance(count, int):
            return constant(1.0 / (inside * count))
        taps = tirx.Cast("float32", count * inside)
        return self.code.bind("scale", constant(1.0) / taps)

    def _finish(
        self,
        values: Array,
        scales: list[Expr | None],
        position: Expr,
        channel: Expr,
        lanes: int,
    ) -> None:
        """Scale, apply the epilogue and store a tile."""
        spec = self.spec
        for pixel, scale in enumerate(scales):
            value = values.load(pixel * lanes, lanes)
            if scale is not None:
                value = value * splat(scale, lanes)
            place = (position + pixel) * spec.channels + channel
            value = ep.apply(spec.epilogue, value, lanes, self.arguments, place, channel)
            self.code.store(self.output, place, value, lanes)

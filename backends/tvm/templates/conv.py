"""Convolution, grouped convolution and dense layers: one template over channels-last data.

The loop nest is channel block, output row, tile of neighbouring outputs, window row, and then one
run through the input that is contiguous across window columns and input channels wherever the
window is not dilated and the convolution not grouped. A dense layer is a 1x1 convolution over
its rows. Weights are packed in the order that this nest reads them, see `pack_weights`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm import epilogue as ep
from offramp.backends.tvm.schedules import Tile
from offramp.backends.tvm.tir import (
    Array,
    Expr,
    FunctionBuilder,
    constant,
    fused_multiply_add,
    splat,
)
from offramp.backends.tvm.window import Segment, Tiles, Window, tiles, valid_rows


@dataclass(frozen=True)
class Conv:
    """Structure of a convolution kernel; equal structures share one function.

    window: over the image, already flattened where it slides nowhere. channels: inputs of all
    groups. filters: outputs of all groups. lanes: float32 lanes of one vector.
    """

    window: Window
    channels: int
    filters: int
    groups: int
    bias: bool
    epilogue: ep.Epilogue
    lanes: int
    tile: Tile

    @property
    def depth(self) -> int:
        """Input channels of one group."""
        return self.channels // self.groups

    @property
    def width(self) -> int:
        """Output channels of one group."""
        return self.filters // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulates, taps outside the image included."""
        return self.window.outputs * self.window.taps * self.depth * self.filters

    def blocks(self) -> Iterator[Block]:
        """Blocks of output channels, as wide as the tile; the last may be narrower."""
        step = self.tile.vectors * self.lanes
        whole = self.width // step
        if whole:
            yield Block(0, whole, step, self.lanes)
        if self.width % step:
            yield Block(whole * step, 1, self.width % step, self.lanes)


@dataclass(frozen=True)
class Block:
    """`count` neighbouring blocks of `width` output channels of one group, from `start` on."""

    start: int
    count: int
    width: int
    lanes: int

    @property
    def vectors(self) -> int:
        """Vectors that hold the channels."""
        return -(-self.width // self.lanes)

    @property
    def padded(self) -> int:
        """Channels with the unused lanes of the last vector."""
        return self.vectors * self.lanes


def pack_weights(spec: Conv, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[filters, depth, rows, columns]` in reading order.

    The order is group, block, window row, window column, input channel, channel in block; a
    block's last vector is filled up with zeros.
    """
    grouped = weights.reshape(spec.groups, spec.width, spec.depth, -1).transpose(0, 3, 2, 1)
    packed = []
    for group in grouped:
        for block in spec.blocks():
            for index in range(block.count):
                start = block.start + index * block.width
                part = group[:, :, start : start + block.width]
                packed.append(np.pad(part, ((0, 0), (0, 0), (0, block.padded - block.width))))
    return np.concatenate([part.ravel() for part in packed]).astype(np.float32)


def build(spec: Conv) -> Any:
    """The kernel: input, weights, bias if any, epilogue arguments, output."""
    return _Builder(spec).build()


class _Builder:
    def __init__(self, spec: Conv) -> None:
        self.spec = spec
        self.code = FunctionBuilder()
        window = spec.window
        taps = window.taps * spec.depth
        padded = sum(block.count * block.padded for block in spec.blocks())
        self.group_weights = padded * taps
        self.input = self.code.pointer("input", window.inputs * spec.channels)
        self.weights = self.code.pointer("weights", spec.groups * self.group_weights)
        self.bias = self.code.pointer("bias", spec.filters) if spec.bias else None
        self.arguments = ep.parameters(self.code, spec.epilogue, window.outputs, spec.filters)
        self.output = self.code.pointer("output", window.outputs * spec.filters)

    def build(self) -> Any:
        spec, code = self.spec, self.code
        with code.loop("group", spec.groups) as group:
            done = 0
            for block in spec.blocks():
                with code.loop("block", block.count) as index:
                    taps = spec.window.taps * spec.depth
                    base = group * self.group_weights + (done + index * block.padded) * taps
                    first = group * spec.width + block.start + index * block.width
                    self._images(group * spec.depth, first, base, block)
                done += block.count * block.padded
        return code.build()

    def _images(self, channel: Expr, first: Expr, base: Expr, block: Block) -> None:
        """All outputs of one block of channels."""
        code, window = self.code, self.spec.window
        with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
            tap, count = valid_rows(code, window.rows, row)
            for group in tiles(window.columns, self.spec.tile.pixels):
                with code.loop("tile", group.count) as index:
                    column = group.start + index * group.width
                    accumulators = self._accumulate(
                        image, row, column, tap, count, group, block, channel, first, base
                    )
                    position = (image * window.rows.out + row) * window.columns.out + column
                    self._finish(accumulators, group.width, block, position, first)

    def _accumulate(
        self,
        image: Expr,
        row: Expr,
        column: Expr,
        tap: Expr,
        count: Expr,
        group: Tiles,
        block: Block,
        channel: Expr,
        first: Expr,
        base: Expr,
    ) -> Array:
        """Sum the valid taps of one tile in registers."""
        code, spec = self.code, self.spec
        rows, columns = spec.window.rows, spec.window.columns
        accumulators = code.registers("sum", group.width * block.padded)
        self._initialise(accumulators, group.width, block, first)
        with code.loop("tap", count) as step:
            tap_row = tap + step
            line = image * rows.size + row * rows.stride + tap_row * rows.dilation - rows.pad
            source = (line * columns.size + column * columns.stride - columns.pad) * spec.channels
            weights = base + tap_row * (columns.taps * spec.depth * block.padded)
            for segment in group.segments:
                self._segment(accumulators, segment, block, source + channel, weights)
        return accumulators

    def _initialise(self, accumulators: Array, width: int, block: Block, first: Expr) -> None:
        code, lanes = self.code, self.spec.lanes
        for pixel in range(width):
            for vector in range(block.vectors):
                offset = vector * lanes
                if self.bias is None:
                    value = constant(0.0, lanes)
                    code.store(accumulators, pixel * block.padded + offset, value, lanes)
                elif offset + lanes <= block.width:
                    value = self.bias.load(first + offset, lanes)
                    code.store(accumulators, pixel * block.padded + offset, value, lanes)
                else:
                    self._initialise_partly(self.bias, accumulators, pixel, block, first, offset)

    def _initialise_partly(
        self, bias: Array, accumulators: Array, pixel: int, block: Block, first: Expr, offset: int
    ) -> None:
        """The last vector of a block that does not fill it."""
        for lane in range(offset, offset + self.spec.lanes):
            inside = lane < block.width
            value = bias.load(first + lane) if inside else constant(0.0)
            self.code.store(accumulators, pixel * block.padded + lane, value)

    def _segment(
        self, accumulators: Array, segment: Segment, block: Block, source: Expr, weights: Expr
    ) -> None:
        """Consecutive window columns: one contiguous run where the layout allows."""
        spec = self.spec
        columns, taps = spec.window.columns, segment.taps
        source = source + taps.start * columns.dilation * spec.channels
        weights = weights + taps.start * spec.depth * block.padded
        if len(taps) == 1 or (columns.dilation == 1 and spec.groups == 1):
            self._run(accumulators, segment, block, source, weights, len(taps) * spec.depth)
            return
        with self.code.loop("column_tap", len(taps)) as tap:
            source = source + tap * (columns.dilation * spec.channels)
            weights = weights + tap * (spec.depth * block.padded)
            self._run(accumulators, segment, block, source, weights, spec.depth)

    def _run(
        self,
        accumulators: Array,
        segment: Segment,
        block: Block,
        source: Expr,
        weights: Expr,
        length: int,
    ) -> None:
        """`length` reduction steps over contiguous input and weights."""
        unroll = _unroll(length, self.spec.tile.unroll)
        with self.code.loop("step", length // unroll) as outer:
            begin = outer * unroll
            for inner in range(unroll):
                self._step(accumulators, segment, block, source, weights, begin + inner)
        for inner in range(length - length % unroll, length):
            self._step(accumulators, segment, block, source, weights, inner)

    def _step(
        self,
        accumulators: Array,
        segment: Segment,
        block: Block,
        source: Expr,
        weights: Expr,
        index: Expr,
    ) -> None:
        """One input channel of every output of the tile."""
        spec, lanes = self.spec, self.spec.lanes
        stride = spec.window.columns.stride * spec.channels
        for pixel in segment.outputs:
            pixel_value = splat(self.input.load(source + index + pixel * stride), lanes)
            for vector in range(block.vectors):
                weight = self.weights.load(weights + index * block.padded + vector * lanes, lanes)
                slot = pixel * block.padded + vector * lanes
                total = accumulators.load(slot, lanes)
                total = fused_multiply_add(pixel_value, weight, total, lanes)
                self.code.store(accumulators, slot, total, lanes)

    def _finish(
        self, accumulators: Array, width: int, block: Block, position: Expr, first: Expr
    ) -> None:
        """Apply the epilogue to a tile and store it."""
        spec = self.spec
        for pixel in range(width):
            for vector in range(block.vectors):
                offset = vector * spec.lanes
                whole = offset + spec.lanes <= block.width
                lanes = spec.lanes if whole else 1
                for lane in range(offset, min(offset + spec.lanes, block.width), lanes):
                    value = accumulators.load(pixel * block.padded + lane, lanes)
                    place = (position + pixel) * spec.filters + first + lane
                    value = ep.apply(
                        spec.epilogue, value, lanes, self.arguments, place, first + lane
                    )
                    self.code.store(self.output, place, value, lanes)


def _unroll(length: int, limit: int) -> int:
    """How many of `length` steps to unroll: a divisor near the limit if there is one."""
    if length <= limit:
        return length
    divisors = [n for n in range(limit // 2, limit + 1) if n and length % n == 0]
    return max(divisors, default=limit)

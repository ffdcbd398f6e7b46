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
from offramp.backends.tvm.templates.blocks import Block
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
    groups. filters: outputs of all groups. lanes: float32 lanes of one vector. panel: output
    channels that packed weights keep together; 0: those of one block, however wide.
    """

    window: Window
    channels: int
    filters: int
    groups: int
    bias: bool
    epilogue: ep.Epilogue
    lanes: int
    tile: Tile
    panel: int

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

    @property
    def steps(self) -> int:
        """Reduction steps of one output."""
        return self.window.taps * self.depth

    @property
    def group_weights(self) -> int:
        """Packed weights of one group."""
        blocks = list(self.blocks())
        return sum(block.count * block.stored for block in blocks) * self.steps

    def blocks(self) -> Iterator[Block]:
        """Blocks of output channels, as wide as the tile; the last may be narrower."""
        step = self.tile.vectors * self.lanes
        whole = self.width // step
        if whole:
            yield Block(0, whole, step, self.lanes, self.panel or step)
        if self.width % step:
            rest = self.width % step
            yield Block(whole * step, 1, rest, self.lanes, self.panel or rest)


def pack_weights(spec: Conv, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights `[filters, depth, rows, columns]` in reading order.

    The order is group, panel of output channels, window row, window column, input channel,
    channel in panel; the last panel is filled up with zeros.
    """
    grouped = weights.reshape(spec.groups, spec.width, spec.depth, -1).transpose(0, 3, 2, 1)
    panels = []
    for group in grouped:
        for block in spec.blocks():
            stop = block.start + block.count * block.width
            for start in range(block.start, stop, block.panel):
                part = group[:, :, start : min(start + block.panel, stop)]
                panels.append(np.pad(part, ((0, 0), (0, 0), (0, block.panel - part.shape[2]))))
    return np.concatenate([panel.ravel() for panel in panels]).astype(np.float32)


def build(spec: Conv) -> Any:
    """The kernel: input, weights, bias if any, epilogue arguments, output."""
    code = FunctionBuilder()
    window = spec.window
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * spec.channels),
        weights=code.pointer("weights", spec.groups * spec.group_weights),
        bias=code.pointer("bias", spec.filters) if spec.bias else None,
        operands=ep.parameters(code, spec.epilogue, window.outputs, spec.filters),
        output=code.pointer("output", window.outputs * spec.filters),
    )
    with code.loop("group", spec.groups) as group:
        done = 0
        for block in spec.blocks():
            with code.loop("block", block.count) as index:
                offset = done + index * block.stored
                _BlockBuilder(
                    spec=spec,
                    code=code,
                    arrays=arrays,
                    block=block,
                    channel=group * spec.depth,
                    filter=group * spec.width + block.start + index * block.width,
                    weights=group * spec.group_weights + offset * spec.steps,
                ).images()
            done += block.count * block.stored
    return code.build()


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function."""

    input: Array
    weights: Array
    bias: Array | None
    operands: list[Array]
    output: Array


@dataclass(frozen=True)
class _BlockBuilder:
    """Emits the code of one block of output channels.

    channel: first input channel. filter: first output channel. weights: where the packed weights
    of the block start.
    """

    spec: Conv
    code: FunctionBuilder
    arrays: _Arrays
    block: Block
    channel: Expr
    filter: Expr
    weights: Expr

    def images(self) -> None:
        """All outputs, row by row."""
        code, window = self.code, self.spec.window
        with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
            valid = valid_rows(code, window.rows, row)
            line = image * window.rows.size + row * window.rows.stride - window.rows.pad
            position = (image * window.rows.out + row) * window.columns.out
            for group in tiles(window.columns, self.spec.tile.pixels):
                with code.loop("tile", group.count) as index:
                    column = group.start + index * group.width
                    sums = self._accumulate(line, column, valid, group)
                    self._finish(sums, group.width, position + column)

    def _accumulate(
        self, line: Expr, column: Expr, valid: tuple[Expr, Expr], group: Tiles
    ) -> Array:
        """Sum the valid taps of one tile in registers; `line` is the input row of tap 0."""
        code, spec = self.code, self.spec
        rows, columns = spec.window.rows, spec.window.columns
        sums = code.registers("sum", group.width * self.block.padded)
        self._initialise(sums, group.width)
        first, count = valid
        with code.loop("tap", count) as step:
            tap = first + step
            row = (line + tap * rows.dilation) * columns.size
            source = (row + column * columns.stride - columns.pad) * spec.channels + self.channel
            weights = self.weights + tap * (columns.taps * spec.depth * self.block.panel)
            for segment in group.segments:
                self._segment(sums, segment, source, weights)
        return sums

    def _initialise(self, sums: Array, width: int) -> None:
        """Start every sum at its bias; unused lanes start at zero."""
        block, bias = self.block, self.arrays.bias
        unused = [(lane, 1) for lane in range(block.width, block.padded)]
        for pixel in range(width):
            for lane, lanes in [*block.pieces(), *unused]:
                value = constant(0.0, lanes)
                if bias is not None and lane < block.width:
                    value = bias.load(self.filter + lane, lanes)
                self.code.store(sums, pixel * block.padded + lane, value, lanes)

    def _segment(self, sums: Array, segment: Segment, source: Expr, weights: Expr) -> None:
        """Consecutive window columns: one contiguous run where the layout allows."""
        spec, taps = self.spec, segment.taps
        input_step = spec.window.columns.dilation * spec.channels
        weight_step = spec.depth * self.block.panel
        source = source + taps.start * input_step
        weights = weights + taps.start * weight_step
        if len(taps) == 1 or input_step == spec.depth:
            run = _Run(source, weights, len(taps) * spec.depth, segment.outputs)
            self._run(sums, run)
            return
        with self.code.loop("column_tap", len(taps)) as tap:
            start, packed = source + tap * input_step, weights + tap * weight_step
            self._run(sums, _Run(start, packed, spec.depth, segment.outputs))

    def _run(self, sums: Array, run: _Run) -> None:
        """A contiguous run, unrolled by a number that divides it if there is one."""
        unroll = _unroll(run.length, self.spec.tile.unroll)
        with self.code.loop("step", run.length // unroll) as outer:
            for inner in range(unroll):
                self._step(sums, run, outer * unroll + inner)
        for inner in range(run.length - run.length % unroll, run.length):
            self._step(sums, run, inner)

    def _step(self, sums: Array, run: _Run, index: Expr) -> None:
        """One input channel of every output of the tile."""
        spec, lanes, block = self.spec, self.spec.lanes, self.block
        stride = spec.window.columns.stride * spec.channels
        for pixel in run.outputs:
            item = splat(self.arrays.input.load(run.source + index + pixel * stride), lanes)
            for offset in range(0, block.padded, lanes):
                panel, channel = divmod(offset, block.panel)
                place = panel * spec.steps * block.panel + channel
                weight = self.arrays.weights.load(run.weights + index * block.panel + place, lanes)
                slot = pixel * block.padded + offset
                total = fused_multiply_add(item, weight, sums.load(slot, lanes), lanes)
                self.code.store(sums, slot, total, lanes)

    def _finish(self, sums: Array, width: int, position: Expr) -> None:
        """Apply the epilogue to a tile and store it; `position` is its first output."""
        spec, code, block = self.spec, self.code, self.block
        is_long = ep.is_long(spec.epilogue)
        for pixel in range(width):
            for lane, lanes in block.pieces():
                place = self._place(position + pixel, lane, lanes)
                value = sums.load(pixel * block.padded + lane, lanes)
                self._store(place, value, () if is_long else spec.epilogue)
        if is_long:
            with code.loop("pixel", width) as step:
                for lane, lanes in block.pieces():
                    place = self._place(position + step, lane, lanes)
                    value = self.arrays.output.load(place.index, lanes)
                    self._store(place, value, spec.epilogue)

    def _place(self, position: Expr, lane: int, lanes: int) -> ep.Place:
        channel = self.filter + lane
        return ep.Place(position * self.spec.filters + channel, channel, lanes)

    def _store(self, place: ep.Place, value: Expr, epilogue: ep.Epilogue) -> None:
        value = ep.apply(epilogue, value, self.arrays.operands, place)
        self.code.store(self.arrays.output, place.index, value, place.lanes)


@dataclass(frozen=True)
class _Run:
    """`length` reduction steps over contiguous input and weights, for some outputs of a tile."""

    source: Expr
    weights: Expr
    length: int
    outputs: range


def _unroll(length: int, limit: int) -> int:
    """How many of `length` steps to unroll: a divisor near the limit if there is one."""
    if length <= limit:
        return length
    divisors = [n for n in range(limit // 2, limit + 1) if n and length % n == 0]
    return max(divisors, default=limit)

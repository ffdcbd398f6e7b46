"""Integer convolutions and dense layers through microkernels.

The loops are output row and tile of neighbouring outputs: inputs of a tile are gathered in the
workspace, widened to 16 bits, and multiplied with all filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.addition import ExactAddition, add_exactly, exact_arrays
from offramp.backends.tvm.integer.structure import Convolution
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.integer_elementwise import Elementwise, IntegerElementwise
from offramp.backends.tvm.microkernels.integer_gather import IntegerGather, KeepRows
from offramp.backends.tvm.microkernels.integer_matrix import WIDEST, IntegerTile
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call

MOST_COPIED = 128
"""Bytes of a window that are copied to the stack at once."""


@dataclass(frozen=True)
class IntegerConv(Convolution):
    """For dual multiplies. bits: of stored weights: 8, 16, or 4 for reduction steps in eights."""

    bits: int = 8

    @property
    def together(self) -> int:
        """Reduction steps whose weights are loaded at a time."""
        return 8 if self.bits == 4 else 4

    def bytes_of(self, filters: int) -> int:
        """Bytes of the weights of some filters."""
        return filters * self.steps * self.bits // 8

    @property
    def is_backward(self) -> bool:
        """Whether the last tile comes first: then outputs wider than inputs may overwrite them."""
        return self.window.is_pointwise and self.filters > self.channels

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the inputs, from the same address on."""
        return (self.window.is_pointwise and self.keeps_bits) or self.kept_rows > 0

    @property
    def steps(self) -> int:
        """Reduction steps, a multiple of four."""
        return -(-self.window.taps * self.channels // 4) * 4

    @property
    def pixels(self) -> int:
        """Outputs of a full tile."""
        return min(WIDEST, self.window.columns.out)

    @property
    def workspace(self) -> int:
        """Bytes for the gathered inputs of a tile, and for kept rows."""
        kept = self.kept_rows * self.window.columns.size * self.channels
        return self.gathered + kept + self.products

    @property
    def products(self) -> int:
        """Bytes for the outputs of a tile before a residual is added exactly."""
        return 0 if self.exact_addition is None else self.pixels * self.filters

    @property
    def gathered(self) -> int:
        """Bytes of the gathered inputs of a tile."""
        return 2 * self.steps * self.pixels

    def tiles(self) -> Iterator[tuple[int, int, int]]:
        """(first column, tiles, outputs of each): full tiles, then a narrower one."""
        whole, rest = divmod(self.window.columns.out, self.pixels)
        yield 0, whole, self.pixels
        if rest:
            yield whole * self.pixels, 1, rest

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(first filter, blocks, filters of each) that one call computes."""
        width = min(WIDEST, self.filters) if self.pixels == 1 else 1
        yield 0, self.filters // width, width
        if self.filters % width:
            yield self.filters - self.filters % width, 1, self.filters % width

    def tile(self, pixels: int, filters: int) -> IntegerTile:
        """The microkernel of a tile."""
        rounds = self.steps // self.together
        unroll = max(n for n in (4, 3, 2, 1) if rounds % n == 0)
        added = None if self.addition is None else self.addition.shift
        return IntegerTile(pixels, filters, unroll, self.scaling, added, self.bits)

    def gather(self, pixels: int) -> IntegerGather:
        """What collects the inputs of a tile."""
        is_whole = self.channels % 4 == 0
        lines = None if is_whole else self._lines()
        return IntegerGather(pixels, is_whole, self.source_bits, lines)

    def _lines(self) -> tuple[int, int] | None:
        rows, columns = self.window.rows, self.window.columns
        line = columns.taps * self.channels
        fits = rows.taps * line <= MOST_COPIED
        is_copied = fits and self.source_bits == 8 and columns.dilation == 1
        return (rows.taps, line) if is_copied else None

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        found: dict[Microkernel, None] = {KeepRows(): None} if self.kept_rows else {}
        for _, _, pixels in self.tiles():
            found[self.gather(pixels)] = None
            found |= {self.tile(pixels, filters): None for _, _, filters in self.blocks()}
        if self.exact_addition is not None:
            found[self.adder(self.exact_addition)] = None
        return tuple(found)

    @staticmethod
    def adder(added: ExactAddition) -> IntegerElementwise:
        """What adds a residual to the outputs of a tile as TFLite's reference kernel does."""
        return IntegerElementwise(Elementwise.EXACT_ADD, added.low, added.high)


def pack_weights(spec: IntegerConv, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights `[filters, channels, rows, columns]` in reading order.

    The order is block of filters, group of reduction steps, filter in block, step in group; steps
    run over window row, window column and channel, and are filled up with zeros. For weights of 4
    and 16 bits see `integer_matrix`.
    """
    rows = weights.transpose(0, 2, 3, 1).reshape(spec.filters, -1)
    padded = np.pad(rows, ((0, 0), (0, spec.steps - rows.shape[1])))
    parts = []
    for start, count, width in spec.blocks():
        block = padded[start : start + count * width].reshape(count, width, -1, spec.together)
        parts.append(block.transpose(0, 2, 1, 3).ravel())
    packed = np.concatenate(parts).astype(np.int8)
    if spec.bits == 8:
        return packed
    if spec.bits == 16:
        paired = packed.reshape(-1, 2, 2).swapaxes(1, 2).astype(np.int16)
        return np.ascontiguousarray(paired).view(np.int8).ravel()
    first, second = packed.reshape(-1, 2, 4).transpose(1, 0, 2)
    return np.asarray(first * 16 | second & 15, np.int8).ravel()


def build(spec: IntegerConv) -> Any:
    """The kernel: input, weights, scales, those of an exact sum, residual if any, output,
    workspace.
    """
    code, window = FunctionBuilder(), spec.window
    size = window.outputs * spec.filters
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * spec.channels, f"int{spec.source_bits}"),
        weights=code.pointer("weights", spec.bytes_of(spec.filters), "int8"),
        scales=code.pointer("scales", spec.scaling.words * spec.filters, "int32"),
        exact=None if spec.exact_addition is None else exact_arrays(code, size),
        residual=code.pointer("residual", size, "int8") if spec.addition else None,
        output=code.pointer("output", size, f"int{spec.scaling.bits}"),
        workspace=code.pointer("workspace", spec.workspace, "uint8"),
    )
    with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
        if spec.kept_rows:
            _keep_rows(spec, code, arrays, row)
        runs = list(spec.tiles())
        for first, count, pixels in reversed(runs) if spec.is_backward else runs:
            with code.loop("tile", count) as index:
                tile = count - 1 - index if spec.is_backward else index
                _tile(spec, code, arrays, (image, row, first + tile * pixels), pixels)
    return code.build()


def _keep_rows(spec: IntegerConv, code: FunctionBuilder, arrays: _Arrays, row: Expr) -> None:
    """Copy the rows that this row of outputs is the first to read."""
    rows, columns = spec.window.rows, spec.window.columns
    code.run(
        external_call(
            KeepRows().name,
            arrays.workspace.address(spec.gathered),
            arrays.input.address(0),
            row,
            rows.size,
            columns.size * spec.channels,
            rows.taps,
            rows.stride,
            rows.pad,
        )
    )


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function. exact: scales of an exact sum, and the residual."""

    input: Array
    weights: Array
    scales: Array
    exact: tuple[Array, Array] | None
    residual: Array | None
    output: Array
    workspace: Array


def _tile(
    spec: IntegerConv,
    code: FunctionBuilder,
    arrays: _Arrays,
    place: tuple[Expr, Expr, Expr],
    pixels: int,
) -> None:
    image, row, column = place
    rows, columns = spec.window.rows, spec.window.columns
    source = arrays.input.address(image * (rows.size * columns.size * spec.channels))
    code.run(
        external_call(
            spec.gather(pixels).name,
            arrays.workspace.address(0),
            arrays.workspace.address(spec.gathered) if spec.kept_rows else source,
            row * rows.stride - rows.pad,
            column * columns.stride - columns.pad,
            rows.size,
            columns.size,
            spec.channels,
            rows.taps,
            columns.taps,
            rows.dilation,
            columns.dilation,
            columns.stride,
            spec.zero,
            *([] if spec.channels % 4 == 0 else [spec.kept_rows]),
        )
    )
    position = (image * rows.out + row) * columns.out + column
    for first, blocks, filters in spec.blocks():
        tile = spec.tile(pixels, filters)
        place = position * spec.filters + first
        code.run(
            external_call(
                tile.name,
                arrays.output.address(place)
                if spec.exact_addition is None
                else arrays.workspace.address(spec.gathered + first),
                arrays.workspace.address(0),
                arrays.weights.address(spec.bytes_of(first)),
                arrays.scales.address(spec.scaling.words * first),
                spec.steps // (spec.together * tile.unroll),
                blocks,
                spec.steps,
                spec.filters,
                spec.scaling.zero,
                *_residual(spec, arrays, place),
            )
        )
    added = spec.exact_addition
    if added is not None and arrays.exact is not None:
        start = position * spec.filters
        sum_scales, addend = arrays.exact
        places = (arrays.workspace.address(spec.gathered), addend.address(start))
        ends = (arrays.output.address(start), *places, sum_scales.address(0))
        code.run(add_exactly(spec.adder(added).name, added, ends, pixels * spec.filters))


def _residual(spec: IntegerConv, arrays: _Arrays, place: Expr) -> tuple[Expr, ...]:
    added = spec.addition
    if added is None or arrays.residual is None:
        return ()
    return arrays.residual.address(place), added.left, added.right, added.offset

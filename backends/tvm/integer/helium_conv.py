"""Integer convolutions and dense layers through microkernels for Helium.

The loops are output row and tile of neighbouring outputs: inputs of a tile are gathered in the
workspace, as the bytes that they are, and multiplied with all filters. Windows that overlap share
what is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.addition import ExactAddition, add_exactly, exact_arrays
from offramp.backends.tvm.integer.scaling import Factors
from offramp.backends.tvm.integer.structure import Convolution
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.helium import BYTES, LANES, words
from offramp.backends.tvm.microkernels.helium_elementwise import HeliumExactAdd
from offramp.backends.tvm.microkernels.helium_gather import HeliumGather
from offramp.backends.tvm.microkernels.helium_matrix import STRAIGHT, HeliumTile
from offramp.backends.tvm.microkernels.helium_strip import HeliumStrip
from offramp.backends.tvm.microkernels.integer_gather import KeepRows
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call

WIDEST = 8
"""Outputs of a full tile: scales are loaded once for them."""

NARROW = 4
"""Outputs that a full tile has whatever its workspace needs."""

ROOM = 1024
"""Bytes of workspace that more of them may take."""


@dataclass(frozen=True)
class HeliumConv(Convolution):
    """For vectors of sixteen bytes."""

    @property
    def may_overwrite(self) -> bool:
        """Whether outputs may lie on the inputs, from the same address on."""
        return (self.window.is_pointwise and self.window.outputs > 1) or self.kept_rows > 0

    @property
    def is_backward(self) -> bool:
        """Whether the last tile comes first: then outputs wider than inputs may overwrite them."""
        return self.window.is_pointwise and self.filters > self.channels

    @property
    def steps(self) -> int:
        """Reduction steps, a multiple of sixteen."""
        return -(-self.depth // BYTES) * BYTES

    @property
    def depth(self) -> int:
        """Inputs of an output."""
        return self.window.taps * self.channels

    @property
    def is_strip(self) -> bool:
        """Whether windows of neighbours share the inputs that are gathered."""
        columns = self.window.columns
        overlaps = columns.taps > columns.stride and columns.dilation == 1
        return overlaps and self.channels % BYTES == 0

    @property
    def pitch(self) -> int:
        """Bytes from the inputs of an output to those of the next."""
        rows, columns = self.window.rows, self.window.columns
        return columns.stride * rows.taps * self.channels if self.is_strip else self.depth

    @property
    def pixels(self) -> int:
        """Outputs of a full tile."""
        fitting = ((ROOM - self.depth) // self.pitch + 1) // 2 * 2
        return min(WIDEST, max(NARROW, fitting), self.window.columns.out)

    @property
    def is_direct(self) -> bool:
        """Whether inputs are read where they are, those of the only output of a dense layer.

        Its last vector may then be partial, which a loop does not know.
        """
        is_single = self.window.is_pointwise and self.window.outputs == 1
        return is_single and (self.depth == self.steps or self.rounds <= STRAIGHT)

    @property
    def workspace(self) -> int:
        """Bytes for the gathered inputs of a tile, and for kept rows."""
        kept = self.kept_rows * self.window.columns.size * self.channels
        return 0 if self.is_direct else self.gathered + kept + self.products

    @property
    def products(self) -> int:
        """Bytes for the outputs of a tile before a residual is added exactly."""
        return 0 if self.exact_addition is None else self.pixels * self.filters

    @property
    def gathered(self) -> int:
        """Bytes of the gathered inputs of a tile, and of what its last vector reads behind them."""
        return self.pitch * (self.pixels - 1) + self.steps

    @property
    def rounds(self) -> int:
        """Vectors of reduction steps."""
        return self.steps // BYTES

    def tiles(self) -> Iterator[tuple[int, int, int]]:
        """(first column, tiles, outputs of each): full tiles and a narrower one, in their order."""
        whole, rest = divmod(self.window.columns.out, self.pixels)
        tiles = [(0, whole, self.pixels)]
        if rest:
            tiles.append((whole * self.pixels, 1, rest))
        yield from reversed(tiles) if self.is_backward else tiles

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(first filter, blocks, filters of each) that one call computes."""
        whole, rest = divmod(self.filters, LANES)
        if whole:
            yield 0, whole, LANES
        if rest:
            yield whole * LANES, 1, rest

    def tile(self, pixels: int, filters: int) -> HeliumTile:
        """The microkernel of a tile."""
        return HeliumTile(
            rounds=self.rounds if self.rounds <= STRAIGHT else 0,
            unroll=max(n for n in (4, 3, 2, 1) if self.rounds % n == 0),
            pairs=pixels > 1,
            single=pixels % 2 == 1,
            filters=filters,
            ragged=self.depth % BYTES if self.is_direct else 0,
            scaling=self.scaling,
            sum_shift=None if self.addition is None else self.addition.shift,
        )

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        found: dict[Microkernel, None] = {}
        if not self.is_direct:
            found[HeliumStrip() if self.is_strip else HeliumGather()] = None
        if self.kept_rows:
            found[KeepRows()] = None
        for _, _, pixels in self.tiles():
            found |= {self.tile(pixels, filters): None for _, _, filters in self.blocks()}
        if self.exact_addition is not None:
            found[self.adder(self.exact_addition)] = None
        return tuple(found)

    @staticmethod
    def adder(added: ExactAddition) -> HeliumExactAdd:
        """What adds a residual to the outputs of a tile as TFLite's reference kernel does."""
        return HeliumExactAdd(added.low, added.high)


def pack_weights(spec: HeliumConv, weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Weights `[filters, channels, rows, columns]` in reading order.

    The order is block of four filters, vector of sixteen reduction steps, filter in block, step in
    vector; steps run over window row, window column and channel, in a strip over columns before
    rows. Zeros fill up filters and steps.
    """
    order = (0, 3, 2, 1) if spec.is_strip else (0, 2, 3, 1)
    rows = weights.transpose(order).reshape(spec.filters, -1)
    filled = np.pad(rows, ((0, -spec.filters % LANES), (0, spec.steps - rows.shape[1])))
    return filled.reshape(-1, LANES, spec.steps // BYTES, BYTES).swapaxes(1, 2).ravel()


def pack_scales(factors: Factors, sums: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """What a tile reads: for each block of four filters where sums start, multipliers, and shifts.

    Shifts to the left are written, which are negative.
    """
    columns = factors.columns
    parts = [sums, columns[:, 0], *([-columns[:, 1]] if columns.shape[1] > 1 else [])]
    table = np.stack([np.pad(part, (0, -len(part) % LANES)) for part in parts])
    blocks = table.reshape(len(parts), -1, LANES).swapaxes(0, 1)
    return np.ascontiguousarray(blocks, np.int32).ravel()


def build(spec: HeliumConv) -> Any:
    """The kernel: input, weights, scales, those of an exact sum, residual if any, output,
    workspace.
    """
    code, window = FunctionBuilder(), spec.window
    size, filled = window.outputs * spec.filters, -(-spec.filters // LANES) * LANES
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * spec.channels, "int8"),
        weights=code.pointer("weights", spec.steps * filled, "int8"),
        scales=code.pointer("scales", words(spec.scaling) * filled, "int32"),
        exact=None if spec.exact_addition is None else exact_arrays(code, size),
        residual=code.pointer("residual", size, "int8") if spec.addition else None,
        output=code.pointer("output", size, "int8"),
        workspace=code.pointer("workspace", spec.workspace, "uint8") if spec.workspace else None,
    )
    with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
        if arrays.workspace is not None and spec.kept_rows:
            code.run(
                external_call(
                    KeepRows().name,
                    arrays.workspace.address(spec.gathered),
                    arrays.input.address(0),
                    row,
                    window.rows.size,
                    window.columns.size * spec.channels,
                    window.rows.taps,
                    window.rows.stride,
                    window.rows.pad,
                )
            )
        for first, count, pixels in spec.tiles():
            with code.loop("tile", count) as index:
                position = count - 1 - index if spec.is_backward else index
                _tile(spec, code, arrays, (image, row, first + position * pixels), pixels)
    return code.build()


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function. exact: scales of an exact sum, and the residual."""

    input: Array
    weights: Array
    scales: Array
    exact: tuple[Array, Array] | None
    residual: Array | None
    output: Array
    workspace: Array | None


def _inputs(
    spec: HeliumConv,
    code: FunctionBuilder,
    arrays: _Arrays,
    place: tuple[Expr, Expr, Expr],
    pixels: int,
) -> Expr:
    """Where the inputs of a tile are, gathered if need be."""
    image, row, column = place
    rows, columns = spec.window.rows, spec.window.columns
    if arrays.workspace is None:
        return arrays.input.address(column * spec.channels)
    source = arrays.input.address(image * (rows.size * columns.size * spec.channels))
    begin = (row * rows.stride - rows.pad, column * columns.stride - columns.pad)
    geometry = (*begin, rows.size, columns.size, spec.channels)
    target = arrays.workspace.address(0)
    if spec.is_strip:
        count = (pixels - 1) * columns.stride + columns.taps
        rest: tuple[Expr, ...] = (rows.taps, rows.dilation, spec.zero, count)
        code.run(external_call(HeliumStrip().name, target, source, *geometry, *rest))
    else:
        taps = (rows.taps, columns.taps, rows.dilation, columns.dilation, columns.stride)
        rest = (*taps, spec.zero, pixels, spec.kept_rows)
        source = arrays.workspace.address(spec.gathered) if spec.kept_rows else source
        code.run(external_call(HeliumGather().name, target, source, *geometry, *rest))
    return target


def _tile(
    spec: HeliumConv,
    code: FunctionBuilder,
    arrays: _Arrays,
    place: tuple[Expr, Expr, Expr],
    pixels: int,
) -> None:
    """All filters of neighbouring outputs; place: image, row and column of the first."""
    image, row, column = place
    inputs = _inputs(spec, code, arrays, place, pixels)
    position = (image * spec.window.rows.out + row) * spec.window.columns.out + column
    added, exactly = spec.addition, spec.exact_addition
    for first, blocks, filters in spec.blocks():
        tile, start = spec.tile(pixels, filters), position * spec.filters + first
        output, residual = arrays.output.address(start), tuple[Expr, ...]()
        if exactly is not None and arrays.workspace is not None:
            output = arrays.workspace.address(spec.gathered + first)
        if added is not None and arrays.residual is not None:
            residual = (arrays.residual.address(start), added.left, added.right, added.offset)
        code.run(
            external_call(
                tile.name,
                spec.scaling.zero,
                spec.filters,
                2 * spec.pitch - spec.steps,
                spec.pitch,
                inputs,
                arrays.weights.address(first * spec.steps),
                arrays.scales.address(words(spec.scaling) * first),
                output,
                spec.steps // (BYTES * tile.unroll),
                pixels // 2,
                blocks,
                *residual,
            )
        )
    if exactly is not None and arrays.exact is not None and arrays.workspace is not None:
        start = position * spec.filters
        sum_scales, addend = arrays.exact
        places = (arrays.workspace.address(spec.gathered), addend.address(start))
        ends = (arrays.output.address(start), *places, sum_scales.address(0))
        code.run(add_exactly(spec.adder(exactly).name, exactly, ends, pixels * spec.filters))

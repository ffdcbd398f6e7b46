"""Integer convolutions on cores without dual multiplies: two pixels share a word.

The loops are output row and tile of neighbouring outputs: inputs of a tile are gathered in the
workspace, two pixels in a word, and multiplied with all filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.integer.runs import cut
from offramp.backends.tvm.integer.structure import Convolution
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.paired_gather import PairedGather
from offramp.backends.tvm.microkernels.paired_matrix import WIDEST, PairedTile
from offramp.backends.tvm.microkernels.rounding import Rounding, arguments
from offramp.backends.tvm.tir import Array, Expr, FunctionBuilder, external_call, tirx


@dataclass(frozen=True)
class PairedConv(Convolution):
    """For cores without dual multiplies. narrow: weights have four bits; steps come in twos."""

    narrow: bool = False

    @property
    def steps(self) -> int:
        """Reduction steps."""
        return self.window.taps * self.channels

    @property
    def may_overwrite(self) -> bool:
        """Whether each tile of outputs may lie on the inputs gathered for it."""
        return self.window.is_pointwise and self.channels == self.filters

    @property
    def gathered(self) -> int:
        """Bytes of the inputs of a full tile."""
        return 4 * self.steps * self.tile(self.pixels).pairs

    @property
    def workspace(self) -> int:
        """Bytes of the inputs of a tile, then zero points for a tap outside the image."""
        return self.gathered + self.channels

    @property
    def pixels(self) -> int:
        """Outputs of a full tile: as evenly as tiles of at most `WIDEST` cut a row."""
        out = self.window.columns.out
        tiles = -(-out // WIDEST)
        return min(WIDEST, 2 * -(-out // (2 * tiles)), out)

    def tiles(self) -> Iterator[tuple[int, int, int]]:
        """(first column, tiles, outputs of each): full tiles, then a narrower one."""
        whole, rest = divmod(self.window.columns.out, self.pixels)
        yield 0, whole, self.pixels
        if rest:
            yield whole * self.pixels, 1, rest

    def tile(self, pixels: int) -> PairedTile:
        """The microkernel of a tile."""
        rounding = Rounding.of(self.scaling)
        return PairedTile(pixels, rounding, self.addition is not None, self.narrow)

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        widths = [pixels for _, _, pixels in self.tiles()]
        return (*map(PairedGather, widths), *map(self.tile, widths))


def pack(
    spec: PairedConv, weights: npt.NDArray[np.int8], table: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Weights `[filters, channels, rows, columns]` in reading order, their runs, and scales.

    table: of scales, which the runs add to. Narrow weights lie two a byte.
    """
    rows = np.ascontiguousarray(weights.transpose(0, 2, 3, 1)).reshape(len(weights), -1)
    runs = [cut(row[None], 2 if spec.narrow else 1) for row in rows]
    scales = table.reshape(len(rows), -1).copy()
    scales[:, 0] -= np.array([run.offset for run in runs], np.int32)
    packed = rows.ravel()
    if spec.narrow:
        packed = (packed[1::2] << 4 | packed[::2] & 15).astype(np.int8)
    return packed, np.concatenate([run.words for run in runs]), scales.ravel()


@dataclass(frozen=True)
class _Arrays:
    """The parameters of the function."""

    input: Array
    weights: Array
    runs: Array
    scales: Array
    residual: Array | None
    output: Array
    workspace: Array


def build(spec: PairedConv) -> Any:
    """The kernel: input, weights, runs, scales, residual if any, output, workspace."""
    code, window = FunctionBuilder(), spec.window
    size = window.outputs * spec.filters
    arrays = _Arrays(
        input=code.pointer("input", window.inputs * spec.channels, "int8"),
        weights=code.pointer(
            "weights", spec.steps * spec.filters // (2 if spec.narrow else 1), "int8"
        ),
        runs=code.pointer("runs", spec.steps * spec.filters, "int32"),
        scales=code.pointer("scales", spec.scaling.words * spec.filters, "int32"),
        residual=code.pointer("residual", size, "int8") if spec.addition else None,
        output=code.pointer("output", size, "int8"),
        workspace=code.pointer("workspace", spec.workspace, "uint8"),
    )
    with code.loop("channel", spec.channels) as channel:
        zero = tirx.IntImm("uint8", spec.zero & 0xFF)
        code.store(arrays.workspace, spec.gathered + channel, zero)
    with code.loop("image", window.batch) as image, code.loop("row", window.rows.out) as row:
        for first, count, pixels in spec.tiles():
            with code.loop("tile", count) as index:
                _tile(spec, code, arrays, (image, row, first + index * pixels), pixels)
    return code.build()


def _tile(
    spec: PairedConv,
    code: FunctionBuilder,
    arrays: _Arrays,
    place: tuple[Expr, Expr, Expr],
    pixels: int,
) -> None:
    image, row, column = place
    rows, columns = spec.window.rows, spec.window.columns
    code.run(
        external_call(
            PairedGather(pixels).name,
            arrays.workspace.address(0),
            arrays.input.address(image * (rows.size * columns.size * spec.channels)),
            arrays.workspace.address(spec.gathered),
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
        )
    )
    start = ((image * rows.out + row) * columns.out + column) * spec.filters
    code.run(
        external_call(
            spec.tile(pixels).name,
            arrays.output.address(start),
            arrays.workspace.address(0),
            arrays.weights.address(0),
            arrays.runs.address(0),
            arrays.scales.address(0),
            spec.steps,
            spec.filters,
            *arguments(spec.scaling),
            *_residual(spec, arrays, start),
        )
    )


def _residual(spec: PairedConv, arrays: _Arrays, start: Expr) -> tuple[Expr, ...]:
    added = spec.addition
    if added is None or arrays.residual is None:
        return ()
    return arrays.residual.address(start), added.left, added.right, added.offset, added.shift

"""Register tiles: how many outputs a kernel computes at a time.

A tile of `pixels` by `vectors` accumulators loads `pixels + vectors` operands for
`pixels * vectors` multiply-accumulates a step. The best tile is found by counting, for the
shape at hand, what all tiles of the output cost, remainders included.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.tvm.window import Axis
from offramp.compiler.targets import Target


@dataclass(frozen=True)
class Tile:
    """A register tile: `pixels` outputs by `vectors` channel vectors; `unroll` reduction steps."""

    pixels: int
    vectors: int
    unroll: int


def vector_lanes(target: Target, channels: int) -> int:
    """Lanes of the narrowest vector that holds `channels`, or of the widest there is."""
    lanes = target.vector_lanes
    while lanes // 2 >= channels:
        lanes //= 2
    return lanes


def matrix_tile(target: Target, pixels: int, filters: int, depth: int) -> Tile:
    """The tile for a product of `pixels` rows by `filters` columns, `depth` steps deep.

    target: gives the register file: a tile keeps its accumulators, one operand of each column (or
    row) and one more operand in registers. A tile is a whole number of weight panels wide.
    """
    lanes = vector_lanes(target, filters)
    vectors = -(-filters // lanes)
    multiple = max(target.panel // lanes, 1)
    candidates = [
        (_cost(target, (pixels, vectors, depth), (height, width)), -height * width, height, width)
        for height in range(1, min(pixels, target.registers) + 1)
        for width in range(1, min(vectors, target.registers) + 1)
        if height * width + min(height, width) + 1 <= target.registers
        and (width % multiple == 0 or width == vectors)
    ]
    _, _, height, width = min(candidates)
    return Tile(height, width, max(1, min(16, target.max_unrolled // (height * width))))


def _cost(target: Target, shape: tuple[int, int, int], tile: tuple[int, int]) -> float:
    """What all tiles of the output cost together, in the target's issue slots."""
    pixels, vectors, depth = shape
    total = 0.0
    for height, rows in _parts(pixels, tile[0]):
        for width, columns in _parts(vectors, tile[1]):
            fmas = height * width
            step = fmas + height + width
            if target.vector_lanes > 1:
                step = max(fmas, height + width, target.fma_latency)
            total += rows * columns * (step * depth + target.tile_overhead + 2 * fmas)
    return total


def _parts(total: int, size: int) -> list[tuple[int, int]]:
    """(size, count) of the full parts and of the remainder."""
    parts = [(size, total // size)] if total >= size else []
    return parts + ([(total % size, 1)] if total % size else [])


def row_tile(target: Target, columns: Axis) -> int:
    """How many neighbouring outputs a channelwise kernel computes at a time.

    A tile keeps its accumulators and one row of inputs in registers.
    """
    width = columns.out
    while width > 1 and width + (width - 1) * columns.stride + columns.taps > target.registers:
        width -= 1
    rounds = -(-columns.out // width)
    return -(-columns.out // rounds)

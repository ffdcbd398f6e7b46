"""Generated placement instances: a rectangle of time and bytes cut into buffers, so that all fit.

Four kinds, in the manner of the public instances:

- cut: one piece after another is cut through, anywhere; lifetimes and sizes differ by orders of
  magnitude, and there is no slack.
- wheel: some cuts make five pieces in a pinwheel, which no cut through can.
- slack: as cut; then one buffer in twelve is dropped, and the others lose a few units of size.
- bricks: the largest piece is cut near its middle; buffers are small, and few are dropped at the
  beginning, but more and more later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from offramp.passes.memory.search import Buffer, Instance

UNIT, UNITS = 1024, 1024
"""Bytes of a unit, and units of the capacity: 1 MiB. Times are multiples of the unit as well."""
PINWHEELS, DROPPED, MOST_LOST, MOST_DROPPED = 0.3, 1 / 12, 3, 0.6
FLATNESS = 0.5
"""Bricks last half as long as they are high, of all time and of the capacity."""

Random = np.random.Generator


@dataclass(frozen=True)
class Piece:
    """A rectangle, half-open: in use from left to right, in the units from low to high."""

    left: int
    right: int
    low: int
    high: int

    @property
    def width(self) -> int:
        """Units of time."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Units of size."""
        return self.high - self.low


def cut(count: int, random: Random) -> list[Piece]:
    """Cut through anywhere."""
    pieces = [Piece(0, UNITS, 0, UNITS)]
    while len(pieces) < count:
        pieces += _halves(_drawn(pieces, random), random)
    return pieces


def wheel(count: int, random: Random) -> list[Piece]:
    """Cut through, or in a pinwheel."""
    pieces = [Piece(0, UNITS, 0, UNITS)]
    while len(pieces) < count:
        is_wheel = random.random() < PINWHEELS and len(pieces) + 4 <= count
        piece = _drawn(pieces, random)
        pieces += _pinwheel(piece, random) if is_wheel else _halves(piece, random)
    return pieces


def slack(count: int, random: Random) -> list[Piece]:
    """Cut through, then dropped or made smaller."""
    pieces = [
        replace(piece, high=max(piece.low + 1, piece.high - int(random.integers(MOST_LOST + 1))))
        for piece in cut(round(count / (1 - DROPPED)), random)
    ]
    return [pieces[i] for i in random.permutation(len(pieces))[:count]]


def bricks(count: int, random: Random) -> list[Piece]:
    """Cut near the middle, across the longer side; then dropped."""
    pieces = [Piece(0, UNITS, 0, UNITS)]
    while len(pieces) < count / (1 - MOST_DROPPED / 2):
        piece = max(pieces, key=lambda p: (p.width * p.height, p.left, p.low))
        pieces.remove(piece)
        is_long = piece.width > FLATNESS * piece.height
        side = piece.width if is_long else piece.height
        at = int(side * random.uniform(0.35, 0.65))
        pieces += _cut_at(piece, max(at, 1), is_long)
    return [p for p in pieces if random.random() >= MOST_DROPPED * p.left / UNITS][:count]


def _drawn(pieces: list[Piece], random: Random) -> Piece:
    """Take one out, large ones more often."""
    weights = np.array([piece.width * piece.height for piece in pieces], np.float64) ** 0.5
    return pieces.pop(int(random.choice(len(pieces), p=weights / weights.sum())))


def _halves(piece: Piece, random: Random) -> list[Piece]:
    """Cut anywhere in time or size; the piece itself if it is too small."""
    in_time = bool(random.random() < 0.5)
    side = piece.width if in_time else piece.height
    return _cut_at(piece, int(random.integers(1, side)), in_time) if side > 1 else [piece]


def _cut_at(piece: Piece, at: int, in_time: bool) -> list[Piece]:
    if in_time:
        return [replace(piece, right=piece.left + at), replace(piece, left=piece.left + at)]
    return [replace(piece, high=piece.low + at), replace(piece, low=piece.low + at)]


def _pinwheel(piece: Piece, random: Random) -> list[Piece]:
    """Four pieces around a fifth; the piece itself if it is too small."""
    if min(piece.width, piece.height) < 4:
        return [piece]
    a, b = sorted(piece.left + 1 + random.choice(piece.width - 1, 2, replace=False).astype(int))
    c, d = sorted(piece.low + 1 + random.choice(piece.height - 1, 2, replace=False).astype(int))
    corners = [
        (piece.left, b, piece.low, c),
        (b, piece.right, piece.low, d),
        (a, piece.right, d, piece.high),
        (piece.left, a, c, piece.high),
        (a, b, c, d),
    ]
    return [Piece(*(int(value) for value in corner)) for corner in corners]


KINDS: dict[str, Callable[[int, Random], list[Piece]]] = {
    "cut": cut, "wheel": wheel, "slack": slack, "bricks": bricks,
}  # fmt: skip


def packing(kind: str, count: int, seed: int) -> Instance:
    """About `count` buffers that fit into 1 MiB, in random order."""
    random = np.random.default_rng([seed, count, list(KINDS).index(kind)])
    pieces = KINDS[kind](count, random)
    order = random.permutation(len(pieces))
    return Instance(
        tuple(
            Buffer(str(name), p.left * UNIT, p.right * UNIT, p.height * UNIT)
            for name, p in enumerate(pieces[at] for at in order)
        )
    )

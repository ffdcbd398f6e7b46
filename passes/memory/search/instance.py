"""Placement problems of plain intervals: buffers with one lifetime each, and what bounds them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

LARGEST = 2**63 - 1
"""Times, sizes and capacities are at most this."""


@dataclass(frozen=True)
class Buffer:
    """`size` bytes that are in use at times lower <= t < upper; lower < upper."""

    id: str
    lower: int
    upper: int
    size: int


@dataclass(frozen=True)
class Clique:
    """Buffers that are all in use throughout lower <= t < upper, and their bytes together."""

    ids: tuple[str, ...]
    lower: int
    upper: int
    size: int

    def __str__(self) -> str:
        noun = "buffers" if len(self.ids) > 1 else "buffer"
        return (
            f"from {self.lower} to {self.upper}, {self.size:,} bytes are in use at a time, "
            f"of {len(self.ids)} {noun}: {', '.join(self.ids)}"
        )


@dataclass(frozen=True)
class Instance:
    """Buffers to place in one arena; ids are unique."""

    buffers: tuple[Buffer, ...]

    @cached_property
    def unit(self) -> int:
        """The greatest common divisor of all sizes: in some best placement it divides offsets."""
        return math.gcd(*(buffer.size for buffer in self.buffers)) or 1

    @cached_property
    def cliques(self) -> tuple[Clique, ...]:
        """The maximal cliques of overlapping lifetimes, in order of time.

        Two buffers conflict if and only if one of them has both. Buffers of no bytes are left out.
        """
        return tuple(_cliques([buffer for buffer in self.buffers if buffer.size]))

    @cached_property
    def heaviest(self) -> Clique | None:
        """The clique of the most bytes, which is the lower bound; None if there are no bytes."""
        return max(self.cliques, key=lambda clique: clique.size, default=None)

    @property
    def lower_bound(self) -> int:
        """Peak of live bytes."""
        return self.heaviest.size if self.heaviest else 0

    def peak(self, offsets: dict[str, int]) -> int:
        """Bytes of the arena that a placement needs."""
        return max((offsets[b.id] + b.size for b in self.buffers if b.size), default=0)


def repeated(ids: Iterable[str]) -> list[str]:
    """Ids that occur more than once, in order."""
    return [id_ for id_, count in Counter(ids).items() if count > 1]


def _cliques(buffers: list[Buffer]) -> Iterable[Clique]:
    """A clique is maximal where a lifetime begins and the next thing that happens is an end."""
    events = sorted(
        [(b.lower, 1, position) for position, b in enumerate(buffers)]
        + [(b.upper, 0, position) for position, b in enumerate(buffers)]
    )
    live: dict[int, Buffer] = {}
    began: int | None = None
    for time, begins, position in events:
        if begins:
            live[position] = buffers[position]
            began = time
            continue
        if began is not None:
            ids = tuple(b.id for b in live.values())
            yield Clique(ids, began, time, sum(b.size for b in live.values()))
            began = None
        del live[position]

"""Dynamic storage allocation as data: what to place, where, and what no plan can undercut."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from offramp.compiler.errors import InternalError


@dataclass(frozen=True)
class Item:
    """One piece of the arena.

    size: bytes. alignment: the offset is a multiple of it.
    live: steps at which the bytes are in use, as a bit mask (bit t = step t). Items whose masks
        share a bit may not share bytes. A mask rather than an interval, because a value that only
        one arm of a branch reads is dead throughout the other arm.
    """

    name: str
    size: int
    alignment: int
    live: int

    @property
    def intervals(self) -> tuple[tuple[int, int], ...]:
        """The mask as maximal half-open step ranges, in order."""
        found: list[tuple[int, int]] = []
        mask, step = self.live, 0
        while mask:
            dead = (mask & -mask).bit_length() - 1
            mask >>= dead
            run = (~mask & (mask + 1)).bit_length() - 1
            mask >>= run
            found.append((step + dead, step + dead + run))
            step += dead + run
        return tuple(found)


@dataclass(frozen=True)
class Problem:
    """Items to place in one arena; names are unique."""

    items: tuple[Item, ...]

    @property
    def lower_bound(self) -> int:
        """Peak of live bytes, and of the padding that alignment puts between them.

        At each step its items are pairwise in conflict, so they lie one above the other; all but
        the topmost are followed by their padding.
        """
        alignment = math.gcd(*(item.alignment for item in self.items))
        steps = max((item.live.bit_length() for item in self.items), default=0)
        live, most_padding = [0] * steps, [0] * steps
        for item in self.items:
            padding = -item.size % alignment
            for start, end in item.intervals:
                for step in range(start, end):
                    live[step] += item.size + padding
                    most_padding[step] = max(most_padding[step], padding)
        return max((a - b for a, b in zip(live, most_padding, strict=True)), default=0)


class Planner(Protocol):
    """Places every item of a problem; `check_placement` holds for the answer."""

    def __call__(self, problem: Problem) -> dict[str, int]:
        """Offsets in bytes, by item name."""
        ...


def peak(problem: Problem, offsets: dict[str, int]) -> int:
    """Bytes of the arena that a placement needs."""
    return max((offsets[item.name] + item.size for item in problem.items), default=0)


def check_placement(problem: Problem, offsets: dict[str, int]) -> None:
    """Check that conflicting items are apart and aligned.

    Raises:
        InternalError: an item is missing, misaligned or overlaps another that is live with it.
    """
    for item in problem.items:
        offset = offsets.get(item.name)
        if offset is None or offset < 0 or offset % item.alignment:
            raise InternalError(
                f"memory plan: {item.name!r} is at {offset}, "
                f"expected a non-negative multiple of {item.alignment}"
            )
    _check_apart(sorted(problem.items, key=lambda item: offsets[item.name]), offsets)


def _check_apart(by_offset: Iterable[Item], offsets: dict[str, int]) -> None:
    open_items: list[Item] = []
    for item in by_offset:
        start = offsets[item.name]
        open_items = [o for o in open_items if offsets[o.name] + o.size > start]
        for other in open_items:
            if item.size and other.live & item.live:
                raise InternalError(
                    f"memory plan: {item.name!r} at {start} and {other.name!r} at "
                    f"{offsets[other.name]}+{other.size} overlap while both are live"
                )
        open_items.append(item)

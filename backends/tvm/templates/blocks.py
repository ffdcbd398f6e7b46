"""Output channels cut into blocks of register tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """`count` neighbouring blocks of `width` output channels of one group, from `start` on."""

    start: int
    count: int
    width: int
    lanes: int
    panel: int

    @property
    def padded(self) -> int:
        """Channels with the unused lanes of the last vector."""
        return -(-self.width // self.lanes) * self.lanes

    @property
    def stored(self) -> int:
        """Channels with the unused channels of the last panel."""
        return -(-self.width // self.panel) * self.panel

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(first channel, lanes) of whole vectors, then of halves, quarters, ... of one."""
        start, lanes = 0, self.lanes
        while lanes:
            while start + lanes <= self.width:
                yield start, lanes
                start += lanes
            lanes //= 2

"""Greedy placement: biggest first, each at the lowest offset that its conflicts leave free.

The method of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference"
(2020), extended to lifetimes with holes; the best of a few orders is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from offramp.passes.memory.problem import Item, Problem, peak

_ORDERS: tuple[Callable[[Item], tuple[int, int, str]], ...] = (
    lambda item: (-item.size, -item.live.bit_count(), item.name),
    lambda item: (-item.size * item.live.bit_count(), -item.size, item.name),
    lambda item: (-item.live.bit_count(), -item.size, item.name),
    lambda item: ((item.live & -item.live).bit_length(), -item.size, item.name),
)


def greedy_by_size(problem: Problem) -> dict[str, int]:
    """A valid placement, deterministic; implements `Planner`."""
    placements = [_place(sorted(problem.items, key=order)) for order in _ORDERS]
    return min(placements, key=lambda offsets: peak(problem, offsets))


def _place(items: list[Item]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    placed: list[Item] = []
    for item in items:
        conflicts = [other for other in placed if other.live & item.live]
        offsets[item.name] = _first_gap(item, conflicts, offsets)
        placed.append(item)
    return offsets


def _first_gap(item: Item, conflicts: list[Item], offsets: dict[str, int]) -> int:
    start = 0
    for other in sorted(conflicts, key=lambda c: offsets[c.name]):
        if start + item.size <= offsets[other.name]:
            break
        end = offsets[other.name] + other.size
        start = max(start, -(-end // item.alignment) * item.alignment)
    return start

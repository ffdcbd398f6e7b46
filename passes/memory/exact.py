"""A planner that searches: greedy placement first, and better ones where they exist."""

from __future__ import annotations

import math

from offramp.passes.memory.greedy import greedy_by_size
from offramp.passes.memory.problem import Item, Problem, check_placement, peak
from offramp.passes.memory.search import Buffer, Instance, solve

MOST_STATES = 100_000
"""Where the search gives up: a second or so, and the same on every machine."""


def exact(problem: Problem) -> dict[str, int]:
    """The better of greedy placement and the search; implements `Planner`.

    The search knows plain intervals only: an item with holes counts as in use throughout, and sizes
    are rounded up to the largest alignment, so that every offset is a multiple of it.
    """
    greedy = greedy_by_size(problem)
    alignment = math.lcm(*(item.alignment for item in problem.items))
    if peak(problem, greedy) <= -(-problem.lower_bound // alignment) * alignment:
        return greedy
    buffers = tuple(_as_buffer(item, alignment) for item in problem.items)
    found = solve(Instance(buffers), timeout=math.inf, most_states=MOST_STATES).offsets
    check_placement(problem, found)
    return min(greedy, found, key=lambda offsets: peak(problem, offsets))


def _as_buffer(item: Item, alignment: int) -> Buffer:
    lower, upper = item.intervals[0][0], item.intervals[-1][1]
    return Buffer(item.name, lower, upper, -(-item.size // alignment) * alignment)

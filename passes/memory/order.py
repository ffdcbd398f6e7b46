"""The order of operators in which the fewest bytes are in use at a time.

Which bytes are in use depends only on the set of operators that have run, so orders are paths
through these sets, from none to all. The search goes on from the set that is cheapest to reach
(after Ahn et al., "Ordering Chaos: Memory-Aware Scheduling of Irregularly Wired Neural Networks for
Edge Devices", 2020) and takes at once what an exchange argument decides: a chain of operators that
costs no more than the way so far and leaves no more in use than before (the segments of Liu, "An
application of generalized tree pebbling to sparse matrix factorization", 1987). A beam search finds
a good order first, below which the proof has to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, nsmallest
from itertools import count

from offramp.passes.memory.footprint import Footprint, Operators, State

BEAM = 16
"""Sets of operators kept at each step of the search for a first order."""
MOST_SETS = 10_000
"""Where the search for a proof gives up: a second or so, and the same on every machine."""


@dataclass(frozen=True)
class Order:
    """A permutation of operators. peak: bytes in use at most. is_optimal: proven."""

    positions: tuple[int, ...]
    peak: int
    is_optimal: bool


def best_order(operators: Operators, most_sets: int = MOST_SETS) -> Order:
    """The order of the lowest peak, or the best that was found; the given one if none is lower.

    Deterministic.
    """
    footprint = Footprint(operators)
    given = footprint.run_all(range(footprint.count))
    best = _beam_search(footprint, given)
    best, is_optimal = _bottleneck_search(footprint, best, most_sets)
    return Order(best.positions(), best.peak, is_optimal)


def peak_of(operators: Operators, positions: Sequence[int]) -> int:
    """Bytes in use at most if the operators run in this order."""
    return Footprint(operators).run_all(positions).peak


def _beam_search(footprint: Footprint, best: State) -> State:
    """The best of a few paths that are followed side by side, or `best` if none stays below it."""
    front = [footprint.start()]
    for _ in range(footprint.count):
        reached: dict[int, State] = {}
        for state in front:
            for after in footprint.successors(state):
                known = reached.get(after.done)
                if after.peak < best.peak and (known is None or after.peak < known.peak):
                    reached[after.done] = after
        front = nsmallest(BEAM, reached.values(), key=lambda s: (s.peak, s.live, s.done))
    return min([best, *front], key=lambda state: state.peak)


def _bottleneck_search(footprint: Footprint, best: State, most_sets: int) -> tuple[State, bool]:
    """Dijkstra's algorithm, where a path costs as much as its worst step; and whether it ended."""
    tie = count()
    queue = [(0, 0, next(tie), footprint.start())]
    seen: set[int] = set()
    while queue:
        *_, state = heappop(queue)
        state = footprint.run_free(state)
        if state.peak >= best.peak or state.done in seen:
            continue
        if state.done == footprint.everything:
            return state, True
        if len(seen) == most_sets:
            return best, False
        seen.add(state.done)
        for after in footprint.successors(state):
            if after.peak < best.peak and after.done not in seen:
                heappush(queue, (after.peak, -after.done.bit_count(), next(tie), after))
    return best, True

"""One independent part of an instance as the arrays that the compiled search works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from offramp.passes.memory.search.instance import Buffer, Clique, Instance
from offramp.passes.memory.search.kernel import (
    BONUS,
    BUDGET,
    CAPACITY,
    NODES,
    STEPS,
    Ints,
    Search,
    dive,
    search,
)

TABLE_BYTES = 256 * 2**20
FIRST_SLOTS = 2**12
"""Failed states that are kept at first; the table grows with the search, since fresh memory is
slow: clearing the pages of a large one takes longer than most instances do."""
GROWTH = 8
MOST_DEPTH = 1500
"""Choices that may be open at a time; the search is recursive, and deeper ones end the process."""
SUMS = 32
"""Of buffers that end or start between two sections as many are looked at: those of up to five."""
STEPS_A_BUFFER = 8
"""Steps that may be taken up to a state: one places each buffer, and others raise floors."""
LEVEL_BONUS = 4
"""One that is level with a neighbour is tried as if it came by this part of all ranks earlier."""
HEADER = 2
WORD = 64


@dataclass(frozen=True)
class Component:
    """Buffers that no lifetime connects to others, by first section; sizes in units."""

    buffers: tuple[Buffer, ...]
    spans: npt.NDArray[np.int64]
    """[n, 2]: the half-open range of sections of each buffer."""
    unit: int
    sections: int

    @property
    def sizes(self) -> Ints:
        """[n], in units."""
        return np.array([buffer.size // self.unit for buffer in self.buffers], np.int64)

    @property
    def totals(self) -> Ints:
        """[m], units to place in each section."""
        change = np.zeros(self.sections + 1, np.int64)
        np.add.at(change, self.spans[:, 0], self.sizes)
        np.subtract.at(change, self.spans[:, 1], self.sizes)
        return np.cumsum(change[:-1])

    @property
    def twins(self) -> list[int]:
        """The buffer before each one that is identical to it, or -1."""
        keys = [(*span, b.size) for span, b in zip(self.spans.tolist(), self.buffers, strict=True)]
        return [-1, *(i if a == b else -1 for i, (a, b) in enumerate(pairwise(keys)))]

    def peak(self, offsets: dict[str, int]) -> int:
        """Units that a placement needs; offsets are in bytes."""
        return max(offsets[b.id] + b.size for b in self.buffers) // self.unit


def components(instance: Instance) -> list[Component]:
    """Split an instance where no lifetime crosses from one maximal clique to the next."""
    spans: dict[str, tuple[int, int]] = {}
    for section, clique in enumerate(instance.cliques):
        for id_ in clique.ids:
            spans[id_] = (spans.get(id_, (section, 0))[0], section + 1)
    buffers = sorted(
        (buffer for buffer in instance.buffers if buffer.size),
        key=lambda b: (*spans[b.id], b.size),
    )
    found: list[Component] = []
    for part in _parts(instance.cliques):
        own = tuple(b for b in buffers if spans[b.id][0] in part)
        shifted = np.array([spans[b.id] for b in own], np.int64) - part.start
        found.append(Component(own, shifted, instance.unit, len(part)))
    return found


def _parts(cliques: tuple[Clique, ...]) -> Iterator[range]:
    cuts = [i for i, (a, b) in enumerate(pairwise(cliques), 1) if not {*a.ids} & {*b.ids}]
    ends = [0, *cuts, len(cliques)]
    return (range(a, b) for a, b in pairwise(ends) if a < b)


class Searcher:
    """Runs the compiled search on a component, again and again; failed states are kept.

    States that failed under one capacity fail under every smaller one, so after `run` with some
    capacity a larger one makes the searcher forget.
    """

    def __init__(self, component: Component) -> None:
        self.component = component
        self._totals = component.totals
        self._state = _arrays(component)
        self._capacity = 0
        self._visited = 0

    @property
    def failures(self) -> Ints:
        """[m], how often the last run found a section overfull."""
        return self._state.failures

    @property
    def nodes(self) -> int:
        """How many states the last run visited."""
        return int(self._state.counters[NODES])

    def run(self, capacity: int, rank: Ints, budget: int) -> int:
        """FAILED, SOLVED or STOPPED, after at most `budget` states; the capacity is in units."""
        self._grow()
        if capacity > self._capacity:
            self._state.tags[:] = 0
        self._capacity = capacity
        state = self._start(capacity, rank, budget)
        result = int(search(state, 0, self.component.sections, 0, 0))
        self._visited += self.nodes
        return result

    def dive(self, rank: Ints) -> dict[str, int]:
        """Offsets in bytes of a placement without limit, found without going back."""
        dive(self._start(int(self._totals.sum()), rank, 0))
        return self.offsets()

    def _start(self, capacity: int, rank: Ints, budget: int) -> Search:
        state = self._state
        state.floor[:] = 0
        state.rest[:] = self._totals
        for array in (state.low, state.placed, state.queued, state.failures):
            array[:] = 0
        state.support[:] = state.members[state.starts[:-1]]
        state.counts[:] = -1
        state.rank[:] = rank
        bonus = len(rank) // LEVEL_BONUS
        state.counters[[CAPACITY, NODES, BUDGET, BONUS, STEPS]] = capacity, 0, budget, bonus, 0
        return state

    def _grow(self) -> None:
        """A larger table once the present one has been written a few times over; it forgets."""
        slots, row = self._state.table.shape
        larger = slots * GROWTH
        if self._visited > 2 * slots and larger * row * self._state.table.itemsize <= TABLE_BYTES:
            tags, table = np.zeros(larger, np.uint64), np.empty((larger, row), np.int64)
            self._state = self._state._replace(tags=tags, table=table)

    def offsets(self) -> dict[str, int]:
        """Bytes, by id, after a run that ended with SOLVED."""
        unit, low = self.component.unit, self._state.low.tolist()
        return {b.id: unit * units for b, units in zip(self.component.buffers, low, strict=True)}


def _arrays(component: Component) -> Search:
    n, m = len(component.buffers), component.sections
    first, last = component.spans.T.copy()
    members = [np.flatnonzero((first <= i) & (i < last)) for i in range(m)]
    counts = [len(inside) for inside in members]
    depths = min(3 * n + 64, MOST_DEPTH)  # n buffers to place, raised floors, splits
    words = -(-m // WORD)
    row = HEADER + m + -(-n // WORD)
    steps = STEPS_A_BUFFER * n + depths
    return Search(
        size=component.sizes,
        first=first,
        last=last,
        twin=np.array(component.twins, np.int64),
        rank=np.arange(n, dtype=np.int64),
        starts=np.cumsum([0, *counts]).astype(np.int64),
        members=np.concatenate(members).astype(np.int64),
        by_first=np.searchsorted(first, np.arange(m + 1)).astype(np.int64),
        by_last=np.searchsorted(np.sort(last), np.arange(m + 2)).astype(np.int64),
        enders=np.argsort(last, kind="stable").astype(np.int64),
        starters=np.arange(n, dtype=np.int64),
        sums=np.zeros((2, SUMS), np.int64),
        floor=np.zeros(m, np.int64),
        rest=np.zeros(m, np.int64),
        low=np.zeros(n, np.int64),
        placed=np.zeros(n, np.uint8),
        support=np.empty(m, np.int64),
        counts=np.empty(m, np.int64),
        queue=np.zeros(m, np.int64),
        queued=np.zeros(m, np.uint8),
        failures=np.zeros(m, np.int64),
        saved_floor=np.empty((depths, m), np.int64),
        saved_rest=np.empty((depths, m), np.int64),
        saved_low=np.empty((depths, n), np.int64),
        saved_support=np.empty((depths, m), np.int64),
        saved_counts=np.empty((depths, m), np.int64),
        saved_placed=np.empty((depths, n), np.uint8),
        options=np.empty((depths, max(counts) + 1), np.int64),
        scores=np.empty(max(counts) + 1, np.int64),
        section=np.empty(depths, np.int64),
        raised=np.empty(depths, np.int64),
        keys=np.empty((depths, row), np.int64),
        tags=np.zeros(FIRST_SLOTS, np.uint64),
        table=np.empty((FIRST_SLOTS, row), np.int64),
        reads=np.zeros((steps, words), np.uint64),
        writes=np.zeros((steps, words), np.uint64),
        conflict=np.zeros(words, np.uint64),
        blamed=np.zeros((depths, words), np.uint64),
        counters=np.zeros(5, np.int64),
    )

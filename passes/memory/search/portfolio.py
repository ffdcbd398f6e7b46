"""Which orders the search tries, and for how long: fixed ones, random ones, repaired ones.

Restarts follow Luby's sequence (Luby, Sinclair and Zuckerman, "Optimal speedup of Las Vegas
algorithms", 1993). Some instances fall only to a fixed lexicographic order, most to a random mix of
size and lifetime with noise, large ones to an order that is redrawn only around the conflict.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from offramp.passes.memory.search.component import Component, Searcher
from offramp.passes.memory.search.kernel import STOPPED, Ints

Scores = npt.NDArray[np.float64]

UNIT_OF_NODES = 400
"""States in the shortest run of Luby's sequence."""
LARGE = 240
"""Components of more buffers get more repaired orders, and longer runs of them."""
ROUGH_BUFFERS, MOST_ROUGH_TRIES = 12_000, 12
"""Placements without a limit: so many buffers in all, and so many tries."""
LONGEST_FIXED = 64
"""A fixed order gets a unit more each time it comes round, up to so many."""


def luby(position: int) -> int:
    """Luby's sequence from position 1: 1, 1, 2, 1, 1, 2, 4, ..."""
    while position & (position + 1):
        position -= (1 << (position.bit_length() - 1)) - 1
    return (position + 1) >> 1


@dataclass
class Orders:
    """An endless supply of orders for one component; the same seed gives the same ones."""

    component: Component
    seed: int
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        widths = np.array([float(b.upper - b.lower) for b in self.component.buffers])
        sizes = self.component.sizes.astype(np.float64)
        totals, spans = self.component.totals, self.component.spans
        heaviest = np.array([float(totals[a:b].max()) for a, b in spans.tolist()])
        self._size, self._width = _standard(np.log(sizes)), _standard(np.log(widths))
        area = sizes * widths
        keys = [(heaviest, area, widths), (area, widths, heaviest), (widths, heaviest, area)]
        self._fixed = [_lexicographic(key) for key in keys]
        self._repaired = self._draw()

    def next(self, position: int, failures: Ints) -> tuple[Ints, int]:
        """Ranks (the smallest is tried first) and a budget for run number `position`, from 1."""
        count = len(self._size)
        turn, kind = divmod(position - 1, 4)
        if kind == 0:
            lap, which = divmod(turn, len(self._fixed))
            return self._fixed[which], UNIT_OF_NODES * min(lap + 1, LONGEST_FIXED)
        if kind == 2 or (kind == 3 and count > LARGE):
            self._redraw_around_conflict(failures)
            unit = max(UNIT_OF_NODES, 4 * count) if count > LARGE else UNIT_OF_NODES
            return _ranks(self._repaired), unit * luby(position)
        return _ranks(self._draw()), UNIT_OF_NODES * luby(position)

    def _draw(self) -> Scores:
        """A random mix of size and lifetime, of either sign, under noise of random strength."""
        of_size, of_width = self.random.normal(size=2)
        noise = self.random.normal(size=len(self._size)) * 2 * self.random.random()
        return np.asarray(of_size * self._size + of_width * self._width + noise)

    def _redraw_around_conflict(self, failures: Ints) -> None:
        if not failures.any():
            return
        first, last = self.component.spans.T
        section = self.random.choice(len(failures), p=failures / failures.sum())
        there = (first <= section) & (section < last)
        near = (first < last[there].max()) & (last > first[there].min())
        self._repaired = np.where(near, self._draw(), self._repaired)


@dataclass
class Deadline:
    """A limit on wall time."""

    seconds: float
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds to go; negative when over."""
        return self.began + self.seconds - time.perf_counter()


class Portfolio:
    """The search with restarts on one component; it goes on where it was when called again."""

    def __init__(self, component: Component, seed: int, deadline: Deadline) -> None:
        self.component = component
        self.searcher = Searcher(component)
        self._seed, self._deadline = seed, deadline
        self._capacity = -1
        self._runs: Iterator[int] = iter(())
        self._rate = 10_000.0

    def rough(self) -> dict[str, int]:
        """The lowest of a few placements without a limit, found without going back."""
        orders = Orders(self.component, self._seed)
        tries = min(max(ROUGH_BUFFERS // len(self.component.buffers), 1), MOST_ROUGH_TRIES)
        ranks = (orders.next(i, self.searcher.failures)[0] for i in range(1, tries + 1))
        return min((self.searcher.dive(rank) for rank in ranks), key=self.component.peak)

    def decide(self, capacity: int, nodes: float) -> int:
        """Whether the component fits: FAILED (proven), SOLVED, or STOPPED when out of budget.

        capacity: in units. nodes: states to visit, about.
        """
        if capacity != self._capacity:
            self._capacity, self._runs = capacity, self._attempts(capacity)
        spent = 0
        for result in self._runs:
            spent += self.searcher.nodes
            if result != STOPPED:
                return result
            if spent >= nodes or self._deadline.left <= 0:
                break
        return STOPPED

    def _attempts(self, capacity: int) -> Iterator[int]:
        orders = Orders(self.component, self._seed)
        position, result = 0, STOPPED
        while result == STOPPED:
            position += 1
            ranks, budget = orders.next(position, self.searcher.failures)
            budget = int(min(budget, 1 + max(self._deadline.left, 0.0) * self._rate))
            began = time.perf_counter()
            result = self.searcher.run(capacity, ranks, budget)
            taken = time.perf_counter() - began
            if self.searcher.nodes >= UNIT_OF_NODES:
                self._rate = self.searcher.nodes / max(taken, 1e-6)
            yield result


def _standard(values: Scores) -> Scores:
    spread = values.std()
    return np.asarray((values - values.mean()) / (spread if spread > 0 else 1.0))


def _lexicographic(keys: tuple[Scores, ...]) -> Ints:
    """Ranks by the first key, the largest first, ties by the next ones."""
    return _inverse(np.lexsort(tuple(-key for key in reversed(keys))))


def _ranks(scores: Scores) -> Ints:
    return _inverse(np.argsort(-scores, kind="stable"))


def _inverse(order: npt.NDArray[np.intp]) -> Ints:
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks

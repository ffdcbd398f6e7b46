"""Restarts: their lengths, and orders that are the same for the same seed."""

from __future__ import annotations

import numpy as np

from offramp.passes.memory.search.component import Component, Searcher, components
from offramp.passes.memory.search.kernel import FAILED, SOLVED, STOPPED
from offramp.passes.memory.search.portfolio import Deadline, Orders, Portfolio, luby
from tests.passes.memory.search.conftest import GAPS, instance_of


def component() -> Component:
    return components(instance_of(*GAPS[0]))[0]


def test_luby() -> None:
    assert [luby(i) for i in range(1, 16)] == [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]


def test_orders_are_permutations_and_repeat_with_the_seed() -> None:
    part = component()
    failures = np.ones(part.sections, np.int64)
    drawn = [Orders(part, seed) for seed in (0, 0, 1)]
    ranks = [[orders.next(i, failures)[0].tolist() for i in range(1, 13)] for orders in drawn]
    assert ranks[0] == ranks[1] != ranks[2]
    assert all(sorted(r) == list(range(len(part.buffers))) for r in ranks[0])


def test_failed_states_hold_for_smaller_capacities_only() -> None:
    part = component()
    searcher = Searcher(part)
    rank = np.arange(len(part.buffers), dtype=np.int64)
    answers = [searcher.run(capacity, rank, 10_000) for capacity in (6, 7, 6, 7)]
    assert answers == [FAILED, SOLVED, FAILED, SOLVED]


def test_a_budget_stops_the_search_and_time_does() -> None:
    part = component()
    rank = np.arange(len(part.buffers), dtype=np.int64)
    assert Searcher(part).run(6, rank, 2) == STOPPED
    assert Portfolio(part, 0, Deadline(-1.0)).decide(6, 10**9) == STOPPED
    assert Portfolio(part, 0, Deadline(60.0)).decide(6, 10**9) == FAILED

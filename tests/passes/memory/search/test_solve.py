"""The search finds what exists, proves what does not, and says which of the two it is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.compiler.errors import UserError
from offramp.passes.memory.search import Instance, component, cpsat, solve
from offramp.passes.memory.search.check import check_offsets
from offramp.passes.memory.search.component import Searcher, components
from offramp.passes.memory.search.kernel import SOLVED, STOPPED
from offramp.passes.memory.search.read import read_csv
from tests.passes.memory.search.conftest import FULL, GAPS, INSTANCES, Row, cut_up, instance_of

PUBLIC = "ABCDEFGH"
CAPACITY = 1_048_576


def lowest_peak(instance: Instance) -> int:
    """By brute force: drop the buffers in every order, each as low as what lies there allows."""
    buffers = [buffer for buffer in instance.buffers if buffer.size]
    best = sum(buffer.size for buffer in buffers)
    for order in itertools.permutations(buffers):
        tops: list[tuple[int, int, int]] = []
        for b in order:
            start = max((t for lower, upper, t in tops if lower < b.upper and b.lower < upper),
                        default=0)  # fmt: skip
            tops.append((b.lower, b.upper, start + b.size))
        best = min(best, max((top for *_, top in tops), default=0))
    return best


@settings(deadline=None, max_examples=60)
@given(INSTANCES.filter(lambda i: len(i.buffers) <= 6))
def test_the_peak_is_the_lowest_there_is(instance: Instance) -> None:
    solution = solve(instance)
    check_offsets(instance, solution.offsets)
    assert solution.status == "optimal"
    assert solution.peak == solution.lower_bound == lowest_peak(instance)


@settings(deadline=None, max_examples=60)
@given(INSTANCES.filter(lambda i: i.lower_bound > 0), st.integers(-2, 3), st.integers(0, 3))
def test_a_capacity_is_met_exactly_if_it_can_be(instance: Instance, more: int, seed: int) -> None:
    capacity = max(1, instance.lower_bound + more)
    lowest = solve(instance).peak
    assert lowest is not None
    solution = solve(instance, capacity, seed=seed)
    if capacity < lowest:
        assert (solution.status, solution.peak, solution.offsets) == ("infeasible", None, {})
        assert (solution.clique is None) == (capacity >= instance.lower_bound)
        assert solution.lower_bound > capacity
        return
    assert (solution.clique is None) == (solution.lower_bound > instance.lower_bound)
    assert solution.status in ("optimal", "feasible")
    assert solution.peak is not None
    assert solution.lower_bound <= solution.peak <= capacity
    check_offsets(instance, solution.offsets, capacity)


@pytest.mark.parametrize("rows", GAPS)
def test_a_gap_between_live_bytes_and_the_optimum_is_proven(rows: tuple[Row, ...]) -> None:
    instance = instance_of(*rows)
    (component,) = components(instance)
    bound = instance.lower_bound
    assert cpsat.place(component, bound, 0, 60.0)[0] == "failed"
    refused = solve(instance, bound)
    assert (refused.status, refused.clique, refused.lower_bound) == ("infeasible", None, bound + 1)
    solution = solve(instance)
    assert (solution.peak, solution.lower_bound, solution.status) == (
        bound + 1,
        bound + 1,
        "optimal",
    )


def test_the_clique_that_proves_it_is_named() -> None:
    solution = solve(instance_of((0, 4, 5), (2, 6, 7), (5, 9, 3), (3, 4, 1)), capacity=12)
    assert solution.status == "infeasible"
    assert solution.clique is not None
    assert solution.clique.ids == ("b0", "b1", "b3")
    assert (solution.clique.lower, solution.clique.upper, solution.clique.size) == (3, 4, 13)


def test_nothing_to_place() -> None:
    for instance in (instance_of(), instance_of((0, 1, 0), (0, 2, 0))):
        solution = solve(instance, capacity=1)
        assert (solution.peak, solution.lower_bound, solution.status) == (0, 0, "optimal")
        assert solution.offsets == {b.id: 0 for b in instance.buffers}


def test_sizes_beyond_64_bits_together_are_counted_in_units() -> None:
    solution = solve(instance_of((0, 2, 2**62), (1, 3, 2**62), (2, 4, 2**62)))
    assert solution.peak == 2**63
    with pytest.raises(UserError, match="the search counts up to"):
        solve(instance_of((0, 2, 2**62), (1, 3, 2**62 - 1)))


def test_times_may_be_any() -> None:
    solution = solve(instance_of((-(2**62), 0, 3), (-1, 2**62, 4), (0, 1, 3)))
    assert solution.peak == 7


@pytest.mark.shared
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", PUBLIC)
def test_public_instances_fit(shared: Path, name: str, seed: int) -> None:
    instance = read_csv(shared / "data" / "memory" / f"{name}.{CAPACITY}.csv")
    solution = solve(instance, CAPACITY, seed=seed)
    check_offsets(instance, solution.offsets, CAPACITY)
    assert solution.seconds < 5
    again = solve(instance, CAPACITY, seed=seed)
    assert replace(again, seconds=0.0) == replace(solution, seconds=0.0)


@pytest.mark.shared
def test_a_public_optimum_is_proven(shared: Path) -> None:
    solution = solve(read_csv(shared / "data" / "memory" / f"C.{CAPACITY}.csv"))
    assert (solution.peak, solution.status) == (1_039_360, "optimal")


@pytest.mark.shared
def test_what_is_live_at_a_time_can_be_all_that_is_needed(shared: Path) -> None:
    """Some seeds find it at once; others report what they know when they have to give up."""
    instance = read_csv(shared / "data" / "memory" / f"D.{CAPACITY}.csv")
    solution = solve(instance, 986_112, seed=4)
    assert (solution.peak, solution.status) == (986_112, "optimal")
    solution = solve(instance, 986_112, most_states=20_000)
    assert (solution.status, solution.peak, solution.offsets) == ("unknown", None, {})
    solution = solve(instance, timeout=1.0)
    assert solution.status == "feasible"
    assert solution.gap > 0


@given(cut_up(40), st.integers(0, 3))
def test_what_was_cut_up_fits_together(instance: Instance, seed: int) -> None:
    solution = solve(instance, FULL, seed=seed)
    check_offsets(instance, solution.offsets, FULL)


def test_thousands_of_buffers_do_not_exhaust_the_stack() -> None:
    """Where every buffer is a choice the search stops, and there is a placement all the same."""
    rows = [(i % 97, i % 97 + 1 + i % 13, 1 + i % 89) for i in range(4000)]
    instance = instance_of(*rows)
    total = sum(buffer.size for buffer in instance.buffers)
    (component,) = components(instance)
    rank = np.arange(len(rows), dtype=np.int64)
    assert Searcher(component).run(total, rank, 10**6) == STOPPED
    solution = solve(instance, total)
    check_offsets(instance, solution.offsets, total)


def test_a_path_of_too_many_steps_stops_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be written behind the end of an array."""
    rows = [(i, i + 3, 1 + i % 7) for i in range(100)]
    (whole,) = components(instance_of(*rows))
    rank, total = np.arange(100, dtype=np.int64), int(whole.sizes.sum())
    assert Searcher(whole).run(total, rank, 10**6) == SOLVED
    monkeypatch.setattr(component, "STEPS_A_BUFFER", -3)
    assert Searcher(whole).run(total, rank, 10**6) == STOPPED

"""Placement problems: intervals, the lower bound, and the independent check."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.compiler.errors import InternalError
from offramp.passes.memory.greedy import greedy_by_size
from offramp.passes.memory.problem import Item, Problem, check_placement, peak

ITEMS = st.builds(
    Item,
    name=st.uuids().map(str),
    size=st.integers(0, 1000),
    alignment=st.sampled_from([1, 4, 64]),
    live=st.integers(1, 2**12 - 1),
)
PROBLEMS = st.lists(ITEMS, max_size=12).map(lambda items: Problem(tuple(items)))


@given(PROBLEMS)
def test_greedy_is_valid_and_not_below_the_bound(problem: Problem) -> None:
    offsets = greedy_by_size(problem)
    check_placement(problem, offsets)
    assert peak(problem, offsets) >= problem.lower_bound


@given(st.integers(0, 2**70))
def test_intervals_are_the_mask(mask: int) -> None:
    intervals = Item("i", 1, 1, mask).intervals
    assert sum((1 << end) - (1 << start) for start, end in intervals) == mask
    assert all(a[1] < b[0] for a, b in pairwise(intervals))


def test_lower_bound_is_the_peak_of_live_bytes() -> None:
    items = (Item("a", 10, 1, 0b011), Item("b", 20, 1, 0b110), Item("c", 5, 1, 0b100))
    assert Problem(items).lower_bound == 30


def test_lower_bound_counts_padding_below_the_topmost_item() -> None:
    items = (Item("a", 10, 4, 0b1), Item("b", 21, 8, 0b1), Item("c", 32, 4, 0b1))
    assert Problem(items).lower_bound == 12 + 21 + 32
    assert peak(Problem(items), {"c": 0, "a": 32, "b": 48}) == 69
    assert peak(Problem(items), {"b": 0, "c": 24, "a": 56}) == 66


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ({"a": 0, "b": 4}, "overlap while both are live"),
        ({"a": 0, "b": 10}, "expected a non-negative multiple of 4"),
        ({"a": 0}, "at None"),
    ],
)
def test_the_check_refuses(offsets: dict[str, int], message: str) -> None:
    problem = Problem((Item("a", 8, 4, 0b01), Item("b", 8, 4, 0b11)))
    with pytest.raises(InternalError, match=message):
        check_placement(problem, offsets)


def test_the_check_accepts_items_that_never_meet_at_one_address() -> None:
    problem = Problem((Item("a", 8, 4, 0b01), Item("b", 8, 4, 0b10)))
    check_placement(problem, {"a": 0, "b": 0})


@pytest.mark.shared
def test_greedy_on_public_instances(shared: Path) -> None:
    """Valid on every instance, and never more than two fifths above the bound."""
    paths = sorted((shared / "data" / "memory").glob("*.csv"))
    assert paths
    for path in paths:
        problem = read_instance(path)
        offsets = greedy_by_size(problem)
        check_placement(problem, offsets)
        assert peak(problem, offsets) <= 1.4 * problem.lower_bound, path.name


def read_instance(path: Path) -> Problem:
    """One published instance, its times replaced by their ranks."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    times = sorted({int(row[end]) for row in rows for end in ("lower", "upper")})
    rank = {time: position for position, time in enumerate(times)}
    return Problem(
        tuple(
            Item(
                row["id"],
                int(row["size"]),
                1,
                (1 << rank[int(row["upper"])]) - (1 << rank[int(row["lower"])]),
            )
            for row in rows
        )
    )

"""What is merged lies together in every placement: the answer is that of the instance before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.passes.memory.search import Instance, cpsat, solve
from offramp.passes.memory.search.check import check_offsets
from offramp.passes.memory.search.component import components
from offramp.passes.memory.search.instance import Buffer
from offramp.passes.memory.search.merge import merge
from tests.passes.memory.search.conftest import GAPS, Row, cut_up, instance_of, rows

PINWHEEL = ((0, 6, 2), (6, 9, 7), (2, 9, 3), (0, 2, 8), (2, 6, 5))
"""Five pieces of a square of 10 by 9, each level with its neighbours."""


def filled(found: list[Row], spare: int) -> Instance:
    """One more buffer wherever less is in use at a time than at most, plus `spare`."""
    times = range(min(r[0] for r in found), max(r[1] for r in found))
    loads = [sum(size for lower, upper, size in found if lower <= t < upper) for t in times]
    most = max(loads) + spare
    return instance_of(*found, *((t, t + 1, most - n) for t, n in zip(times, loads, strict=True)))


def expanded(instance: Instance) -> tuple[bool, int]:
    """Whether the merged instance fits, by CP-SAT, as it does unmerged; how many were merged."""
    fits, merged_away = True, 0
    for component in components(instance):
        merged = merge(component)
        heaviest = int(component.totals.max())
        assert heaviest * component.unit == max(
            sum(b.size for b in component.buffers if b.lower <= t < b.upper)
            for t in {b.lower for b in component.buffers}
        )
        smaller = merged.component
        answer, offsets = cpsat.place(smaller, int(smaller.totals.max()), 0, 60.0)
        before, _ = cpsat.place(component, heaviest, 0, 60.0)
        assert answer == before != "stopped"
        if answer == "solved":
            own = Instance(component.buffers)
            check_offsets(own, merged.expand(offsets), own.lower_bound)
        fits &= answer == "solved"
        merged_away += len(component.buffers) - len(smaller.buffers)
    return fits, merged_away


@settings(deadline=None, max_examples=150)
@given(rows(9, 7, 4).filter(bool), st.integers(0, 1))
def test_full_instances_fit_if_and_only_if_they_did(found: list[Row], spare: int) -> None:
    instance = filled(found, spare)
    fits, _ = expanded(instance)
    if instance.lower_bound:
        solution = solve(instance, instance.lower_bound)
        assert solution.status == ("optimal" if fits else "infeasible")


@settings(deadline=None, max_examples=100)
@given(cut_up(), st.data())
def test_what_was_cut_up_fits_still(instance: Instance, data: st.DataObject) -> None:
    assert expanded(instance)[0]
    kept = data.draw(st.lists(st.sampled_from(instance.buffers), min_size=1, unique=True))
    assert expanded(Instance(tuple(kept)))[0]
    solution = solve(instance, instance.lower_bound)
    check_offsets(instance, solution.offsets, instance.lower_bound)


@settings(deadline=None, max_examples=60)
@given(cut_up(), st.integers(0, 30))
def test_beside_what_does_not_fit(instance: Instance, at: int) -> None:
    """A gap within one byte of the bound stays one when full groups come before and after."""
    gap = GAPS[at % len(GAPS)]
    most = instance_of(*gap).lower_bound
    later = [Buffer(f"g{i}", a + 12, b + 12, size) for i, (a, b, size) in enumerate(gap)]
    bridge = Buffer("bridge", 0, 40, 1)
    scaled = [Buffer(b.id, b.lower, b.upper, b.size * most) for b in instance.buffers]
    later = [Buffer(b.id, b.lower, b.upper, b.size * 12) for b in later]
    both = Instance((*scaled, *later, bridge))
    assert both.lower_bound == 12 * most + 1
    assert solve(both, both.lower_bound).status == "infeasible"


@pytest.mark.parametrize(
    "found",
    [
        ((0, 3, 5), (3, 6, 5), (0, 6, 2)),
        ((0, 3, 5), (3, 6, 2), (3, 6, 3), (0, 6, 4)),
        PINWHEEL,
        (*PINWHEEL, (0, 9, 4), (9, 12, 14)),
    ],
)
def test_it_merges(found: tuple[Row, ...]) -> None:
    fits, merged_away = expanded(instance_of(*found))
    assert fits
    assert merged_away >= len(found) - 4


def test_two_pairs_of_the_same_size_stay_apart() -> None:
    """Either of those that end may be followed by either of those that start."""
    (component,) = components(instance_of((0, 3, 2), (0, 3, 2), (3, 6, 2), (3, 6, 2), (0, 6, 1)))
    assert merge(component).inside == {}


def test_beside_a_section_that_is_not_full_nothing_is_known() -> None:
    (component,) = components(instance_of((0, 3, 5), (3, 6, 4), (0, 6, 2)))
    assert merge(component).inside == {}


def test_two_runs_side_by_side_are_two_rectangles() -> None:
    """Something else may lie between them."""
    found = ((3, 4, 1), (3, 5, 2), (4, 6, 1), (5, 6, 2), (0, 9, 1), (0, 2, 2))
    (component,) = components(instance_of(*found))
    assert sorted(b.size for b in merge(component).component.buffers) == [1, 1, 2, 2]

"""The planner that searches is valid on every problem, and never above the greedy one."""

from __future__ import annotations

from hypothesis import given, settings

from offramp.passes.memory.exact import exact
from offramp.passes.memory.greedy import greedy_by_size
from offramp.passes.memory.problem import Item, Problem, check_placement, peak
from tests.passes.memory.test_problem import PROBLEMS


@settings(deadline=None, max_examples=50)
@given(PROBLEMS)
def test_it_is_valid_and_no_worse_than_greedy(problem: Problem) -> None:
    offsets = exact(problem)
    check_placement(problem, offsets)
    assert problem.lower_bound <= peak(problem, offsets)
    assert peak(problem, offsets) <= peak(problem, greedy_by_size(problem))
    assert exact(problem) == offsets


def test_it_is_better_where_greedy_is_not_optimal() -> None:
    rows = [(0, 3, 5), (2, 6, 4), (5, 9, 5), (8, 10, 6), (0, 2, 4), (3, 5, 5), (6, 8, 4), (4, 7, 1)]
    items = [Item(f"i{n}", 8 * size, 8, (1 << b) - (1 << a)) for n, (a, b, size) in enumerate(rows)]
    problem = Problem(tuple(items))
    assert peak(problem, exact(problem)) == problem.lower_bound

"""The best order of operators, against every order there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from offramp.passes.memory.footprint import Operators, Tensor
from offramp.passes.memory.order import best_order, peak_of


@st.composite
def operators(draw: st.DrawFn, most: int = 6) -> Operators:
    """Operators that write one tensor each and read a few; some could work in place."""
    inputs, count = draw(st.integers(1, 2)), draw(st.integers(1, most))
    sizes = draw(st.lists(st.integers(0, 9), min_size=inputs + count, max_size=inputs + count))
    reads = [
        draw(st.lists(st.integers(0, inputs + i - 1), max_size=3, unique=True))
        for i in range(count)
    ]
    kept = draw(st.sets(st.integers(0, inputs + count - 1), max_size=2))
    users = [frozenset(i for i in range(count) if t in reads[i]) for t in range(inputs + count)]
    tensors = [
        Tensor(
            sizes[t],
            t - inputs if t >= inputs else None,
            users[t] | {t - inputs} if t >= inputs else users[t],
            t in kept,
        )
        for t in range(inputs + count)
    ]
    return Operators(
        tuple(tensors),
        tuple(frozenset(t - inputs for t in read if t >= inputs) for read in reads),
        tuple(draw(st.integers(0, 4)) for _ in range(count)),
        tuple(
            tuple((inputs + i, t) for t in read if draw(st.booleans()))
            for i, read in enumerate(reads)
        ),
    )


def orders(given: Operators) -> Iterator[tuple[int, ...]]:
    """All that can run."""
    for order in permutations(range(len(given.after))):
        if all(given.after[o] <= {*order[:at]} for at, o in enumerate(order)):
            yield order


def bytes_in_use(given: Operators, order: Sequence[int]) -> int:
    """The peak by definition: tensor by tensor at every step."""
    step = {position: at for at, position in enumerate(order)}
    last = [
        len(order) if tensor.is_kept else max((step[u] for u in tensor.users), default=-1)
        for tensor in given.tensors
    ]
    first = [-1 if t.writer is None else step[t.writer] for t in given.tensors]
    peak = sum(t.size for t, begin, end in zip(given.tensors, first, last, strict=True)
               if begin < 0 <= end)  # fmt: skip
    for at, position in enumerate(order):
        live = sum(
            tensor.size
            for tensor, begin, end in zip(given.tensors, first, last, strict=True)
            if begin <= at <= end
        )
        shared = [
            min(given.tensors[written].size, given.tensors[read].size)
            for written, read in given.in_place[position]
            if last[read] == at
        ]
        peak = max(peak, live + given.workspace[position] - max(shared, default=0))
    return peak


@given(operators())
def test_no_order_needs_less(some: Operators) -> None:
    found = best_order(some)
    peaks = [bytes_in_use(some, order) for order in orders(some)]
    assert found.is_optimal
    assert found.peak == min(peaks) == bytes_in_use(some, found.positions)
    assert found.positions in set(orders(some))


@given(operators())
def test_the_peak_of_an_order_is_what_is_in_use(some: Operators) -> None:
    for order in orders(some):
        assert peak_of(some, order) == bytes_in_use(some, order)


@given(operators(most=12))
def test_without_a_search_it_is_no_worse_than_given_and_says_that_nothing_is_proven(
    some: Operators,
) -> None:
    count = len(some.after)
    found = best_order(some, most_sets=0)
    proven = best_order(some)
    assert sorted(found.positions) == list(range(count))
    assert proven.peak <= found.peak <= peak_of(some, range(count))
    assert found.peak == proven.peak or not found.is_optimal
    assert proven == best_order(some)


@given(operators())
def test_the_given_order_stays_where_none_is_better(some: Operators) -> None:
    best = best_order(some)
    given_order = tuple(range(len(some.after)))
    if peak_of(some, given_order) == best.peak:
        assert best.positions == given_order

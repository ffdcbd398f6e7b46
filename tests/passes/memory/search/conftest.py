"""Instances for the tests of the search: small random ones, and perfect packings."""

from __future__ import annotations

from hypothesis import strategies as st

from offramp.passes.memory.search import Buffer, Instance

Row = tuple[int, int, int]

FULL = 12
"""Bytes, and moments, that are cut up."""


def instance_of(*rows: Row) -> Instance:
    """One buffer per (lower, upper, size), named by position."""
    return Instance(tuple(Buffer(f"b{i}", *row) for i, row in enumerate(rows)))


def rows(lengths: int = 8, times: int = 8, sizes: int = 9) -> st.SearchStrategy[list[Row]]:
    """Up to `lengths` buffers; equal ones are likely."""
    row = st.tuples(st.integers(0, times - 1), st.integers(1, times), st.integers(0, sizes))
    return st.lists(row.map(lambda r: (r[0], r[0] + r[1], r[2])), max_size=lengths)


INSTANCES = rows().map(lambda found: instance_of(*found))

GAPS: tuple[tuple[Row, ...], ...] = (
    ((3, 7, 2), (1, 5, 3), (2, 3, 3), (5, 7, 2), (4, 8, 1), (7, 8, 1), (9, 11, 3), (7, 11, 3),
     (6, 9, 1), (8, 9, 2)),
    ((6, 11, 3), (7, 9, 1), (2, 7, 1), (1, 6, 2), (0, 1, 3), (9, 12, 2), (11, 12, 3), (0, 3, 1),
     (2, 4, 1), (4, 6, 2), (1, 2, 2)),
    ((11, 13, 1), (7, 10, 2), (1, 2, 3), (12, 13, 3), (2, 5, 3), (0, 3, 2), (3, 7, 3), (11, 12, 1),
     (8, 13, 2), (3, 6, 1), (6, 11, 3), (1, 3, 2), (10, 13, 1), (5, 8, 1)),
)  # fmt: skip
"""Instances whose lowest peak is one byte above their live bytes."""


@st.composite
def cut_up(draw: st.DrawFn, cuts: int = 12) -> Instance:
    """A rectangle cut through again and again; every section is full, and a placement exists.

    Its bytes are `FULL`.
    """
    pieces = [(0, FULL, 0, FULL)]
    for _ in range(draw(st.integers(1, cuts))):
        left, right, low, high = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        if right - left > 1 and (high - low == 1 or draw(st.booleans())):
            at = draw(st.integers(left + 1, right - 1))
            pieces += [(left, at, low, high), (at, right, low, high)]
        elif high - low > 1:
            at = draw(st.integers(low + 1, high - 1))
            pieces += [(left, right, low, at), (left, right, at, high)]
        else:
            pieces.append((left, right, low, high))
    return instance_of(*((a, b, high - low) for a, b, low, high in pieces))

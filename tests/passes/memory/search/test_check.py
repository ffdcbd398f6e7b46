"""The sweep refuses what the definition refuses, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.compiler.errors import InternalError
from offramp.passes.memory.search import Instance
from offramp.passes.memory.search.check import check_offsets
from tests.passes.memory.search.conftest import INSTANCES, instance_of


def overlaps(instance: Instance, offsets: dict[str, int]) -> bool:
    """Pair by pair, as the definition says."""
    pairs = [(a, b) for a in instance.buffers for b in instance.buffers if a.id < b.id]
    return any(
        a.lower < b.upper and b.lower < a.upper
        and offsets[a.id] < offsets[b.id] + b.size and offsets[b.id] < offsets[a.id] + a.size
        and a.size and b.size
        for a, b in pairs
    )  # fmt: skip


@given(INSTANCES, st.data())
def test_it_agrees_with_the_definition(instance: Instance, data: st.DataObject) -> None:
    offsets = {b.id: data.draw(st.integers(0, 30)) for b in instance.buffers}
    if overlaps(instance, offsets):
        with pytest.raises(InternalError, match="overlap at time"):
            check_offsets(instance, offsets)
    else:
        check_offsets(instance, offsets)


@pytest.mark.parametrize("offsets", [{"b0": -1}, {"b0": 7}])
def test_outside_the_arena(offsets: dict[str, int]) -> None:
    with pytest.raises(InternalError, match="outside 10"):
        check_offsets(instance_of((0, 1, 4)), offsets, capacity=10)


@pytest.mark.parametrize("offsets", [{}, {"b0": 0, "b1": 0}])
def test_missing_or_unknown_buffers(offsets: dict[str, int]) -> None:
    with pytest.raises(InternalError, match="not those of the instance"):
        check_offsets(instance_of((0, 1, 4)), offsets)

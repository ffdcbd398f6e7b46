"""Cliques, units and components of an instance."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given

from offramp.passes.memory.search import Instance
from offramp.passes.memory.search.component import components
from tests.passes.memory.search.conftest import INSTANCES, instance_of


@given(INSTANCES)
def test_buffers_conflict_exactly_if_a_clique_has_both(instance: Instance) -> None:
    together = {(a, b) for clique in instance.cliques for a in clique.ids for b in clique.ids}
    for a in instance.buffers:
        for b in instance.buffers:
            meet = a.lower < b.upper and b.lower < a.upper and a.size > 0 and b.size > 0
            assert ((a.id, b.id) in together) == meet


@given(INSTANCES)
def test_cliques_are_maximal_and_true(instance: Instance) -> None:
    by_id = {b.id: b for b in instance.buffers}
    sets = [set(clique.ids) for clique in instance.cliques]
    assert not any(a < b or (a == b and a is not b) for a in sets for b in sets)
    for clique in instance.cliques:
        members = [by_id[id_] for id_ in clique.ids]
        assert all(m.lower <= clique.lower < clique.upper <= m.upper for m in members)
        assert sum(m.size for m in members) == clique.size


@given(INSTANCES)
def test_components_hold_every_buffer_once_and_do_not_meet(instance: Instance) -> None:
    parts = components(instance)
    ids = [b.id for part in parts for b in part.buffers]
    assert sorted(ids) == sorted(b.id for b in instance.buffers if b.size)
    for earlier, later in pairwise(parts):
        assert max(b.upper for b in earlier.buffers) <= min(b.lower for b in later.buffers)


def test_lifetimes_are_half_open() -> None:
    assert len(components(instance_of((0, 2, 1), (2, 3, 1)))) == 2
    assert len(components(instance_of((0, 3, 1), (2, 3, 1)))) == 1


def test_buffers_that_meet_the_same_cliques_are_twins() -> None:
    (part,) = components(instance_of((0, 3, 2), (1, 4, 2), (0, 3, 2), (0, 3, 1)))
    assert [b.id for b in part.buffers] == ["b3", "b0", "b1", "b2"]
    assert part.twins == [-1, -1, 1, 2]

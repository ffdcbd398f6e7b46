"""Groups of buffers that take a rectangle in any placement are merged before the search.

A section is full if its buffers need the whole capacity. At a boundary between two full sections,
the buffers that end and those that start take the same bytes, whatever the placement, since all
others cross it. From this follow

- groups: if a set of buffers contains all that end or start at each boundary within its own time
  where one of its own does, and those lie between full sections, then it takes the same bytes
  throughout its time;
- blocks: if no part of those that end is as large as a part of those that start, then the bytes
  that they share are contiguous.

A group whose bytes are contiguous at some time is a rectangle. It is packed by itself, and placed
as one buffer. Rectangles grow: what was merged can be part of a larger group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from offramp.passes.memory.search.component import Component, Searcher, components
from offramp.passes.memory.search.instance import Buffer, Instance
from offramp.passes.memory.search.kernel import SOLVED

MOST_MEMBERS = 32
"""Larger groups are not looked for."""
MOST_IN_BLOCK = 8
"""Of how many buffers at most all parts are compared: two to this power."""
MOST_STATES = 2_000
"""A group that is not packed by then stays apart."""

Group = frozenset[int]


@dataclass(frozen=True)
class Merged:
    """A component after merging; it fits into its heaviest section if and only if `original` does.

    Buffers are numbered, in the order of `original`; merged ones come behind.
    component: the ids of its buffers are these numbers, its unit may be larger. inside: by number
        of a merged buffer, its members and at which of its bytes they begin.
    """

    original: Component
    component: Component
    inside: dict[int, dict[int, int]]

    def expand(self, offsets: dict[str, int]) -> dict[str, int]:
        """Offsets of the original buffers from those of the merged ones; bytes by id."""
        found: dict[str, int] = {}
        waiting = [(int(id_), offset) for id_, offset in offsets.items()]
        while waiting:
            b, offset = waiting.pop()
            if b in self.inside:
                waiting += [(member, offset + more) for member, more in self.inside[b].items()]
            else:
                found[self.original.buffers[b].id] = offset
        return found


def merge(component: Component) -> Merged:
    """Merge what lies together in every placement within the bytes of the heaviest section."""
    rectangles = _Rectangles(component)
    while sum(rectangles.merge_at(boundary) for boundary in range(component.sections + 1)):
        pass
    (merged,) = components(Instance(tuple(rectangles.buffers.values())))
    return Merged(component, merged, rectangles.inside)


class _Rectangles:
    """The buffers as they are merged, by number. Boundary t comes before section t."""

    def __init__(self, component: Component) -> None:
        self.buffers: dict[int, Buffer] = {}
        self.inside: dict[int, dict[int, int]] = {}
        totals = component.totals
        is_full = totals == totals.max()
        self._full = [False, *(is_full[1:] & is_full[:-1]).tolist(), False]
        self._ending: list[set[int]] = [set() for _ in self._full]
        self._starting: list[set[int]] = [set() for _ in self._full]
        self._spans: list[tuple[int, int]] = []
        for buffer, (first, last) in zip(component.buffers, component.spans.tolist(), strict=True):
            self._add(buffer, first, last)
        self._blocks: dict[tuple[Group, Group], bool] = {}
        self._apart: set[Group] = set()

    def merge_at(self, boundary: int) -> int:
        """Merge groups around a boundary until there are none; how many there were."""
        count = 0
        while (group := next(self._groups(boundary), None)) is not None:
            members = [self.buffers[b] for b in sorted(group)]
            packed = _pack(Instance(tuple(members)))
            if packed:
                self._replace(members, packed)
                count += 1
            else:
                self._apart.add(group)
        return count

    def _groups(self, boundary: int) -> Iterator[Group]:
        """Groups that are rectangles, and may be packed."""
        ending, starting = self._ending[boundary], self._starting[boundary]
        seeds = [starting, ending]
        if self._full[boundary]:
            seeds.append(ending | starting)
        for seed in seeds:
            group = self._closure(seed) if len(seed) > 1 else None
            if group and group not in self._apart and self._is_contiguous(group):
                yield group

    def _closure(self, seed: set[int]) -> Group | None:
        """The smallest group that contains the seed; None if there is none, or it is too large."""
        group, seen = set(seed), set[int]()
        while len(group) <= MOST_MEMBERS:
            within = self._boundaries(group)[1:-1]
            new = [t for t in within if t not in seen]
            if not new:
                return frozenset(group)
            if not all(self._full[t] for t in new):
                return None
            seen.update(new)
            group = group.union(*(self._ending[t] | self._starting[t] for t in new))
        return None

    def _boundaries(self, group: set[int] | Group) -> list[int]:
        """Where buffers of the group start or end, in order."""
        return sorted({t for b in group for t in self._spans[b]})

    def _is_contiguous(self, group: Group) -> bool:
        """Whether at some time its bytes are those of one buffer, a block, or two that overlap."""
        for left, right in pairwise(self._boundaries(group)):
            live = {b for b in group if self._spans[b][0] <= left and right <= self._spans[b][1]}
            before = self._starting[left] if self._is_block(left) else set()
            after = self._ending[right] if self._is_block(right) else set()
            if len(live) == 1 or live in (before, after):
                return True
            if live == before | after and before & after:
                return True
        return False

    def _is_block(self, boundary: int) -> bool:
        """Whether what ends at a boundary, and what starts there, is contiguous."""
        if not self._full[boundary]:
            return False
        key = frozenset(self._ending[boundary]), frozenset(self._starting[boundary])
        if key not in self._blocks:
            self._blocks[key] = self._have_no_equal_parts(*key)
        return self._blocks[key]

    def _have_no_equal_parts(self, ending: Group, starting: Group) -> bool:
        if min(len(ending), len(starting)) == 1:
            return True
        if max(len(ending), len(starting)) > MOST_IN_BLOCK:
            return False
        return len(self._sums(ending) & self._sums(starting)) == 2  # of nothing, and of all

    def _sums(self, group: Group) -> set[int]:
        sums = {0}
        for b in group:
            sums |= {self.buffers[b].size + other for other in sums}
        return sums

    def _add(self, buffer: Buffer, first: int, last: int) -> int:
        """Its number, which becomes its id."""
        number = len(self._spans)
        self._spans.append((first, last))
        self.buffers[number] = Buffer(str(number), buffer.lower, buffer.upper, buffer.size)
        self._starting[first].add(number)
        self._ending[last].add(number)
        return number

    def _replace(self, members: list[Buffer], packed: dict[str, int]) -> None:
        """Put one buffer, as long and as large as all of them, in their place."""
        inside = {int(id_): offset for id_, offset in packed.items()}
        size = max(packed[b.id] + b.size for b in members)
        lower, upper = min(b.lower for b in members), max(b.upper for b in members)
        first, *_, last = self._boundaries(frozenset(inside))
        for b in inside:
            del self.buffers[b]
            self._starting[self._spans[b][0]].remove(b)
            self._ending[self._spans[b][1]].remove(b)
        number = self._add(Buffer("", lower, upper, size), first, last)
        self.inside[number] = inside


def _pack(instance: Instance) -> dict[str, int]:
    """Offsets within the bytes in use at a time; empty if there are none, or not found soon."""
    offsets: dict[str, int] = {}
    for component in components(instance):
        if len(component.buffers) == 1:
            offsets[component.buffers[0].id] = 0
            continue
        searcher = Searcher(component)
        rank = np.argsort(np.argsort(-component.sizes, kind="stable"), kind="stable")
        if searcher.run(int(component.totals.max()), rank, MOST_STATES) != SOLVED:
            return {}
        offsets |= searcher.offsets()
    return offsets

"""Which buffers may be one: views, kernels that work in place, copies into a join that coalesce.

Greedy union, biggest first, each union checked: two groups become one only if every step at which
both are in use hands a buffer of one over to the other, and nothing needs the old contents
afterwards on any way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.compiler.plan import Plan
from offramp.passes.memory.liveness import (
    Liveness,
    arena_root,
    copies,
    first_steps,
    is_whole,
    liveness,
)


@dataclass(frozen=True)
class _HandOver:
    """`source` may give its bytes to `target` at `step`."""

    source: str
    target: str
    step: int


@dataclass
class Groups:
    """Buffers that share one address, by representative.

    leader: of every arena buffer that is no view. live: steps in use, of every leader.
    """

    leader: dict[str, str]
    live: dict[str, int]

    def find(self, name: str) -> str:
        """The leader of the group of `name`."""
        while self.leader[name] != name:
            name = self.leader[name]
        return name

    def union(self, source: str, target: str) -> None:
        """Make two groups one."""
        kept, gone = self.find(source), self.find(target)
        self.leader[gone] = kept
        self.live[kept] |= self.live.pop(gone)

    def members(self) -> dict[str, tuple[str, ...]]:
        """All names of each group, by leader."""
        groups: dict[str, list[str]] = {}
        for name in self.leader:
            groups.setdefault(self.find(name), []).append(name)
        return {leader: tuple(names) for leader, names in groups.items()}


def share(plan: Plan) -> Groups:
    """Group the arena buffers of `plan` that can share an address."""
    live = liveness(plan)
    groups = Groups({name: name for name in live.masks}, dict(live.masks))
    found = [*_calls_in_place(plan, live), *_copies_into_joins(plan, live)]
    at_step: dict[int, list[_HandOver]] = {}
    for hand_over in found:
        at_step.setdefault(hand_over.step, []).append(hand_over)
    for hand_over in sorted(found, key=lambda h: -plan.buffers[h.target].nbytes):
        source, target = groups.find(hand_over.source), groups.find(hand_over.target)
        if source != target and _meet_at_hand_overs_only(source, target, groups, live, at_step):
            groups.union(source, target)
    return groups


def _meet_at_hand_overs_only(
    one: str, other: str, groups: Groups, live: Liveness, at_step: dict[int, list[_HandOver]]
) -> bool:
    """Whether wherever both groups are in use, one buffer hands over to another and none else is.

    There may be several such steps: a value enters a join from one arm directly, from another
    through a kernel that worked in place.
    """
    members = [name for name in groups.leader if groups.find(name) in (one, other)]
    meeting = groups.live[one] & groups.live[other]
    while meeting:
        step = meeting.bit_length() - 1
        meeting ^= 1 << step
        present = {name for name in members if live.masks[name] >> step & 1}
        if not any({h.source, h.target} == present for h in at_step.get(step, [])):
            return False
    return True


def _calls_in_place(plan: Plan, live: Liveness) -> Iterator[_HandOver]:
    """Inputs that die in a call which may write over them, at every position it reads them."""
    first = first_steps(plan)
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            step = first[block.name] + index
            roots = [arena_root(plan, name) for name in call.arguments]
            for written, read in call.in_place:
                source, target = roots[read], roots[written]
                positions = [p for p in range(len(call.reads)) if roots[p] == source]
                paired = all((written, position) in call.in_place for position in positions)
                whole = all(is_whole(plan, call.arguments[p]) for p in (written, *positions))
                if source and target and paired and whole and source not in live.after[step]:
                    yield _HandOver(source, target, step)


def _copies_into_joins(plan: Plan, live: Liveness) -> Iterator[_HandOver]:
    """Arguments that die on the edge which copies them into a parameter."""
    first = first_steps(plan)
    for block in plan.blocks:
        step = first[block.name] + len(block.calls)
        for successor in block.terminator.successors:
            for copy in copies(plan, block, successor):
                source, target = arena_root(plan, copy.source), arena_root(plan, copy.target)
                if not (source and target and is_whole(plan, copy.source)):
                    continue
                if source not in live.entering[successor.block]:
                    yield _HandOver(source, target, step)

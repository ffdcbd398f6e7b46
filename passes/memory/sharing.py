"""Which buffers may be one: views, kernels that work in place, copies into a join that coalesce.

Greedy union, biggest first, each union checked: two groups become one only if the one step at
which both are in use is the step that hands one over to the other, and nothing needs the old
contents afterwards on any way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from offramp.compiler.plan import KernelCall, Plan
from offramp.passes.memory.liveness import Liveness, arena_root, copies, first_steps, liveness


@dataclass(frozen=True)
class _HandOver:
    """`source` may give its bytes to `target` at `step`; `call` is None for a join's copy."""

    source: str
    target: str
    step: int
    call: KernelCall | None


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
    for hand_over in sorted(found, key=lambda h: -plan.buffers[h.target].nbytes):
        source, target = groups.find(hand_over.source), groups.find(hand_over.target)
        if source == target:
            continue
        both = groups.live[source] & groups.live[target]
        if both & ~(1 << hand_over.step) == 0 and _allowed(plan, groups, hand_over):
            groups.union(source, target)
    return groups


def _calls_in_place(plan: Plan, live: Liveness) -> Iterator[_HandOver]:
    """Inputs that die in a call which may write over them."""
    first = first_steps(plan)
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            step = first[block.name] + index
            for written, read in call.in_place:
                source = arena_root(plan, call.arguments[read])
                target = arena_root(plan, call.arguments[written])
                if source and target and source not in live.after[step]:
                    yield _HandOver(source, target, step, call)


def _copies_into_joins(plan: Plan, live: Liveness) -> Iterator[_HandOver]:
    """Arguments that die on the edge which copies them into a parameter."""
    first = first_steps(plan)
    for block in plan.blocks:
        step = first[block.name] + len(block.calls)
        for successor in block.terminator.successors:
            for copy in copies(plan, block, successor):
                source, target = arena_root(plan, copy.source), arena_root(plan, copy.target)
                if source and target and source not in live.entering[successor.block]:
                    yield _HandOver(source, target, step, None)


def _allowed(plan: Plan, groups: Groups, hand_over: _HandOver) -> bool:
    """Whether no other argument of the call would come to lie on the shared bytes unasked."""
    call = hand_over.call
    if call is None:
        return True
    shared = {groups.find(hand_over.source), groups.find(hand_over.target)}
    touching = [
        position
        for position, name in enumerate(call.arguments)
        if (base := arena_root(plan, name)) is not None and groups.find(base) in shared
    ]
    outputs = range(len(call.arguments) - call.outputs, len(call.arguments))
    written = [position for position in touching if position in outputs]
    read = [position for position in touching if position not in outputs]
    return len(written) == 1 and all((written[0], position) in call.in_place for position in read)

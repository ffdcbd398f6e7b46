"""A check of a planned arena that knows nothing of lifetimes.

It follows the program forwards and keeps the set of pieces whose contents are intact: a write makes
the pieces of its buffer intact and spoils all others that its bytes overlap; whatever is read must
be intact. A buffer is one piece, or several where views of parts of it begin and end. Where ways
join, intact is what is intact on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from offramp.compiler.errors import InternalError
from offramp.compiler.plan import BlockPlan, KernelCall, Plan, Storage
from offramp.passes.memory.liveness import (
    Copy,
    answer,
    copies,
    place_in_root,
    root,
    workspace_name,
)


def check_memory(plan: Plan) -> None:
    """Check `plan.memory`.

    Raises:
        InternalError: a buffer has no place, lies outside the arena or off its view, crosses from
            one memory into another, or some way through the program reads bytes that were
            overwritten.
    """
    _check_bounds(plan)
    _check_arenas(plan)
    checker = _Checker(plan)
    entry = plan.blocks[0]
    intact: dict[str, Intact] = {entry.name: frozenset()}
    for name in entry.parameters:
        intact[entry.name] = checker.write(intact[entry.name], name, "the network's inputs")
    held: dict[str, tuple[str, ...]] = {entry.name: ()}
    for block in plan.blocks:
        state = checker.run(block, intact[block.name])
        answers = answer(block) or held[block.name]
        for successor in block.terminator.successors:
            where = f"the edge {block.name} -> {successor.block}"
            after = state
            for copy in copies(plan, block, successor):
                checker.read(after, copy.source, where)
                after = checker.copy(after, copy, where)
            for name in answers:
                checker.read(after, name, f"a stop before {successor.block}")
            intact[successor.block] = intact.get(successor.block, after) & after
            held[successor.block] = answers


def _check_bounds(plan: Plan) -> None:
    offsets, peak = plan.memory.offsets, plan.memory.peak
    for name in sorted(_used(plan)):
        buffer, base = plan.buffers[name], root(plan, name)
        if plan.buffers[base].storage is not Storage.ARENA:
            continue
        if name not in offsets or not 0 <= offsets[name] <= peak - buffer.nbytes:
            raise InternalError(
                f"memory plan: {name!r} ({buffer.nbytes} bytes) is at {offsets.get(name)}, "
                f"outside the arena of {peak} bytes"
            )
        place, size = place_in_root(plan, name), plan.buffers[base].nbytes
        inside = 0 <= place <= size - buffer.nbytes
        if offsets[name] != offsets.get(base, -1) + place or not inside:
            raise InternalError(f"memory plan: view {name!r} does not lie on {base!r}")


def _check_arenas(plan: Plan) -> None:
    """Parts of the arena lie apart and in order, and each buffer lies in one of them."""
    memory = plan.memory
    if not memory.arenas:
        return
    ends = [0, *(arena.start + arena.bytes for arena in memory.arenas)]
    if any(arena.start < end for arena, end in zip(memory.arenas, ends, strict=False)):
        raise InternalError("memory plan: the arenas of two memories overlap")
    sizes = {name: plan.buffers[name].nbytes for name in memory.offsets if name in plan.buffers}
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            sizes[workspace_name(block, index)] = call.workspace
    for name, offset in memory.offsets.items():
        arena = memory.arena_at(offset)
        if sizes[name] == 0:
            continue
        if arena is None or offset + sizes[name] > arena.start + arena.bytes:
            raise InternalError(
                f"memory plan: {name!r} ({sizes[name]} bytes at {offset}) is not in one memory"
            )


def _used(plan: Plan) -> set[str]:
    used: set[str] = set()
    for block in plan.blocks:
        used.update(block.parameters, block.operands)
        used.update(name for call in block.calls for name in call.arguments)
    return used


@dataclass(frozen=True)
class Piece:
    """The bytes from `start` to `end` of a buffer that is no view."""

    buffer: str
    start: int
    end: int


Intact = frozenset[Piece]


class _Checker:
    """Forward rules over sets of intact pieces."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._pieces = _cut(plan)

    def run(self, block: BlockPlan, intact: Intact) -> Intact:
        """What is intact at the end of `block`."""
        for index, call in enumerate(block.calls):
            where = f"call {index} ({call.kernel}) of {block.name}"
            for name in call.reads:
                self.read(intact, name, where)
            self._check_arguments(call, where)
            if call.workspace:
                intact = self._use_workspace(block, index, call, intact)
            for name in call.writes:
                intact = self.write(intact, name, where)
            for name in call.writes:
                self.read(intact, name, f"{where}, written twice")
        for name in block.operands:
            self.read(intact, name, f"the end of {block.name}")
        return intact

    def read(self, intact: Intact, name: str, where: str) -> None:
        """Refuse to read what is not intact."""
        if not self._of(name) <= intact:
            raise InternalError(f"memory plan: {where} reads {name!r}, whose bytes are spoilt")

    def write(self, intact: Intact, name: str, where: str) -> Intact:
        """What is intact after writing `name`."""
        if self._plan.buffers[root(self._plan, name)].storage is not Storage.ARENA:
            raise InternalError(f"memory plan: {where} writes the constant {name!r}")
        start, size = self._plan.memory.offsets[name], self._plan.buffers[name].nbytes
        return self._spoil(intact, start, size) | self._of(name)

    def copy(self, intact: Intact, copy: Copy, where: str) -> Intact:
        """What is intact after a copy; both ends are where they lie on the same bytes."""
        after = self.write(intact, copy.target, where)
        offsets = self._plan.memory.offsets
        same = offsets.get(copy.source, -1) == offsets[copy.target]
        return after | self._of(copy.source) if same else after

    def _of(self, name: str) -> Intact:
        """The pieces of a buffer or view; none of a constant."""
        base, start = root(self._plan, name), place_in_root(self._plan, name)
        end = start + self._plan.buffers[name].nbytes
        pieces = self._pieces.get(base, ())
        return frozenset(p for p in pieces if start <= p.start and p.end <= end)

    def _spoil(self, intact: Intact, start: int, size: int) -> Intact:
        offsets, end = self._plan.memory.offsets, start + size
        return frozenset(
            piece
            for piece in intact
            if offsets[piece.buffer] + piece.end <= start
            or end <= offsets[piece.buffer] + piece.start
            or min(size, piece.end - piece.start) == 0
        )

    def _overlaps(self, name: str, start: int, size: int) -> bool:
        offset, own = self._plan.memory.offsets[name], self._plan.buffers[name].nbytes
        return min(own, size) > 0 and offset < start + size and start < offset + own

    def _is_in_arena(self, name: str) -> bool:
        return root(self._plan, name) in self._pieces

    def _check_arguments(self, call: KernelCall, where: str) -> None:
        """An output may lie on an input only where the kernel says so, and then exactly on it."""
        outputs = range(len(call.arguments) - call.outputs, len(call.arguments))
        for written in outputs:
            target = call.arguments[written]
            start, size = self._plan.memory.offsets[target], self._plan.buffers[target].nbytes
            for position, name in enumerate(call.reads):
                if not self._is_in_arena(name) or not self._overlaps(name, start, size):
                    continue
                same = self._plan.memory.offsets[name] == start
                if not same or (written, position) not in call.in_place:
                    raise InternalError(
                        f"memory plan: {where} writes {target!r} over its input {name!r}"
                    )

    def _use_workspace(
        self, block: BlockPlan, index: int, call: KernelCall, intact: Intact
    ) -> Intact:
        name = workspace_name(block, index)
        start = self._plan.memory.offsets.get(name)
        if start is None or not 0 <= start <= self._plan.memory.peak - call.workspace:
            raise InternalError(f"memory plan: workspace {name!r} is at {start}, outside the arena")
        for argument in call.arguments:
            if self._is_in_arena(argument) and self._overlaps(argument, start, call.workspace):
                raise InternalError(f"memory plan: workspace {name!r} lies on {argument!r}")
        return self._spoil(intact, start, call.workspace)


def _cut(plan: Plan) -> dict[str, tuple[Piece, ...]]:
    """The pieces of every buffer of the arena that is no view, cut where views begin and end."""
    cuts = {
        name: {0, buffer.nbytes}
        for name, buffer in plan.buffers.items()
        if buffer.alias_of is None and buffer.storage is Storage.ARENA
    }
    for name, buffer in plan.buffers.items():
        if (base := root(plan, name)) in cuts:
            start = place_in_root(plan, name)
            cuts[base] |= {start, start + buffer.nbytes}
    return {
        base: tuple(Piece(base, *ends) for ends in pairwise(sorted(at)))
        if len(at) > 1
        else (Piece(base, 0, 0),)
        for base, at in cuts.items()
    }

"""A check of a planned arena that knows nothing of lifetimes.

It follows the program forwards and keeps the set of buffers whose contents are intact: a write
makes its buffer intact and spoils every other one that its bytes overlap; whatever is read must be
intact. Where ways join, intact is what is intact on all of them.
"""

from __future__ import annotations

from offramp.compiler.errors import InternalError
from offramp.compiler.plan import BlockPlan, KernelCall, Plan, Storage
from offramp.passes.memory.liveness import Copy, answer, copies, root, workspace_name


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
    intact: dict[str, frozenset[str]] = {entry.name: frozenset()}
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
        if offsets[name] != offsets.get(base) or buffer.nbytes != plan.buffers[base].nbytes:
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


class _Checker:
    """Forward rules over sets of intact buffers (roots, views stand for them)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._roots = sorted(
            n for n, b in plan.buffers.items() if b.alias_of is None and b.storage is Storage.ARENA
        )

    def run(self, block: BlockPlan, intact: frozenset[str]) -> frozenset[str]:
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

    def read(self, intact: frozenset[str], name: str, where: str) -> None:
        """Refuse to read what is not intact."""
        base = root(self._plan, name)
        if self._plan.buffers[base].storage is Storage.ARENA and base not in intact:
            raise InternalError(f"memory plan: {where} reads {name!r}, whose bytes are spoilt")

    def write(self, intact: frozenset[str], name: str, where: str) -> frozenset[str]:
        """What is intact after writing `name`."""
        base = root(self._plan, name)
        if self._plan.buffers[base].storage is not Storage.ARENA:
            raise InternalError(f"memory plan: {where} writes the constant {name!r}")
        start, size = self._plan.memory.offsets[base], self._plan.buffers[base].nbytes
        return self._spoil(intact, start, size) | {base}

    def copy(self, intact: frozenset[str], copy: Copy, where: str) -> frozenset[str]:
        """What is intact after a copy; both ends are where they lie on the same bytes."""
        after = self.write(intact, copy.target, where)
        offsets = self._plan.memory.offsets
        same = offsets.get(copy.source, -1) == offsets[copy.target]
        return after | {root(self._plan, copy.source)} if same else after

    def _spoil(self, intact: frozenset[str], start: int, size: int) -> frozenset[str]:
        return frozenset(n for n in intact if not self._overlaps(n, start, size))

    def _overlaps(self, name: str, start: int, size: int) -> bool:
        offset, own = self._plan.memory.offsets[name], self._plan.buffers[name].nbytes
        return min(own, size) > 0 and offset < start + size and start < offset + own

    def _check_arguments(self, call: KernelCall, where: str) -> None:
        """An output may lie on an input only where the kernel says so, and then exactly on it."""
        outputs = range(len(call.arguments) - call.outputs, len(call.arguments))
        for written in outputs:
            target = root(self._plan, call.arguments[written])
            start = self._plan.memory.offsets[target]
            size = self._plan.buffers[target].nbytes
            for position, name in enumerate(call.reads):
                base = root(self._plan, name)
                if base not in self._roots or not self._overlaps(base, start, size):
                    continue
                same = self._plan.memory.offsets[base] == start
                if not same or (written, position) not in call.in_place:
                    raise InternalError(
                        f"memory plan: {where} writes {target!r} over its input {name!r}"
                    )

    def _use_workspace(
        self, block: BlockPlan, index: int, call: KernelCall, intact: frozenset[str]
    ) -> frozenset[str]:
        name = workspace_name(block, index)
        start = self._plan.memory.offsets.get(name)
        if start is None or not 0 <= start <= self._plan.memory.peak - call.workspace:
            raise InternalError(f"memory plan: workspace {name!r} is at {start}, outside the arena")
        for argument in call.arguments:
            base = root(self._plan, argument)
            if base in self._roots and self._overlaps(base, start, call.workspace):
                raise InternalError(f"memory plan: workspace {name!r} lies on {argument!r}")
        return self._spoil(intact, start, call.workspace)

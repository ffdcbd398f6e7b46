"""Random plans give the same results in a planned arena as in separate buffers.

The machine here knows nothing of lifetimes or of the validator: it moves bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Branch, Exit, Jump, Return, Successor, Terminator
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan
from offramp.passes.memory import plan_memory
from offramp.passes.memory.exact import exact
from offramp.passes.memory.liveness import place_in_root, root
from offramp.passes.memory.plan import as_problem
from offramp.passes.memory.problem import peak
from offramp.passes.memory.sharing import share
from offramp.passes.memory.validate import check_memory

Bytes = npt.NDArray[np.uint8]


@dataclass
class PlanDrawer:
    """Draws a plan block by block from a hypothesis `draw` function."""

    draw: st.DrawFn
    buffers: dict[str, Buffer] = field(default_factory=dict[str, Buffer])
    blocks: list[BlockPlan] = field(default_factory=list[BlockPlan])

    def new(self, size: int | None = None, alias_of: str | None = None, offset: int = 0) -> str:
        name = f"t{len(self.buffers)}"
        if size is None:
            size = self.draw(st.integers(0, 40))
        self.buffers[name] = Buffer(name, (size,), "uint8", alias_of=alias_of, offset=offset)
        return name

    def block(
        self, parameters: list[str], ends_in_exit: bool
    ) -> tuple[list[str], list[KernelCall]]:
        """Random calls; returns what is alive at the end."""
        alive = list(parameters)
        least = 1 if ends_in_exit else 0
        count = self.draw(st.integers(least, 4))
        calls = [self.call(alive) for _ in range(count)]
        if self.draw(st.booleans()):
            calls += self.joined(alive)
        return alive, calls

    def call(self, alive: list[str]) -> KernelCall:
        """A call whose result is alive afterwards, with a view of it, or of a part."""
        reads = self.draw(st.lists(st.sampled_from(alive), min_size=1, max_size=2))
        same = self.draw(st.booleans())
        written = self.new(self.buffers[reads[0]].nbytes if same else None)
        alive.append(written)
        if self.draw(st.booleans()):
            alive.append(self.part(written))
        return self.writing(reads, written)

    def joined(self, alive: list[str]) -> list[KernelCall]:
        """Calls that write the parts of one buffer, with others between; it is alive at the end."""
        sizes = self.draw(st.lists(st.integers(0, 20), min_size=1, max_size=3))
        whole = self.new(sum(sizes))
        calls: list[KernelCall] = []
        start = 0
        for size in sizes:
            part = self.new(size, alias_of=whole, offset=start)
            reads = self.draw(st.lists(st.sampled_from(alive), min_size=1, max_size=2))
            calls.append(self.writing(reads, part))
            alive.append(part)
            start += size
            if self.draw(st.booleans()):
                calls.append(self.call(alive))
        alive.append(whole)
        return calls

    def part(self, name: str) -> str:
        """A view of a buffer, from somewhere to somewhere."""
        size = self.buffers[name].nbytes
        start = self.draw(st.integers(0, size))
        return self.new(self.draw(st.integers(0, size - start)), alias_of=name, offset=start)

    def writing(self, reads: list[str], written: str) -> KernelCall:
        in_place = tuple((len(reads), p) for p in range(len(reads)) if self.draw(st.booleans()))
        return KernelCall(
            "k", (*reads, written), in_place=in_place, workspace=self.draw(st.integers(0, 20))
        )

    def finish(
        self,
        name: str,
        calls: list[KernelCall],
        parameters: list[str],
        operands: list[str],
        terminator: Terminator,
    ) -> None:
        self.blocks.append(
            BlockPlan(name, tuple(calls), tuple(parameters), tuple(operands), terminator)
        )

    def views(self, names: list[str]) -> list[str]:
        return [self.new(self.buffers[n].nbytes, alias_of=n) for n in names]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A chain of segments: blocks that end in an exit or a jump, and two-armed branches."""
    drawer = PlanDrawer(draw)
    parameters = inputs = [drawer.new() for _ in range(draw(st.integers(1, 3)))]
    kinds = draw(st.lists(st.sampled_from(["exit", "jump", "branch"]), max_size=4))
    for number, kind in enumerate(kinds):
        after = f"b{number + 1}"
        alive, calls = drawer.block(parameters, kind == "exit")
        passed = draw(st.lists(st.sampled_from(alive), min_size=1, max_size=3))
        args = tuple(range(len(passed)))
        if kind == "branch":
            parameters = _branch(drawer, number, parameters, calls, passed)
            continue
        value = len(passed)
        terminator: Terminator = Jump(Successor(after, args))
        if kind == "exit":
            terminator = Exit((value,), value, 0.5, "max_softmax", Successor(after, args))
        drawer.finish(f"b{number}", calls, parameters, [*passed, alive[-1]], terminator)
        parameters = drawer.views(passed)
    alive, calls = drawer.block(parameters, ends_in_exit=True)
    drawer.finish(f"b{len(kinds)}", calls, parameters, [alive[-1]], Return((0,)))
    names = tuple(inputs)
    return Plan("p", "cortex-m7", drawer.buffers, tuple(drawer.blocks), names, ("y",), False)


def _branch(
    drawer: PlanDrawer,
    number: int,
    parameters: list[str],
    calls: list[KernelCall],
    passed: list[str],
) -> list[str]:
    """A branch whose second way is a block like the first or leads straight to the join."""
    args, after = tuple(range(len(passed))), f"b{number + 1}"
    direct = drawer.draw(st.booleans())
    ways = [Successor(f"b{number}x", args), Successor(after if direct else f"b{number}y", args)]
    drawer.finish(f"b{number}", calls, parameters, [*passed, passed[0]], Branch(len(passed), *ways))
    sizes = [drawer.buffers[name].nbytes for name in passed]
    joined = [drawer.new(size) for size in sizes]
    for way in ways[: 1 if direct else 2]:
        _arm(drawer, way.block, after, drawer.views(passed), sizes)
    return joined


def _arm(drawer: PlanDrawer, name: str, after: str, own: list[str], sizes: list[int]) -> None:
    alive, inner = drawer.block(own, ends_in_exit=False)
    handed: list[str] = []
    for size in sizes:
        fitting = [n for n in alive if drawer.buffers[n].nbytes == size]
        if drawer.draw(st.booleans()) and fitting:
            handed.append(drawer.draw(st.sampled_from(fitting)))
        else:
            handed.append(drawer.new(size))
            inner.append(KernelCall("k", (alive[0], handed[-1])))
    to = Jump(Successor(after, tuple(range(len(handed)))))
    drawer.finish(name, inner, own, handed, to)


@dataclass
class Machine:
    """Runs a plan on bytes: in its arena, or (the reference) with separate buffers.

    A kernel writes a fingerprint of its inputs; its workspace is filled with rubbish first.
    `ways` decides each Branch; exits always stay, and every answer passed is recorded.
    """

    plan: Plan
    in_arena: bool
    ways: list[bool]
    seen: list[bytes] = field(default_factory=list[bytes])

    def __post_init__(self) -> None:
        self.arena = np.zeros(self.plan.memory.peak, np.uint8)
        self.separate: dict[str, Bytes] = {}

    def at(self, name: str) -> Bytes:
        size = self.plan.buffers[name].nbytes
        if self.in_arena:
            start = self.plan.memory.offsets[name]
            return self.arena[start : start + size]
        base, start = root(self.plan, name), place_in_root(self.plan, name)
        whole = np.zeros(self.plan.buffers[base].nbytes, np.uint8)
        return self.separate.setdefault(base, whole)[start : start + size]

    def run(self) -> list[bytes]:
        for number, name in enumerate(self.plan.blocks[0].parameters):
            self.at(name)[:] = 7 * number + np.arange(self.plan.buffers[name].nbytes)
        blocks = {block.name: block for block in self.plan.blocks}
        block: BlockPlan | None = self.plan.blocks[0]
        held: tuple[str, ...] = ()
        while block is not None:
            self.seen += [self.at(name).tobytes() for name in held]
            self._calls(block)
            self.seen += [self.at(name).tobytes() for name in block.operands]
            successor = self._leave(block)
            if isinstance(block.terminator, Exit):
                held = tuple(block.operands[p] for p in block.terminator.values)
            following = None if successor is None else blocks[successor.block]
            if successor is not None and following is not None:
                self._pass(block, successor, following)
            block = following
        return self.seen

    def _calls(self, block: BlockPlan) -> None:
        for index, call in enumerate(block.calls):
            if self.in_arena and call.workspace:
                start = self.plan.memory.offsets[f"{block.name}.{index}.workspace"]
                self.arena[start : start + call.workspace] = 0xA5
            mark = sum(
                (i + 1) * int(self.at(n).astype(np.int64).sum()) for i, n in enumerate(call.reads)
            )
            for name in call.writes:
                self.at(name)[:] = (mark + np.arange(self.plan.buffers[name].nbytes)) % 251

    def _leave(self, block: BlockPlan) -> Successor | None:
        match block.terminator:
            case Branch(then=then, else_=else_):
                return then if self.ways.pop() else else_
            case Return():
                return None
            case terminator:
                return terminator.successors[0]

    def _pass(self, block: BlockPlan, successor: Successor, following: BlockPlan) -> None:
        for position, target in zip(successor.args, following.parameters, strict=True):
            if self.plan.buffers[target].alias_of is None:
                self.at(target)[:] = self.at(block.operands[position]).copy()


@settings(deadline=None)
@given(plans(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_results_do_not_depend_on_the_arena_or_the_order(plan: Plan, ways: list[bool]) -> None:
    planned = plan_memory(plan)
    reference = Machine(plan, in_arena=False, ways=list(ways)).run()
    assert Machine(planned, in_arena=True, ways=list(ways)).run() == reference


@settings(deadline=None)
@given(plans())
def test_the_arena_is_between_its_bound_and_the_sum_of_its_buffers(plan: Plan) -> None:
    memory = plan_memory(plan).memory
    owners = [b for b in plan.buffers.values() if b.alias_of is None]
    scratch = sum(call.workspace for block in plan.blocks for call in block.calls)
    padding = 4 * (len(owners) + sum(len(block.calls) for block in plan.blocks))
    assert memory.lower_bound <= memory.peak
    assert memory.peak <= sum(b.nbytes for b in owners) + scratch + padding
    assert (memory.status == "optimal") == (memory.peak == memory.lower_bound)


@settings(deadline=None)
@given(plans())
def test_the_arena_is_no_larger_than_in_the_given_order(plan: Plan) -> None:
    problem = as_problem(plan, share(plan))
    assert plan_memory(plan).memory.peak <= peak(problem, exact(problem))


@settings(deadline=None)
@given(plans(), st.data())
def test_spoiling_a_plan_is_found_if_results_change(plan: Plan, data: st.DataObject) -> None:
    """Move one buffer (its views with it): the validator must object if any way shows it."""
    planned = plan_memory(plan)
    owners = sorted(
        n for n, b in plan.buffers.items() if b.alias_of is None and n in planned.memory.offsets
    )
    moved = data.draw(st.sampled_from(owners))
    limit = planned.memory.peak - plan.buffers[moved].nbytes
    offset = data.draw(st.integers(0, limit))
    offsets = dict(planned.memory.offsets)
    offsets.update(
        {
            n: offset + place_in_root(plan, n)
            for n in offsets
            if n in plan.buffers and root(plan, n) == moved
        }
    )
    spoilt = replace(planned, memory=replace(planned.memory, offsets=offsets))
    try:
        check_memory(spoilt)
    except InternalError:
        return
    for ways in ([True] * 4, [False] * 4):
        reference = Machine(spoilt, in_arena=False, ways=list(ways)).run()
        assert Machine(spoilt, in_arena=True, ways=list(ways)).run() == reference

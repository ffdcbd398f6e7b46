"""When each arena buffer is in use, over the control-flow graph.

Every kernel call is one step and every terminator another; blocks follow each other in topological
order. Liveness is the usual backward data flow, which on an acyclic graph needs one pass. Steps of
exclusive arms are different steps, so their buffers never conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Exit, Return, Successor
from offramp.compiler.plan import BlockPlan, Plan, Storage


@dataclass(frozen=True)
class Copy:
    """`source` is copied into `target`, a parameter of a join, on the way there."""

    source: str
    target: str


def root(plan: Plan, name: str) -> str:
    """The buffer that `name` is a view of, followed to the end; itself if it is no view."""
    while (alias := plan.buffers[name].alias_of) is not None:
        name = alias
    return name


def place_in_root(plan: Plan, name: str) -> int:
    """The byte of its root at which `name` begins."""
    offset = 0
    while (alias := plan.buffers[name].alias_of) is not None:
        offset += plan.buffers[name].offset
        name = alias
    return offset


def is_whole(plan: Plan, name: str) -> bool:
    """Whether `name` has all bytes of its root, not a part of them."""
    return plan.buffers[name].nbytes == plan.buffers[root(plan, name)].nbytes


def arena_root(plan: Plan, name: str) -> str | None:
    """`root`, or None if the bytes are not in the arena."""
    base = root(plan, name)
    return base if plan.buffers[base].storage is Storage.ARENA else None


def copies(plan: Plan, block: BlockPlan, successor: Successor) -> tuple[Copy, ...]:
    """What the driver copies along one edge: arguments whose parameter is no view of them."""
    parameters = next(b for b in plan.blocks if b.name == successor.block).parameters
    arguments = (block.operands[position] for position in successor.args)
    return tuple(
        Copy(argument, parameter)
        for argument, parameter in zip(arguments, parameters, strict=True)
        if _place(plan, argument) != _place(plan, parameter)
    )


def _place(plan: Plan, name: str) -> tuple[str, int]:
    return root(plan, name), place_in_root(plan, name)


def answer(block: BlockPlan) -> tuple[str, ...]:
    """The buffers with which the network answers at the end of this block, if it may."""
    match block.terminator:
        case Exit(values=values) | Return(values=values):
            return tuple(block.operands[position] for position in values)
        case _:
            return ()


def workspace_name(block: BlockPlan, index: int) -> str:
    """The name in the memory plan of the workspace of one call."""
    return f"{block.name}.{index}.workspace"


def first_steps(plan: Plan) -> dict[str, int]:
    """By block name: the step of its first call; call i is i steps later, the terminator last."""
    first: dict[str, int] = {}
    step = 0
    for block in plan.blocks:
        first[block.name] = step
        step += len(block.calls) + 1
    return first


@dataclass
class Liveness:
    """Which arena buffers (views stand for what they view) are in use when.

    masks: by buffer, the steps at which it is in use, as a bit mask.
    after: by step, what later steps still need. entering: by block name, what it needs from before.
    """

    masks: dict[str, int]
    after: dict[int, frozenset[str]]
    entering: dict[str, frozenset[str]]

    def mark(self, names: frozenset[str], step: int) -> None:
        """Note that `names` are in use at `step`."""
        for name in names:
            self.masks[name] |= 1 << step


def liveness(plan: Plan) -> Liveness:
    """Analyse `plan`.

    Network inputs are in use from step 0. An exit's answer stays in use until the next answer
    exists, so that a run which is stopped in between can return it.

    Raises:
        InternalError: a buffer is read that nothing wrote.
    """
    owners = [name for name in plan.buffers if arena_root(plan, name) == name]
    found = Liveness(dict.fromkeys(owners, 0), {}, {})
    first, held = first_steps(plan), _held_answers(plan)
    for block in reversed(plan.blocks):
        _flow_backwards(plan, block, first[block.name], held[block.name], found)
    entry = plan.blocks[0]
    inputs = _roots(plan, entry.parameters)
    unwritten = sorted(found.entering[entry.name] - inputs)
    if unwritten:
        raise InternalError(f"plan {plan.name!r}: nothing writes {', '.join(unwritten)}")
    found.mark(inputs, 0)
    return found


def _flow_backwards(
    plan: Plan, block: BlockPlan, first: int, held: frozenset[str], found: Liveness
) -> None:
    after: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    for successor in block.terminator.successors:
        targets = _roots(plan, [copy.target for copy in copies(plan, block, successor)])
        after |= found.entering[successor.block] - targets
        written |= targets
    live = after | _roots(plan, block.operands) | held
    found.mark(live | written, first + len(block.calls))
    begun = _first_written(plan, block)
    for index, call in reversed(list(enumerate(block.calls))):
        reads, writes = _roots(plan, call.reads), _roots(plan, call.writes)
        found.after[first + index] = live
        found.mark(live | reads | writes, first + index)
        live = (live - begun[index]) | reads
    found.entering[block.name] = live


def _first_written(plan: Plan, block: BlockPlan) -> list[frozenset[str]]:
    """For each call the buffers that it is the first to write: those of parts have several."""
    seen: frozenset[str] = frozenset()
    found: list[frozenset[str]] = []
    for call in block.calls:
        writes = _roots(plan, call.writes)
        found.append(writes - seen)
        seen |= writes
    return found


def _roots(plan: Plan, names: Sequence[str]) -> frozenset[str]:
    return frozenset(base for name in names if (base := arena_root(plan, name)) is not None)


def _held_answers(plan: Plan) -> dict[str, frozenset[str]]:
    """For each block the answers of the last exits before it."""
    held: dict[str, frozenset[str]] = {block.name: frozenset() for block in plan.blocks}
    for block in plan.blocks:
        own = _roots(plan, answer(block)) or held[block.name]
        for successor in block.terminator.successors:
            held[successor.block] |= own
    return held

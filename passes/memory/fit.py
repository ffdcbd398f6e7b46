"""Whether a planned network fits a board; if not, what fills the memory."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from offramp.compiler import boards, targets
from offramp.compiler.boards import Board
from offramp.compiler.errors import InternalError, UserError
from offramp.compiler.plan import Buffer, KernelCall, Plan, copied_bytes, distinct_constants
from offramp.passes.memory.liveness import first_steps
from offramp.passes.memory.plan import as_problem
from offramp.passes.memory.problem import Item
from offramp.passes.memory.sharing import share

SHOWN = 4
"""Buffers and weights that a message names, the largest first."""
LONGEST = 60
"""Characters of a node's name: converters join those of everything that they fused."""


def check_fit(plan: Plan, board: Board) -> None:
    """Check the arena against the RAM of a board, the weights against its flash.

    An arena that is one array must lie in memories that adjoin; one that is spread over memories
    must fit each. No compiler has seen the code yet: it, the stack and other data are counted as
    what the board's description reserves.

    Args:
        plan: its memory is planned.
        board: of the plan's target.

    Raises:
        UserError: something does not fit; says how many bytes are needed and there are, what
            fills the arena when it is fullest, which weights are the largest, and what to do.
    """
    problems: list[str] = []
    ram, flash = ram_for_arena(board), flash_for_weights(board)
    arena, weights = plan.memory.peak, _weight_bytes(plan)
    if plan.memory.arenas:
        check_spread(plan, board)
    elif arena > ram:
        problems.append(
            f"its arena needs {arena} bytes and the RAM has {ram} for it "
            f"({_sizes(board, 'ram')}, {board.reserve.ram} reserved for stack and other data). "
            f"{_peak_text(plan)}"
        )
    if weights > flash:
        problems.append(
            f"its weights need {weights} bytes and the flash has {flash} for them "
            f"({_sizes(board, 'flash')}, {board.reserve.flash} reserved for code). "
            f"{_weights_text(plan)}"
        )
    if problems:
        advice = _advice(plan, in_ram=not plan.memory.arenas and arena > ram)
        raise UserError(f"{plan.name} does not fit {board.name}: {' And '.join(problems)} {advice}")


def check_spread(plan: Plan, board: Board) -> None:
    """Check that each memory of a board holds its part of the arena and its copies of weights.

    Raises:
        InternalError: one does not.
    """
    room = {memory.name: memory.bytes for memory in board.usable()}
    used = dict.fromkeys(room, 0)
    for arena in plan.memory.arenas:
        used[arena.memory] += arena.bytes
    for memory, size in copied_bytes(plan, targets.get(plan.target).alignment).items():
        used[memory] += size
    for memory, size in used.items():
        if size > room[memory]:
            raise InternalError(
                f"memory plan: {size} bytes lie in {memory!r} of {board.name}, which has "
                f"{room[memory]} for them"
            )


def ram_for_arena(board: Board) -> int:
    """Bytes of the largest span of RAM, less the reserve if no other span has room for that."""
    largest, *others = board.spans("ram")
    is_elsewhere = any(span.bytes >= board.reserve.ram for span in others)
    return largest.bytes if is_elsewhere else largest.bytes - board.reserve.ram


def flash_for_weights(board: Board) -> int:
    """Bytes of flash, less the reserve for code."""
    return board.spans("flash")[0].bytes - board.reserve.flash


def _weight_bytes(plan: Plan) -> int:
    return sum(constant.nbytes for constant in distinct_constants(plan))


def _sizes(board: Board, role: str) -> str:
    return ", ".join(f"{span.name}: {span.bytes}" for span in board.spans(role))


def _peak_text(plan: Plan) -> str:
    """The step at which most bytes are in use, and by which buffers."""
    items = as_problem(plan, share(plan)).items
    labels = _nodes_by_step(plan)
    step = max(labels, key=lambda step: sum(item.size for item in _live(items, step)))
    live = sorted(_live(items, step), key=lambda item: -item.size)
    return f"Most is in use at {labels[step]}: {_listed((i.name, i.size) for i in live)}."


def _live(items: Iterable[Item], step: int) -> list[Item]:
    return [item for item in items if item.live >> step & 1]


def _nodes_by_step(plan: Plan) -> dict[int, str]:
    """What is computed at each step."""
    first = first_steps(plan)
    labels: dict[int, str] = {}
    for block in plan.blocks:
        for index, call in enumerate(block.calls):
            labels[first[block.name] + index] = _title(call)
        labels[first[block.name] + len(block.calls)] = f"the end of {block.name}"
    return labels


def _weights_text(plan: Plan) -> str:
    constants = sorted(distinct_constants(plan), key=lambda constant: -constant.nbytes)
    named = ((_reader(plan, constant), constant.nbytes) for constant in constants)
    return f"The largest belong to {_listed(named)}."


def _reader(plan: Plan, constant: Buffer) -> str:
    """What reads a constant first: constants have no names of their own."""
    calls = chain.from_iterable(block.calls for block in plan.blocks)
    return next((_title(call) for call in calls if constant.name in call.reads), constant.name)


def _title(call: KernelCall) -> str:
    """The last node that a kernel computes, by name."""
    name = call.nodes[-1] if call.nodes else call.kernel
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}..."


def _listed(sizes: Iterable[tuple[str, int]]) -> str:
    """The first `SHOWN` in words, and how many bytes the others have."""
    every = list(sizes)
    words = [f"{name} ({size} bytes)" for name, size in every[:SHOWN]]
    if rest := every[SHOWN:]:
        words.append(f"{len(rest)} more ({sum(size for _, size in rest)} bytes)")
    return ", ".join(words)


def _advice(plan: Plan, *, in_ram: bool) -> str:
    """What to do; in_ram: whether RAM is too small.

    Other boards are judged by this plan, whatever their processor.
    """
    fitting = [
        name
        for name in boards.names()
        if plan.memory.peak <= ram_for_arena(boards.get(name))
        and _weight_bytes(plan) <= flash_for_weights(boards.get(name))
    ]
    is_quantised = any(constant.dtype == "int8" for constant in distinct_constants(plan))
    choices = [] if is_quantised else ["int8 (--quantize int8)"]
    if in_ram:
        choices.append("bands of rows in the first layers (--patches 20)")
    choices.append("a smaller model")
    if fitting:
        choices.append(f"a board that holds it as it is: {', '.join(fitting)}")
    return f"Choose {', or '.join(choices)}"

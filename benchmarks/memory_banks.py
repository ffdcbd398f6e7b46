"""Networks spread over the memories of boards: cycles of loads and stores, predicted and counted.

The shared networks in int8 and float32, on boards with several speeds of memory. Peers: one array
in the largest memory and weights in flash, as a linker script leaves them; and the hottest bytes
first into the fastest memory that has room for them, without regard to lifetimes. Both place the
same buffers, and account for them by the same descriptions of the boards. `copies` lets weights be
read from RAM. Counted cycles are those of the bytes that the emulator sees loaded and stored, by
array; the stack is left out everywhere. Writes a section of docs/results/memory.md.

    .venv/bin/python benchmarks/memory_banks.py [--json] [--models NAME ...]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from exits_common import RESULTS, SHARED, table, write_section

from offramp import backends
from offramp.backends.driver.constants import write_arrays
from offramp.backends.driver.interface import describe
from offramp.backends.driver.memories import static_arrays
from offramp.backends.microcontroller.run import FirmwareRunner
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import boards, targets
from offramp.compiler.boards import Board
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.plan import Plan, equal_constants
from offramp.passes.memory import plan_memory
from offramp.passes.memory.access import expected_traffic
from offramp.passes.memory.assign import WORD
from offramp.passes.memory.banks import spread
from offramp.passes.memory.fit import check_fit
from offramp.passes.memory.plan import as_problem
from offramp.passes.memory.sharing import share
from offramp.passes.simplify import simplify

MODELS = (
    "kws_dscnn_int8", "ic_resnet8_int8", "vww_mbv1_int8", "ad_fcae_int8", "ic_resnet8_float",
    "vww_mbv1_float",
)  # fmt: skip
BOARDS = ("nucleo-f746zg", "nucleo-h743zi2")
HEAD = (
    "network", "board", "copies", "one array", "hottest first", "spread", "status", "counted",
    "s",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One network on one board; cycles of an inference, and seconds of planning.

    one_array is None where the largest memory does not hold the arena.
    """

    model: str
    board: str
    copies: bool
    one_array: float | None
    hottest_first: float
    spread: float
    lower_bound: float
    status: str
    counted: float
    seconds: float


def measure(lowered: Lowered, board: Board, *, copies: bool) -> Row:
    """Plan one network, and run what it becomes."""
    plan, reach = lowered.plan, {block.name: 1.0 for block in lowered.plan.blocks}
    began = time.process_time()
    found = spread(plan, board, reach, copy_weights=copies)
    seconds = time.process_time() - began
    check_fit(found, board)
    access, traffic = found.memory.access, expected_traffic(plan, reach)
    if access is None:
        raise SystemExit(f"{plan.name} does not fit {board.name}")
    return Row(
        plan.name,
        board.name,
        copies,
        _one_array(plan, board, traffic),
        _hottest_first(plan, board, traffic, copies=copies),
        access.cycles,
        access.lower_bound,
        access.status,
        _counted(Lowered(found, lowered.kernels), board),
        seconds,
    )


def _sizes(plan: Plan) -> list[tuple[str, int, tuple[str, ...]]]:
    """(name, bytes, members) of everything in the arena that has a place of its own."""
    groups = share(plan)
    members = groups.members()
    return [
        (item.name, item.size, members.get(item.name, (item.name,)))
        for item in as_problem(plan, groups).items
    ]


def _weights(plan: Plan, traffic: Mapping[str, float]) -> list[tuple[int, float]]:
    """(bytes, traffic) of all weights."""
    return [
        (equal[0].nbytes, sum(traffic.get(buffer.name, 0.0) for buffer in equal))
        for equal in equal_constants(plan)
    ]


def _one_array(plan: Plan, board: Board, traffic: Mapping[str, float]) -> float | None:
    largest = max(board.usable(), key=lambda bank: bank.bytes)
    if plan.memory.peak > largest.bytes:
        return None
    arena = sum(traffic.get(name, 0.0) for *_, members in _sizes(plan) for name in members)
    flash = board.banks("flash")[0].cycles
    weights = sum(moved for _, moved in _weights(plan, traffic))
    return (arena * largest.cycles + weights * flash) / WORD


def _hottest_first(
    plan: Plan, board: Board, traffic: Mapping[str, float], *, copies: bool
) -> float:
    """By bytes moved for each byte that is held; activations before weights, which have a place."""
    room = {bank.name: bank.bytes for bank in board.usable()}
    wanted = [
        (size, sum(traffic.get(name, 0.0) for name in members), True)
        for _, size, members in _sizes(plan)
    ]
    wanted += [(size, moved, False) for size, moved in _weights(plan, traffic)]
    cycles = 0.0
    for size, moved, must in sorted(wanted, key=lambda w: (not w[2], -w[1] / max(w[0], 1))):
        speed = board.banks("flash")[0].cycles
        for bank in board.usable():
            if (must or copies) and room[bank.name] >= size:
                room[bank.name] -= size
                speed = bank.cycles
                break
        cycles += moved * speed
    return cycles / WORD


def _counted(lowered: Lowered, board: Board) -> float:
    """Cycles of the bytes that the emulator sees moved, by the array in which they lie."""
    plan, target = lowered.plan, targets.get(board.target)
    with tempfile.TemporaryDirectory() as folder:
        backends.get(target.name).emit(lowered, Path(folder))
        runner = backends.get(target.name).load(Path(folder))
        if not isinstance(runner, FirmwareRunner):
            raise TypeError(runner)
        (tensor,) = runner.interface.inputs
        moved = runner.traffic({tensor.name: np.zeros(tensor.shape, tensor.dtype)})
        interface = describe(plan, target.alignment)
        constants = write_arrays(plan, Path(folder) / "again.c", target.alignment)
        arrays = static_arrays(plan, interface, constants)
    speed = {bank.name: bank.cycles for bank in board.usable()}
    memory = {f"static_{arena.variable}": arena.memory for arena in arrays.arenas}
    memory |= {copied.variable: copied.memory for copied in arrays.copied}
    cycles = sum(moved.get(name, 0.0) * speed[lies] for name, lies in memory.items())
    stored = sum(n for name, n in moved.items() if name.startswith(f"{plan.name}_w"))
    read = sum(plan.buffers[name].nbytes for name in plan.blocks[0].parameters)
    where = plan.memory.arena_at(plan.memory.offsets[plan.blocks[0].parameters[0]])
    written = 0.0 if where is None else read * speed[where.memory]
    return (cycles + written + stored * board.banks("flash")[0].cycles) / WORD


def _cells(row: Row) -> list[str]:
    return [
        row.model,
        row.board,
        "yes" if row.copies else "no",
        "-" if row.one_array is None else f"{row.one_array:,.0f}",
        f"{row.hottest_first:,.0f}",
        f"**{row.spread:,.0f}**",
        row.status,
        f"{row.counted:,.0f}",
        f"{row.seconds:.2f}",
    ]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON and write nothing")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    rows: list[Row] = []
    for model in options.models:
        program = simplify()(from_onnx(SHARED / "models" / f"{model}.onnx"))
        lowered = lower(program, targets.get("cortex-m7"))
        lowered = Lowered(plan_memory(lowered.plan), lowered.kernels)
        for board in BOARDS:
            for copies in (False, True):
                rows.append(measure(lowered, boards.get(board), copies=copies))
                if not options.json:
                    print(*_cells(rows[-1]), sep="  ", flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    body = f"""
`python benchmarks/memory_banks.py` ({platform.machine()}, one thread): cycles of the loads and
stores of one inference on boards with memories of several speeds, where no word is in a cache.
One array: activations in the largest memory, weights in flash. Hottest first: greedy by bytes moved
for each byte held. Spread: `--board`, with copies of weights as `--optimize speed` makes them (of 8
bits here). Counted: for the bytes that the emulator saw moved. CPU seconds of planning.

{table(HEAD, [_cells(row) for row in rows])}
"""
    if options.models == list(MODELS):
        write_section(RESULTS / "memory.md", "Memories of a board", body)


if __name__ == "__main__":
    main()

"""Activation memory of nine classic networks: proven arenas in the given and in the best order.

The networks are the light models in the onnx wheel (their weights are stand-ins, their shapes are
real). What is counted: float32 at batch 1; one buffer for every tensor that a node computes from
the network's input, used or not, from the node that writes it to the last one that reads it; the
network's input until its last reader, its answer to the end. Nothing shares bytes in place, and
neither do views. What is not: weights, and all that is computed from weights alone; the masks of
Dropout, which nothing reads.

Peers, in the given order: an allocator that looks for the best fit when a node asks for a buffer,
as arenas at run time do, and greedy placement by size. Times are CPU seconds of one process,
compilation of the search apart. Every arena is checked by a sweep that shares nothing with the
search. Writes a section of docs/results/memory.md, and memory_models.json.

    .venv/bin/python benchmarks/memory_models.py [--json] [--models NAME ...]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from exits_common import RESULTS, table, write_section
from memory_instances import greedy_peak

from offramp.passes.memory.footprint import Operators, Tensor
from offramp.passes.memory.order import best_order
from offramp.passes.memory.search import Buffer, Instance, Solution, solve
from offramp.passes.memory.search.check import check_offsets

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip
FLOAT_BYTES = 4
HEAD = (
    "network", "nodes", "tensors", "best fit", "greedy by size", "arena", "status", "s",
    "reordered", "order", "arena", "status", "s",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One network; bytes and CPU seconds.

    arena, status, seconds: in the given order. lowest: of the best order found, `order` says
    whether it is proven to be the best. arena_reordered and so on: of the placement in that order;
    seconds_reordered counts the search for it as well.
    """

    model: str
    nodes: int
    tensors: int
    best_fit: int
    greedy_by_size: int
    arena: int | None
    status: str
    seconds: float
    lowest: int
    order: str
    arena_reordered: int | None
    status_reordered: str
    seconds_reordered: float

    def cells(self) -> list[str]:
        """One row of the table."""
        return [
            f"{value:.3f}" if isinstance(value, float)
            else f"{value:,}" if isinstance(value, int) else str(value)
            for value in asdict(self).values()
        ]  # fmt: skip


def read_operators(path: Path) -> Operators:
    """The nodes of a network, as far as they depend on its input, and their tensors."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    sizes = {
        value.name: FLOAT_BYTES * prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    constants = {tensor.name for tensor in graph.initializer}
    writers: dict[str, int | None] = {v.name: None for v in graph.input if v.name not in constants}
    users: dict[str, set[int]] = {name: set() for name in writers}
    after: list[frozenset[int]] = []
    for node in graph.node:
        reads = [name for name in node.input if name in writers]
        if not reads:
            continue
        position = len(after)
        after.append(frozenset(w for name in reads if (w := writers[name]) is not None))
        for name in reads:
            users[name].add(position)
        for name in _computed(node):
            writers[name], users[name] = position, {position}
    answers = {value.name for value in graph.output}
    tensors = (
        Tensor(sizes[name], writer, frozenset(users[name]), name in answers)
        for name, writer in writers.items()
    )
    return Operators(tuple(tensors), tuple(after), (0,) * len(after), ((),) * len(after))


def _computed(node: Any) -> list[str]:
    """Outputs that exist when the network answers."""
    outputs = node.output[:1] if node.op_type == "Dropout" else node.output
    return [name for name in outputs if name]


def lifetimes(operators: Operators, order: Sequence[int]) -> Instance:
    """The tensors in this order as buffers; time is counted in nodes."""
    step = {position: at for at, position in enumerate(order)}
    return Instance(
        tuple(
            Buffer(
                str(number),
                0 if tensor.writer is None else step[tensor.writer],
                len(order) if tensor.is_kept else 1 + max(step[user] for user in tensor.users),
                tensor.size,
            )
            for number, tensor in enumerate(operators.tensors)
        )
    )


def best_fit(instance: Instance) -> int:
    """Bytes of an arena that gives each buffer, when it is first needed, the smallest hole."""
    placed: list[tuple[int, int, int]] = []  # first byte, byte behind the last, last time in use
    peak = 0
    for buffer in sorted(instance.buffers, key=lambda b: b.lower):
        placed = sorted(entry for entry in placed if entry[2] > buffer.lower)
        starts = [0, *(end for _, end, _ in placed)]
        ends = [*(start for start, _, _ in placed), None]
        holes = [
            (end - start, start)
            for start, end in zip(starts, ends, strict=True)
            if end is not None and end - start >= buffer.size
        ]
        start = min(holes)[1] if holes else starts[-1]
        placed.append((start, start + buffer.size, buffer.upper))
        peak = max(peak, start + buffer.size)
    return peak


def checked(instance: Instance) -> Solution:
    """The arena of these lifetimes."""
    solution = solve(instance)
    check_offsets(instance, solution.offsets, solution.peak)
    return solution


def measure(model: str) -> Row:
    """One network in the given order and in the best one."""
    operators = read_operators(FOLDER / f"light_{model}.onnx")
    given = lifetimes(operators, range(len(operators.after)))
    as_given = checked(given)
    began = time.process_time()
    order = best_order(operators)
    ordering = time.process_time() - began
    reordered = checked(lifetimes(operators, order.positions))
    return Row(
        model=model,
        nodes=len(operators.after),
        tensors=len(operators.tensors),
        best_fit=best_fit(given),
        greedy_by_size=greedy_peak(given),
        arena=as_given.peak,
        status=as_given.status,
        seconds=as_given.seconds,
        lowest=order.peak,
        order="optimal" if order.is_optimal else "feasible",
        arena_reordered=reordered.peak,
        status_reordered=reordered.status,
        seconds_reordered=ordering + reordered.seconds,
    )


def write_results(rows: Sequence[Row]) -> None:
    """The section of the page, and the numbers."""
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (RESULTS / "memory_models.json").write_text(text)
    body = f"""
`python benchmarks/memory_models.py` ({platform.machine()}, one thread): bytes of activations of the
light models in the onnx wheel: float32 at batch 1, the network's input and answer included, weights
not, nothing in place, views counted like everything else. First in the order of the file: an
allocator that takes the best fit at run time, greedy placement by size, and offramp's arena, which
is proven; then in the order of the lowest peak, with a proof that no order has a lower one.
CPU seconds, compilation of the search apart. Every arena is validated.

{table(HEAD, [row.cells() for row in rows])}
"""
    write_section(RESULTS / "memory.md", "Networks", body)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME",
                        help="only these, and write nothing")  # fmt: skip
    arguments = parser.parse_args()
    solve(Instance((Buffer("a", 0, 2, 1), Buffer("b", 1, 3, 1))))  # compiles, or loads
    rows = [measure(model) for model in arguments.models]
    if arguments.models == MODELS:
        write_results(rows)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print(table(HEAD, [row.cells() for row in rows]))


if __name__ == "__main__":
    main()

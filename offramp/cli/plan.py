"""`offramp plan`: plans on their own, without a network; so far of memory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from offramp.cli.progress import showing_progress
from offramp.cli.session import answering, ends_cleanly
from offramp.compiler.errors import UserError
from offramp.report.text import bytes_text

if TYPE_CHECKING:
    from offramp.passes.memory.search import Instance, Solution

PLAN_MEMORY_EXAMPLES = """\
[bold]Examples[/bold]

    offramp plan memory buffers.csv --capacity 1048576

    offramp plan memory buffers.csv --timeout 60 --json

where buffers.csv has one buffer a row, in use at times lower <= t < upper:

    id,lower,upper,size
    image,0,2,3072
    features,1,3,8192
"""
MOST_ROWS = 24


@ends_cleanly
def plan_memory(
    file: Annotated[
        Path,
        typer.Argument(help="A CSV file with the columns id,lower,upper,size.", show_default=False),
    ],
    capacity: Annotated[
        int | None,
        typer.Option(
            help="Bytes to fit into: the first placement within them is the answer. Without it "
            "the peak is minimised.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same answer.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds until the search gives up.")] = 30.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Give every buffer an offset so that no two that are in use at a time share bytes.

    The status is "optimal" if the peak is proven to be the lowest, else "feasible"; "unknown" if
    the time was over before anything was found within the capacity. A capacity that is proven to
    be too small is an error (exit code 2); the status is "infeasible" then.
    """
    _check_options(capacity, seed, timeout)
    with answering(as_json) as answer, showing_progress() as observer:
        from offramp.passes.memory.search import solve
        from offramp.passes.memory.search.read import read_csv

        instance = read_csv(file)
        with observer.stage(f"placing {len(instance.buffers)} buffers"):
            solution = solve(instance, capacity, seed=seed, timeout=timeout, note=observer.note)
        answer.data = plan_memory_json(solution)
        if solution.status != "infeasible":
            answer.shown = plan_memory_tables(instance, solution, capacity, timeout)
    if solution.status == "infeasible":
        raise UserError(f"{file}: {_why_infeasible(solution, capacity)}")


def plan_memory_json(solution: Solution) -> dict[str, Any]:
    """The keys of `plan memory --json`; without a placement `peak` is null."""
    clique = solution.clique
    proof = "clique" if clique is not None else "search"
    return {
        "offsets": solution.offsets,
        "peak": solution.peak,
        "lower_bound": solution.lower_bound,
        "proof": proof if solution.lower_bound else None,
        "clique": None if clique is None else asdict(clique),
        "status": solution.status,
        "seconds": solution.seconds,
    }


def plan_memory_tables(
    instance: Instance, solution: Solution, capacity: int | None, timeout: float
) -> list[RenderableType]:
    """The figures of a plan, and its offsets if they are few."""
    figures = Table("buffers", box=None, header_style="dim", pad_edge=False)
    for heading in ("peak", "lower bound", "gap", "status", "seconds"):
        figures.add_column(heading, justify="right")
    figures.add_row(
        str(len(instance.buffers)),
        "-" if solution.peak is None else f"{solution.peak:,}",
        f"{solution.lower_bound:,}",
        "-" if solution.peak is None else f"{100 * solution.gap:.2f} %",
        solution.status,
        f"{solution.seconds:.3f}",
    )
    if solution.peak is None:
        return [figures, Text(_why_unknown(capacity, timeout))]
    if not 0 < len(instance.buffers) <= MOST_ROWS:
        return [figures]
    return [figures, "", _offsets_table(instance, solution)]


def _offsets_table(instance: Instance, solution: Solution) -> Table:
    table = Table("buffer", box=None, header_style="dim", pad_edge=False)
    for heading in ("offset", "size", "in use from", "until"):
        table.add_column(heading, justify="right")
    for buffer in sorted(instance.buffers, key=lambda b: (b.lower, solution.offsets[b.id])):
        offset = solution.offsets[buffer.id]
        table.add_row(
            Text(buffer.id), f"{offset:,}", f"{buffer.size:,}", f"{buffer.lower}", f"{buffer.upper}"
        )
    return table


def _check_options(capacity: int | None, seed: int, timeout: float) -> None:
    from offramp.passes.memory.search.instance import LARGEST

    if capacity is not None and not 0 < capacity <= LARGEST:
        raise UserError(f"--capacity is {capacity}; expected 1 to 2**63 - 1 bytes")
    if seed < 0:
        raise UserError(f"--seed is {seed}; expected 0 or more")
    if not 0 < timeout < float("inf"):
        raise UserError(f"--timeout is {timeout}; expected a number of seconds above 0")


def _why_infeasible(solution: Solution, capacity: int | None) -> str:
    if solution.clique is not None:
        return (
            f"{capacity:,} bytes are not enough: {solution.clique}. Give at least "
            f"--capacity {solution.lower_bound}"
        )
    return (
        f"{capacity:,} bytes are not enough: an exhaustive search found that no placement fits, "
        f"though at no time more is in use. Give at least --capacity {solution.lower_bound}, or "
        "leave the option out to see what fits"
    )


def _why_unknown(capacity: int | None, timeout: float) -> str:
    size = "the capacity" if capacity is None else bytes_text(capacity)
    return (
        f"Undecided after {timeout:g} s: nothing was found that fits into {size}, and no proof "
        "that nothing does. Try a longer --timeout or another --seed."
    )

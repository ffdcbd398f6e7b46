"""`offramp bench`: what an artifact costs, measured."""

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
from offramp.report.text import bytes_text, count_text

if TYPE_CHECKING:
    from offramp.backends.base import Bench
    from offramp.measure import Peer

BENCH_EXAMPLES = """\
[bold]Example[/bold]

    offramp bench out/ --against onnxruntime
"""


@ends_cleanly
def bench(
    folder: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)],
    against: Annotated[
        str | None,
        typer.Option("--against", help="Also measure the network without exits in: onnxruntime."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Measure the cost of every exit, the memory and the code size of an artifact.

    On x86-64 a cost is the median CPU time of one thread; on a microcontroller it is the number
    of instructions that the emulator counts, which are not cycles.
    """
    from offramp import api

    with answering(as_json) as answer, showing_progress() as observer:
        artifact = api.load(folder)
        with observer.stage(f"measuring on {artifact.manifest.target}"):
            measured, peer = artifact.bench(against=against)
        answer.data = bench_json(measured, peer)
        answer.shown = bench_tables(measured, peer)


def bench_json(measured: Bench, peer: Peer | None) -> dict[str, Any]:
    """The keys of `bench --json`; the last entry of `per_exit` is the final output."""
    answer: dict[str, Any] = {
        "per_exit": [asdict(cost) for cost in measured.per_exit],
        "ram": asdict(measured.ram),
        "flash": asdict(measured.flash),
    }
    return answer if peer is None else answer | {"against": asdict(peer)}


def bench_tables(measured: Bench, peer: Peer | None) -> list[RenderableType]:
    """Costs by exit, memory, and the peer if there is one."""
    costs = Table("exit", box=None, header_style="dim", pad_edge=False)
    for heading in (measured.per_exit[0].unit, "MACs"):
        costs.add_column(heading, justify="right")
    last = len(measured.per_exit) - 1
    for cost in measured.per_exit:
        name = "final" if cost.exit_index == last else str(cost.exit_index)
        costs.add_row(name, f"{cost.value:,.0f}", count_text(cost.macs))
    lines = [_sizes("RAM", asdict(measured.ram)), _sizes("flash", asdict(measured.flash))]
    if peer is not None:
        lines.append(f"{peer.name}: {peer.value:,.0f} {peer.unit} without exits")
    return [costs, Text("\n".join(lines))]


def _sizes(what: str, parts: dict[str, int]) -> str:
    return f"{what}: " + ", ".join(f"{part} {bytes_text(size)}" for part, size in parts.items())

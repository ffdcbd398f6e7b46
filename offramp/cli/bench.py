"""`offramp bench`: what an artifact costs, measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from offramp.cli.progress import showing_progress
from offramp.cli.session import answering, ends_cleanly
from offramp.report.text import bytes_text, count_text, percent_text

if TYPE_CHECKING:
    from offramp.backends.base import Bench
    from offramp.compiler.manifest import Manifest
    from offramp.layers import LayerCost
    from offramp.measure import Peer

BENCH_EXAMPLES = """\
[bold]Examples[/bold]

    offramp bench out/ --against onnxruntime

Instructions, RAM and weights layer by layer, on a microcontroller:

    offramp bench out/ --layers
"""


@ends_cleanly
def bench(
    folder: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)],
    against: Annotated[
        str | None,
        typer.Option("--against", help="Also measure the network without exits in: onnxruntime."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also show every layer; --json always has them.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Measure the cost of every exit and layer, the memory and the code size of an artifact.

    The expected cost weighs exits by how often samples took them when they were chosen. On x86-64
    a cost is the median CPU time of one thread; on a microcontroller it is the number of
    instructions that the emulator counts, which are not cycles.
    """
    from offramp import api

    with answering(as_json) as answer, showing_progress() as observer:
        artifact = api.load(folder)
        with observer.stage(f"measuring on {artifact.manifest.target}"):
            measured, peer = artifact.bench(against=against)
        found = Measurement(artifact.manifest, measured, artifact.layers(measured), peer)
        answer.data = bench_json(found)
        answer.shown = [*bench_tables(found), *([layers_table(found)] if layers else [])]


@dataclass(frozen=True)
class Measurement:
    """All that one call of `bench` found."""

    manifest: Manifest
    measured: Bench
    layers: list[LayerCost]
    peer: Peer | None

    @property
    def expected(self) -> float:
        """Cost of a sample on average, at the rates seen when exits were chosen."""
        pairs = zip(self.manifest.exits, self.measured.per_exit, strict=True)
        return sum(entry.rate * cost.value for entry, cost in pairs)

    @property
    def worst(self) -> float:
        """Cost of the dearest way through the network."""
        return max(cost.value for cost in self.measured.per_exit)

    @property
    def unit(self) -> str:
        """What costs are counted in."""
        return self.measured.per_exit[0].unit


def bench_json(found: Measurement) -> dict[str, Any]:
    """The keys of `bench --json`; the last entry of `per_exit` is the final output."""
    answer: dict[str, Any] = {
        "per_exit": [asdict(cost) for cost in found.measured.per_exit],
        "expected": {"value": found.expected, "unit": found.unit},
        "worst": {"value": found.worst, "unit": found.unit},
        "ram": asdict(found.measured.ram),
        "flash": asdict(found.measured.flash),
        "layers": [asdict(layer) for layer in found.layers],
    }
    return answer if found.peer is None else answer | {"against": asdict(found.peer)}


def bench_tables(found: Measurement) -> list[RenderableType]:
    """Costs by exit, memory, and the peer if there is one."""
    measured, unit = found.measured, found.unit
    costs = Table("exit", box=None, header_style="dim", pad_edge=False)
    for heading in (unit, "MACs", f"MACs per {_singular(unit)}", "leave here"):
        costs.add_column(heading, justify="right")
    last = len(measured.per_exit) - 1
    for cost, entry in zip(measured.per_exit, found.manifest.exits, strict=True):
        costs.add_row(
            "final" if cost.exit_index == last else str(cost.exit_index),
            f"{cost.value:,.0f}",
            count_text(cost.macs),
            _ratio(cost.macs, cost.value),
            percent_text(entry.rate),
        )
    lines = [
        f"expected: {found.expected:,.0f} {unit}, worst: {found.worst:,.0f} {unit}",
        _sizes("RAM", {k: n for k, n in asdict(measured.ram).items() if n or k != "weights"}),
        _sizes("flash", asdict(measured.flash)),
    ]
    if found.peer is not None:
        lines.append(f"{found.peer.name}: {found.peer.value:,.0f} {unit} without exits")
    return [costs, Text("\n".join(lines))]


def layers_table(found: Measurement) -> Table:
    """One row per kernel call."""
    unit = found.unit
    table = Table("block", "layer", box=None, header_style="dim", pad_edge=False)
    for heading in (unit, "MACs", f"MACs per {_singular(unit)}", "RAM in use", "weights"):
        table.add_column(heading, justify="right")
    for layer in found.layers:
        table.add_row(
            layer.block,
            layer.layer,
            "-" if layer.value is None else f"{layer.value:,.0f}",
            count_text(layer.macs),
            _ratio(layer.macs, layer.value),
            bytes_text(layer.ram),
            bytes_text(layer.weights),
        )
    return table


def _ratio(macs: int, value: float | None) -> str:
    return "-" if not value or not macs else f"{macs / value:.2f}"


def _singular(unit: str) -> str:
    return unit.removesuffix("s") if unit == "instructions" else unit


def _sizes(what: str, parts: dict[str, int]) -> str:
    return f"{what}: " + ", ".join(f"{part} {bytes_text(size)}" for part, size in parts.items())

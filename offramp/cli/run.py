"""`offramp run`: an artifact on samples, natively or in the emulator of its target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from offramp.cli.progress import showing_progress
from offramp.cli.session import answering, ends_cleanly

if TYPE_CHECKING:
    from offramp.measure import Result

RUN_EXAMPLES = """\
[bold]Example[/bold]

    offramp run out/ --input x.npz --output y.npz
"""


@ends_cleanly
def run(
    folder: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)],
    samples: Annotated[
        Path,
        typer.Option(
            "--input", help="npz with x, or one array per input name.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="npz to write: every output by name, and exit_index."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Run an artifact on samples."""
    from offramp import api, data

    with answering(as_json) as answer, showing_progress() as observer:
        artifact = api.load(folder)
        if output is not None:
            data.check_writable(output)
        with observer.stage(f"running for {artifact.manifest.target}"):
            result = artifact.run(samples)
        if output is not None:
            data.write_npz(output, {**result.outputs, "exit_index": result.exit_index})
        answer.data = run_json(result)
        answer.shown = [run_table(result)]


def run_json(result: Result) -> dict[str, Any]:
    """The keys of `run --json`; the last exit rate is that of the final output."""
    import numpy as np

    p50, p99 = np.percentile(result.cost, [50, 99])
    return {
        "samples": len(result.exit_index),
        "exit_rates": [float(rate) for rate in result.exit_rates],
        "cost": {
            "unit": result.unit,
            "mean": float(result.cost.mean()),
            "p50": float(p50),
            "p99": float(p99),
            "max": float(result.cost.max()),
        },
    }


def run_table(result: Result) -> Table:
    """One row per exit: how many samples left there, and what they cost."""
    table = Table("exit", box=None, header_style="dim", pad_edge=False)
    for heading in ("samples", "rate", f"mean cost ({result.unit})"):
        table.add_column(heading, justify="right")
    final = len(result.exit_rates) - 1
    for index, rate in enumerate(result.exit_rates):
        here = result.exit_index == index
        cost = f"{result.cost[here].mean():,.0f}" if here.any() else "-"
        name = "final" if index == final else str(index)
        table.add_row(name, str(int(here.sum())), f"{100 * rate:.1f} %", cost)
    table.add_row("all", str(len(result.exit_index)), "100.0 %", f"{result.cost.mean():,.0f}")
    return table

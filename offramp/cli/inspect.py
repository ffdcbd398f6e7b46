"""`offramp inspect`: what an artifact contains, and why its exits are where they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from offramp.cli.progress import showing_progress
from offramp.cli.session import answering, ends_cleanly
from offramp.cli.tables import candidates_table, compile_json, compile_tables
from offramp.compiler.manifest import Manifest

INSPECT_EXAMPLES = """\
[bold]Example[/bold]

    offramp inspect out/
"""


@ends_cleanly
def inspect(
    folder: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")
    ] = False,
) -> None:
    """Show the program, its costs, the exits that were considered and why."""
    from offramp import api

    with answering(as_json) as answer, showing_progress():
        artifact = api.load(folder)
        manifest = artifact.manifest
        program = artifact.program_text()
        answer.data = {
            **compile_json(manifest),
            "name": manifest.name,
            "inputs": [asdict(spec) for spec in manifest.inputs],
            "outputs": [asdict(spec) for spec in manifest.outputs],
            "blocks": [asdict(block) for block in manifest.blocks],
            "candidates": [asdict(candidate) for candidate in manifest.candidates],
            "provenance": manifest.provenance,
            "program": program,
        }
        answer.shown = [Text(program), *_tables(manifest, folder)]


def _tables(manifest: Manifest, folder: Path) -> list[RenderableType]:
    shown: list[RenderableType] = ["", blocks_table(manifest), ""]
    if manifest.candidates:
        shown += [candidates_table(manifest), ""]
    return [*shown, *compile_tables(manifest, folder)]


def blocks_table(manifest: Manifest) -> Table:
    """One row per block: what it does once it is reached."""
    unit = manifest.static_cost.unit
    table = Table("block", box=None, header_style="dim", pad_edge=False)
    for heading in ("reached", "MACs", "parameters", "activation bytes", f"predicted {unit}"):
        table.add_column(heading, justify="right")
    for block in manifest.blocks:
        reach = "-" if block.reach is None else f"{100 * block.reach:.1f} %"
        table.add_row(
            block.name, reach, f"{block.macs:,}", f"{block.parameters:,}",
            f"{block.activation_bytes:,}", f"{block.value:,.0f}",
        )  # fmt: skip
    return table

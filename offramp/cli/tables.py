"""What commands answer: JSON for scripts (a stable contract) and tables for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from offramp.compiler.manifest import CostEntry, ExitEntry, Manifest, MemoryMap
from offramp.report.text import (
    access_text,
    bytes_text,
    cost_text,
    count_text,
    patches_text,
    percent_text,
    real_layers_text,
    saving,
    summary,
)


def compile_json(manifest: Manifest) -> dict[str, Any]:
    """The keys of `compile --json`."""
    answer: dict[str, Any] = {
        "target": manifest.target,
        "static_cost": _cost_json(manifest.static_cost),
        "expected_cost": _cost_json(manifest.expected_cost),
        "exits": [_exit_json(entry) for entry in manifest.exits],
        "memory": _memory_json(manifest.memory),
        "patches": None if manifest.patches is None else asdict(manifest.patches),
        "real_layers": [asdict(layer) for layer in manifest.real_layers],
        "certificate": None,
    }
    certificate = manifest.certificate
    if certificate is None:
        return answer | {"reason": manifest.reason}
    answer["certificate"] = {
        "risk": certificate.risk,
        "budget": certificate.budget,
        "confidence": certificate.confidence,
        "bound": certificate.bound,
        "samples": certificate.samples,
    }
    return answer


def compile_tables(manifest: Manifest, folder: Path) -> list[RenderableType]:
    """What `compile` prints for people."""
    static, expected = manifest.static_cost, manifest.expected_cost
    headline = Text.assemble(
        (f"{folder}", "bold"),
        f": {manifest.name} for {manifest.target}, ",
        f"{count_text(expected.macs)} MACs expected of {count_text(static.macs)} "
        f"({percent_text(saving(manifest))} saved), "
        f"{bytes_text(manifest.memory.peak)} of arena",
    )
    shown: list[RenderableType] = [headline, Text(summary(manifest)), exits_table(manifest)]
    if manifest.patches is not None:
        shown.append(Text(patches_text(manifest.patches)))
    elif manifest.provenance.get("patches", "no") != "no":
        shown.append(Text("No bands of rows within the budget make the arena smaller."))
    if manifest.real_layers:
        shown.append(Text(real_layers_text(manifest.real_layers)))
    if manifest.memory.banks:
        shown += ["", banks_table(manifest.memory), Text(access_text(manifest.memory))]
    return shown


def banks_table(memory: MemoryMap) -> Table:
    """One row per memory of the board that holds anything."""
    table = Table("memory", box=None, header_style="dim", pad_edge=False)
    for heading in ("activations", "copied weights"):
        table.add_column(heading, justify="right")
    for bank in memory.banks:
        table.add_row(bank.memory, bytes_text(bank.arena), bytes_text(bank.weights))
    return table


def exits_table(manifest: Manifest) -> Table:
    """One row per exit."""
    unit = manifest.static_cost.unit
    table = Table("exit", "block", "criterion", box=None, header_style="dim", pad_edge=False)
    for heading in ("threshold", "leave here", "MACs", f"predicted {_unit_name(unit)}"):
        table.add_column(heading, justify="right")
    for index, entry in enumerate(manifest.exits):
        table.add_row(
            "final" if entry.criterion is None else str(index),
            entry.block,
            entry.criterion or "-",
            "-" if entry.threshold is None else f"{entry.threshold:.4g}",
            percent_text(entry.rate),
            count_text(entry.macs),
            cost_text(entry.value, unit),
        )
    return table


def candidates_table(manifest: Manifest) -> Table:
    """One row per exit that was considered."""
    table = Table("after", "head", box=None, header_style="dim", pad_edge=False)
    table.add_column("MACs", justify="right")
    table.add_column("verdict")
    for entry in manifest.candidates:
        verdict = Text(("chosen: " if entry.chosen else "") + entry.why)
        verdict.stylize("green" if entry.chosen else "")
        table.add_row(entry.block, entry.head, count_text(entry.macs), verdict)
    return table


def _memory_json(memory: MemoryMap) -> dict[str, Any]:
    return {
        "peak": memory.peak,
        "lower_bound": memory.lower_bound,
        "status": memory.status,
        "banks": [asdict(bank) for bank in memory.banks],
        "access": None if memory.access is None else asdict(memory.access),
    }


def _cost_json(cost: CostEntry) -> dict[str, Any]:
    return {"macs": cost.macs, "value": cost.value, "unit": cost.unit}


def _exit_json(entry: ExitEntry) -> dict[str, Any]:
    return {
        "block": entry.block,
        "criterion": entry.criterion,
        "threshold": entry.threshold,
        "rate": entry.rate,
        "macs": entry.macs,
    }


def _unit_name(unit: str) -> str:
    return "time" if unit == "ns" else unit

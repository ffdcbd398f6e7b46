"""Four MLPerf Tiny networks on a Cortex-M7 without exits, beside onnx2c's published figures.

Prints instructions, memory and flash of the emitted code, run in QEMU on the shared samples, and
keeps the numbers under docs/results/. Fails if a figure misses what the project promises.

    .venv/bin/python benchmarks/mcu.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import offramp
from offramp import backends

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
REFERENCE = Path(__file__).parent / "reference" / "onnx2c.json"
RESULTS = ROOT / "docs" / "results"
TARGET = "cortex-m7"
SAMPLES = 4
INSTRUCTIONS_LIMIT = 0.50
RAM_LIMITS = {"kws_dscnn": 1.0, "ic_resnet8": 0.70, "ad_fcae": 1.0, "vww_mbv1": 0.60}
"""Promised fractions of the reference."""


@dataclass(frozen=True)
class Row:
    """One network: instructions per inference, bytes, and the reference's figures.

    error: largest absolute deviation from the original model's outputs, relative to their scale.
    """

    model: str
    macs: int
    instructions: float
    arena: int
    static: int
    stack: int
    code: int
    weights: int
    error: float
    reference_instructions: int
    reference_ram: int

    @property
    def ram(self) -> int:
        """Arena, static data and measured stack."""
        return self.arena + self.static + self.stack

    @property
    def speed(self) -> float:
        """Instructions as a fraction of the reference's."""
        return self.instructions / self.reference_instructions

    @property
    def size(self) -> float:
        """RAM as a fraction of the reference's."""
        return self.ram / self.reference_ram

    @property
    def kept(self) -> bool:
        """Whether the promises hold."""
        return self.speed <= INSTRUCTIONS_LIMIT and self.size <= RAM_LIMITS[self.model]


def measure(model: str, reference: dict[str, int]) -> Row:
    """Compile one network, check its answers, measure it."""
    models = SHARED / "models"
    artifact = offramp.compile(models / f"{model}_float.onnx", target=TARGET, exits=False)
    runner = backends.get(TARGET).load(artifact.folder)
    (tensor,) = runner.interface.inputs
    samples = np.load(models / f"{model}_float_samples.npz")
    x = samples["x"].astype(np.float32).reshape(-1, *tensor.shape[1:])[:SAMPLES]
    (found,) = runner.run({tensor.name: x}).outputs.values()
    expected = samples["y"].reshape(-1, *found.shape[1:])[:SAMPLES]
    bench = runner.bench({tensor.name: x})
    return Row(
        model=model,
        macs=bench.per_exit[0].macs,
        instructions=bench.per_exit[0].value,
        arena=bench.ram.arena,
        static=bench.ram.static,
        stack=bench.ram.stack,
        code=bench.flash.code,
        weights=bench.flash.weights,
        error=float(np.abs(found - expected).max() / np.abs(expected).max()),
        reference_instructions=reference["instructions"],
        reference_ram=reference["ram"],
    )


def table(rows: list[Row]) -> Table:
    """All figures, the reference's beside."""
    drawn = Table(title="Cortex-M7, float32, no exits; onnx2c with GCC -O3 beside")
    drawn.add_column("network")
    for heading in ("instructions", "per MAC", "onnx2c", "ratio", "RAM", "onnx2c", "ratio"):
        drawn.add_column(heading, justify="right")
    for heading in ("arena", "static", "stack", "code", "weights", "error"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        drawn.add_row(
            row.model,
            f"{row.instructions / 1e6:.2f} M",
            f"{row.instructions / row.macs:.2f}",
            f"{row.reference_instructions / 1e6:.2f} M",
            f"{row.speed:.2f}",
            f"{row.ram:,}",
            f"{row.reference_ram:,}",
            f"{row.size:.2f}",
            *(f"{n:,}" for n in (row.arena, row.static, row.stack, row.code, row.weights)),
            f"{row.error:.0e}",
            style=None if row.kept else "red",
        )
    return drawn


def main() -> int:
    """Measure all networks; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    reference: dict[str, dict[str, int]] = json.loads(REFERENCE.read_text())["models"]
    rows = [measure(model, figures) for model, figures in reference.items()]
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (RESULTS / "mcu.json").write_text(text)
    with (RESULTS / "mcu.txt").open("w") as file:
        Console(file=file, width=160).print(table(rows))
    if arguments.json:
        print(text, end="")
    else:
        Console(width=160).print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Four MLPerf Tiny networks in int8 on RV32IMC without exits, beside the same as plain loops.

Plain loops are compiled by the same GCC with the same options and run in the same emulator; their
answers must be those of TFLite on the shared samples bit for bit, and so must those of `--exact`.
Prints instructions, memory and flash, and keeps the numbers under docs/results/. Fails if a figure
misses what the project promises.

    .venv/bin/python benchmarks/riscv.py [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from plain_loops import plain
from rich.console import Console
from rich.table import Table

from offramp import backends
from offramp.backends.base import Bench, LoweredProgram
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.memory import plan_memory
from offramp.passes.simplify import simplify

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
RESULTS = ROOT / "docs" / "results"
TARGET = "riscv32"
MODELS = ("kws_dscnn", "ic_resnet8", "ad_fcae", "vww_mbv1")
SAMPLES = 8
LIMIT = 0.40
"""Of the plain loops' instructions."""


@dataclass(frozen=True)
class Row:
    """One network in one form ("plain loops", "default" or "exact").

    instructions: per inference. error: largest deviation from TFLite's answers in int8 steps.
    same: samples whose largest output is the same one. The rest are bytes.
    """

    model: str
    form: str
    macs: int
    instructions: float
    plain_instructions: float
    error: int
    same: int
    samples: int
    ram: int
    code: int
    weights: int

    @property
    def ratio(self) -> float:
        """Instructions as a fraction of the plain loops'."""
        return self.instructions / self.plain_instructions

    @property
    def kept(self) -> bool:
        """Whether the promises hold."""
        is_right = self.same == self.samples and (self.form == "default" or self.error == 0)
        return is_right and (self.form == "plain loops" or self.ratio <= LIMIT)


def measure(model: str) -> list[Row]:
    """All forms of one network."""
    program = simplify()(from_onnx(SHARED / "models" / f"{model}_int8.onnx"))
    forms: dict[str, LoweredProgram] = {"plain loops": plain(program, TARGET)}
    for form in ("default", "exact"):
        lowered = lower(program, targets.get(TARGET), exact=form == "exact")
        forms[form] = replace(lowered, plan=plan_memory(lowered.plan))
    rows: list[Row] = []
    for form, program_form in forms.items():
        bench, found, expected = run(program_form, model)
        (cost,) = bench.per_exit
        best = (np.reshape(y, (len(y), -1)).argmax(axis=1) for y in (found, expected))
        rows.append(
            Row(
                model=model,
                form=form,
                macs=cost.macs,
                instructions=cost.value,
                plain_instructions=rows[0].instructions if rows else cost.value,
                error=int(np.abs(found.astype(np.int64) - expected).max()),
                same=int(np.equal(*best).sum()),
                samples=len(found),
                ram=bench.ram.total,
                code=bench.flash.code,
                weights=bench.flash.weights,
            )
        )
    return rows


def run(
    lowered: LoweredProgram, model: str
) -> tuple[Bench, npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """What it costs, what it answers to the shared samples, and what TFLite answers."""
    backend = backends.get(TARGET)
    samples = np.load(SHARED / "models" / f"{model}_int8_samples.npz")
    with tempfile.TemporaryDirectory(prefix="offramp-") as folder:
        backend.emit(lowered, Path(folder))
        runner = backend.load(Path(folder))
        (tensor,) = runner.interface.inputs
        x = samples["x"].astype(tensor.dtype).reshape(-1, *tensor.shape[1:])[:SAMPLES]
        (found,) = runner.run({tensor.name: x}).outputs.values()
        return runner.bench({tensor.name: x}), found, samples["y"].reshape(found.shape)[:SAMPLES]


def table(rows: list[Row]) -> Table:
    """All figures."""
    drawn = Table(title=f"{TARGET}, int8, no exits; beside plain loops by GCC -O3")
    drawn.add_column("network")
    drawn.add_column("form")
    for heading in ("instructions", "per MAC", "ratio", "error", "RAM", "code", "weights"):
        drawn.add_column(heading, justify="right")
    for row in rows:
        drawn.add_row(
            row.model,
            row.form,
            f"{row.instructions / 1e6:.2f} M",
            f"{row.instructions / row.macs:.2f}",
            f"{row.ratio:.3f}",
            f"{row.error} units",
            *(f"{n:,}" for n in (row.ram, row.code, row.weights)),
            style=None if row.kept else "red",
        )
    return drawn


def main() -> int:
    """Measure all networks; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = [row for model in MODELS for row in measure(model)]
    text = json.dumps([asdict(row) for row in rows], indent=1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "riscv.json").write_text(text + "\n")
    with (RESULTS / "riscv.txt").open("w") as file:
        Console(file=file, width=120).print(table(rows))
    if arguments.json:
        print(text)
    else:
        Console(width=120).print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

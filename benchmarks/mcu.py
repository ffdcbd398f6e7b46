"""Four MLPerf Tiny networks on Cortex-M7 and M55 without exits, beside published figures.

In float32 beside onnx2c, in int8, fast and exact, beside TFLite Micro with CMSIS-NN. Prints
instructions, memory and flash of the emitted code, run in QEMU on the shared samples, and keeps the
numbers under docs/results/. Fails if a figure misses what the project promises.

    .venv/bin/python benchmarks/mcu.py [--target cortex-m55] [--precision int8] [--json]
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
REFERENCES = Path(__file__).parent / "reference"
RESULTS = ROOT / "docs" / "results"
SAMPLES = 8
CODE_LIMIT = 26 * 1024
RAM_OF_TFLM = {"kws_dscnn": 0.6, "ic_resnet8": 0.6, "ad_fcae": 1.0, "vww_mbv1": 0.407}


@dataclass(frozen=True)
class Suite:
    """One precision on one target: what it is compared with, and the promised fractions of that.

    reference: file of the figures. stem: of the files with results. suffix: of the models. weights:
    bytes that they may take, as a fraction of the model's.
    """

    target: str
    precision: str
    peer: str
    reference: str
    stem: str
    suffix: str
    instructions: dict[str, float]
    ram: dict[str, float] | None
    exact: bool = False
    optimize: str = "size"
    weights: float = 1.1


TFLM = "TFLite Micro + CMSIS-NN"
SUITES = (
    Suite(
        "cortex-m7",
        "float32",
        "onnx2c with GCC -O3",
        "onnx2c.json",
        "mcu",
        "float",
        {"kws_dscnn": 0.5, "ic_resnet8": 0.5, "ad_fcae": 0.5, "vww_mbv1": 0.5},
        {"kws_dscnn": 1.0, "ic_resnet8": 0.70, "ad_fcae": 1.0, "vww_mbv1": 0.60},
    ),
    Suite(
        "cortex-m7",
        "int8",
        TFLM,
        "tflm.json",
        "mcu_int8",
        "int8",
        {"kws_dscnn": 0.6, "ic_resnet8": 0.6, "ad_fcae": 0.7, "vww_mbv1": 0.6},
        RAM_OF_TFLM,
    ),
    Suite(
        "cortex-m7",
        "int8-exact",
        TFLM,
        "tflm.json",
        "mcu_int8_exact",
        "int8",
        {"kws_dscnn": 0.7, "ic_resnet8": 0.7, "ad_fcae": 0.8, "vww_mbv1": 0.7},
        RAM_OF_TFLM,
        exact=True,
    ),
    Suite(
        "cortex-m7",
        "int8-speed",
        TFLM,
        "tflm.json",
        "mcu_int8_speed",
        "int8",
        {"kws_dscnn": 0.5, "ic_resnet8": 0.5, "ad_fcae": 0.5, "vww_mbv1": 0.5},
        RAM_OF_TFLM,
        optimize="speed",
        weights=2.1,
    ),
    Suite(
        "cortex-m55",
        "int8",
        TFLM,
        "tflm_m55.json",
        "mcu_m55_int8",
        "int8",
        {"kws_dscnn": 0.45, "ic_resnet8": 0.45, "ad_fcae": 0.25, "vww_mbv1": 0.4},
        None,
    ),
    Suite(
        "cortex-m55",
        "int8-exact",
        TFLM,
        "tflm_m55.json",
        "mcu_m55_int8_exact",
        "int8",
        {"kws_dscnn": 0.5, "ic_resnet8": 0.5, "ad_fcae": 0.25, "vww_mbv1": 0.45},
        None,
        exact=True,
    ),
)


@dataclass(frozen=True)
class Row:
    """One network: instructions per inference, bytes, and the reference's figures.

    error: largest absolute deviation from the original model's outputs, relative to their scale;
    of an int8 network, in int8 steps. same: samples whose largest output is the same one.
    """

    target: str
    precision: str
    model: str
    macs: int
    instructions: float
    arena: int
    static: int
    stack: int
    code: int
    weights: int
    error: float
    same: int
    samples: int
    reference_instructions: int
    reference_ram: int | None
    reference_weights: int | None
    reference_error: float | None

    @property
    def ram(self) -> int:
        """Arena, static data and measured stack."""
        return self.arena + self.static + self.stack

    @property
    def speed(self) -> float:
        """Instructions as a fraction of the reference's."""
        return self.instructions / self.reference_instructions

    @property
    def size(self) -> float | None:
        """RAM as a fraction of the reference's, if that is known."""
        return None if self.reference_ram is None else self.ram / self.reference_ram

    def kept(self, suite: Suite) -> bool:
        """Whether the promises hold."""
        fits = self.reference_weights is None or (
            self.weights <= suite.weights * self.reference_weights
        )
        close = self.reference_error is None or self.error <= self.reference_error
        quick = self.speed <= suite.instructions[self.model]
        small = suite.ram is None or self.size is None or self.size <= suite.ram[self.model]
        small = small and fits and self.code <= CODE_LIMIT
        return quick and small and close and self.same == self.samples


def measure(suite: Suite, model: str, reference: dict[str, int]) -> Row:
    """Compile one network, check its answers, measure it."""
    models, suffix = SHARED / "models", suite.suffix
    file = models / f"{model}_{suffix}.onnx"
    artifact = offramp.compile(
        file, target=suite.target, exits=False, exact=suite.exact, optimize=suite.optimize
    )
    runner = backends.get(suite.target).load(artifact.folder)
    (tensor,) = runner.interface.inputs
    samples = np.load(models / f"{model}_{suffix}_samples.npz")
    x = samples["x"].astype(tensor.dtype).reshape(-1, *tensor.shape[1:])[:SAMPLES]
    (found,) = runner.run({tensor.name: x}).outputs.values()
    expected = samples["y"].reshape(-1, *found.shape[1:])[:SAMPLES].astype(np.float64)
    bench = runner.bench({tensor.name: x})
    unit = 1.0 if suffix == "int8" else np.abs(expected).max()
    best = (np.reshape(y, (len(x), -1)).argmax(axis=1) for y in (found, expected))
    return Row(
        target=suite.target,
        precision=suite.precision,
        model=model,
        macs=bench.per_exit[0].macs,
        instructions=bench.per_exit[0].value,
        arena=bench.ram.arena,
        static=bench.ram.static,
        stack=bench.ram.stack,
        code=bench.flash.code,
        weights=bench.flash.weights,
        error=float(np.abs(found - expected).max() / unit),
        same=int(np.equal(*best).sum()),
        samples=len(x),
        reference_instructions=reference["instructions"],
        reference_ram=reference.get("ram"),
        reference_weights=reference.get("weights"),
        reference_error=0 if suite.exact else reference.get("units"),
    )


def table(rows: list[Row], suite: Suite) -> Table:
    """All figures, the reference's beside."""
    core = suite.target.replace("cortex-m", "Cortex-M")
    drawn = Table(title=f"{core}, {suite.precision}, no exits; {suite.peer} beside")
    drawn.add_column("network")
    has_ram = all(row.reference_ram is not None for row in rows)
    for heading in ("instructions", "per MAC", "peer", "ratio", "RAM"):
        drawn.add_column(heading, justify="right")
    for heading in ("peer", "ratio") if has_ram else ():
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
            *((f"{row.reference_ram:,}", f"{row.size:.2f}") if has_ram else ()),
            *(f"{n:,}" for n in (row.arena, row.static, row.stack, row.code, row.weights)),
            f"{row.error:.0f} units" if suite.suffix == "int8" else f"{row.error:.0e}",
            style=None if row.kept(suite) else "red",
        )
    return drawn


def main() -> int:
    """Measure all networks; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    for name in ("target", "precision"):
        choices = sorted({getattr(suite, name) for suite in SUITES})
        parser.add_argument(f"--{name}", choices=choices, help="only this one")
    arguments = parser.parse_args()
    chosen = [
        suite
        for suite in SUITES
        if arguments.target in (None, suite.target)
        and arguments.precision in (None, suite.precision)
    ]
    found = [(suite, _run(suite, show=not arguments.json)) for suite in chosen]
    if arguments.json:
        print(json.dumps([asdict(row) for _, rows in found for row in rows], indent=1))
    return 0 if all(row.kept(suite) for suite, rows in found for row in rows) else 1


def _run(suite: Suite, *, show: bool) -> list[Row]:
    figures: dict[str, dict[str, int]] = json.loads((REFERENCES / suite.reference).read_text())[
        "models"
    ]
    rows = [measure(suite, model, reference) for model, reference in figures.items()]
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    (RESULTS / f"{suite.stem}.json").write_text(text)
    with (RESULTS / f"{suite.stem}.txt").open("w") as file:
        Console(file=file, width=160).print(table(rows, suite))
    if show:
        Console(width=160).print(table(rows, suite))
    return rows


if __name__ == "__main__":
    sys.exit(main())

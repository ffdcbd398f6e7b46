"""Int8 networks with certified exits on a Cortex-M7: instructions of 200 real samples.

Float networks are quantised to int8, get exits that are certified on the quantised network, and run
in the emulator on 200 samples. Beside them: the same network without exits, and the static int8
network of TFLite Micro with CMSIS-NN. Images are such that chose and certified nothing; of the 500
keyword samples all took part. Writes a section of docs/results/exits.md.

    .venv/bin/python benchmarks/mcu_exits.py [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from exits_common import RESULTS, SHARED, table, write_section

import offramp
from offramp.compiler.oracle import Oracle

REFERENCE = Path(__file__).parent / "reference" / "tflm.json"
TARGET = "cortex-m7"
SAMPLES = 200
LIMIT = 0.45
"""Fraction of the peer's instructions that the mean sample may take."""

Part = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One network: mean instructions a sample, and right answers in per cent.

    Instructions are of the samples that ran in the emulator, answers of all that are there for it,
    by onnxruntime.
    """

    network: str
    budget: float
    certified: bool
    early: float
    instructions: float
    static: float
    peer: int
    ram: int
    accuracy: float
    static_accuracy: float

    @property
    def ratio(self) -> float:
        """Instructions as a fraction of the peer's."""
        return self.instructions / self.peer


def measure(name: str, model: str, peer: int, budget: float, parts: dict[str, Part]) -> Row:
    """Compile with and without exits, run both on the samples of the part "run"."""
    x, y = parts["run"]
    options: dict[str, Any] = {"target": TARGET, "quantize": "int8", "train": parts.get("train")}
    file, calibration = SHARED / "models" / f"{model}.onnx", parts["calibration"]
    print(f"{name}: compiling", file=sys.stderr, flush=True)
    exits = offramp.compile(file, calibration=calibration, accuracy_drop=budget, **options)
    static = offramp.compile(file, calibration=calibration, exits=False, **options)
    print(f"{name}: running {SAMPLES} samples", file=sys.stderr, flush=True)
    ours, whole = exits.run(x[:SAMPLES]), static.run(x[:SAMPLES])
    right = [accuracy(artifact, x, y) for artifact in (exits, static)]
    ram = exits.bench()[0].ram
    return Row(
        network=name,
        budget=budget,
        certified=exits.manifest.certificate is not None,
        early=float((ours.exit_index < len(ours.exit_rates) - 1).mean()),
        instructions=float(ours.cost.mean()),
        static=float(whole.cost.mean()),
        peer=peer,
        ram=ram.arena + ram.static + ram.stack,
        accuracy=right[0],
        static_accuracy=right[1],
    )


def accuracy(artifact: offramp.Artifact, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Right answers in per cent, by onnxruntime."""
    program = artifact.program()
    outputs = Oracle(program).run({str(program.inputs[0].name): x}).outputs
    return 100.0 * float((next(iter(outputs.values())).argmax(axis=1) == y).mean())


def images() -> dict[str, Part]:
    """CIFAR-10: training images, those that choose and certify, and others to run."""
    folder = SHARED / "data" / "cifar10"
    files = {"train": "train15k", "calibration": "calibration3k", "run": "dev2k"}
    return {part: _read(folder / f"cifar10_{file}.npz") for part, file in files.items()}


def keywords() -> dict[str, Part]:
    """All 500 train, choose and certify; a random part runs."""
    x, y = _read(SHARED / "data" / "kws" / "kws_dev500.npz")
    order = np.random.default_rng(0).permutation(len(x))
    return {"calibration": (x, y), "run": (x[order], y[order])}


def _read(path: Path) -> Part:
    with np.load(path) as data:
        return data["x"].astype(np.float32), data["y"]


CASES: tuple[tuple[str, str, str, float, Callable[[], dict[str, Part]]], ...] = (
    ("DS-CNN", "kws_dscnn_float", "kws_dscnn", 3.0, keywords),
    ("ResNet-8", "ic_resnet8_jpeg_float", "ic_resnet8", 1.0, images),
)


def main() -> int:
    """Measure, print, write; 1 if a network takes more than the promised fraction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    as_json = parser.parse_args().json
    peers = json.loads(REFERENCE.read_text())["models"]
    rows = [
        measure(name, model, peers[peer]["instructions"], budget, parts())
        for name, model, peer, budget, parts in CASES
    ]
    head = (
        "network", "points", "certified", "leave early", "instructions", "no exits",
        "TFLite Micro", "ratio", "RAM", "right, %", "no exits, %",
    )  # fmt: skip
    cells = [
        (
            row.network,
            f"{row.budget:g}",
            "yes" if row.certified else "no",
            f"{100 * row.early:.0f} %",
            *(f"{n / 1e6:.2f} M" for n in (row.instructions, row.static, row.peer)),
            f"{row.ratio:.2f}",
            f"{row.ram:,}",
            f"{row.accuracy:.1f}",
            f"{row.static_accuracy:.1f}",
        )
        for row in rows
    ]
    body = f"""
`python benchmarks/mcu_exits.py`: float networks quantised to int8 by offramp, exits certified on
the quantised network; mean instructions a sample of {SAMPLES} that run in the emulator, and right
answers among all 2,000 images, which chose and certified nothing, and among all 500 keyword
samples, which took part in everything.

{table(head, cells)}
"""
    write_section(RESULTS / "exits.md", "Int8 with exits on a Cortex-M7", body)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else body)
    return int(any(row.ratio > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())

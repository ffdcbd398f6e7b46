"""Weights of four and eight bits by layer: flash and instructions on a Cortex-M7, and accuracy.

Networks are quantised to int8 and to mixed precision at several budgets, compiled without exits,
measured in the emulator, and judged by onnxruntime on samples that chose nothing. Writes a section
of docs/results/quantize.md.

    .venv/bin/python benchmarks/mixed.py [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from exits_common import RESULTS, SHARED, table, write_section

import offramp
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle

TARGET = "cortex-m7"
BUDGETS = (0.5, 1.0, 3.0)
"""Points that mixed precision may lose on the samples that choose."""

Samples = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One network at one precision; accuracy in per cent."""

    network: str
    precision: str
    weights: int
    instructions: float
    accuracy: float
    lost: float


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    as_json = parser.parse_args().json
    rows = [row for case in cases() for row in measure(*case)]
    head = (
        "network",
        "precision",
        "weights in flash",
        "instructions",
        "accuracy, %",
        "points lost",
    )
    cells = [
        (
            row.network,
            row.precision,
            f"{row.weights:,}",
            f"{row.instructions / 1e6:.2f} M",
            f"{row.accuracy:.2f}",
            f"{row.lost:.2f}",
        )
        for row in rows
    ]
    body = f"""
`python benchmarks/mixed.py`: weights of four bits in as many layers as the budget allows on the
samples that choose (1,000 training images; 250 keywords), on a Cortex-M7 without exits; accuracy on
2,000 other images and 250 other keywords.

{table(head, cells)}
"""
    write_section(RESULTS / "quantize.md", "Mixed precision on a Cortex-M7", body)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else body)
    return 0


def cases() -> Iterator[tuple[str, str, Samples, Samples]]:
    """(name, model, samples that choose, samples that judge)."""
    images = SHARED / "data" / "cifar10"
    train, test = (_read(images / f"cifar10_{part}.npz") for part in ("train15k", "dev2k"))
    yield "ResNet-8", "ic_resnet8_jpeg_float", train, test
    x, y = _read(SHARED / "data" / "kws" / "kws_dev500.npz")
    order = np.random.default_rng(0).permutation(len(x))
    half = len(x) // 2
    yield (
        "DS-CNN",
        "kws_dscnn_float",
        (x[order[:half]], y[order[:half]]),
        (
            x[order[half:]],
            y[order[half:]],
        ),
    )


def measure(name: str, model: str, choosing: Samples, judging: Samples) -> Iterator[Row]:
    """One row a precision."""
    path = SHARED / "models" / f"{model}.onnx"
    real = accuracy(offramp.from_onnx(path), judging)
    ways: dict[str, dict[str, Any]] = {"int8": {"quantize": "int8"}}
    for points in BUDGETS:
        ways[f"mixed, {points:g} points"] = {"quantize": "mixed", "quantize_drop": points}
    for precision, options in ways.items():
        print(f"{name}: {precision}", file=sys.stderr, flush=True)
        artifact = offramp.compile(
            path, target=TARGET, calibration=choosing, exits=False, **options
        )
        measured, found = artifact.bench()[0], accuracy(artifact.program(), judging)
        yield Row(
            network=name,
            precision=precision,
            weights=measured.flash.weights,
            instructions=measured.per_exit[-1].value,
            accuracy=found,
            lost=real - found,
        )


def accuracy(program: Program, samples: Samples) -> float:
    """Right answers in per cent, by onnxruntime."""
    x, y = samples
    (scores,) = Oracle(program).run({str(program.inputs[0].name): x}).outputs.values()
    return 100.0 * float((scores.argmax(axis=1) == y).mean())


def _read(path: Any) -> Samples:
    with np.load(path) as data:
        return data["x"].astype(np.float32), data["y"]


if __name__ == "__main__":
    sys.exit(main())

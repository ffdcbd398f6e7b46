"""Accuracy of float networks after post-training quantisation, beside onnxruntime's.

Five draws of calibration samples a network; accuracy on samples that set no range. The peer is
`onnxruntime.quantization.quantize_static` (signed bytes, scales by channel, min-max), which gets
the same model and the same calibration samples. Writes docs/results/quantize.md; fails if the
default loses more than half a point on average.

    .venv/bin/python benchmarks/quantize.py [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from exits_common import RESULTS, SHARED, table, write_section

import offramp
from offramp.compiler.ir import Program
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.oracle import Oracle
from offramp.passes.quantize.insert import Quantize
from offramp.passes.quantize.ranges import METHODS
from offramp.passes.simplify import simplify

DRAWS = 5
LIMIT = 0.5
"""Points that the default may lose."""

DEFAULT = "offramp, mse"
Array = npt.NDArray[Any]
Quantiser = Callable[[Program, Array], Program]


@dataclass(frozen=True)
class Case:
    """A network, samples to calibrate with, and samples with labels to judge by.

    shared: the judging samples are those that were not drawn to calibrate.
    """

    name: str
    model: str
    calibration: Array
    count: int
    x: Array
    y: Array
    shared: bool = False

    def draws(self) -> Iterator[tuple[Array, Array, Array]]:
        """(calibration samples, samples to judge by, their labels) of every draw."""
        for seed in range(DRAWS):
            order = np.random.default_rng(seed).permutation(len(self.calibration))
            chosen, rest = order[: self.count], order[self.count :]
            judged = (self.x[rest], self.y[rest]) if self.shared else (self.x, self.y)
            yield self.calibration[chosen], *judged


@dataclass(frozen=True)
class Row:
    """One way to quantise one network: mean accuracy and points lost, over the draws."""

    network: str
    how: str
    samples: int
    float_accuracy: float
    accuracy: float
    lost: float
    worst: float


def main() -> int:
    """Measure, print, write; 1 if the default loses too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    as_json = parser.parse_args().json
    rows = [row for case in cases() for row in measure(case)]
    head = ("network", "by", "samples", "float, %", "int8, %", "points lost", "worst draw")
    cells = [
        (
            row.network,
            row.how,
            row.samples,
            *(f"{n:.2f}" for n in (row.float_accuracy, row.accuracy, row.lost, row.worst)),
        )
        for row in rows
    ]
    body = f"""
`python benchmarks/quantize.py` ({platform.machine()}): top-1 accuracy, mean of {DRAWS} draws of
calibration samples, on samples that set no range. `onnxruntime` is its `quantize_static` with
scales by channel, given the same samples.

{table(head, cells)}
"""
    write_section(RESULTS / "quantize.md", "Post-training quantisation", body)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else body)
    return int(any(row.how == DEFAULT and row.lost > LIMIT for row in rows))


def cases() -> list[Case]:
    """CIFAR-10, calibrated with training images, and keywords, of which there are 500."""
    images, words = SHARED / "data" / "cifar10", np.load(SHARED / "data" / "kws" / "kws_dev500.npz")
    train = np.load(images / "cifar10_train15k.npz")["x"].astype(np.float32)
    test = [np.load(images / f"cifar10_{part}.npz") for part in ("dev2k", "calibration3k")]
    x = np.concatenate([part["x"] for part in test]).astype(np.float32)
    y = np.concatenate([part["y"] for part in test])
    return [
        Case("ResNet-8, CIFAR-10", "ic_resnet8_float", train, 256, x, y),
        Case("DS-CNN, keywords", "kws_dscnn_float", words["x"], 128, words["x"], words["y"], True),
    ]


def measure(case: Case) -> list[Row]:
    """All ways on the same draws."""
    program = offramp.from_onnx(SHARED / "models" / f"{case.model}.onnx") | simplify()
    ways: dict[str, Quantiser] = {f"offramp, {method}": _ours(method) for method in METHODS}
    ways["onnxruntime"] = _peer
    found: dict[str, list[tuple[float, float]]] = {how: [] for how in ways}
    judged = 0
    for calibration, x, y in case.draws():
        before, judged = accuracy(program, x, y), len(x)
        for how, quantise in ways.items():
            found[how].append((before, accuracy(quantise(program, calibration), x, y)))
            print(case.name, how, *found[how][-1], file=sys.stderr, flush=True)
    return [_row(case.name, how, judged, np.array(pairs)) for how, pairs in found.items()]


def _row(name: str, how: str, samples: int, pairs: npt.NDArray[np.float64]) -> Row:
    lost = pairs[:, 0] - pairs[:, 1]
    before, after = pairs.mean(axis=0).tolist()
    return Row(name, how, samples, before, after, float(lost.mean()), float(lost.max()))


def accuracy(program: Program, x: Array, y: Array) -> float:
    """Percentage of right answers."""
    (scores,) = Oracle(program).run({str(program.inputs[0].name): x}).outputs.values()
    return 100.0 * float((scores.argmax(axis=1) == y).mean())


def _ours(method: str) -> Quantiser:
    def quantise(program: Program, calibration: Array) -> Program:
        return program | Quantize("int8", {str(program.inputs[0].name): calibration}, method)

    return quantise


def _peer(program: Program, calibration: Array) -> Program:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    name = str(program.inputs[0].name)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """Hands out one sample after the other."""

        def __init__(self) -> None:
            self.rest = iter(calibration)

        def get_next(self) -> Any:
            """The next sample by name, or None at the end: the base class declares a dict alone."""
            sample = next(self.rest, None)
            return None if sample is None else {name: sample[None]}

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(to_onnx(program).SerializeToString())
        quantize_static(
            source,
            result,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return offramp.from_onnx(result.read_bytes())


if __name__ == "__main__":
    sys.exit(main())

"""Mixed precision: flash, RAM and instructions on a Cortex-M7, and accuracy.

Networks are quantised to int8 and to mixed precision at several budgets, compiled without exits,
measured in the emulator, and judged by onnxruntime on samples that chose nothing. One network is
made hard to quantise: the channels between its layers are rescaled by factors up to 16, which
leaves its function as it is, and scales by tensor too coarse for the small ones. Writes a section
of docs/results/quantize.md.

    .venv/bin/python benchmarks/mixed.py [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from exits_common import RESULTS, SHARED, table, write_section

import offramp
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle

TARGET = "cortex-m7"
BUDGETS = (0.5, 1.0, 3.0)
"""Points that mixed precision may lose on the samples that choose."""

FACTOR = 16.0
"""By which channels are rescaled at most."""

Samples = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One network at one precision; accuracy in per cent."""

    network: str
    precision: str
    bits: str
    weights: int
    arena: int
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
        "16-bit tensors, 4-bit layers",
        "weights in flash",
        "arena",
        "instructions",
        "accuracy, %",
        "points lost",
    )
    cells = [
        (
            row.network,
            row.precision,
            row.bits,
            f"{row.weights:,}",
            f"{row.arena:,}",
            f"{row.instructions / 1e6:.2f} M",
            f"{row.accuracy:.2f}",
            f"{row.lost:.2f}",
        )
        for row in rows
    ]
    body = f"""
`python benchmarks/mixed.py`: activations of 16 bits where the budget asks for them, and weights of
four bits in as many layers as it allows, on the samples that choose (1,000 training images; 250
keywords), on a Cortex-M7 without exits; accuracy on 2,000 other images and 250 other keywords. The
channels of the last network are rescaled by factors up to {FACTOR:g}; its function is the same.

{table(head, cells)}
"""
    write_section(RESULTS / "quantize.md", "Mixed precision on a Cortex-M7", body)
    print(json.dumps([asdict(row) for row in rows], indent=1) if as_json else body)
    return 0


def cases() -> Iterator[tuple[str, onnx.ModelProto, Samples, Samples]]:
    """(name, model, samples that choose, samples that judge)."""
    models = SHARED / "models"
    images = SHARED / "data" / "cifar10"
    train, test = (_read(images / f"cifar10_{part}.npz") for part in ("train15k", "dev2k"))
    yield "ResNet-8", onnx.load(models / "ic_resnet8_jpeg_float.onnx"), train, test
    x, y = _read(SHARED / "data" / "kws" / "kws_dev500.npz")
    order = np.random.default_rng(0).permutation(len(x))
    half = len(x) // 2
    keywords = [(x[rows], y[rows]) for rows in (order[:half], order[half:])]
    model = onnx.load(models / "kws_dscnn_float.onnx")
    yield "DS-CNN", model, keywords[0], keywords[1]
    yield "DS-CNN, rescaled", rescaled(model), keywords[0], keywords[1]


def rescaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function: filters before a Relu are multiplied, what reads it alone is divided."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in own.graph.initializer}
    readers = {
        name: [n for n in own.graph.node if name in n.input]
        for n in own.graph.node
        for name in n.output
    }
    random = np.random.default_rng(0)
    for conv in own.graph.node:
        (relu, *others) = readers[conv.output[0]] if conv.op_type == "Conv" else [None]
        if relu is None or others or relu.op_type != "Relu":
            continue
        (after, *others) = readers[relu.output[0]]
        if others or after.op_type != "Conv":
            continue
        filters = onnx.numpy_helper.to_array(weights[conv.input[1]])
        by = (FACTOR ** random.uniform(0, 1, len(filters))).astype(np.float32)
        following = onnx.numpy_helper.to_array(weights[after.input[1]])
        axis = 0 if following.shape[1] == 1 else 1
        _multiply(weights[conv.input[1]], by, 0)
        _multiply(weights[conv.input[2]], by, 0)
        _multiply(weights[after.input[1]], 1 / by, axis)
    return own


def _multiply(tensor: onnx.TensorProto, by: npt.NDArray[Any], axis: int) -> None:
    data = onnx.numpy_helper.to_array(tensor)
    shape = [-1 if a == axis else 1 for a in range(data.ndim)]
    scaled = (data * by.reshape(shape)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))


def measure(
    name: str, model: onnx.ModelProto, choosing: Samples, judging: Samples
) -> Iterator[Row]:
    """One row a precision."""
    real = accuracy(offramp.from_onnx(model), judging)
    ways: dict[str, dict[str, Any]] = {"int8": {"quantize": "int8"}}
    for points in BUDGETS:
        ways[f"mixed, {points:g} points"] = {"quantize": "mixed", "quantize_drop": points}
    for precision, options in ways.items():
        print(f"{name}: {precision}", file=sys.stderr, flush=True)
        artifact = offramp.compile(
            model, target=TARGET, calibration=choosing, exits=False, **options
        )
        measured, found = artifact.bench()[0], accuracy(artifact.program(), judging)
        yield Row(
            network=name,
            precision=precision,
            bits=_bits(artifact.manifest.provenance["quantised to"]),
            weights=measured.flash.weights,
            arena=measured.ram.arena,
            instructions=measured.per_exit[-1].value,
            accuracy=found,
            lost=real - found,
        )


def _bits(text: str) -> str:
    """How many tensors take 16 bits, and how many layers have weights of four."""
    found = re.findall(r"(\d+) of (\d+)", text)
    return ", ".join(f"{some} of {every}" for some, every in found) or "none"


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

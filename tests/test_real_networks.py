"""The shared networks, from file to running code: quick to compile, equal to onnxruntime.

Exits here have random heads: whether code leaves where the IR says does not depend on training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import offramp
from offramp.backends.base import Bench
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Answers, Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.candidates import candidate_points
from offramp.passes.exits.criteria import Entropy, Margin, MaxSoftmax
from offramp.passes.exits.heads import fresh_heads
from offramp.passes.exits.task import task_of
from offramp.passes.simplify import simplify

pytestmark = pytest.mark.shared

MODELS = ("ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae")
TARGETS = ["x86-64", pytest.param("cortex-m7", marks=pytest.mark.arm)]
COMPILE_SECONDS = 30.0
CRITERIA = (MaxSoftmax(), Margin(), Entropy())


def cpu_seconds() -> float:
    """CPU time of this process and of the compilers it ran: what else runs here does not count."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS)
def test_networks_compile_quickly_and_agree(model: str, target: str, shared: Path) -> None:
    """Within 1e-4 of the output's scale on their samples."""
    start = cpu_seconds()
    artifact = offramp.compile(
        shared / "models" / f"{model}_float.onnx", target=target, exits=False
    )
    assert cpu_seconds() - start < COMPILE_SECONDS
    (spec,) = artifact.manifest.inputs
    count = 64 if target == "x86-64" else 2
    with np.load(shared / "models" / f"{model}_float_samples.npz") as samples:
        x = samples["x"].reshape(-1, *spec.shape[1:])[:count].astype(np.float32)
        y = samples["y"].reshape(len(samples["y"]), -1)[: len(x)]
    (found,) = artifact.run(x).outputs.values()
    assert np.abs(found.reshape(y.shape) - y).max() <= 1e-4 * np.abs(y).max()


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
def test_a_quantised_float_network_runs_on_integers(target: str, shared: Path) -> None:
    """Within one unit of the scores in 8 bits: means round once where onnxruntime rounds twice."""
    with np.load(shared / "data" / "kws" / "kws_dev500.npz") as data:
        x = data["x"][:64]
    model = shared / "models" / "kws_dscnn_float.onnx"
    options: dict[str, Any] = {"calibration": x, "quantize": "int8", "exits": False}
    artifact = offramp.compile(model, target=target, **options)
    (expected,) = offramp.compile(model, target="x86-64", **options).run(x[:4]).outputs.values()
    (found,) = artifact.run(x[:4]).outputs.values()
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(found - expected).max() <= 0.1
    static = offramp.compile(model, target=target, exits=False)
    whole, integers = static.bench()[0], artifact.bench()[0]
    check_layers(artifact, integers)
    assert integers.ram.arena < 0.35 * whole.ram.arena
    assert integers.flash.weights < 0.35 * whole.flash.weights


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
def test_weights_of_four_bits_lie_two_a_byte(target: str, shared: Path) -> None:
    """And answers are those of the same network on real numbers, up to roundings."""
    with np.load(shared / "data" / "kws" / "kws_dev500.npz") as data:
        x = data["x"][:64]
    model = shared / "models" / "kws_dscnn_float.onnx"
    options: dict[str, Any] = {"calibration": x, "exits": False}
    mixed: dict[str, Any] = options | {"quantize": "mixed", "quantize_drop": 99.0}
    found = offramp.compile(model, target=target, **mixed)
    bytes_ = offramp.compile(model, target=target, quantize="int8", **options)
    (scores,) = found.run(x[:4]).outputs.values()
    (expected,) = offramp.compile(model, target="x86-64", **mixed).run(x[:4]).outputs.values()
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(scores - expected).max() <= 0.1
    narrow, wide = found.bench()[0], bytes_.bench()[0]
    assert narrow.flash.weights < 0.72 * wide.flash.weights
    assert narrow.per_exit[0].value < 1.1 * wide.per_exit[0].value


def check_layers(artifact: offramp.Artifact, measured: Bench) -> None:
    """Layers are all there is but the driver, and none uses more memory than there is."""
    layers = artifact.layers(measured)
    (final,) = measured.per_exit
    total = sum(layer.value for layer in layers if layer.value is not None)
    assert 0.999 * final.value < total < final.value
    assert sum(layer.macs for layer in layers) == final.macs
    peak = artifact.manifest.memory.peak
    assert 0.9 * peak <= max(layer.ram for layer in layers) <= peak


def with_random_exits(path: Path, samples: dict[str, Any]) -> tuple[Program, Answers]:
    """A network with three exits, and its answers; many leave at each.

    Thresholds lie midway between neighbouring scores, as the search puts them, where the random
    heads leave a gap: their scores crowd at 1.
    """
    program = offramp.from_onnx(path) | simplify()
    model = AnalyticalModel(targets.get("cortex-m7"))
    task = task_of(program)
    points = candidate_points(task, model)
    specs: list[Any] = []
    for criterion, point in zip(CRITERIA, (points[0], points[1], points[-1]), strict=True):
        random = np.random.default_rng(len(specs))
        heads = fresh_heads(
            point, task.classes, program.opset_imports, model=model, whole=1.0, rng=random
        )
        head = next(heads)
        asking = [
            *specs,
            offramp.passes.ExitSpec(head=head, criterion=criterion, threshold=-1e30),
        ]
        answers = Oracle(program | offramp.passes.InsertExits(tuple(asking))).run(samples)
        scores = np.sort(answers.confidence[answers.exit_index == len(specs)])
        central = scores[len(scores) // 2 : 3 * len(scores) // 4]
        gap = int(np.argmax(np.diff(central)))
        threshold = float((central[gap] + central[gap + 1]) / 2)
        specs.append(offramp.passes.ExitSpec(head=head, criterion=criterion, threshold=threshold))
    finished = program | offramp.passes.InsertExits(tuple(specs))
    return finished, Oracle(finished).run(samples)


def real_samples(network: str, shared: Path) -> tuple[Path, Any]:
    """A shared network and real samples for it."""
    if network == "ic_resnet8":
        data = np.load(shared / "data" / "cifar10" / "cifar10_dev2k.npz")["x"][:1000]
        return shared / "models" / "ic_resnet8_jpeg_float.onnx", data.astype(np.float32)
    data = np.load(shared / "data" / "kws" / "kws_dev500.npz")["x"]
    return shared / "models" / "kws_dscnn_float.onnx", data


@pytest.mark.slow
@pytest.mark.arm
@pytest.mark.parametrize("network", ["ic_resnet8", "kws_dscnn"])
def test_samples_leave_where_the_program_says(network: str, shared: Path) -> None:
    """On x86-64 at batch 1 and 16, on Cortex-M7 on 50 samples."""
    path, x = real_samples(network, shared)
    (name,) = [str(value.name) for value in offramp.from_onnx(path).inputs]
    program, expected = with_random_exits(path, {name: x})
    counts = np.bincount(expected.exit_index, minlength=4)
    assert counts.min() > len(x) / 50, "every exit should be taken"
    answer = next(iter(expected.outputs.values()))

    native = offramp.compile(program, target="x86-64", exits=False)
    for batch in (1, 16):
        runs = [native.run(x[i : i + batch]) for i in range(0, len(x), batch)]
        index = np.concatenate([run.exit_index for run in runs])
        np.testing.assert_array_equal(index, expected.exit_index)
        found = np.concatenate([next(iter(run.outputs.values())) for run in runs])
        assert np.abs(found - answer).max() <= 1e-4 * np.abs(answer).max()

    emulated = offramp.compile(program, target="cortex-m7", exits=False).run(x[:50])
    np.testing.assert_array_equal(emulated.exit_index, expected.exit_index[:50])
    assert len(set(emulated.cost[emulated.exit_index == 0].astype(int) // 1000)) <= 3

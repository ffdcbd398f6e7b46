"""Quantised operators as integer kernels: found, and equal to onnxruntime's within rounding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from offramp import backends
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.memory import plan_memory
from offramp.passes.simplify import simplify

from .conftest import samples


def by_onnxruntime(model: onnx.ModelProto, x: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return np.concatenate([np.asarray(session.run(None, {"x": row[None]})[0]) for row in x])


def step(model: onnx.ModelProto) -> float:
    """The real number that one unit of the output stands for."""
    last = next(node for node in model.graph.node if "y" in node.output)
    (scale,) = (t for t in model.graph.initializer if t.name == last.input[1])
    return float(onnx.numpy_helper.to_array(scale).reshape(()))


def kinds(lowered: Lowered) -> Counter[str]:
    names = [call.kernel for block in lowered.plan.blocks for call in block.calls]
    return Counter(name.removeprefix("odd_").rsplit("_", 1)[0] for name in names)


@pytest.mark.parametrize("exact", [True, False])
def test_every_operator_becomes_an_integer_kernel(quantised: onnx.ModelProto, exact: bool) -> None:
    """A sum is part of the convolution behind it."""
    lowered = lower(from_onnx(quantised), targets.get("cortex-m7"), exact=exact)
    expected = {"conv": 5, "depthwise": 2, "average_pool": 1, "dense": 2}
    assert kinds(lowered) == {**expected, "convert": 2, "tail": 2}
    calls = lowered.plan.blocks[0].calls
    types = {lowered.plan.buffers[name].dtype for c in calls[1:-1] for name in c.arguments}
    assert types == {"int8", "int32"}


@pytest.mark.arm
def test_unsigned_activations_are_computed_as_signed_ones(
    unsigned: onnx.ModelProto, tmp_path: Path
) -> None:
    lowered = lower(simplify()(from_onnx(unsigned)), targets.get("cortex-m7"))
    layers = {"conv": 5, "depthwise": 2, "average_pool": 1, "dense": 2}
    assert kinds(lowered) == {**layers, "convert": 2, "tail": 2}
    backend = backends.get("cortex-m7")
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    x = samples(6, 5)
    found = backend.load(tmp_path).run({"x": x}).outputs["y"]
    assert np.abs(found - by_onnxruntime(unsigned, x)).max() <= 2.001 * step(unsigned)


def test_the_program_stays_as_it_is(quantised: onnx.ModelProto) -> None:
    program = from_onnx(quantised)
    computed = [v for node in program.entry.graph for v in node.outputs]
    lower(program, targets.get("cortex-m7"))
    assert all(value.const_value is None for value in computed)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m4", marks=pytest.mark.arm),
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
        "x86-64",
    ],
)
def test_answers_agree_with_onnxruntime(
    quantised: onnx.ModelProto, target: str, tmp_path: Path
) -> None:
    """Within two units: integers on a microcontroller, real numbers elsewhere, and onnxruntime's
    own fused kernels round products differently, and differences add up over layers."""
    lowered = lower(from_onnx(quantised), targets.get(target))
    backend = backends.get(target)
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    x = samples(6, 5)
    found = backend.load(tmp_path).run({"x": x}).outputs["y"]
    units = np.abs(found - by_onnxruntime(quantised, x)) / step(quantised)
    assert units.max() < 2.1
    assert units.mean() < 0.5


@pytest.mark.arm
@pytest.mark.riscv
def test_exact_answers_are_the_same_everywhere(quantised: onnx.ModelProto, tmp_path: Path) -> None:
    """Whether sums are part of convolutions, as on Cortex-M, or kernels of their own."""
    answers = []
    for target in ("cortex-m4", "cortex-m7", "cortex-m55", "riscv32"):
        lowered = lower(from_onnx(quantised), targets.get(target), exact=True)
        backend, folder = backends.get(target), tmp_path / target
        folder.mkdir()
        backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), folder)
        answers.append(backend.load(folder).run({"x": samples(6, 5)}).outputs["y"])
    for found in answers[1:]:
        np.testing.assert_array_equal(found, answers[0])


@pytest.mark.shared
@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
@pytest.mark.parametrize("model", ["ad_fcae", "kws_dscnn", "ic_resnet8", "vww_mbv1"])
def test_exact_answers_are_those_of_tflite(
    model: str, target: str, shared: Path, tmp_path: Path
) -> None:
    """Bit for bit, softmax included; the fast kernels name the same class."""
    program = from_onnx(shared / "models" / f"{model}_int8.onnx")
    samples = np.load(shared / "models" / f"{model}_int8_samples.npz")
    for exact in (True, False):
        folder = tmp_path / str(exact)
        folder.mkdir()
        lowered = lower(program, targets.get(target), exact=exact)
        backend = backends.get(target)
        backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), folder)
        runner = backend.load(folder)
        (tensor,) = runner.interface.inputs
        x = samples["x"].reshape(-1, *tensor.shape[1:])[:4]
        (found,) = runner.run({tensor.name: x}).outputs.values()
        expected = samples["y"].reshape(-1, *found.shape[1:])[:4]
        if exact:
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.shared
@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m55"])
def test_the_largest_tensor_is_all_that_a_chain_of_layers_needs(target: str, shared: Path) -> None:
    """First layer, depthwise with stride and pointwise: all write over what they have read."""
    program = simplify()(from_onnx(shared / "models" / "vww_mbv1_int8.onnx"))
    plan = plan_memory(lower(program, targets.get(target)).plan)
    largest = max(buffer.nbytes for buffer in plan.buffers.values() if buffer.data is None)
    copies = max(call.workspace for block in plan.blocks for call in block.calls)
    assert largest < plan.memory.peak <= largest + copies + 64

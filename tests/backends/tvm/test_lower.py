"""Whole programs: views, blocks, joins, and the shared networks on their samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.compiler.plan import Storage

Array = npt.NDArray[Any]
Execute = Callable[[Program, str, list[Array]], list[Array]]
TARGETS = ["x86-64", "x86-64 base", "cortex-m7"]

EXITS = """program leaves opset 18 batched -> (y)
entry(%x: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
  weight %axes: int64[3] = [1, 2, 3]
  %a: float[1,2,3,4] = Conv(%x, %w)
  %s: float[1] = ReduceMean(%a, %axes) {keepdims = 0}
  %p: float[1,2,1,1] = GlobalMaxPool(%a)
  exit (%p) when %s >= 0.0 by mean else rest(%a)
rest(%b: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, -2.0, 3.0, -4.0]
  %c: float[1,2,3,4] = Conv(%b, %w)
  %d: float[1,2,3,4] = Add(%b, %c)
  %y: float[1,2,1,1] = GlobalMaxPool(%d)
  return (%y)
"""

BRANCHES = """program skips opset 18 batched -> (y)
entry(%x: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
  weight %axes: int64[3] = [1, 2, 3]
  weight %zero: float[1] = [0.0]
  %a: float[1,2,3,4] = Conv(%x, %w)
  %s: float[1] = ReduceMean(%a, %axes) {keepdims = 0}
  %c: bool[1] = Greater(%s, %zero)
  branch %c then layer(%a) else join(%a)
layer(%b: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, -2.0, 3.0, -4.0]
  %d: float[1,2,3,4] = Conv(%b, %w)
  %e: float[1,2,3,4] = Relu(%d)
  jump join(%e)
join(%f: float[1,2,3,4]):
  %y: float[1,2,1,1] = GlobalAveragePool(%f)
  return (%y)
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("text", [EXITS, BRANCHES])
def test_control_flow_answers_as_the_oracle(execute: Execute, text: str, target: str) -> None:
    program = from_text(text)
    samples = np.random.default_rng(0).standard_normal((6, 2, 3, 4)).astype(np.float32)
    expected = Oracle(program).run({"x": samples}).outputs["y"]
    scores = np.einsum("oi,nihw->n", np.array([[1.0, 2.0], [3.0, 4.0]]), samples)
    assert scores.min() < 0 < scores.max()
    for sample, answer in zip(samples, expected, strict=True):
        (found,) = execute(program, target, [sample[None]])
        np.testing.assert_allclose(found[0], answer, rtol=1e-5, atol=1e-5)


def test_single_predecessors_pass_views_and_joins_own_memory() -> None:
    plan = lower(from_text(EXITS), targets.get("cortex-m7")).plan
    parameter = plan.buffers[plan.blocks[1].parameters[0]]
    assert parameter.alias_of in plan.blocks[0].calls[1].writes
    plan = lower(from_text(BRANCHES), targets.get("cortex-m7")).plan
    layer, join = plan.blocks[1:]
    assert plan.buffers[layer.parameters[0]].alias_of is not None
    assert plan.buffers[join.parameters[0]].alias_of is None


def test_reshapes_run_no_code() -> None:
    program = from_text(
        """program views opset 18 batched -> (y)
        entry(%x: float[1,6]):
          weight %to: int64[3] = [1, 2, 3]
          weight %axes: int64[1] = [0]
          %a: float[1,2,3] = Reshape(%x, %to)
          %b: float[2,3] = Squeeze(%a, %axes)
          %y: float[1,6] = Flatten(%b) {axis = 0}
          return (%y)"""
    )
    plan = lower(program, targets.get("x86-64")).plan
    assert plan.blocks[0].calls == ()
    assert plan.buffers[plan.blocks[0].operands[0]].alias_of == plan.blocks[0].parameters[0]


def test_equal_weights_are_stored_once() -> None:
    text = EXITS.replace("[1.0, -2.0, 3.0, -4.0]", "[1.0, 2.0, 3.0, 4.0]")
    plan = lower(from_text(text), targets.get("cortex-m7")).plan
    weights = [b for b in plan.buffers.values() if b.storage is Storage.CONSTANT]
    assert [b.shape for b in weights] == [(4,), (2,)]


def test_residual_that_is_the_input_is_kept() -> None:
    plan = lower(from_text(EXITS), targets.get("cortex-m7")).plan
    calls = [call for block in plan.blocks for call in block.calls if "conv" in call.kernel]
    assert calls[-1].arguments[0] in calls[-1].arguments[1:]
    assert calls[-1].in_place == ()


def test_constants_are_never_overwritten(execute: Execute) -> None:
    program = from_text(
        """program shifted opset 18 batched -> (y)
        entry(%x: float[1,2,2]):
          weight %w: float[2,2] = [1.0, 2.0, 3.0, 4.0]
          weight %b: float[1,2,2] = [5.0, 6.0, 7.0, 8.0]
          %a: float[1,2,2] = MatMul(%x, %w)
          %r: float[1,2,2] = Relu(%a)
          %y: float[1,2,2] = Mul(%r, %b)
          return (%y)"""
    )
    (call,) = lower(program, targets.get("x86-64")).plan.blocks[0].calls
    assert call.in_place == ()
    (found,) = execute(program, "x86-64", [np.ones((1, 2, 2), np.float32)])
    np.testing.assert_array_equal(found, [[[20.0, 36.0], [28.0, 48.0]]])


@pytest.mark.shared
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae"])
def test_shared_networks(execute: Execute, shared: Path, name: str, target: str) -> None:
    program = from_onnx(shared / "models" / f"{name}_float.onnx")
    samples = np.load(shared / "models" / f"{name}_float_samples.npz")
    x, expected = samples["x"][0].astype(np.float32), samples["y"][0]
    (found,) = execute(program, target, [x])
    np.testing.assert_allclose(
        found.reshape(expected.shape), expected, rtol=0, atol=1e-4 * np.abs(expected).max()
    )

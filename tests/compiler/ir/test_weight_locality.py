"""Why weights live in the branch that uses them: onnxruntime lays out only those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.to_onnx import to_onnx

IMAGE = "float[1,16,8,8]"


def convolutions(name: str) -> str:
    weights = np.random.default_rng(0).normal(size=16 * 16 * 9).astype(np.float32)
    return f"""
    weight %w: float[16,16,3,3] = hex:{weights.tobytes().hex()}
    %a: {IMAGE} = Conv(%{name}, %w) {{pads = [1, 1, 1, 1]}}
    %b: {IMAGE} = Relu(%a)
    %c: {IMAGE} = Conv(%b, %w) {{pads = [1, 1, 1, 1]}}
    %d: {IMAGE} = Relu(%c)"""


@pytest.fixture(scope="module")
def program() -> Program:
    """Two convolutions, an exit, two more."""
    return from_text(
        f"""program p opset 18 batched -> (y)
        stem(%x: {IMAGE}): {convolutions("x")}
          %s: float[] = ReduceMax(%d) {{keepdims = 0}}
          exit (%d) when %s >= 1e9 by max_softmax else rest(%d)
        rest(%p: {IMAGE}): {convolutions("p")}
          return (%d)"""
    )


def else_branch(model: onnx.ModelProto) -> onnx.GraphProto:
    exit_ = next(node for node in model.graph.node if node.op_type == "If")
    return next(a.g for a in exit_.attribute if a.name == "else_branch")


def blocked_convolutions(model: onnx.ModelProto, folder: Path) -> tuple[int, int]:
    """Convolutions that onnxruntime lays out in channel blocks: before, and behind the exit."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(folder / "optimized.onnx")
    before, behind = (
        sum(n.op_type == "Conv" and n.domain == "com.microsoft.nchwc" for n in graph.node)
        for graph in (optimized.graph, else_branch(optimized))
    )
    return before, behind


def test_branches_with_their_own_weights_are_laid_out(program: Program, tmp_path: Path) -> None:
    model = to_onnx(program)
    before, behind = blocked_convolutions(model, tmp_path)
    if before == 0:
        pytest.skip("this onnxruntime has no blocked layout for this processor")
    assert (before, behind) == (2, 2)


def test_branches_with_outer_weights_are_not(program: Program, tmp_path: Path) -> None:
    model = to_onnx(program)
    branch = else_branch(model)
    model.graph.initializer.extend(branch.initializer)
    del branch.initializer[:]
    before, behind = blocked_convolutions(model, tmp_path)
    if before == 0:
        pytest.skip("this onnxruntime has no blocked layout for this processor")
    assert (before, behind) == (2, 0)

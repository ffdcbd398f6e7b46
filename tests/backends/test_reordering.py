"""Real kernels in the order of least memory: a smaller arena, the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import numpy_helper, parser

from offramp.backends.base import Backend
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.memory import plan_memory
from offramp.passes.memory.exact import exact
from offramp.passes.memory.plan import as_problem
from offramp.passes.memory.problem import peak
from offramp.passes.memory.sharing import share

WIDENED = 16 * 8 * 8 * 4
"""Bytes of one branch before it shrinks."""
BRANCHES = """
    <ir_version: 10, opset_import: ["": 21]>
    branches (float[1,2,8,8] x) => (float[1,4,2,2] y) {
        wide_a = Conv<pads=[1,1,1,1]>(x, widen_a)
        wide_b = Conv<pads=[1,1,1,1]>(x, widen_b)
        wide_c = Conv<pads=[1,1,1,1]>(x, widen_c)
        a = Conv<strides=[4,4]>(wide_a, narrow)
        b = Conv<strides=[4,4]>(wide_b, narrow)
        c = Conv<strides=[4,4]>(wide_c, narrow)
        ab = Add(a, b)
        y = Mul(ab, c)
    }"""


def network() -> Any:
    """All branches widen before the first one shrinks."""
    model = parser.parse_model(BRANCHES)
    generator = np.random.default_rng(0)
    shapes = {f"widen_{letter}": (16, 2, 3, 3) for letter in "abc"} | {"narrow": (4, 16, 4, 4)}
    for name, shape in shapes.items():
        weights = generator.normal(size=shape, scale=0.2).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    return model


def test_branches_run_one_after_another(target: str, backend: Backend, tmp_path: Path) -> None:
    model = network()
    lowered = lower(from_onnx(model), targets.get(target))
    as_given = as_problem(lowered.plan, share(lowered.plan))
    planned = plan_memory(lowered.plan)
    assert peak(as_given, exact(as_given)) > 3 * WIDENED
    assert planned.memory.peak < 2 * WIDENED
    assert planned.memory.status == "optimal"

    backend.emit(replace(lowered, plan=planned), tmp_path)
    x = np.random.default_rng(1).normal(size=(5, 2, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answers: list[Any] = [session.run(None, {"x": x[i : i + 1]})[0] for i in range(len(x))]
    got = backend.load(tmp_path).run({"x": x})
    np.testing.assert_allclose(got.outputs["y"], np.concatenate(answers), atol=1e-4)

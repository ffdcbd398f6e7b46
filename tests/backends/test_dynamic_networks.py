"""Real kernels under real control flow: emitted code leaves where onnxruntime leaves."""

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
from offramp.compiler.ir import Block, Branch, Exit, Jump, Program, Return, Successor, Terminator
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.passes.memory import plan_memory

WIDTH = 8
STAGE = f"""
    <ir_version: 10, opset_import: ["": 21]>
    stage (float[1,{WIDTH},8,8] x) => (float[1,{WIDTH},8,8] y, float[1,5] p, float[1,1] s) {{
        c = Conv<pads=[1,1,1,1]>(x, kernel)
        r = Relu(c)
        y = Add(r, x)
        g = GlobalAveragePool(y)
        f = Flatten(g)
        l = MatMul(f, head)
        p = Softmax(l)
        s = ReduceMax<keepdims=1>(p, axis)
    }}"""
GATE = f"""
    <ir_version: 10, opset_import: ["": 21]>
    gate (float[1,{WIDTH},8,8] x) => (bool[1] go) {{
        m = ReduceMean<keepdims=0>(x)
        one = Reshape(m, shape)
        go = Greater(one, zero)
    }}"""
EXTRA = f"""
    <ir_version: 10, opset_import: ["": 21]>
    extra (float[1,{WIDTH},8,8] x) => (float[1,{WIDTH},8,8] y) {{
        c = Conv<pads=[1,1,1,1], group={WIDTH}>(x, depthwise)
        y = Relu(c)
    }}"""


def part(text: str, seed: int) -> Any:
    """The graph of a model whose free names get random weights."""
    generator = np.random.default_rng(seed)
    weights: dict[str, Any] = {
        "kernel": generator.normal(size=(WIDTH, WIDTH, 3, 3), scale=0.15).astype(np.float32),
        "depthwise": generator.normal(size=(WIDTH, 1, 3, 3), scale=0.5).astype(np.float32),
        "head": generator.normal(size=(WIDTH, 5), scale=0.7).astype(np.float32),
        "axis": np.array([1]),
        "shape": np.array([1]),
        "zero": np.array([0.3], np.float32),
    }
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & set(weights)):
        model.graph.initializer.append(numpy_helper.from_array(weights[name], name))
    return from_onnx(model).entry.graph


def network() -> Program:
    """Stage, exit, a block that half of the samples skip, stage, exit, stage."""
    gate = part(GATE, 2)
    gate.outputs.append(gate.inputs[0])
    ends: dict[str, tuple[Any, Terminator]] = {
        "first": (part(STAGE, 1), Exit((1,), 2, 0.5, "max_softmax", Successor("gate", (0,)))),
        "gate": (gate, Branch(0, Successor("extra", (1,)), Successor("second", (1,)))),
        "extra": (part(EXTRA, 3), Jump(Successor("second", (0,)))),
        "second": (part(STAGE, 4), Exit((1,), 2, 0.99, "max_softmax", Successor("last", (0,)))),
        "last": (part(STAGE, 5), Return((1,), confidence=2)),
    }
    blocks = {name: Block(name, graph, end) for name, (graph, end) in ends.items()}
    return Program("dynamic", blocks, ("p",), {"": 21})


def test_exits_and_answers_are_those_of_onnxruntime(
    target: str, backend: Backend, tmp_path: Path
) -> None:
    program = network()
    session = onnxruntime.InferenceSession(to_onnx(program).SerializeToString())
    x = np.random.default_rng(0).normal(size=(40, WIDTH, 8, 8)).astype(np.float32)
    x += np.random.default_rng(1).normal(size=(40, 1, 1, 1), scale=0.6).astype(np.float32)
    name = session.get_inputs()[0].name
    each = [session.run(None, {name: x[i : i + 1]}) for i in range(len(x))]
    expected, exits, confidence = (np.concatenate(column) for column in zip(*each, strict=True))
    assert set(exits.tolist()) == {0, 1, 2}

    lowered = lower(program, targets.get(target))
    backend.emit(replace(lowered, plan=plan_memory(lowered.plan)), tmp_path)
    got = backend.load(tmp_path).run({name: x})
    assert got.exit_index.tolist() == exits.tolist()
    np.testing.assert_allclose(got.outputs["p"], expected, atol=1e-4)
    np.testing.assert_allclose(got.confidence, confidence, atol=1e-4)

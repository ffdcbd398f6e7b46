"""Programs built from text, run by torch and (through nested `If`) by onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx.parser
import onnx_ir as ir
import torch
from onnxruntime import InferenceSession

from offramp.compiler.ir import Block, Branch, Exit, Jump, Program, Return, Successor, Switch
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.torch_program import ProgramModule

SHARED_WEIGHT = ir.tensor(np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), name="w")


def graph(text: str) -> ir.Graph:
    """The graph of `name (inputs) => (outputs) { nodes }`; an initializer `w` is shared."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')
    model: ir.Model = ir.from_proto(proto)
    parsed = model.graph
    if "w" in parsed.initializers:
        parsed.initializers["w"].const_value = SHARED_WEIGHT
    return parsed


def program(*blocks: Block) -> Program:
    return Program("net", {b.name: b for b in blocks}, ("y",), {"": 21})


def two_exits() -> Program:
    """Two exits and a final answer; the blocks of the exits share one weight."""
    constants = "<float[2,2] w = {1, -2, 0.5, 3}, int64[1] axis = {1}>"
    first = f"""first (float[1,2] x) => (float[1,2] a, float[1] s, float[1,2] kept) {constants}
    {{ a = MatMul (x, w)  s = ReduceMax <keepdims = 0> (a, axis)  kept = Relu (x) }}"""
    second = f"""second (float[1,2] x) => (float[1,2] b, float[1,1] s) {constants}
    {{ b = MatMul (x, w)  s = ReduceMin (b, axis) }}"""
    last = "last (float[1,2] b) => (float[1,2] y) { y = Neg (b) }"
    return program(
        Block("first", graph(first), Exit((0,), 1, 0.5, "max", Successor("second", (2,)))),
        Block("second", graph(second), Exit((0,), 1, 0.25, "min", Successor("last", (0,)))),
        Block("last", graph(last), Return((0,))),
    )


def with_thresholds(net: Program, *thresholds: float) -> Program:
    moved = {
        b.name: replace(b, terminator=replace(b.terminator, threshold=t))
        for b, t in zip(net.exits, thresholds, strict=True)
        if isinstance(b.terminator, Exit)
    }
    return replace(net, blocks={**net.blocks, **moved})


def answers_of_onnxruntime(net: Program, x: np.ndarray) -> np.ndarray:
    session = cast("Any", InferenceSession(to_onnx(net).SerializeToString()))
    return np.concatenate([session.run(["y"], {"x": x[i : i + 1]})[0] for i in range(len(x))])


def samples(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)


def test_every_exit_answers_for_every_sample() -> None:
    x = samples()
    found = ProgramModule(two_exits())(torch.from_numpy(x))
    never, always = 1e9, -1e9
    for answer, thresholds in zip(
        found, [(always, always), (never, always), (never, never)], strict=True
    ):
        expected = answers_of_onnxruntime(with_thresholds(two_exits(), *thresholds), x)
        np.testing.assert_allclose(answer.values[0].detach(), expected, rtol=1e-5, atol=1e-6)
    assert [answer.block for answer in found] == ["first", "second", "last"]
    assert found[0].score is not None
    torch.testing.assert_close(found[0].score, found[0].values[0].amax(1))
    assert found[2].score is None


def test_scores_are_one_number_per_sample_whatever_their_rank() -> None:
    found = ProgramModule(two_exits())(torch.from_numpy(samples()))
    assert all(a.score.shape == (12,) for a in found if a.score is not None)


def test_a_tensor_of_several_blocks_is_one_parameter_and_stays_shared() -> None:
    module = ProgramModule(two_exits())
    (weight,) = module.parameters()
    answers = module(torch.from_numpy(samples()))
    torch.autograd.backward(torch.stack([answer.values[0] for answer in answers]).sum())
    assert weight.grad is not None
    with torch.no_grad():
        weight.add_(1)
    stored = module.store()
    tensors = [b.graph.initializers["w"].const_value for b in stored.exits]
    assert tensors[0] is tensors[1]
    assert tensors[0] is not SHARED_WEIGHT
    again = ProgramModule(stored)(torch.from_numpy(samples()))
    for found, expected in zip(again, module(torch.from_numpy(samples())), strict=True):
        torch.testing.assert_close(found.values, expected.values)


def test_a_branch_takes_each_samples_own_way() -> None:
    net = program(
        Block(
            "gate",
            graph(
                "gate (float[1,2] x) => (bool[1] when, float[1,2] x2) <float zero = {0}, "
                "int64[1] axis = {1}>"
                "{ s = ReduceSum <keepdims = 0> (x, axis)  when = Greater (s, zero)"
                "  x2 = Identity (x) }"
            ),
            Branch(0, Successor("work", (1,)), Successor("join", (1,))),
        ),
        Block(
            "work",
            graph("work (float[1,2] x) => (float[1,2] z) { z = Exp (x) }"),
            Jump(Successor("join", (0,))),
        ),
        Block(
            "join",
            graph("join (float[1,2] z) => (float[1,2] y) { y = Neg (z) }"),
            Return((0,)),
        ),
    )
    x = samples()
    (answer,) = ProgramModule(net)(torch.from_numpy(x))
    np.testing.assert_allclose(answer.values[0], answers_of_onnxruntime(net, x), rtol=1e-5)
    assert answer.reached is not None
    assert answer.reached.all()


def test_a_switch_clamps_its_index() -> None:
    def case(name: str, op_type: str) -> Block:
        body = f"{name} (float[1,2] x) => (float[1,2] z) {{ z = {op_type} (x) }}"
        return Block(name, graph(body), Jump(Successor("join", (0,))))

    cases = [case("tanh", "Tanh"), case("cosine", "Cos"), case("negated", "Neg")]
    net = program(
        Block(
            "route",
            graph(
                "route (float[1,2] x) => (int64[1] index, float[1,2] x2) <int64[1] axis = {1}, "
                "float two = {2}>"
                "{ s = ReduceSum <keepdims = 0> (x, axis)  d = Mul (s, two)"
                "  index = Cast <to = 7> (d)  x2 = Identity (x) }"
            ),
            Switch(0, tuple(Successor(block.name, (1,)) for block in cases)),
        ),
        *cases,
        Block(
            "join",
            graph("join (float[1,2] z) => (float[1,2] y) { y = Identity (z) }"),
            Return((0,)),
        ),
    )
    x = samples(24)
    (answer,) = ProgramModule(net)(torch.from_numpy(x))
    np.testing.assert_allclose(answer.values[0], answers_of_onnxruntime(net, x), rtol=1e-5)

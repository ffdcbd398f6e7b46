"""Which elementwise operators together are one function of one tensor."""

from __future__ import annotations

import pytest

from offramp.compiler.ir import Program
from offramp.compiler.ir.functions import Function, function_of
from offramp.compiler.ir.parser import from_text

HEAD = """program small opset 18 batched -> (y) entry(%x: float[1,4], %z: float[1,4]):
    weight %three: float[] = [3.0]
    weight %six: float[] = [6.0]
    weight %zero: float[] = [0.0]
    weight %each: float[4] = [1.0, 2.0, 3.0, 4.0]
"""
SILU = """
    %s: float[1,4] = Sigmoid(%x)
    %y: float[1,4] = Mul(%x, %s)
"""
HARD_SWISH = """
    %a: float[1,4] = Add(%x, %three)
    %c: float[1,4] = Clip(%a, %zero, %six)
    %m: float[1,4] = Mul(%x, %c)
    %y: float[1,4] = Div(%m, %six)
"""


def program(body: str, *answers: str) -> Program:
    names = answers or ("y",)
    outputs = ", ".join(f"%{name}" for name in names)
    head = HEAD.replace("-> (y)", f"-> ({', '.join(names)})")
    return from_text(head + body + f"    return ({outputs})\n")


def found(body: str, *answers: str) -> Function | None:
    return function_of(program(body, *answers).entry.graph.outputs[0])


@pytest.mark.parametrize(
    ("body", "operators"),
    [
        ("\n    %y: float[1,4] = Tanh(%x)\n", ["Tanh"]),
        (SILU, ["Sigmoid", "Mul"]),
        (HARD_SWISH, ["Add", "Clip", "Mul", "Div"]),
    ],
)
def test_operators_on_one_tensor_and_numbers_are_one_function(
    body: str, operators: list[str]
) -> None:
    function = found(body)
    assert function is not None
    assert function.source.name == "x"
    assert [node.op_type for node in function.nodes] == operators


@pytest.mark.parametrize(
    "body",
    [
        "\n    %y: float[1,4] = Add(%x, %z)\n",
        "\n    %y: float[1,4] = Mul(%x, %each)\n",
        "\n    %y: float[1,4] = Softmax(%x)\n",
        "\n    %y: float[1,4] = Identity(%x)\n",
    ],
)
def test_two_tensors_constants_by_place_and_other_operators_are_none(body: str) -> None:
    assert found(body) is None


def test_what_somebody_else_reads_is_no_inner_value() -> None:
    assert found(SILU, "y", "s") is None
    function = function_of(program(SILU, "s", "y").entry.graph.outputs[0])
    assert function is not None
    assert [node.op_type for node in function.nodes] == ["Sigmoid"]


def test_the_way_back_ends_where_it_is_told_to() -> None:
    graph = program(HARD_SWISH).entry.graph
    product = graph.outputs[0].producer()
    assert product is not None
    function = function_of(graph.outputs[0], lambda value: value is product.inputs[0])
    assert function is not None
    assert [node.op_type for node in function.nodes] == ["Div"]

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Annotations, Jump, Program, Return, Successor
from offramp.compiler.ir.draft import Draft, Edge, close, is_constant
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle

TEXT = """program p opset 18 batched -> (y)
entry(%x: float[1,2]):
  weight %w: float[2] = [2.0, 3.0]
  %a: float[1,2] = Mul(%x, %w)
  %b: float[1,2] = Neg(%a)
  %c: float[1,2] = Mul(%b, %w)
  %y: float[1,2] = Add(%c, %a)
  return (%y)"""


def jump(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Jump:
    return Jump(*successors)


def answer(operands: tuple[int, ...], successors: tuple[Successor, ...]) -> Return:
    return Return(operands)


def cut(program: Program, *positions: int) -> Program:
    """`program`'s only block as a chain of blocks, cut before the nodes at `positions`."""
    graph = program.entry.graph
    nodes = list(graph)
    bounds = [0, *positions, len(nodes)]
    drafts: list[Draft] = []
    for i, (start, end) in enumerate(pairwise(bounds)):
        bound = tuple(graph.inputs) if i == 0 else ()
        last = end == len(nodes)
        outputs = tuple(graph.outputs) if last else ()
        edges = () if last else (Edge(f"b{i + 1}"),)
        finish = answer if last else jump
        drafts.append(Draft(f"b{i}", nodes[start:end], outputs, edges, finish, bound))
    blocks = close(drafts, program.opset_imports)
    return Program(program.name, blocks, program.output_names, program.opset_imports)


def parameters(program: Program) -> list[list[str | None]]:
    return [[value.name for value in block.parameters] for block in program.blocks.values()]


def test_values_that_cross_a_cut_become_parameters() -> None:
    program = from_text(TEXT)
    pieces = cut(program, 1, 2, 3)
    verify(pieces)
    assert parameters(pieces) == [["x"], ["a"], ["b", "a"], ["c", "a"]]

    x = np.array([[1, -2], [0.5, 4]], np.float32)
    expected, found = (Oracle(p).run({"x": x}).outputs["y"] for p in (program, pieces))
    np.testing.assert_array_equal(found, expected)


def test_each_block_has_its_own_value_for_a_shared_tensor() -> None:
    pieces = cut(from_text(TEXT), 2)
    first, second = (block.graph.initializers["w"] for block in pieces.blocks.values())
    assert first is not second
    assert first.const_value is second.const_value


def test_the_graph_that_was_cut_stays_as_it_was() -> None:
    program = from_text(TEXT)
    cut(program, 2)
    verify(program)


def test_annotations_and_declared_captures_are_kept() -> None:
    graph = from_text(TEXT).entry.graph
    x, y = graph.inputs[0], graph.outputs[0]
    facts = Annotations(reach=0.5)
    drafts = [
        Draft("a", list(graph), (), (Edge("b"),), jump, (x,)),
        Draft("b", [], (y,), (), answer, captured=(x, y), annotations=facts),
    ]
    blocks = close(drafts, {"": 18})
    assert [value.name for value in blocks["b"].parameters] == ["x", "y"]
    assert blocks["b"].annotations == facts


def test_a_value_that_nothing_defines_is_an_error() -> None:
    loose = ir.Value(name="loose")
    with pytest.raises(InternalError, match="block 'a' reads 'loose'"):
        close([Draft("a", [], (loose,), (), answer)], {"": 18})


def test_constants_are_initializers_of_any_graph() -> None:
    graph = from_text(TEXT).entry.graph
    assert is_constant(graph.initializers["w"])
    assert not is_constant(graph.inputs[0])
    assert not is_constant(graph.outputs[0])

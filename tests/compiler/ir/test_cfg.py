from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Annotations, Program
from offramp.compiler.ir.cfg import (
    ANSWER,
    block_graph,
    dominating_values,
    joins,
    reach_probabilities,
    trunk,
)
from offramp.compiler.ir.parser import from_text


def test_block_graph_ends_in_answers(every_terminator: Program) -> None:
    graph = block_graph(every_terminator)
    assert set(graph.predecessors(ANSWER)) == {"stem", "tail"}
    assert set(graph.successors("joined")) == {"low", "middle", "last"}


def test_joins_are_where_arms_meet(every_terminator: Program) -> None:
    assert joins(every_terminator) == {"gate": "joined", "joined": "last"}


def test_trunk_leaves_regions_out(every_terminator: Program) -> None:
    assert trunk(every_terminator) == ["stem", "gate", "joined", "last", "tail"]


def test_reach_follows_rates_and_annotations(every_terminator: Program) -> None:
    reach = reach_probabilities(every_terminator)
    assert reach == {
        "stem": 1.0,
        "gate": 0.75,
        "heavy": 0.25,
        "joined": 0.75,
        "low": 0.25,
        "middle": 0.25,
        "last": 0.75,
        "tail": 0.75,
    }


def test_an_arm_that_is_never_taken_has_reach_zero(every_terminator: Program) -> None:
    never = replace(every_terminator.blocks["low"], annotations=Annotations(reach=0.0))
    program = replace(every_terminator, blocks={**every_terminator.blocks, "low": never})
    reach = reach_probabilities(program)
    assert (reach["low"], reach["middle"]) == (0.0, 0.375)


def test_without_measurements_nothing_leaves() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) "
        "a(%x: float[1,1]): exit (%x) when %x >= 0.0 by c else b(%x) "
        "b(%x: float[1,1]): return (%x)"
    )
    assert reach_probabilities(program) == {"a": 1.0, "b": 1.0}


def on_every_path(program: Program) -> list[ir.Value]:
    graph = program.entry.graph
    return dominating_values(graph.inputs, graph, graph.outputs)


def names(program: Program) -> list[str]:
    return [str(value.name) for value in on_every_path(program)]


def test_residual_branches_do_not_dominate() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) entry(%x: float[1,2]): "
        "weight %w: float[2] = [1.0, 2.0] "
        "%k: float[2] = Neg(%w) "
        "%a: float[1,2] = Mul(%x, %k) "
        "%b: float[1,2] = Relu(%a) "
        "%c: float[1,2] = Tanh(%b) "
        "%d: float[1,2] = Add(%c, %a) "
        "%y: float[1,2] = Abs(%d) return (%y)"
    )
    assert names(program) == ["a", "d", "y"]


def test_two_outputs_have_only_common_dominators() -> None:
    program = from_text(
        "program p opset 18 batched -> (u, v) entry(%x: float[1,2]): "
        "%a: float[1,2] = Relu(%x) %u: float[1,2] = Neg(%a) %v: float[1,2] = Tanh(%a) "
        "return (%u, %v)"
    )
    assert names(program) == ["a"]


def test_two_inputs_meet_in_the_first_dominator() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) entry(%x: float[1,2], %z: float[1,2]): "
        "%a: float[1,2] = Relu(%x) %s: float[1,2] = Add(%a, %z) %y: float[1,2] = Neg(%s) "
        "return (%y)"
    )
    assert names(program) == ["s", "y"]


def test_an_output_that_no_input_reaches_has_none() -> None:
    program = from_text(
        "program p opset 18 batched -> (y) entry(%x: float[1,2]): "
        "weight %w: float[1,2] = [1.0, 2.0] %y: float[1,2] = Neg(%w) return (%y)"
    )
    assert names(program) == []


@pytest.mark.shared
def test_resnet8_can_be_cut_between_its_residual_blocks(shared: Path) -> None:
    program = from_onnx(shared / "models" / "ic_resnet8_float.onnx")
    makers = [
        value.producer().op_type  # type: ignore[union-attr]
        for value in on_every_path(program)
    ]
    assert makers[:3] == ["Transpose", "Conv", "Relu"]
    assert makers[3:9] == ["Add", "Relu"] * 3
    assert makers[-1] == "Softmax"

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from offramp.compiler.ir import Annotations, Exit, Program
from offramp.compiler.ir.clone import clone_program
from offramp.compiler.ir.fingerprint import fingerprint, tensor_fingerprint
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.text import to_text


def test_equal_for_equal_programs(every_terminator: Program) -> None:
    again = from_text(to_text(every_terminator, weights="inline"))
    assert fingerprint(again) == fingerprint(clone_program(again))


def new_operator(program: Program) -> None:
    program.blocks["heavy"].graph[0].op_type = "Relu"


def new_weight(program: Program) -> None:
    weight = program.blocks["stem"].graph.initializers["scale"]
    weight.const_value = ir.tensor(np.array([1, 2, 3, 5], np.float32))


def new_threshold(program: Program) -> None:
    block = program.blocks["stem"]
    assert isinstance(block.terminator, Exit)
    block.terminator = replace(block.terminator, threshold=2.0)


def new_annotation(program: Program) -> None:
    program.blocks["tail"].annotations = Annotations(reach=0.5)


def new_attribute(program: Program) -> None:
    program.blocks["joined"].graph[0].attributes.add(ir.AttrInt64("keepdims", 1))


def new_name(program: Program) -> None:
    program.blocks["tail"].parameters[0].name = "v"


@pytest.mark.parametrize(
    "change", [new_operator, new_weight, new_threshold, new_annotation, new_attribute, new_name]
)
def test_tells_every_change(every_terminator: Program, change: object) -> None:
    assert callable(change)
    before = fingerprint(every_terminator)
    change(every_terminator)
    assert fingerprint(every_terminator) != before


def test_tensors_differ_by_type_and_shape_too() -> None:
    zeros = [
        ir.tensor(np.zeros(shape, dtype))
        for shape, dtype in (((4,), np.float32), ((2, 2), np.float32), ((4,), np.int32))
    ]
    assert len({tensor_fingerprint(t) for t in zeros}) == 3

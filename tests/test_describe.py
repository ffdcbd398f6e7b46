"""What the manifest says about a Program agrees with the Program."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest

import offramp
from offramp import describe, pipeline
from offramp.compiler import targets
from offramp.compiler.ir import Annotations, Exit, Program
from offramp.compiler.ir.costs import block_cost
from offramp.cost_models.analytical import AnalyticalModel
from offramp.options import Options
from offramp.passes.exits.candidates import candidate_points
from offramp.passes.exits.criteria import MaxSoftmax
from offramp.passes.exits.heads import fresh_heads
from offramp.passes.exits.task import task_of
from tests.cli.conftest import classifier, with_weights

TARGET = "cortex-m7"


@pytest.fixture(scope="module")
def with_exit() -> Program:
    """A network with one exit that a quarter of the samples takes."""
    program = offramp.from_onnx(classifier())
    model = AnalyticalModel(targets.get(TARGET))
    point = candidate_points(task_of(program), model)[0]
    random = np.random.default_rng(0)
    heads = fresh_heads(point, 3, program.opset_imports, model=model, whole=1.0, rng=random)
    spec = offramp.passes.ExitSpec(
        head=next(heads), criterion=MaxSoftmax(), threshold=0.5, reach=1.0, rate=0.25
    )
    return program | offramp.passes.InsertExits((spec,), final_reach=0.75)


def test_expected_cost_is_the_weighted_sum_of_the_exits(with_exit: Program) -> None:
    exits = describe.exit_entries(with_exit, TARGET)
    expected = describe.cost_entry(with_exit, TARGET)
    assert [entry.rate for entry in exits] == [0.25, 0.75]
    assert expected.macs == pytest.approx(sum(e.rate * e.macs for e in exits))
    assert expected.value == pytest.approx(sum(e.rate * e.value for e in exits))
    assert exits[-1].macs == sum(block_cost(b).macs for b in with_exit.blocks.values())
    assert exits[-1].threshold is None


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_exit_that_all_or_none_take_has_a_threshold_that_json_can_say(
    with_exit: Program, sign: int
) -> None:
    entry = with_exit.entry
    assert isinstance(entry.terminator, Exit)
    fixed = replace(entry, terminator=replace(entry.terminator, threshold=sign * np.inf))
    program = replace(with_exit, blocks=with_exit.blocks | {entry.name: fixed})
    assert describe.exit_entries(program, TARGET)[0].threshold == sign * describe.LARGEST
    assert np.float32(describe.LARGEST) == np.finfo(np.float32).max


def test_the_memory_map_fits_the_arena(with_exit: Program) -> None:
    plan = pipeline.lower(with_exit, Options(TARGET)).plan
    memory = describe.memory_map(plan)
    assert max(b.offset + b.size for b in memory.buffers) == memory.peak == plan.memory.peak
    assert all(0 <= b.first <= b.last < len(memory.steps) for b in memory.buffers)
    assert len(memory.steps) == sum(len(block.calls) + 1 for block in plan.blocks)
    for step in range(len(memory.steps)):
        alive = sorted(
            (b.offset, b.offset + b.size) for b in memory.buffers if b.first <= step <= b.last
        )
        assert all(below[1] <= above[0] for below, above in pairwise(alive)), memory.steps[step]


@pytest.mark.parametrize(("shape", "count"), [((3,), 3), ((1,), None), ((3, 2), None)])
def test_classes_are_counted_where_there_are_scores(
    shape: tuple[int, ...], count: int | None
) -> None:
    sizes = ", ".join(map(str, shape))
    text = f"""
    <ir_version: 10, opset_import: ["": 20]>
    net (float[N,4] x) => (float[N,{sizes}] y)
    {{ h = MatMul(x, w) s = Constant<value_ints = [-1, {sizes}]>() y = Reshape(h, s) }}
    """
    program = offramp.from_onnx(with_weights(text, {"w": (4, int(np.prod(shape)))}))
    assert describe.class_count(program) == count


def test_two_outputs_are_no_classes() -> None:
    text = """
    <ir_version: 10, opset_import: ["": 20]>
    net (float[N,4] x) => (float[N,4] a, float[N,4] b) { a = Relu(x) b = Neg(x) }
    """
    program = offramp.from_onnx(onnx.parser.parse_model(text))
    assert describe.class_count(program) is None
    assert [spec.name for spec in describe.output_specs(program)] == ["a", "b"]


def test_unmeasured_blocks_say_so(with_exit: Program) -> None:
    blocks = {
        name: replace(block, annotations=Annotations()) for name, block in with_exit.blocks.items()
    }
    entries = describe.block_entries(replace(with_exit, blocks=blocks), TARGET)
    assert [entry.reach for entry in entries] == [None, None]

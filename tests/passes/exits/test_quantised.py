"""Exits on a network whose weights, activations and answer are 8-bit integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch

import offramp
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Exit, Program
from offramp.compiler.ir.beginning import beginning
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.backbone import tensors
from offramp.passes.exits.criteria import MaxSoftmax
from offramp.passes.exits.find import start_search
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.insert import ExitSpec, InsertExits
from offramp.passes.exits.result import ExitData
from offramp.passes.exits.search import HeadSearch
from offramp.passes.exits.task import NoExitsError, task_of
from offramp.passes.simplify import simplify

pytestmark = pytest.mark.shared

COUNT = 60


@pytest.fixture(scope="module")
def program(shared: Path) -> Program:
    return simplify()(from_onnx(shared / "models" / "kws_dscnn_int8.onnx"))


@pytest.fixture(scope="module")
def sounds() -> npt.NDArray[np.int8]:
    random = np.random.default_rng(0)
    return random.integers(-128, 128, (COUNT, 49, 10, 1), dtype=np.int8)


@pytest.fixture(scope="module")
def search(program: Program, sounds: npt.NDArray[np.int8], model: AnalyticalModel) -> HeadSearch:
    labels = np.random.default_rng(1).integers(0, 12, COUNT)
    (name,) = (str(value.name) for value in program.inputs)
    found = start_search(
        program,
        ExitData({name: sounds}, labels),
        model,
        seed=0,
        recipe=None,
        progress=lambda activity, done: None,
    )
    found.build()
    return found


def test_scores_are_found_behind_the_quantisation(program: Program) -> None:
    task = task_of(program)
    assert task.tail == "Softmax"
    assert task.quantiser is not None
    assert task.classes == 12


def test_a_scale_that_is_computed_hides_the_scores() -> None:
    program = from_text(
        """program hidden opset 18 batched -> (y) entry(%x: float[1,4]):
        weight %zero: int8[] = [0]
        %s: float[] = ReduceMax(%x) {keepdims = 0}
        %y: int8[1,4] = QuantizeLinear(%x, %s, %zero)
        return (%y)"""
    )
    with pytest.raises(NoExitsError, match="float32 class scores"):
        task_of(program)


def test_copies_start_from_the_weights_as_real_numbers(search: HeadSearch) -> None:
    copies = [head for head in search.heads if head.name == "copy-strided"]
    assert len(copies) > 3
    kinds = {node.op_type for head in copies for node in head.nodes}
    assert "Conv" in kinds
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("threshold", [-np.inf, 0.2, 2.0])
def test_every_answer_is_quantised_alike(
    program: Program, search: HeadSearch, sounds: npt.NDArray[np.int8], threshold: float
) -> None:
    head = next(head for head in search.trained() if head.name == "copy-strided")
    inserted = InsertExits((ExitSpec(head, MaxSoftmax(), threshold),))(program)
    (name,) = (str(value.name) for value in program.inputs)
    answers = Oracle(inserted).run({name: sounds[:8]})
    (output,) = answers.outputs.values()
    assert output.dtype == np.int8
    if threshold == 2.0:
        (expected,) = Oracle(program).run({name: sounds[:8]}).outputs.values()
        np.testing.assert_array_equal(output, expected)
        assert (answers.exit_index == 1).all()


def test_no_block_is_handed_real_weights(program: Program, search: HeadSearch) -> None:
    head = next(head for head in search.trained() if head.name == "pooled-linear")
    inserted = InsertExits((ExitSpec(head, MaxSoftmax(), 0.5),))(program)
    last = list(inserted.blocks.values())[-1]
    assert len(last.parameters) == 1


@pytest.fixture(scope="module")
def on_integers(search: HeadSearch, sounds: npt.NDArray[np.int8]) -> list[HeadGraph]:
    """Two untrained heads at one point, brought to integers."""
    point = search.heads[0].point
    chosen = [m for m in search.modules if m.point == point and len(m.heads[-1].nodes) > 5][:2]
    (name,) = search.backbone.input_names
    (features,) = search.backbone.features(tensors({name: sounds}), [point])
    for module in chosen:
        module.eval()
        before = module(features)[-1].detach()
        module.quantise(features, search.program.opset_imports, seed=0)
        after = module(features)[-1]
        assert not after.equal(before)
        assert (after - before).abs().mean() < 0.1 * before.std()
    return [module.trained()[-1] for module in chosen]


def test_heads_answer_with_integers(on_integers: list[HeadGraph]) -> None:
    for head in on_integers:
        end = head.logits.producer()
        assert end is not None
        assert end.op_type == "DequantizeLinear"
        weights = [n.inputs[1] for n in head.nodes if n.op_type in ("Conv", "Gemm")]
        kinds = {None if v is None else getattr(v.producer(), "op_type", "") for v in weights}
        assert kinds == {"DequantizeLinear"}


def test_training_goes_on_with_real_numbers(search: HeadSearch) -> None:
    module = next(m for m in search.modules if m.heads[-1].name == "pooled-linear")
    shape = module.point.shape
    module.quantise(torch.zeros(4, *shape[1:]), search.program.opset_imports, seed=0)
    module.eval()
    assert module.trained()[0].logits.producer().op_type == "DequantizeLinear"  # type: ignore[union-attr]  # computed
    module.train()
    assert module.trained()[0].logits.producer().op_type == "Gemm"  # type: ignore[union-attr]  # computed


def test_only_integers_pass_from_block_to_block(
    program: Program, on_integers: list[HeadGraph]
) -> None:
    specs = tuple(ExitSpec(head, MaxSoftmax(), 0.9) for head in on_integers[:1])
    inserted = InsertExits(specs)(program)
    passed = [value.dtype for block in inserted.blocks.values() for value in block.parameters]
    assert set(passed) == {ir.DataType.INT8}


@pytest.fixture(scope="module")
def deciding_on_integers(program: Program, on_integers: list[HeadGraph]) -> Program:
    """An exit on a network that answers with logits: nobody needs a softmax."""
    logits = beginning(program, [task_of(program).logits], ["logits"])
    return InsertExits((ExitSpec(on_integers[0], MaxSoftmax(), 0.5),))(logits)


def test_a_table_decides_instead_of_a_softmax(
    deciding_on_integers: Program, on_integers: list[HeadGraph], sounds: npt.NDArray[np.int8]
) -> None:
    kinds = {n.op_type for block in deciding_on_integers.blocks.values() for n in block.graph}
    assert "Gather" in kinds
    assert not kinds & {"Softmax", "Exp"}
    everybody = with_threshold(deciding_on_integers, -1.0)
    answers = Oracle(everybody).run({str(everybody.inputs[0].name): sounds})
    expected = MaxSoftmax().score([answers.outputs["logits"]])
    np.testing.assert_allclose(answers.confidence, expected, atol=2e-6)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
def test_a_device_decides_by_the_same_number(
    deciding_on_integers: Program, sounds: npt.NDArray[np.int8], target: str
) -> None:
    """Not one bit of the confidence depends on where it is computed, if the logits do not."""
    everybody = with_threshold(deciding_on_integers, -1.0)
    expected = Oracle(everybody).run({str(everybody.inputs[0].name): sounds[:20]})
    found = offramp.compile(everybody, target=target, exits=False).run(sounds[:20])
    alike = (found.outputs["logits"] == expected.outputs["logits"]).all(axis=1)
    assert alike.mean() > 0.2
    np.testing.assert_array_equal(found.confidence[alike], expected.confidence[alike])


def with_threshold(program: Program, threshold: float) -> Program:
    """The same with another threshold at its exit."""
    blocks = {
        name: replace(block, terminator=replace(block.terminator, threshold=threshold))
        if isinstance(block.terminator, Exit)
        else block
        for name, block in program.blocks.items()
    }
    return replace(program, blocks=blocks)

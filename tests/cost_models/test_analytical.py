"""The analytical cost model: linear in work, additive, explicit where shapes are unknown."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from onnx import parser

from offramp.compiler import targets
from offramp.compiler.errors import UnsupportedError
from offramp.compiler.ir import Annotations, Block, Program, Return
from offramp.cost_models.analytical import AnalyticalModel
from offramp.cost_models.base import CostModel, expected_cost
from offramp.cost_models.features import features


def block_of(text: str, name: str = "entry") -> Block:
    model = ir.serde.deserialize_model(parser.parse_model(text))
    return Block(name, model.graph, Return((0,)))


def convolution(weight: str, group: int = 1, out: str = "1,16,8,8") -> Block:
    return block_of(f"""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[1,8,8,8] x, float[{weight}] w) => (float[{out}] y) {{
            y = Conv<group={group}, pads=[0,0,0,0]>(x, w)
        }}""")


RELU = """
    <ir_version: 10, opset_import: ["": 21]>
    g (float[1,{n}] x) => (float[1,{n}] y) {{ y = Relu(x) }}"""


@pytest.fixture(params=targets.names())
def model(request: pytest.FixtureRequest) -> CostModel:
    return AnalyticalModel(targets.get(str(request.param)))


def test_unit_is_the_targets() -> None:
    assert AnalyticalModel(targets.get("cortex-m7")).unit == "instructions"
    assert AnalyticalModel(targets.get("x86-64")).unit == "ns"


@pytest.mark.parametrize(
    ("weight", "group", "out", "kind", "macs"),
    [
        ("16,8,1,1", 1, "1,16,8,8", "pointwise", 16 * 64 * 8),
        ("16,8,3,3", 1, "1,16,6,6", "conv", 16 * 36 * 72),
        ("8,1,3,3", 8, "1,8,6,6", "depthwise", 8 * 36 * 9),
    ],
)
def test_convolutions_are_told_apart(
    weight: str, group: int, out: str, kind: str, macs: int
) -> None:
    node = next(iter(convolution(weight, group, out).graph))
    assert (features(node).kind, features(node).macs) == (kind, macs)


def test_more_work_costs_more(model: CostModel) -> None:
    small, large = (block_of(RELU.format(n=n)) for n in (100, 10000))
    assert 0 < model.block(small) < model.block(large)


def test_a_block_costs_its_nodes_and_the_driver(model: CostModel) -> None:
    block = convolution("16,8,1,1")
    nodes = sum(model.node(n) for n in block.graph)
    assert nodes > 0
    assert model.block(block) > nodes


def test_views_are_free(model: CostModel) -> None:
    block = block_of("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[1,4,4] x, int64[2] s) => (float[1,16] y) { y = Reshape(x, s) }""")
    assert model.node(next(iter(block.graph))) == 0.0


def test_unknown_shape_is_refused_by_name(model: CostModel) -> None:
    block = block_of("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[N,4] x) => (float[N,4] y) { [act] y = Relu(x) }""")
    with pytest.raises(UnsupportedError, match=r"(?s)Relu.*unknown shape"):
        model.block(block)


def test_expected_cost_weights_blocks_by_reach(model: CostModel) -> None:
    first, second = block_of(RELU.format(n=64), "a"), block_of(RELU.format(n=64), "b")
    second.annotations = Annotations(reach=0.25)
    program = Program("p", {"a": first, "b": second}, ("y",), {"": 21})
    assert expected_cost(model, program) == pytest.approx(1.25 * model.block(first))


@pytest.mark.shared
def test_every_node_of_the_shared_models_has_a_cost(model: CostModel, shared: Path) -> None:
    for path in sorted((shared / "models").glob("*_float.onnx")):
        graph = ir.load(path).graph
        assert sum(model.node(n) for n in graph) > 0, path

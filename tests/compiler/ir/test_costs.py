from __future__ import annotations

from pathlib import Path

import pytest
from onnx import parser

from offramp.compiler.errors import UnsupportedError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.costs import Cost, block_cost, exit_costs, expected_cost, node_cost
from offramp.compiler.ir.macs import node_macs
from offramp.compiler.ir.parser import from_text


def macs(text: str, opset: int = 22) -> int:
    """MACs of the only node of an ONNX graph, its shapes inferred."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> m {text}')
    program = from_onnx(model, batched=False)
    return sum(node_macs(node) for node in program.entry.graph)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "(float[1,3,8,8] x, float[16,3,3,3] w) => (float[1,16,4,4] y) "
            "{ y = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w) }",
            16 * 4 * 4 * 3 * 3 * 3,
        ),
        (
            "(float[1,8,5,5] x, float[8,1,3,3] w) => (float[1,8,3,3] y) "
            "{ y = Conv<group = 8>(x, w) }",
            8 * 3 * 3 * 3 * 3,
        ),
        (
            "(float[1,4,5] x, float[4,6,3] w) => (float[1,6,7] y) { y = ConvTranspose(x, w) }",
            4 * 5 * 6 * 3,
        ),
        (
            "(float[2,7] x, float[2,5] w) => (float[7,5] y) { y = Gemm<transA = 1>(x, w) }",
            7 * 5 * 2,
        ),
        ("(float[3,7] x, float[7,5] w) => (float[3,5] y) { y = MatMul(x, w) }", 3 * 7 * 5),
        (
            "(float[2,4,3,7] x, float[2,4,7,5] w) => (float[2,4,3,5] y) { y = MatMul(x, w) }",
            2 * 4 * 3 * 7 * 5,
        ),
        (
            "(float[6,1,4] x, float[1,32,4] w, float[1,32,8] r) => (float[6,1,1,8] y) "
            "{ y = LSTM<hidden_size = 8>(x, w, r) }",
            6 * (32 * 4 + 32 * 8),
        ),
        (
            "(float[6,1,4] x, float[2,24,4] w, float[2,24,8] r) => (float[6,2,1,8] y) "
            '{ y = GRU<hidden_size = 8, direction = "bidirectional">(x, w, r) }',
            6 * 2 * (24 * 4 + 24 * 8),
        ),
        (
            "(float[2,3,4] a, float[4,5] b) => (float[2,3,5] y) "
            '{ y = Einsum<equation = "...ij,jk->...ik">(a, b) }',
            2 * 3 * 4 * 5,
        ),
        ("(float[1,3,8,8] x) => (float[1,3,1,1] y) { y = GlobalAveragePool(x) }", 0),
        ("(float[1,3] x) => (float[1,3] y) { y = Softmax(x) }", 0),
    ],
)
def test_macs_of_operators(text: str, expected: int) -> None:
    assert macs(text) == expected


def test_macs_of_attention() -> None:
    text = (
        "(float[1,2,3,8] q, float[1,2,5,8] k, float[1,2,5,4] v) => (float[1,2,3,4] y) "
        "{ y = Attention(q, k, v) }"
    )
    assert macs(text, opset=23) == 2 * 3 * 5 * 8 + 2 * 3 * 5 * 4


def test_unknown_shapes_are_refused_by_name(every_terminator: Program) -> None:
    node = every_terminator.blocks["heavy"].graph[0]
    node.outputs[0].shape = None
    with pytest.raises(UnsupportedError, match=r"'Neg' .*'w' of unknown shape"):
        node_cost(node)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "expected", "parameters"),
    [
        ("ic_resnet8", 12_501_632, 77_706),
        ("kws_dscnn", 2_656_768, 22_604),
        ("vww_mbv1", 7_489_664, 210_850),
        ("ad_fcae", 264_192, 265_864),
    ],
)
def test_real_models_have_their_published_cost(
    shared: Path, name: str, expected: int, parameters: int
) -> None:
    program = from_onnx(shared / "models" / f"{name}_float.onnx")
    cost = block_cost(program.entry)
    assert (cost.macs, cost.parameters) == (expected, parameters)
    assert exit_costs(program) == (cost,)
    assert expected_cost(program) == cost


def test_costs_add_up_and_scale() -> None:
    cost = Cost(10, 2, 4) + Cost(1, 1, 1)
    assert (cost, cost * 0.5) == (Cost(11, 3, 5), Cost(5.5, 1.5, 2.5))


TWO_EXITS = """program p opset 18 batched -> (y)
a(%x: float[1,2]) {rate = 0.5}:
  weight %w: float[2,2] = [1.0, 2.0, 3.0, 4.0]
  %h: float[1,2] = MatMul(%x, %w)
  %s: float[] = ReduceMax(%h) {keepdims = 0}
  exit (%h) when %s >= 0.5 by c else b(%h, %s)
b(%p: float[1,2], %s: float[]):
  weight %zero: float[] = [0.0]
  %c: bool[] = Greater(%s, %zero)
  branch %c then heavy(%p) else j(%p)
heavy(%p: float[1,2]) {reach = 0.125}:
  weight %w: float[2,2] = [1.0, 2.0, 3.0, 4.0]
  %q: float[1,2] = MatMul(%p, %w)
  jump j(%q)
j(%z: float[1,2]):
  weight %w: float[2,2] = [1.0, 2.0, 3.0, 4.0]
  %y: float[1,2] = MatMul(%z, %w)
  return (%y)"""


def test_cost_per_exit_includes_everything_on_the_way() -> None:
    first, final = exit_costs(from_text(TWO_EXITS))
    assert first.macs == 4
    assert final.macs == 4 + 0.25 * 4 + 4


def test_expected_cost_weighs_blocks_by_reach() -> None:
    assert expected_cost(from_text(TWO_EXITS)).macs == 4 + 0.125 * 4 + 0.5 * 4


def test_expected_cost_is_the_mean_over_exits_of_their_cost() -> None:
    program = from_text(TWO_EXITS)
    first, final = exit_costs(program)
    assert expected_cost(program).macs == pytest.approx(0.5 * first.macs + 0.5 * final.macs)


def test_activation_bytes_and_parameters_of_a_block() -> None:
    cost = block_cost(from_text(TWO_EXITS).blocks["a"])
    assert cost == Cost(macs=4, parameters=4, activation_bytes=8 + 4)

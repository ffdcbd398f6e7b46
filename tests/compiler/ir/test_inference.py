from __future__ import annotations

import onnx_ir as ir
import pytest

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.ir import Block, Return
from offramp.compiler.ir.inference import infer_block, infer_node

OPSETS = {"": 18}


def value(name: str, *shape: int | str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def constant(name: str, *numbers: int) -> ir.Value:
    result = value(name, len(numbers), dtype=ir.DataType.INT64)
    result.const_value = ir.tensor(list(numbers), ir.DataType.INT64)
    return result


def node(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Node:
    made = ir.node(op_type, list(inputs), attributes)
    made.outputs[0].name = "out"
    return made


def test_sets_type_and_shape() -> None:
    conv = node("Conv", value("x", 1, 3, 8, 8), value("w", 16, 3, 3, 3))
    infer_node(conv, OPSETS)
    assert conv.outputs[0].dtype == ir.DataType.FLOAT
    assert conv.outputs[0].shape == [1, 16, 6, 6]


@pytest.mark.parametrize("opset", [12, 13, 15, 16, 18])
def test_comparisons_of_every_opset_have_a_shape(opset: int) -> None:
    """ONNX itself infers nothing for those before 16; exits of such a network are read back."""
    compare = node("GreaterOrEqual", value("x", 1, 1), value("limit"))
    infer_node(compare, {"": opset})
    assert compare.outputs[0].dtype == ir.DataType.BOOL
    assert compare.outputs[0].shape == [1, 1]


def test_reads_constant_operands() -> None:
    reshape = node("Reshape", value("x", 1, 12), constant("target", -1, 4))
    infer_node(reshape, OPSETS)
    assert reshape.outputs[0].shape == [3, 4]


def test_walks_a_whole_block() -> None:
    x = value("x", 1, 4)
    relu = ir.node("Relu", [x])
    total = ir.node("ReduceSum", relu.outputs, {"keepdims": 0})
    graph = ir.Graph([x], total.outputs, nodes=[relu, total], opset_imports=OPSETS)
    infer_block(Block("b", graph, Return((0,))), OPSETS)
    assert relu.outputs[0].shape == [1, 4]
    assert total.outputs[0].shape == []


def test_shapes_that_depend_on_data_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"'NonZero' .*'out' .*depends on data"):
        infer_node(node("NonZero", value("x", 1, 4)), OPSETS)


def test_a_declared_shape_counts_where_inference_is_vague() -> None:
    target = value("target", 2, dtype=ir.DataType.INT64)
    reshape = node("Reshape", value("x", 1, 12), target)
    reshape.outputs[0].shape = ir.Shape([3, 4])
    infer_node(reshape, OPSETS)
    assert reshape.outputs[0].shape == [3, 4]


def test_a_declared_shape_that_contradicts_inference_is_refused() -> None:
    vague = node("Expand", value("x", 5, 1), value("target", 2, dtype=ir.DataType.INT64))
    vague.outputs[0].shape = ir.Shape([3, 4])
    with pytest.raises(UserError, match=r"'Expand' .*declares \[3,4\]"):
        infer_node(vague, OPSETS)


def test_inputs_that_do_not_fit_are_named_with_their_shapes() -> None:
    with pytest.raises(UserError, match=r"'MatMul' .*x: FLOAT \[1, 3\], w: FLOAT \[4, 2\]"):
        infer_node(node("MatMul", value("x", 1, 3), value("w", 4, 2)), OPSETS)


def test_results_that_no_machine_holds_are_refused() -> None:
    outer = node("MatMul", value("x", 1 << 20, 1), value("w", 1, 1 << 20))
    with pytest.raises(UserError, match="would take 4096 GiB"):
        infer_node(outer, OPSETS)

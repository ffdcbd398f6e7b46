from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from offramp.compiler.ir.evaluate import evaluate, foldable


def constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array)
    return ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )


def node(op_type: str, *inputs: ir.Value | None, outputs: int = 1) -> ir.Node:
    made = ir.node(op_type, list(inputs), num_outputs=outputs)
    for i, value in enumerate(made.outputs):
        value.name = f"out{i}"
    return made


def test_computes_a_node_on_constants() -> None:
    added = node("Add", constant("a", np.array([1, 2])), constant("b", np.array([[10], [20]])))
    assert foldable(added)
    found = evaluate(added, {"": 18})
    assert found is not None
    np.testing.assert_array_equal(found[0], [[11, 12], [21, 22]])


def test_several_outputs_and_missing_inputs() -> None:
    data = constant("x", np.array([3.0, 1.0, 2.0], np.float32))
    count = constant("k", np.array([2]))
    found = evaluate(node("TopK", data, count, outputs=2), {"": 18})
    assert found is not None
    assert [array.tolist() for array in found] == [[3.0, 2.0], [0, 2]]
    clipped = evaluate(node("Clip", data, None, constant("max", np.array(2, np.float32))), {"": 18})
    assert clipped is not None
    assert clipped[0].tolist() == [2.0, 1.0, 2.0]


@pytest.mark.parametrize("op_type", ["RandomNormalLike", "Dropout", "DequantizeLinear"])
def test_random_and_storage_operators_are_not_foldable(op_type: str) -> None:
    assert not foldable(node(op_type, constant("x", np.zeros(3, np.float32))))


def test_computed_inputs_are_not_foldable() -> None:
    assert not foldable(node("Relu", ir.Value(name="x")))


def test_what_onnxruntime_has_no_kernel_for_gives_nothing() -> None:
    words = constant("x", np.zeros(3, np.float16))
    assert evaluate(node("Erf", words), {"": 1}) is None

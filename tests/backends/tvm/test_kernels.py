"""Every kernel template against onnxruntime, over shapes nobody would choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from offramp.backends.tvm.lower import Lowered

Array = npt.NDArray[Any]
Check = Callable[[onnx.ModelProto, str, list[Array]], Lowered]

QUICK = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEW = settings(QUICK, max_examples=5)
RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int]],
    constants: dict[str, Array] | None = None,
) -> onnx.ModelProto:
    """A model whose answer is the last node's output."""
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )
    for node in graph.node:
        node.name = node.output[0]
    opset = [helper.make_opsetid("", 17)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opset, ir_version=9)
    )


def kernel_kinds(lowered: Lowered) -> set[str]:
    """`network_max_pool_3` is of kind `max_pool`."""
    names = lowered.kernels.symbols
    return {n.removeprefix(f"{lowered.plan.name}_").rsplit("_", 1)[0] for n in names}


def computed_together(lowered: Lowered) -> set[tuple[str, ...]]:
    """The nodes of every kernel call."""
    return {call.nodes for call in lowered.plan.blocks[0].calls}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[Array]]:
    """One convolution with any geometry that keeps at least one output."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    depth, width = draw(st.integers(1, 9)), draw(st.integers(1, 35 // groups))
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(2)]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, max(reach[i % 2], 1))) for i in range(4)]
    sizes = [max(draw(st.integers(1, 13)), r + 1 - p) for r, p in zip(reach, pads, strict=False)]
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"] if draw(st.booleans()) else ["x", "w"],
        ["y"],
        group=groups,
        kernel_shape=kernel,
        dilations=dilations,
        strides=strides,
        pads=pads,
    )
    shape = (1, groups * depth, *sizes)
    weights = {"w": normal(groups * width, depth, *kernel), "b": normal(groups * width)}
    used = {name: weights[name] for name in node.input[1:]}
    return model([node], {"x": shape}, used), [normal(*shape)]


@pytest.mark.parametrize("target", ["x86-64", "x86-64 base"])
@QUICK
@given(case=convolutions())
def test_convolution_x86(
    check: Check, target: str, case: tuple[onnx.ModelProto, list[Array]]
) -> None:
    kinds = kernel_kinds(check(case[0], target, case[1]))
    assert kinds & {"conv", "depthwise"}


@FEW
@given(case=convolutions())
def test_convolution_c(check: Check, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    check(case[0], "cortex-m7", case[1])


@st.composite
def depthwise(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[Array]]:
    """A depthwise convolution."""
    channels = draw(st.integers(2, 21))
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    dilation = draw(st.sampled_from([1, 2]))
    pad = draw(st.integers(0, kernel - 1))
    size = (kernel - 1) * dilation + draw(st.integers(1, 11))
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        group=channels,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        dilations=[dilation, dilation],
        pads=[pad, pad, 0, pad],
    )
    shape = (1, channels, size, size + 1)
    weights = {"w": normal(channels, 1, kernel, kernel), "b": normal(channels)}
    return model([node], {"x": shape}, weights), [normal(*shape)]


@pytest.mark.parametrize("target", ["x86-64", "x86-64 base"])
@QUICK
@given(case=depthwise())
def test_depthwise_x86(
    check: Check, target: str, case: tuple[onnx.ModelProto, list[Array]]
) -> None:
    assert "depthwise" in kernel_kinds(check(case[0], target, case[1]))


@FEW
@given(case=depthwise())
def test_depthwise_c(check: Check, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    check(case[0], "cortex-m7", case[1])


@st.composite
def pools(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[Array]]:
    """A pool; averages count padding or not."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    pads = [draw(st.integers(0, kernel - 1)) for _ in range(4)]
    shape = (1, draw(st.integers(1, 19)), kernel + draw(st.integers(0, 9)), 9)
    kind = draw(st.sampled_from(["MaxPool", "AveragePool", "AveragePool"]))
    options: dict[str, Any] = {}
    if kind == "AveragePool":
        options["count_include_pad"] = draw(st.integers(0, 1))
    elif not any(pads):
        options["ceil_mode"] = 1
    node = helper.make_node(
        kind, ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, **options
    )
    return model([node], {"x": shape}), [normal(*shape)]


@pytest.mark.parametrize("target", ["x86-64", "x86-64 base"])
@QUICK
@given(case=pools())
def test_pool_x86(check: Check, target: str, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    assert kernel_kinds(check(case[0], target, case[1])) & {
        "max_pool",
        "average_pool",
        "average_pool_padded",
    }


@FEW
@given(case=pools())
def test_pool_c(check: Check, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    check(case[0], "cortex-m7", case[1])


@st.composite
def dense_layers(draw: st.DrawFn) -> tuple[onnx.ModelProto, list[Array]]:
    """A product with a constant matrix, with or without bias and scaling."""
    rows, depth, width = draw(st.integers(1, 9)), draw(st.integers(1, 70)), draw(st.integers(1, 70))
    weights, bias = normal(depth, width), normal(width)
    if draw(st.booleans()):
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        return model([node], {"x": (rows, depth)}, {"w": weights}), [normal(rows, depth)]
    transposed = draw(st.integers(0, 1))
    constants = {"w": np.ascontiguousarray(weights.T) if transposed else weights, "b": bias}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed, alpha=0.5, beta=2.0)
    return model([node], {"x": (rows, depth)}, constants), [normal(rows, depth)]


@pytest.mark.parametrize("target", ["x86-64", "x86-64 base"])
@QUICK
@given(case=dense_layers())
def test_dense_x86(check: Check, target: str, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    assert "dense" in kernel_kinds(check(case[0], target, case[1]))


@FEW
@given(case=dense_layers())
def test_dense_c(check: Check, case: tuple[onnx.ModelProto, list[Array]]) -> None:
    check(case[0], "cortex-m7", case[1])


ACTIVATIONS: dict[str, dict[str, Any]] = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.2},
    "Sigmoid": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "HardSwish": {},
    "Tanh": {},
}


@pytest.mark.parametrize("target", ["x86-64", "cortex-m7"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_fused(check: Check, activation: str, target: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["c"], ["y"], **ACTIVATIONS[activation]),
    ]
    network = model(nodes, {"x": (1, 3, 6, 5)}, {"w": normal(11, 3, 3, 3)})
    lowered = check(network, target, [normal(1, 3, 6, 5)])
    assert ("c", "y") in computed_together(lowered)


@pytest.mark.parametrize("target", ["x86-64", "cortex-m7"])
def test_clip_and_silu_are_fused(check: Check, target: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["k"]),
        helper.make_node("Conv", ["k", "v"], ["d"]),
        helper.make_node("Sigmoid", ["d"], ["s"]),
        helper.make_node("Mul", ["d", "s"], ["y"]),
    ]
    bounds = {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    weights = {"w": normal(10, 3, 1, 1), "v": normal(7, 10, 1, 1), **bounds}
    network = model(nodes, {"x": (1, 3, 6, 5)}, weights)
    lowered = check(network, target, [normal(1, 3, 6, 5)])
    assert {("c", "k"), ("d", "s", "y")} <= computed_together(lowered)


def residual_network(operator: str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["r"]),
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["r", "c"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    weights = {"v": normal(12, 3, 1, 1), "w": normal(12, 3, 3, 3)}
    return model(nodes, {"x": (1, 3, 6, 5)}, weights)


@pytest.mark.parametrize(
    ("operator", "target"),
    [("Add", "cortex-m7"), *((operator, "x86-64") for operator in ("Add", "Sub", "Mul", "Div"))],
)
def test_residual_is_combined_in_place(check: Check, operator: str, target: str) -> None:
    lowered = check(residual_network(operator), target, [normal(1, 3, 6, 5)])
    first, second = (c for c in lowered.plan.blocks[0].calls if "conv" in c.kernel)
    written, read = second.in_place[0]
    assert second.arguments[read] == first.writes[0]
    assert second.arguments[written] == second.writes[0]


@pytest.mark.parametrize("operator", ["Sub", "Mul", "Div"])
def test_what_follows_a_microkernel_is_not_in_place(check: Check, operator: str) -> None:
    lowered = check(residual_network(operator), "cortex-m7", [normal(1, 3, 6, 5)])
    assert all(not call.in_place for call in lowered.plan.blocks[0].calls)


@pytest.mark.parametrize("target", ["x86-64", "cortex-m7"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_global_pool_and_mean(check: Check, keepdims: int, target: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalMaxPool", ["c"], ["p"]),
        helper.make_node("Mul", ["c", "p"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["y"], axes=[2, 3], keepdims=keepdims),
    ]
    network = model(nodes, {"x": (1, 3, 9, 7)}, {"w": normal(11, 3, 1, 1)})
    check(network, target, [normal(1, 3, 9, 7)])


@pytest.mark.parametrize("target", ["x86-64", "x86-64 base", "cortex-m7"])
@pytest.mark.parametrize("columns", [1, 2, 7, 16, 37])
def test_softmax(check: Check, columns: int, target: str) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["y"])]
    lowered = check(model(nodes, {"x": (3, 2, columns)}), target, [9 * normal(3, 2, columns)])
    assert kernel_kinds(lowered) == {"softmax"}


@pytest.mark.parametrize("target", ["x86-64", "cortex-m7"])
def test_one_spatial_axis(check: Check, target: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[2, 1], strides=[2]),
        helper.make_node("MaxPool", ["c"], ["y"], kernel_shape=[3]),
    ]
    network = model(nodes, {"x": (1, 4, 30)}, {"w": normal(9, 4, 5)})
    check(network, target, [normal(1, 4, 30)])


def test_equal_kernels_share_one_function(check: Check) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    weights = {"v": normal(8, 8, 3, 3), "w": normal(8, 8, 3, 3)}
    lowered = check(model(nodes, {"x": (1, 8, 6, 6)}, weights), "x86-64", [normal(1, 8, 6, 6)])
    calls = [c for c in lowered.plan.blocks[0].calls if "conv" in c.kernel]
    assert len(calls) == 2
    assert calls[0].kernel == calls[1].kernel

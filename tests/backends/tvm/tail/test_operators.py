"""Our own lowerings against onnxruntime, on shapes that ONNX's node tests do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.backends.tvm.tail.conftest import Runner, execute, lower

Array = npt.NDArray[Any]
Agrees = Callable[..., None]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def whole(*shape: int, low: int = -9, high: int = 9) -> Array:
    return np.random.default_rng(1).integers(low, high, shape)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
)
@pytest.mark.parametrize("size", [(5, 13)])
def test_resize(agrees: Agrees, mode: str, coordinates: str, size: tuple[int, int]) -> None:
    height, width = size
    text = f"""g (float[1,2,7,6] x, int64[4] s) => (float[1,2,{height},{width}] y) {{
        y = Resize<mode="{mode}", coordinate_transformation_mode="{coordinates}">(x, , , s)
    }}"""
    sizes = np.array([1, 2, height, width], np.int64)
    agrees(text, {"x": normal(1, 2, 7, 6)}, {"s": sizes}, tolerance=1e-4)


def test_resize_antialiased(agrees: Agrees) -> None:
    text = """g (float[1,1,12,9] x, float[4] c) => (float[1,1,6,3] y)
        { y = Resize<mode="linear", antialias=1>(x, , c) }"""
    agrees(text, {"x": normal(1, 1, 12, 9)}, {"c": np.array([1, 1, 1 / 2, 1 / 3], np.float32)})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", ["RNN", "GRU", "LSTM"])
def test_recurrent(agrees: Agrees, operator: str, direction: str) -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]
    d, hidden = 2 if direction == "bidirectional" else 1, 5
    states = f", float[{d},2,5] c" if operator == "LSTM" else ""
    names = "y, h, c" if operator == "LSTM" else "y, h"
    text = f"""g (float[2,2,3] x, float[{d},{gates * hidden},3] w, float[{d},{gates * hidden},5] r,
               float[{d},{2 * gates * hidden}] b, int32[2] n, float[{d},2,5] h0)
        => (float[2,{d},2,5] y, float[{d},2,5] h{states})
        {{ {names} = {operator}<hidden_size=5, direction="{direction}">(x, w, r, b, n, h0) }}"""
    constants = {
        "w": normal(d, gates * hidden, 3, seed=1),
        "r": normal(d, gates * hidden, hidden, seed=2),
        "b": normal(d, 2 * gates * hidden, seed=3),
    }
    lengths = np.array([2, 1], np.int32)
    inputs = {"x": normal(2, 2, 3), "n": lengths, "h0": normal(d, 2, hidden, seed=4)}
    agrees(text, inputs, constants, tolerance=1e-4)


def test_gru_with_linear_before_reset(agrees: Agrees) -> None:
    text = """g (float[3,1,2] x, float[1,12,2] w, float[1,12,4] r, float[1,24] b)
        => (float[1,1,4] h) { y, h = GRU<hidden_size=4, linear_before_reset=1>(x, w, r, b) }"""
    constants = {"w": normal(1, 12, 2), "r": normal(1, 12, 4, seed=1), "b": normal(1, 24, seed=2)}
    agrees(text, {"x": normal(3, 1, 2, seed=3)}, constants)


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_top_k_keeps_the_order_of_equal_elements(agrees: Agrees, axis: int, largest: int) -> None:
    shape = "3,7" if axis == 0 else "5,3"
    text = f"""g (float[5,7] x, int64[1] k) => (float[{shape}] v, int64[{shape}] i) {{
        v, i = TopK<axis={axis}, largest={largest}>(x, k)
    }}"""
    data = whole(5, 7, low=0, high=4).astype(np.float32)
    agrees(text, {"x": data}, {"k": np.array([3], np.int64)})


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_cumulative_sum(agrees: Agrees, exclusive: int, reverse: int) -> None:
    text = f"""g (float[3,9] x, int64 a) => (float[3,9] y)
        {{ y = CumSum<exclusive={exclusive}, reverse={reverse}>(x, a) }}"""
    agrees(text, {"x": normal(3, 9)}, {"a": np.array(-1, np.int64)})


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
def test_extremes_of_infinite_rows(agrees: Agrees, operator: str) -> None:
    text = f"g (float[3,4] x, int64[1] a) => (float[3] y) {{ y = {operator}<keepdims=0>(x, a) }}"
    rows = np.array([[np.inf] * 4, [-np.inf] * 4, [-np.inf, 1, 2, np.inf]], np.float32)
    agrees(text, {"x": rows}, {"a": np.array([1], np.int64)})


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceL2", "ReduceLogSumExp", "ReduceProd"])
@pytest.mark.parametrize("axes", [[0], [1], [0, 2], [2]])
def test_reductions_over_any_axes(agrees: Agrees, operator: str, axes: list[int]) -> None:
    kept = [1 if axis in axes else extent for axis, extent in enumerate((3, 40, 16))]
    shape = ",".join(map(str, kept))
    text = f"""g (float[3,40,16] x, int64[{len(axes)}] a) => (float[{shape}] y) {{
        y = {operator}(x, a)
    }}"""
    agrees(text, {"x": normal(3, 40, 16)}, {"a": np.array(axes, np.int64)}, tolerance=1e-4)


@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (3, 17, 64), (5, 33, 7)])
def test_matrix_product(agrees: Agrees, rows: int, depth: int, columns: int) -> None:
    text = f"""g (float[2,{rows},{depth}] x, float[2,{depth},{columns}] z)
        => (float[2,{rows},{columns}] y) {{ y = MatMul(x, z) }}"""
    inputs = {"x": normal(2, rows, depth), "z": normal(2, depth, columns, seed=1)}
    agrees(text, inputs, tolerance=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_over_any_axis(agrees: Agrees, axis: int) -> None:
    text = f"g (float[3,64,10] x) => (float[3,64,10] y) {{ y = Softmax<axis={axis}>(x) }}"
    agrees(text, {"x": 10 * normal(3, 64, 10)})


def test_max_pool_with_indices(agrees: Agrees) -> None:
    text = """g (float[2,3,9,8] x) => (float[2,3,5,4] y, int64[2,3,5,4] i)
        { y, i = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,0]>(x) }"""
    agrees(text, {"x": normal(2, 3, 9, 8)})


def test_quantized_convolution(agrees: Agrees) -> None:
    text = """g (uint8[1,3,6,6] x, float xs, uint8 xz, int8[4,3,3,3] w, float[4] ws, int8[4] wz,
               float ys, uint8 yz, int32[4] b) => (uint8[1,4,6,6] y)
        { y = QLinearConv<pads=[1,1,1,1]>(x, xs, xz, w, ws, wz, ys, yz, b) }"""
    constants = {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(120, np.uint8),
        "w": whole(4, 3, 3, 3, low=-128, high=128).astype(np.int8),
        "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": np.array(0.05, np.float32),
        "yz": np.array(128, np.uint8),
        "b": whole(4, low=-500, high=500).astype(np.int32),
    }
    x = whole(1, 3, 6, 6, low=0, high=256).astype(np.uint8)
    agrees(text, {"x": x}, constants, tolerance=1)


def test_fourier_transform_and_back(run: Runner) -> None:
    text = """g (float[2,6,1] x, int64 n, int64 a) => (float[2,6,2] y)
        { s = DFT(x, n, a) y = DFT<inverse=1>(s, n, a) }"""
    x = normal(2, 6, 1)
    (y,) = run(text, {"x": x}, {"n": np.array(6, np.int64), "a": np.array(1, np.int64)})
    np.testing.assert_allclose(y[..., 0], x[..., 0], atol=1e-6)
    np.testing.assert_allclose(y[..., 1], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("base", "exponent", "result"),
    [
        ("int32", "int32", [1, -8, 0]),
        ("int64", "float", [1, -8, 0]),
        ("float", "int64", [1, -8, 0]),
    ],
)
def test_power_of_mixed_types(run: Runner, base: str, exponent: str, result: list[int]) -> None:
    dtypes = {"float": np.float32, "int32": np.int32, "int64": np.int64}
    text = f"g ({base}[3] x, {exponent}[3] e) => ({base}[3] y) {{ y = Pow(x, e) }}"
    inputs = {"x": np.array([5, -2, 0], dtypes[base]), "e": np.array([0, 3, 2], dtypes[exponent])}
    (y,) = run(text, inputs)
    np.testing.assert_array_equal(y, result)
    assert y.dtype == dtypes[base]


def test_shapes_come_from_the_declared_output(run: Runner) -> None:
    x = normal(2, 6)
    text = "g (float[2,6] x, int64[2] s) => (float[3,4] y) { y = Reshape(x, s) }"
    (y,) = run(text, {"x": x, "s": np.array([3, 4], np.int64)})
    np.testing.assert_array_equal(y, x.reshape(3, 4))


@pytest.mark.parametrize(("axis", "shape"), [(0, "2,3,6"), (1, "5,2,3"), (-1, "5,2,3")])
def test_gather_by_computed_indices(agrees: Agrees, axis: int, shape: str) -> None:
    text = f"""g (float[5,6] x, int64[2,3] i) => (float[{shape}] y)
        {{ y = Gather<axis={axis}>(x, i) }}"""
    agrees(text, {"x": normal(5, 6), "i": whole(2, 3, low=-5, high=5)})


def test_gather_out_of_range_stays_within_the_data() -> None:
    """Onnxruntime refuses such indices; a device must not read other memory."""
    text = "g (float[5] x, int64[2] i) => (float[2] y) { y = Gather(x, i) }"
    x, far = normal(5), np.array([99, -99])
    found = execute(lower(text, None, 21), {"x": x, "i": far})
    np.testing.assert_array_equal(found["y"], x[[4, 0]])

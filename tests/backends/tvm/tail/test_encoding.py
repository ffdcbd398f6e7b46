"""Small floats and integers: every cast rounds as ml_dtypes does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from tests.backends.tvm.tail.conftest import Runner, dtype_of, lower

TYPES = {
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
}


def floats() -> npt.NDArray[np.float32]:
    """All magnitudes that matter, ties between representable numbers, and special values."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=2000) * 10.0 ** rng.integers(-9, 5, 2000)
    halves = np.arange(-64, 64) / 16
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 465, 57344, 61439, 61440, 1e-45, 240]
    return np.concatenate([spread, halves, special]).astype(np.float32)


def bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.view(np.uint8 if array.itemsize == 1 else np.uint16)


def cast_text(source: str, target: str, count: int, **attributes: int) -> str:
    code = int(ir.DataType.from_numpy(dtype_of(TYPES.get(target, target))))
    extra = "".join(f", {name}={value}" for name, value in attributes.items())
    return f"g ({source}[{count}] x) => ({target}[{count}] y) {{ y = Cast<to={code}{extra}>(x) }}"


@pytest.mark.parametrize("target", TYPES)
def test_cast_from_float_rounds_to_nearest(run: Runner, target: str) -> None:
    x = floats()
    saturating = {"saturate": 0} if "8" in target else {}
    (y,) = run(cast_text("float", target, len(x), **saturating), {"x": x})
    with np.errstate(over="ignore"):
        expected = x.astype(dtype_of(TYPES[target]))
    numbers = ~np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(bits(y)[numbers], bits(expected)[numbers])
    assert np.isnan(y.astype(np.float32)[~numbers]).all()


@pytest.mark.parametrize("target", [name for name in TYPES if "8" in name])
def test_saturating_cast_stops_at_the_largest_finite_value(run: Runner, target: str) -> None:
    dtype = dtype_of(TYPES[target])
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # no stubs
    x = np.array([largest, 2 * largest, 1e30, np.inf, -1e30, -np.inf], np.float32)
    (y,) = run(cast_text("float", target, len(x)), {"x": x})
    np.testing.assert_array_equal(y.astype(np.float32), largest * np.sign(x))


@pytest.mark.parametrize("source", TYPES)
def test_cast_to_float_is_exact(run: Runner, source: str) -> None:
    dtype = dtype_of(TYPES[source])
    codes = np.arange(256 if dtype.itemsize == 1 else 65536)
    x = codes.astype(np.uint8 if dtype.itemsize == 1 else np.uint16).view(dtype)
    (y,) = run(cast_text(source, "float32", len(x)).replace("float32[", "float["), {"x": x})
    np.testing.assert_array_equal(y, x.astype(np.float32))


def test_arithmetic_of_bfloat16_rounds_once(run: Runner) -> None:
    x = np.linspace(-3, 3, 41).astype(ml_dtypes.bfloat16)
    text = "g (bfloat16[41] x) => (bfloat16[41] y) { y = Exp(x) }"
    (y,) = run(text, {"x": x})
    expected = np.exp(x.astype(np.float32)).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(bits(y), bits(expected))


def test_outputs_are_declared_in_the_type_of_the_model() -> None:
    (call,) = lower("g (bfloat16[4] x) => (bfloat16[4] y) { y = Neg(x) }")
    assert call.output_dtypes == ("bfloat16",)
    assert call.func is not None
    assert [str(p.ty.dtype) for p in call.func.params] == ["uint16", "uint16"]

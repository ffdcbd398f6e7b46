from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Agree = Callable[..., None]
FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=4),
    elements=st.floats(-4, 4, width=32, allow_subnormal=False),
)
POSITIVE = ("Log", "Sqrt", "Reciprocal")
UNIT = ("Acos", "Asin", "Atanh")
ANY = [
    "Abs",
    "Asinh",
    "Atan",
    "Ceil",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Floor",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mish",
    "Neg",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Tan",
    "Tanh",
]


@pytest.mark.parametrize("op_type", ANY)
@given(x=FLOATS)
@settings(max_examples=8, deadline=None)
def test_a_function_of_any_number(agree: Agree, op_type: str, x: np.ndarray) -> None:
    agree(op_type, x)


@pytest.mark.parametrize("op_type", POSITIVE)
@given(x=FLOATS)
@settings(max_examples=8, deadline=None)
def test_a_function_of_positive_numbers(agree: Agree, op_type: str, x: np.ndarray) -> None:
    agree(op_type, np.abs(x) + np.float32(0.1))


@pytest.mark.parametrize("op_type", UNIT)
@given(x=FLOATS)
@settings(max_examples=8, deadline=None)
def test_a_function_of_numbers_below_one(agree: Agree, op_type: str, x: np.ndarray) -> None:
    agree(op_type, x / np.float32(5))


@given(x=FLOATS)
@settings(max_examples=8, deadline=None)
def test_acosh_of_numbers_above_one(agree: Agree, x: np.ndarray) -> None:
    agree("Acosh", np.abs(x) + np.float32(1))


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Celu", {"alpha": 0.7}),
        ("Elu", {"alpha": 0.7}),
        ("Gelu", {"approximate": "none"}),
        ("Gelu", {"approximate": "tanh"}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Selu", {"alpha": 1.5, "gamma": 0.9}),
        ("Shrink", {"bias": 0.3, "lambd": 0.8}),
        ("ThresholdedRelu", {"alpha": 0.6}),
    ],
)
@given(x=FLOATS)
@settings(max_examples=8, deadline=None)
def test_a_function_with_attributes(
    agree: Agree, op_type: str, attributes: dict[str, object], x: np.ndarray
) -> None:
    agree(op_type, x, **attributes)


@st.composite
def broadcastable(draw: st.DrawFn, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4))
    elements = st.floats(-4, 4, width=32) if dtype is np.float32 else st.integers(-9, 9)
    first, second = (draw(hnp.arrays(dtype, s, elements=elements)) for s in shapes.input_shapes)
    return first, second


@pytest.mark.parametrize(
    "op_type",
    [
        "Add",
        "Sub",
        "Mul",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Equal",
    ],
)
@given(operands=broadcastable())
@settings(max_examples=8, deadline=None)
def test_a_function_of_two_numbers(
    agree: Agree, op_type: str, operands: tuple[np.ndarray, np.ndarray]
) -> None:
    agree(op_type, *operands)


@given(operands=broadcastable())
@settings(max_examples=8, deadline=None)
def test_division_and_power(agree: Agree, operands: tuple[np.ndarray, np.ndarray]) -> None:
    numerator, denominator = operands
    agree("Div", numerator, np.abs(denominator) + np.float32(0.5))
    agree("Pow", np.abs(numerator) + np.float32(0.1), denominator)
    agree("PRelu", np.ones((2, 3, 1), np.float32) * -2, constants=[np.full((3, 1), 0.3, "f4")])


@given(operands=broadcastable(np.int64))
@settings(max_examples=20, deadline=None)
def test_integer_division_truncates(agree: Agree, operands: tuple[np.ndarray, np.ndarray]) -> None:
    numerator, denominator = operands
    denominator = np.where(denominator == 0, 3, denominator)
    agree("Div", numerator, denominator)
    agree("Mod", numerator, denominator)
    agree("Mod", numerator, denominator, fmod=1)


@given(x=FLOATS, low=st.floats(-3, 3, width=32), high=st.floats(-3, 3, width=32))
@settings(max_examples=20, deadline=None)
def test_clip_with_and_without_bounds(agree: Agree, x: np.ndarray, low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    agree("Clip", x, constants=[np.float32(low).reshape(()), np.float32(high).reshape(())])
    agree("Clip", x, constants=[None, np.float32(high).reshape(())])
    agree("Clip", x, constants=[np.float32(low).reshape(())])


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor"])
def test_logic(agree: Agree, op_type: str) -> None:
    agree(op_type, np.array([[True], [False]]), np.array([True, False]))


def test_predicates_and_selection(agree: Agree) -> None:
    x = np.array([1.0, -np.inf, np.inf, np.nan], np.float32)
    agree("Not", np.array([True, False]))
    agree("IsNaN", x)
    agree("IsInf", x)
    agree("IsInf", x, detect_negative=0)
    agree("Where", np.array([[True], [False]]), np.ones((1, 3), "f4"), np.zeros((2, 1), "f4"))


@pytest.mark.parametrize("to", [np.float64, np.int32, np.int64, np.uint8, np.bool_])
def test_cast(agree: Agree, to: type) -> None:
    code = {np.float64: 11, np.int32: 6, np.int64: 7, np.uint8: 2, np.bool_: 9}[to]
    agree("Cast", np.array([0.0, 0.4, 1.6, 7.0], np.float32), to=code)
    agree("CastLike", np.array([0.0, 0.4, 7.0], np.float32), constants=[np.zeros(1, to)])


def test_dropout_at_inference_is_the_identity(agree: Agree) -> None:
    agree("Dropout", np.arange(6, dtype=np.float32).reshape(2, 3), outputs=2)

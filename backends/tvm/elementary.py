"""Exponential, hyperbolic tangent, logistic and error function as vector arithmetic.

LLVM would call the C library once per lane. These are the classic approximations by range
reduction and minimax polynomials (coefficients of the Cephes library; for the error function
Abramowitz and Stegun 7.1.26), good to a few units in the last place of float32. Infinities,
overflow and NaN come out as from the C library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Expr = Any

_LOG2_E = 1.44269504088896341
_LN_2_HIGH = 0.693359375
_LN_2_LOW = -2.12194440e-4
_EXP_LOW, _EXP_HIGH = -87.3365, 88.7228
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_TANH_SMALL = 0.625
_TANH = (
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
)
_ERF_SMALL = 0.5
_ERF_SERIES = (1 / 9360, -1 / 1320, 1 / 216, -1 / 42, 1 / 10, -1 / 3, 1.0)
_TWO_OVER_ROOT_PI = 1.1283791670955126
_ERF_SCALE = 0.3275911
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0)


def with_vector_functions(function: Any) -> Any:
    """The PrimFunc with float32 calls of these functions replaced by arithmetic."""
    import tvm_ffi
    from tvm import ir

    return function.with_body(tvm_ffi.structural_map(function.body, (ir.Call, _replace)))


def _replace(call: Any) -> Any:
    formula = _FORMULAS.get(getattr(call.op, "name", ""))
    if formula is None:
        return call
    kind, _, lanes = str(call.ty.dtype).partition("x")
    if kind != "float32":
        return call
    count = int(lanes or 1)
    return _let(count, call.args[0], lambda x: formula(count, x))


def _let(lanes: int, value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """`body` of a value that is computed once."""
    import tvm
    from tvm import tirx

    dtype = "float32" if lanes == 1 else f"float32x{lanes}"
    variable = tirx.Var("value", tvm.ir.PrimType(dtype))
    return tirx.Let(variable, value, body(variable))


def _constant(lanes: int, value: float) -> Expr:
    from offramp.backends.tvm.tir import constant

    return constant(value, lanes)


def _polynomial(lanes: int, coefficients: Sequence[float], x: Expr) -> Expr:
    """Horner's scheme, highest power first."""
    from offramp.backends.tvm.tir import fused_multiply_add

    total = _constant(lanes, coefficients[0])
    for coefficient in coefficients[1:]:
        total = fused_multiply_add(total, x, _constant(lanes, coefficient), lanes)
    return total


def _exponential(lanes: int, x: Expr) -> Expr:
    """2^n exp(r) with n the nearest integer to x / ln 2."""
    from tvm import tirx

    low, high = _constant(lanes, _EXP_LOW), _constant(lanes, _EXP_HIGH)
    inside = tirx.min(tirx.max(x, low), high)
    half = _constant(lanes, 0.5)

    def scaled(n: Expr) -> Expr:
        r = x - n * _constant(lanes, _LN_2_HIGH) - n * _constant(lanes, _LN_2_LOW)
        return _let(lanes, r, lambda r: _times_power_of_two(lanes, _near_zero(lanes, r), n))

    found = _let(lanes, tirx.floor(inside * _constant(lanes, _LOG2_E) + half), scaled)
    above = tirx.Select(x > high, _constant(lanes, float("inf")), found)
    return tirx.Select(x < low, _constant(lanes, 0.0), above)


def _near_zero(lanes: int, r: Expr) -> Expr:
    """exp(r) for |r| up to ln(2) / 2."""
    return _polynomial(lanes, _EXP, r) * (r * r) + r + _constant(lanes, 1.0)


def _times_power_of_two(lanes: int, value: Expr, n: Expr) -> Expr:
    """`value * 2^n` in two steps, so that the largest n does not leave the exponent's range."""
    from tvm import tirx

    from offramp.backends.tvm.tir import splat

    integers = "int32" if lanes == 1 else f"int32x{lanes}"
    floats = "float32" if lanes == 1 else f"float32x{lanes}"

    def whole(number: int) -> Expr:
        return splat(tirx.IntImm("int32", number), lanes)

    def power(exponent: Expr) -> Expr:
        return tirx.reinterpret(floats, (exponent + whole(127)) << whole(23))

    exponent = tirx.Cast(integers, n)
    first = exponent >> whole(1)
    return value * power(first) * power(exponent - first)


def _sigmoid(lanes: int, x: Expr) -> Expr:
    one = _constant(lanes, 1.0)
    return one / (one + _exponential(lanes, _constant(lanes, 0.0) - x))


def _tanh(lanes: int, x: Expr) -> Expr:
    """x + x^3 p(x^2) near zero, else 1 - 2 / (exp(2 |x|) + 1) with the sign of x."""
    from tvm import tirx

    zero, one, two = (_constant(lanes, value) for value in (0.0, 1.0, 2.0))
    size = tirx.max(x, zero - x)
    far = _let(lanes, size * two, lambda d: one - two / (_exponential(lanes, d) + one))
    signed = _let(lanes, far, lambda y: tirx.Select(x < zero, zero - y, y))
    near = _let(lanes, x * x, lambda z: _polynomial(lanes, _TANH, z) * z * x + x)
    return tirx.Select(size < _constant(lanes, _TANH_SMALL), near, signed)


def _error_function(lanes: int, x: Expr) -> Expr:
    """Its series near zero, else 1 - p(t) exp(-x^2) with t = 1 / (1 + c |x|) and the sign of x."""
    from tvm import tirx

    zero, one = _constant(lanes, 0.0), _constant(lanes, 1.0)
    size = tirx.max(x, zero - x)

    def tail(t: Expr) -> Expr:
        decay = _let(lanes, zero - x * x, lambda d: _exponential(lanes, d))
        return one - _polynomial(lanes, _ERF, t) * decay

    far = _let(lanes, one / (one + _constant(lanes, _ERF_SCALE) * size), tail)
    signed = _let(lanes, far, lambda y: tirx.Select(x < zero, zero - y, y))
    scaled = x * _constant(lanes, _TWO_OVER_ROOT_PI)
    near = _let(lanes, x * x, lambda z: _polynomial(lanes, _ERF_SERIES, z) * scaled)
    return tirx.Select(size < _constant(lanes, _ERF_SMALL), near, signed)


_FORMULAS: dict[str, Callable[[int, Expr], Expr]] = {
    "tirx.exp": _exponential,
    "tirx.sigmoid": _sigmoid,
    "tirx.tanh": _tanh,
    "tirx.erf": _error_function,
}

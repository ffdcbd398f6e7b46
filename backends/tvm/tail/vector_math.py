"""Transcendental functions as float32 arithmetic that backend compilers can vectorise.

A call of libm is a call for every element. Written out as polynomials the same functions run on
whole vectors: the exponential by range reduction to [-ln 2 / 2, ln 2 / 2] (coefficients of the
Cephes library), tanh and erf by rational minimax approximations (those of Eigen). Errors are a
few units in the last place; infinities, NaN and underflow come out as IEEE 754 has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log2
from typing import Any

from offramp.backends.tvm.tail.untyped import ffi, ir, tirx

_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2)
_EXP_END = (1.6666665459e-1, 5.0000001201e-1)
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP_RANGE = (-104.0, 89.0)
"""Beyond these the result is 0 or infinite."""

_TANH_LIMIT = 7.90531110763549805
_TANH_ODD = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
_TANH_EVEN = (
    *(1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03),
    4.89352518554385e-03,
)

_ERF_LIMIT = 4.0
_ERF_ODD = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05),
    *(-7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
)
_ERF_EVEN = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)


def without_libm(function: Any) -> Any:
    """The PrimFunc with its float32 exp, sigmoid, tanh and erf written out."""
    return function.with_body(ffi.structural_map(function.body, (ir.Call, _written_out)))


def _written_out(call: Any) -> Any:
    formula = _FORMULAS.get(getattr(call.op, "name", ""))
    if formula is None or str(call.ty) != "float32":
        return call
    (argument,) = call.args
    variable = tirx.Var("x", "float32")
    return tirx.Let(variable, argument, formula(variable))


def _number(value: float) -> Any:
    return tirx.const(value, "float32")


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, highest power first."""
    total = _number(coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + _number(coefficient)
    return total


def _exp(x: Any) -> Any:
    clamped = tirx.max(tirx.min(x, _number(_EXP_RANGE[1])), _number(_EXP_RANGE[0]))
    power = tirx.floor(clamped * _number(log2(2.718281828459045)) + _number(0.5))
    rest = clamped - power * _number(_LN2_HIGH) - power * _number(_LN2_LOW)
    r = tirx.Var("r", "float32")
    series = _polynomial(r, (*_EXP, *_EXP_END)) * r * r + r + _number(1.0)
    whole = tirx.Var("n", "int32")
    half = whole >> tirx.const(1, "int32")
    scaled = tirx.Let(r, rest, series) * _power_of_two(half) * _power_of_two(whole - half)
    return _unless_nan(x, tirx.Let(whole, power.astype("int32"), scaled))


def _sigmoid(x: Any) -> Any:
    return _number(1.0) / (_number(1.0) + _exp(_number(0.0) - x))


def _tanh(x: Any) -> Any:
    return _rational(x, _TANH_LIMIT, _TANH_ODD, _TANH_EVEN)


def _erf(x: Any) -> Any:
    return _rational(x, _ERF_LIMIT, _ERF_ODD, _ERF_EVEN)


def _rational(x: Any, limit: float, odd: Sequence[float], even: Sequence[float]) -> Any:
    """An odd polynomial over an even one, both given by their coefficients of x squared."""
    clamped = tirx.max(tirx.min(x, _number(limit)), _number(-limit))
    c, square = tirx.Var("c", "float32"), tirx.Var("s", "float32")
    ratio = c * _polynomial(square, odd) / _polynomial(square, even)
    return _unless_nan(x, tirx.Let(c, clamped, tirx.Let(square, c * c, ratio)))


def _power_of_two(exponent: Any) -> Any:
    bits = (exponent + tirx.const(127, "int32")) << tirx.const(23, "int32")
    return tirx.reinterpret("float32", bits)


def _unless_nan(x: Any, value: Any) -> Any:
    ordered = tirx.any(x <= _number(inf))
    return tirx.Select(ordered, value, x)


_FORMULAS: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": _exp,
    "tirx.sigmoid": _sigmoid,
    "tirx.tanh": _tanh,
    "tirx.erf": _erf,
}
"""By TVM intrinsic."""

"""Elementwise operators where TVM's importer departs from ONNX, or has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.types import numpy_dtype
from offramp.backends.tvm.tail.untyped import relax, te, tirx


def elementwise(call: OperatorCall, function: Callable[..., Any]) -> Any:
    """`function` of the elements of all operands, broadcast against each other."""
    count = len(call.operands)
    shape = np.broadcast_shapes(*(call.type_of(i).shape for i in range(count)))
    operands = [call.expression(i) for i in range(count)]
    wide = [call.emit(relax.op.broadcast_to(operand, shape)) for operand in operands]

    def compute(*tensors: Any) -> Any:
        return te.compute(shape, lambda *i: function(*(t(*i) for t in tensors)), name="elementwise")

    return call.compute(compute, *wide)


def bit_cast(call: OperatorCall) -> Any:
    """BitCast: the same bits under another type of the same width."""
    wanted = str(ir.DataType(call.attribute("to", 1)).numpy())
    if "bool" in (wanted, call.type_of(0).dtype):
        return elementwise(call, lambda x: x.astype(wanted))
    return elementwise(call, lambda x: tirx.reinterpret(wanted, x))


def bit_shift(call: OperatorCall) -> Any:
    """BitShift; by the width or more (or by a negative amount) only copies of the sign are left."""
    dtype = call.type_of(0).dtype
    width = numpy_dtype(dtype).itemsize * 8
    signed = dtype.startswith("int")
    left = call.attribute("direction", "LEFT") == "LEFT"

    def shift(x: Any, y: Any) -> Any:
        distance = y.astype("int64")
        inside = tirx.all(distance >= 0, distance < width)
        amount = tirx.Select(inside, y, tirx.const(0, dtype))
        if left:
            return tirx.Select(inside, x << amount, tirx.const(0, dtype))
        rest = x >> tirx.const(width - 1, dtype) if signed else tirx.const(0, dtype)
        return tirx.Select(inside, x >> amount, rest)

    return elementwise(call, shift)


def is_inf(call: OperatorCall) -> Any:
    """IsInf with `detect_positive` and `detect_negative`."""
    kind = call.type_of(0)
    bounds = [np.inf] * call.attribute("detect_positive", 1)
    bounds += [-np.inf] * call.attribute("detect_negative", 1)
    if not bounds:
        return np.zeros(kind.shape, np.bool_)
    limits = [tirx.const(bound, kind.dtype) for bound in bounds]
    return elementwise(call, lambda x: tirx.any(*(x.equal(limit) for limit in limits)))


def modulo(call: OperatorCall) -> Any:
    """Mod of floats: C's remainder with `fmod`, else one that has the sign of the divisor.

    Computed in float64, which is exact for quotients below 2^29.
    """
    dtype = call.type_of(0).dtype
    if "float" not in dtype:
        return None
    truncated = bool(call.attribute("fmod", 0))
    zero, infinity = tirx.const(0, "float64"), tirx.const(np.inf, "float64")

    def remainder(x: Any, y: Any) -> Any:
        x, y = x.astype("float64"), y.astype("float64")
        fits = tirx.all(tirx.abs(y).equal(infinity), tirx.abs(x) < infinity)
        rest = tirx.Select(fits, x, x - tirx.trunc(x / y) * y)
        adjust = rest * y < zero
        return (rest if truncated else tirx.Select(adjust, rest + y, rest)).astype(dtype)

    return elementwise(call, remainder)


def power(call: OperatorCall) -> Any:
    """Pow of mixed types: the result has the type of the base."""
    dtype, exponent = call.type_of(0).dtype, call.type_of(1).dtype
    if dtype == exponent and "float" in dtype:
        return None
    wide = "float32" if dtype in ("float16", "bfloat16", "float32") else "float64"
    raised = lambda x, y: tirx.power(x.astype(wide), y.astype(wide)).astype(dtype)  # noqa: E731
    return elementwise(call, raised)


def mish(call: OperatorCall) -> Any:
    """Mish, x * tanh(softplus(x)), without overflow: with e = exp(-|x|), one quotient."""
    dtype = call.type_of(0).dtype
    wide = "float64" if dtype == "float64" else "float32"

    def element(value: Any) -> Any:
        x = value.astype(wide)
        e = tirx.exp(-tirx.abs(x))
        positive = (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
        negative = (e * e + 2 * e) / (e * e + 2 * e + 2)
        return (x * tirx.Select(x >= 0, positive, negative)).astype(dtype)

    return elementwise(call, element)

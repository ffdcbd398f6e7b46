"""Operators that compute nothing: shapes as constants, views, ranges, identity matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.untyped import relax, te


def shape(call: OperatorCall) -> Any:
    """Shape: known here, so a constant."""
    extents = call.type_of(0).shape
    return np.array(extents[call.attribute("start", 0) : call.attribute("end", None)], np.int64)


def size(call: OperatorCall) -> Any:
    """Size: known here, so a constant."""
    return np.array(call.type_of(0).elements, np.int64)


def view(call: OperatorCall) -> Any:
    """Reshape, Squeeze, Unsqueeze: the declared shape says all."""
    declared = call.declared(0)
    return None if declared is None else relax.op.reshape(call.expression(0), declared.shape)


def eye_like(call: OperatorCall) -> Any:
    """EyeLike: ones on the diagonal `k`."""
    kind = call.type_of(0)
    code = call.attribute("dtype", None)
    dtype = kind.dtype if code is None else ir.DataType(code).numpy()
    rows, columns = kind.shape
    return np.eye(rows, columns, call.attribute("k", 0)).astype(dtype)


def range_(call: OperatorCall) -> Any:
    """Range with limits known only when it runs, of declared length."""
    declared = call.declared(0)
    if declared is None:
        return None

    def compute(start: Any, delta: Any) -> Any:
        step = lambda i: start() + i.astype(declared.dtype) * delta()  # noqa: E731  # te wants a lambda
        return te.compute(declared.shape, step, name="range")

    return call.compute(compute, call.expression(0), call.expression(2))


def concat(call: OperatorCall) -> Any:
    """Concat, of the operands that have elements."""
    filled = [i for i in range(len(call.operands)) if call.type_of(i).elements]
    if not filled:
        return None
    operands = [call.expression(i) for i in filled]
    return (
        operands[0] if len(operands) == 1 else relax.op.concat(operands, call.attribute("axis", 0))
    )


def split(call: OperatorCall) -> Any:
    """Split into slices."""
    kind, count = call.type_of(0), len(call.outputs)
    axis = call.attribute("axis", 0) % len(kind.shape)
    extent = kind.shape[axis]
    if call.operand(1) is not None:
        sizes = [int(size) for size in call.constant(1, "split")]
    else:
        part = -(-extent // count)
        sizes = [min(part, extent - part * i) for i in range(count)]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    slices = zip(starts.tolist(), ends.tolist(), strict=True)
    return [relax.op.strided_slice(call.expression(0), [axis], [a], [b]) for a, b in slices]

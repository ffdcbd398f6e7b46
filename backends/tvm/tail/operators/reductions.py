"""ReduceMax and ReduceMin with an infinite neutral element; TVM's is the largest finite value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.untyped import te, tirx


def reduce_max(call: OperatorCall) -> Any:
    """ReduceMax."""
    return _extreme(call, largest=True)


def reduce_min(call: OperatorCall) -> Any:
    """ReduceMin."""
    return _extreme(call, largest=False)


def _extreme(call: OperatorCall, largest: bool) -> Any:
    kind = call.type_of(0)
    axes = _axes(call, len(kind.shape))
    if not axes:
        return call.expression(0)
    keepdims = call.attribute("keepdims", 1)
    if kind.elements == 0:
        return np.full(_result_shape(kind.shape, axes, keepdims), _neutral(kind.dtype, largest))
    operand = call.expression(0)
    if kind.dtype == "bool":
        operand = call.emit(operand.astype("int8"))
    result = call.compute(lambda x: _reduce(x, axes, keepdims, largest), operand)
    return result.astype(kind.dtype)


def _result_shape(shape: tuple[int, ...], axes: list[int], keepdims: bool) -> list[int]:
    pairs = enumerate(shape)
    return [1 if axis in axes else extent for axis, extent in pairs if keepdims or axis not in axes]


def _axes(call: OperatorCall, rank: int) -> list[int]:
    """The axes to reduce: an input from opset 18 on, an attribute before, all by default."""
    given = call.attribute("axes", ()) if call.operand(1) is None else call.constant(1, "axes")
    chosen = sorted(int(axis) % rank for axis in given)
    if chosen or call.attribute("noop_with_empty_axes", 0):
        return chosen
    return list(range(rank))


def _reduce(x: Any, axes: list[int], keepdims: bool, largest: bool) -> Any:
    shape = [int(extent) for extent in x.shape]
    neutral = _neutral(str(x.dtype), largest).item()
    reducer = te.comm_reducer(
        lambda a, b: tirx.max(a, b) if largest else tirx.min(a, b),
        lambda dtype: tirx.const(neutral, dtype),
        name="extreme",
    )
    reduced = {axis: te.reduce_axis((0, shape[axis]), f"k{axis}") for axis in axes}
    kept = [axis for axis in range(len(shape)) if keepdims or axis not in reduced]

    def element(*index: Any) -> Any:
        position = dict(zip(kept, index, strict=True)) | reduced
        source = x(*(position[axis] for axis in range(len(shape))))
        return reducer(source, axis=list(reduced.values()))

    extents = _result_shape(tuple(shape), axes, keepdims)
    return te.compute(extents, element, name="extreme")


def _neutral(dtype: str, largest: bool) -> npt.NDArray[Any]:
    """What changes no maximum (or minimum): a scalar of the type that is reduced."""
    if dtype == "bool":
        return np.array(not largest)
    if "float" in dtype:
        return np.array(-np.inf if largest else np.inf, dtype)
    bounds = np.iinfo(dtype)
    return np.array(bounds.min if largest else bounds.max, dtype)

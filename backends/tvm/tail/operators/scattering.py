"""Operators that find or place values by index: Gather, OneHot and TensorScatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from offramp.backends.tvm.tail.operators.context import OperatorCall, replace_at
from offramp.backends.tvm.tail.untyped import te, tirx


def gather(call: OperatorCall) -> Any:
    """Gather by computed indices: negative ones count from the end, and none leaves the data."""
    if any(call.operand(i) is None for i in (0, 1)) or isinstance(call.operand(1), np.ndarray):
        return None
    shape, indices = call.type_of(0).shape, call.type_of(1).shape
    axis = call.attribute("axis", 0) % len(shape)
    extents = (*shape[:axis], *indices, *shape[axis + 1 :])

    def compute(data: Any, index: Any) -> Any:
        def element(*position: Any) -> Any:
            end = axis + len(indices)
            chosen = index(*position[axis:end]).astype("int32")
            counted = tirx.Select(chosen < 0, chosen + shape[axis], chosen)
            inside = tirx.max(tirx.min(counted, shape[axis] - 1), 0)
            return data(*position[:axis], inside, *position[end:])

        return te.compute(extents, element, name="gather")

    return call.compute(compute, call.expression(0), call.expression(1))


def one_hot(call: OperatorCall) -> Any:
    """OneHot; negative indices count from the end, others outside hit nothing."""
    shape = call.type_of(0).shape
    depth = int(call.constant(1, "depth").reshape(()))
    axis = call.attribute("axis", -1) % (len(shape) + 1)
    extents = (*shape[:axis], depth, *shape[axis:])

    def compute(indices: Any, values: Any) -> Any:
        def element(*position: Any) -> Any:
            index = indices(*position[:axis], *position[axis + 1 :]).astype("int64")
            here = position[axis].astype("int64")
            hit = tirx.any(index.equal(here), (index + depth).equal(here))
            return tirx.Select(hit, values[1], values[0])

        return te.compute(extents, element, name="one_hot")

    return call.compute(compute, call.expression(0), call.expression(2))


def tensor_scatter(call: OperatorCall) -> Any:
    """TensorScatter: each sample's update replaces a run of its cache, which may wrap around."""
    kind = call.type_of(0)
    axis = call.attribute("axis", -2) % len(kind.shape)
    length, update_length = kind.shape[axis], call.type_of(1).shape[axis]
    circular = call.attribute("mode", "linear") == "circular"

    def compute(cache: Any, update: Any, *starts: Any) -> Any:
        def element(*index: Any) -> Any:
            here = index[axis].astype("int64")
            start = starts[0][index[0]].astype("int64") if starts else tirx.const(0, "int64")
            offset = here - start
            offset = tirx.floormod(offset, length) if circular else offset
            inside = tirx.all(offset >= 0, offset < update_length)
            source = tirx.Select(inside, offset, tirx.const(0, "int64"))
            return tirx.Select(inside, update(*replace_at(index, axis, source)), cache(*index))

        return te.compute(kind.shape, element, name="tensor_scatter")

    starts = [] if call.operand(2) is None else [call.expression(2)]
    return call.compute(compute, call.expression(0), call.expression(1), *starts)

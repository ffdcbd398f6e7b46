"""Pad in all its modes, by amounts that may be known only when it runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.untyped import te, tirx


def pad(call: OperatorCall) -> Any:
    """Pad: every output reads its source position, or the value where that lies outside."""
    declared, kind = call.declared(0), call.type_of(0)
    rank = len(kind.shape)
    axes = list(range(rank))
    if call.operand(3) is not None:
        axes = [int(axis) % rank for axis in call.constant(3, "axes")]
    amounts = call.operand(1)
    if declared is not None:
        shape = declared.shape
    else:
        known = [int(amount) for amount in call.constant(1, "pads")]
        sums = dict(zip(axes, np.add(*np.split(np.array(known), 2)).tolist(), strict=True))
        shape = tuple(extent + sums.get(axis, 0) for axis, extent in enumerate(kind.shape))
    mode = call.attribute("mode", "constant")
    begins: dict[int, Any] = {}
    if isinstance(amounts, np.ndarray):
        begins = {axis: int(begin) for axis, begin in zip(axes, amounts, strict=False)}
    operands = [call.expression(0)] if begins else [call.expression(0), call.expression(1)]
    has_value = call.operand(2) is not None
    if has_value:
        operands.append(call.expression(2))

    def compute(x: Any, *rest: Any) -> Any:
        offsets = begins or {axis: rest[0][i] for i, axis in enumerate(axes)}
        value = rest[-1](*[0] * len(rest[-1].shape)) if has_value else tirx.const(0, kind.dtype)

        def element(*index: Any) -> Any:
            source = [
                _position(mode, i - offsets[axis], kind.shape[axis]) if axis in offsets else i
                for axis, i in enumerate(index)
            ]
            if mode != "constant":
                return x(*source)
            inside = [
                tirx.all(source[axis] >= 0, source[axis] < kind.shape[axis]) for axis in offsets
            ]
            return tirx.if_then_else(tirx.all(*inside), x(*source), value) if inside else x(*source)

        return te.compute(shape, element, name="pad")

    return call.compute(compute, *operands)


def _position(mode: str, source: Any, extent: int) -> Any:
    """The source index that stands for one outside the input."""
    if mode == "edge":
        return tirx.max(tirx.min(source, extent - 1), 0)
    if mode == "wrap":
        return tirx.floormod(source, extent)
    if mode == "reflect":
        period = 2 * (extent - 1)
        if period == 0:
            return source * 0
        folded = tirx.floormod(source, period)
        return tirx.min(folded, period - folded)
    return source

"""Pad in all its modes, by amounts that may be known only when it runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.untyped import te, tirx


def pad(call: OperatorCall) -> Any:
    """Pad: every output reads its source position, or the value where that lies outside.

    Raises:
        RefusalError: the axes are no constant; nor the amounts, where no shape is declared.
    """
    kind, axes = call.type_of(0), _axes(call)
    shape = _result_shape(call, axes)
    mode = call.attribute("mode", "constant")
    known = _known_begins(call)
    read = (2,) if known else (1, 2)
    positions = [p for p in read if call.operand(p) is not None]

    def compute(x: Any, *rest: Any) -> Any:
        operands = dict(zip(positions, rest, strict=True))
        begins = known or [operands[1][i] for i in range(len(axes))]
        offsets = dict(zip(axes, begins, strict=True))
        value = _scalar(operands[2]) if 2 in operands else tirx.const(0, kind.dtype)

        def element(*index: Any) -> Any:
            source = [
                _position(mode, i - offsets[axis], kind.shape[axis]) if axis in offsets else i
                for axis, i in enumerate(index)
            ]
            if mode != "constant":
                return x(*source)
            bounds = [(source[axis], kind.shape[axis]) for axis in axes]
            inside = [tirx.all(place >= 0, place < extent) for place, extent in bounds]
            return tirx.if_then_else(tirx.all(*inside), x(*source), value)

        return te.compute(shape, element, name="pad")

    return call.compute(compute, call.expression(0), *(call.expression(p) for p in positions))


def _axes(call: OperatorCall) -> list[int]:
    rank = len(call.type_of(0).shape)
    if call.operand(3) is None:
        return list(range(rank))
    return [int(axis) % rank for axis in call.constant(3, "axes")]


def _known_begins(call: OperatorCall) -> list[int]:
    """How much is added in front on each axis; nothing where that is known only when it runs."""
    amounts = call.operand(1)
    if not isinstance(amounts, np.ndarray):
        return []
    return [int(amount) for amount in amounts[: len(amounts) // 2]]


def _result_shape(call: OperatorCall, axes: list[int]) -> tuple[int, ...]:
    declared, extents = call.declared(0), call.type_of(0).shape
    if declared is not None:
        return declared.shape
    begins, ends = np.split(call.constant(1, "pads").astype(np.int64), 2)
    grown = dict(zip(axes, (begins + ends).tolist(), strict=True))
    return tuple(extent + grown.get(axis, 0) for axis, extent in enumerate(extents))


def _scalar(tensor: Any) -> Any:
    return tensor(*[0] * len(tensor.shape))


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

"""DeformConv in two dimensions: taps moved by offsets, read by bilinear interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.operators.windows import (
    Window,
    flat_index,
    is_inside,
    source_position,
    window_of,
)
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import te, tirx

BIAS, MASK = 3, 4
"""Positions of the optional inputs."""


def deform_conv(call: OperatorCall) -> Any:
    """DeformConv.

    Raises:
        RefusalError: it has not two spatial dimensions.
    """
    kind, weights = call.type_of(0), call.type_of(1).shape
    if len(kind.shape) != 4:
        raise RefusalError("only two spatial dimensions are supported")
    convolution = _Convolution(
        window_of(call, weights[2:]),
        kind.shape,
        kind.dtype,
        weights,
        weights[0] // call.attribute("group", 1),
        kind.shape[1] // call.attribute("offset_group", 1),
    )
    result = (kind.shape[0], weights[0], *call.type_of(2).shape[2:])
    optional = [position for position in (BIAS, MASK) if call.operand(position) is not None]

    def compute(x: Any, w: Any, offsets: Any, *rest: Any) -> Any:
        extra = dict(zip(optional, rest, strict=True))
        total = convolution.sums(result, x, w, offsets, extra.get(MASK))
        if BIAS not in extra:
            return total
        return te.compute(result, lambda n, f, i, j: total(n, f, i, j) + extra[BIAS](f))

    return call.compute(compute, *(call.expression(i) for i in (0, 1, 2, *optional)))


@dataclass(frozen=True)
class _Convolution:
    """shape, weights: of the input and the filters; filters and channels in a (offset) group."""

    window: Window
    shape: tuple[int, ...]
    dtype: str
    weights: tuple[int, ...]
    filters_in_group: int
    channels_in_offset_group: int

    def sums(self, result: tuple[int, ...], x: Any, w: Any, offsets: Any, mask: Any | None) -> Any:
        """All products of one output, added up."""
        channel = te.reduce_axis((0, self.weights[1]), "channel")
        taps = [te.reduce_axis((0, e), f"k{i}") for i, e in enumerate(self.window.kernel)]

        def element(n: Any, filter_: Any, *place: Any) -> Any:
            c = tirx.floordiv(filter_, self.filters_in_group) * self.weights[1] + channel
            group = tirx.floordiv(c, self.channels_in_offset_group)
            tap = group * prod(self.window.kernel) + flat_index(taps, self.window.kernel)
            y, x_ = (
                source_position(self.window, i, place[i], taps[i]).astype(self.dtype)
                + offsets(n, tap * 2 + i, *place)
                for i in range(2)
            )
            value = self._interpolated(x, n, c, y, x_) * w(filter_, channel, *taps)
            value = value if mask is None else value * mask(n, tap, *place)
            return te.sum(value, [channel, *taps])

        return te.compute(result, element, name="deform_conv")

    def _interpolated(self, x: Any, n: Any, c: Any, row: Any, column: Any) -> Any:
        """The input between its four neighbours; zero outside."""
        top, left = tirx.floor(row), tirx.floor(column)
        low, right = row - top, column - left
        y, x_ = top.astype("int32"), left.astype("int32")
        lines = [
            self._pixel(x, n, c, line, x_) * (1 - right)
            + self._pixel(x, n, c, line, x_ + 1) * right
            for line in (y, y + 1)
        ]
        return lines[0] * (1 - low) + lines[1] * low

    def _pixel(self, x: Any, n: Any, c: Any, row: Any, column: Any) -> Any:
        inside = tirx.all(is_inside(row, self.shape[2]), is_inside(column, self.shape[3]))
        return tirx.if_then_else(inside, x(n, c, row, column), tirx.const(0, self.dtype))

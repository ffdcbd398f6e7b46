"""Operators over sliding windows: MaxPool with indices, Col2Im, RoiAlign."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from offramp.backends.tvm.tail.operators.context import OperatorCall
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import te, tirx


@dataclass(frozen=True)
class Window:
    """Kernel extents, strides, dilations and leading pads, one entry per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]


def max_pool(call: OperatorCall) -> Any:
    """MaxPool that also gives the flat index of each maximum, the first of equal ones."""
    if len(call.outputs) < 2:
        return None
    kind, declared = call.type_of(0), call.declared(0)
    if declared is None:
        raise RefusalError("with indices it is not supported inside functions")
    window = window_of(call, call.attribute("kernel_shape", ()))
    inputs, rank = kind.shape[2:], len(kind.shape) - 2
    strides = _index_strides(inputs, call.attribute("storage_order", 0))
    largest = te.comm_reducer(
        lambda a, b: (
            tirx.Select(a[0] >= b[0], a[0], b[0]),
            tirx.Select(a[0] >= b[0], a[1], b[1]),
        ),
        lambda value, index: (tirx.min_value(value), tirx.const(-1, index)),
        name="largest",
    )

    def compute(x: Any) -> Any:
        taps = [te.reduce_axis((0, extent), f"k{i}") for i, extent in enumerate(window.kernel)]

        def element(n: Any, c: Any, *place: Any) -> Any:
            at = [source_position(window, i, place[i], taps[i]) for i in range(rank)]
            inside = tirx.all(*(is_inside(a, e) for a, e in zip(at, inputs, strict=True)))
            value = tirx.if_then_else(inside, x(n, c, *at), tirx.min_value(kind.dtype))
            plane = (n * kind.shape[1] + c).astype("int64") * prod(inputs)
            flat = sum((a.astype("int64") * s for a, s in zip(at, strides, strict=True)), plane)
            return largest((value, flat), axis=taps)

        return te.compute(declared.shape, element, name="max_pool")

    return call.compute(compute, call.expression(0))


def roi_align(call: OperatorCall) -> None:
    """RoiAlign by averages is TVM's; its maxima are not those of ONNX.

    Raises:
        RefusalError: maxima are asked for.
    """
    if call.attribute("mode", "avg") == "max":
        raise RefusalError("mode 'max' is not supported")


def col_to_im(call: OperatorCall) -> Any:
    """Col2Im: every pixel sums the columns of the windows that cover it."""
    kind = call.type_of(0)
    image = [int(extent) for extent in call.constant(1, "image_shape")]
    window = window_of(call, [int(extent) for extent in call.constant(2, "block_shape")])
    ends = call.attribute("pads", (0,) * (2 * len(image)))[len(image) :]
    blocks = [_positions(window, i, extent, ends[i]) for i, extent in enumerate(image)]
    channels = kind.shape[1] // prod(window.kernel)

    def compute(columns: Any) -> Any:
        taps = [te.reduce_axis((0, extent), f"k{i}") for i, extent in enumerate(window.kernel)]

        def element(n: Any, c: Any, *pixel: Any) -> Any:
            moved = [
                pixel[i] + window.begins[i] - taps[i] * window.dilations[i]
                for i in range(len(image))
            ]
            block = [tirx.floordiv(m, s) for m, s in zip(moved, window.strides, strict=True)]
            fits = [
                tirx.floormod(m, s).equal(0) for m, s in zip(moved, window.strides, strict=True)
            ]
            inside = [is_inside(b, e) for b, e in zip(block, blocks, strict=True)]
            row = c * prod(window.kernel) + flat_index(taps, window.kernel)
            value = columns(n, row, flat_index(block, blocks))
            zero = tirx.const(0, kind.dtype)
            return te.sum(tirx.if_then_else(tirx.all(*fits, *inside), value, zero), taps)

        return te.compute((kind.shape[0], channels, *image), element, name="col_to_im")

    return call.compute(compute, call.expression(0))


def window_of(call: OperatorCall, kernel: Any) -> Window:
    """The window of a node's attributes.

    Raises:
        RefusalError: padding is to be computed by the node.
    """
    if call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise RefusalError("automatic padding is not supported")
    rank = len(kernel)
    return Window(
        tuple(kernel),
        tuple(call.attribute("strides", (1,) * rank)),
        tuple(call.attribute("dilations", (1,) * rank)),
        tuple(call.attribute("pads", (0,) * (2 * rank))[:rank]),
    )


def source_position(window: Window, axis: int, place: Any, tap: Any) -> Any:
    """The input position that one tap of one window reads."""
    return place * window.strides[axis] + tap * window.dilations[axis] - window.begins[axis]


def is_inside(position: Any, extent: int) -> Any:
    """Whether a position lies on an axis."""
    return tirx.all(position >= 0, position < extent)


def flat_index(indices: Any, extents: Any) -> Any:
    """The row-major index of one element."""
    total: Any = 0
    for index, extent in zip(indices, extents, strict=True):
        total = total * extent + index
    return total


def _positions(window: Window, axis: int, extent: int, end: int) -> int:
    """How many windows fit along an axis."""
    reach = window.dilations[axis] * (window.kernel[axis] - 1) + 1
    return (extent + window.begins[axis] + end - reach) // window.strides[axis] + 1


def _index_strides(extents: tuple[int, ...], column_major: int) -> list[int]:
    """How far apart neighbours along each axis are in the flat index."""
    if column_major:
        return [prod(extents[:axis]) for axis in range(len(extents))]
    return [prod(extents[axis + 1 :]) for axis in range(len(extents))]

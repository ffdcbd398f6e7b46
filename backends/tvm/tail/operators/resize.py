"""Resize, axis by axis: every output is a weighted sum of few inputs, weights known here.

Interpolation is separable, and with static shapes the source coordinate of every output index is
a constant. So each axis has a small table of source indices and weights, whatever the coordinate
transformation, kernel, antialiasing or border rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.operators.context import OperatorCall, replace_at
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import te, tirx

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """How one axis is resized: extents, scale (output over input), region of interest."""

    position: int
    before: int
    after: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Taps:
    """Source indices and weights `[outputs, taps]`; which outputs lie outside the input."""

    indices: npt.NDArray[np.int64]
    weights: Floats
    outside: npt.NDArray[np.bool_]


def resize(call: OperatorCall) -> Any:
    """Resize in all its modes.

    Raises:
        RefusalError: scales, sizes or the region of interest are not constants.
    """
    kind = call.type_of(0)
    result, outside = call.expression(0), []
    for axis in _axes(call):
        taps = _taps(call, axis)
        plain = axis.before == axis.after and np.array_equal(
            taps.weights[:, 0], np.ones(axis.after)
        )
        if not (plain and np.array_equal(taps.indices[:, 0], np.arange(axis.after))):
            result = _apply(call, result, axis, taps)
        if taps.outside.any():
            outside.append((axis.position, taps.outside))
    if outside:
        result = _extrapolated(call, result, outside)
    return result.astype(kind.dtype)


def _axes(call: OperatorCall) -> list[Axis]:
    kind = call.type_of(0)
    chosen = [a % len(kind.shape) for a in call.attribute("axes", range(len(kind.shape)))]
    before = [kind.shape[a] for a in chosen]
    if call.operand(3) is not None:
        sizes = _chosen([int(s) for s in call.constant(3, "sizes")], chosen)
        scales = [size / extent for size, extent in zip(sizes, before, strict=True)]
        policy = call.attribute("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(scales)
            sizes = [int(np.floor(s * b + 0.5)) for s, b in zip(scales, before, strict=True)]
    else:
        scales = [float(s) for s in call.constant(2, "scales")]
        sizes = [int(np.floor(s * b)) for s, b in zip(scales, before, strict=True)]
    regions = _regions(call, len(chosen))
    rows = zip(chosen, before, sizes, scales, *regions, strict=True)
    return [Axis(*row) for row in rows]


def _chosen(sizes: list[int], axes: list[int]) -> list[int]:
    """The sizes along `axes`; those that follow from the declared shape cover all axes."""
    return sizes if len(sizes) == len(axes) else [sizes[axis] for axis in axes]


def _regions(call: OperatorCall, count: int) -> tuple[list[float], list[float]]:
    if call.attribute("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
        return [0.0] * count, [1.0] * count
    bounds = [float(bound) for bound in call.constant(1, "roi")]
    return bounds[:count], bounds[count:]


def _taps(call: OperatorCall, axis: Axis) -> Taps:
    mode = call.attribute("coordinate_transformation_mode", "half_pixel")
    centers = _coordinates(mode, axis)
    kernel = call.attribute("mode", "nearest")
    if kernel == "nearest":
        rounding = call.attribute("nearest_mode", "round_prefer_floor")
        indices = _NEAREST[rounding](centers).astype(np.int64)[:, None]
        weights = np.ones_like(indices, np.float64)
    else:
        stretch = min(axis.scale, 1.0) if call.attribute("antialias", 0) else 1.0
        radius = int(np.ceil((1 if kernel == "linear" else 2) / stretch))
        offsets = np.arange(1 - radius, radius + 1)
        indices = np.floor(centers).astype(np.int64)[:, None] + offsets
        distances = np.abs(indices - centers[:, None]) * stretch
        weights = _weights(kernel, distances, call.attribute("cubic_coeff_a", -0.75))
    if call.attribute("exclude_outside", 0):
        weights = np.where((indices < 0) | (indices >= axis.before), 0.0, weights)
    weights = weights / weights.sum(axis=1, keepdims=True)
    outside = (centers < 0) | (centers > axis.before - 1)
    if mode != "tf_crop_and_resize":
        outside = np.zeros_like(outside)
    return Taps(np.clip(indices, 0, axis.before - 1), weights, outside)


_NEAREST: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _weights(kernel: str, distance: Floats, a: float) -> Floats:
    """The interpolation kernel: a triangle, or Keys' cubic with parameter `a`."""
    if kernel == "linear":
        return np.maximum(0.0, 1.0 - distance)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _coordinates(mode: str, axis: Axis) -> Floats:
    """The source coordinate of every output index, by ONNX's transformation `mode`."""
    index, length = np.arange(axis.after, dtype=np.float64), axis.scale * axis.before
    half_pixel = (index + 0.5) / axis.scale - 0.5
    last = axis.before - 1
    match mode:
        case "half_pixel":
            return half_pixel
        case "half_pixel_symmetric":
            return half_pixel + axis.before / 2 * (1 - axis.after / length)
        case "pytorch_half_pixel":
            return np.full_like(index, -0.5) if length == 1 else half_pixel
        case "asymmetric":
            return index / axis.scale
        case "align_corners":
            return np.zeros_like(index) if length == 1 else index * last / (length - 1)
        case "tf_crop_and_resize":
            span = axis.end - axis.start
            step = np.full_like(index, span / 2) if length == 1 else index * span / (length - 1)
            return (axis.start + step) * last
        case _:
            raise RefusalError(f"coordinate transformation {mode!r} is not part of ONNX")


def _apply(call: OperatorCall, data: Any, axis: Axis, taps: Taps) -> Any:
    wide = "float64" if call.type_of(0).dtype == "float64" else "float32"
    count = taps.indices.shape[1]

    def compute(x: Any, indices: Any, weights: Any) -> Any:
        tap = te.reduce_axis((0, count), "tap")

        def element(*index: Any) -> Any:
            row = index[axis.position]
            source = x(*replace_at(index, axis.position, indices[row, 0 if count == 1 else tap]))
            if count == 1:
                return source.astype(wide)
            return te.sum(source.astype(wide) * weights[row, tap], tap)

        shape = replace_at([int(extent) for extent in x.shape], axis.position, axis.after)
        return te.compute(tuple(shape), element, name="resize")

    indices = call.constant_expression(taps.indices, "int32")
    return call.compute(compute, data, indices, call.constant_expression(taps.weights, wide))


def _extrapolated(
    call: OperatorCall, data: Any, outside: list[tuple[int, npt.NDArray[np.bool_]]]
) -> Any:
    """Outputs whose source lies outside on any axis take the extrapolation value."""
    value = float(call.attribute("extrapolation_value", 0.0))
    masks = [call.constant_expression(mask, "bool") for _, mask in outside]

    def compute(x: Any, *tables: Any) -> Any:
        def element(*index: Any) -> Any:
            hits = [t[index[p]] for t, (p, _) in zip(tables, outside, strict=True)]
            return tirx.Select(tirx.any(*hits), tirx.const(value, x.dtype), x(*index))

        return te.compute(x.shape, element, name="extrapolated")

    return call.compute(compute, data, *masks)

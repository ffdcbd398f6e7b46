"""Resize: separable interpolation, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.execute.constants import integers, numbers, unsupported

Array = npt.NDArray[np.float64]


def resize(
    node: ir.Node,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Resize by nearest neighbour, linear or cubic interpolation."""
    mode = node.attributes.get_string("mode", "nearest")
    if node.attributes.get_int("antialias", 0):
        raise unsupported(node, "antialias=1")
    for axis, (length, scale) in _targets(node, x, scales, sizes).items():
        if length == x.shape[axis] and scale == 1.0:
            continue
        source = _source_positions(node, x.shape[axis], length, scale)
        if mode == "nearest":
            indices, weights = _nearest(node, source, x.shape[axis]), None
        else:
            indices, weights = _taps(node, mode, source, x.shape[axis])
        x = _interpolate(x, axis, indices, weights)
    return x


def _targets(
    node: ir.Node, x: Tensor, scales: Tensor | None, sizes: Tensor | None
) -> dict[int, tuple[int, float]]:
    """By axis: the new length, and new length / old length as the node states it."""
    axes = [a % x.ndim for a in node.attributes.get_ints("axes", tuple(range(x.ndim)))]
    if sizes is None or sizes.numel() == 0:
        if scales is None:
            raise unsupported(node, "neither scales nor sizes")
        factors = numbers(node, scales)
        return {
            axis: (int(x.shape[axis] * scale), scale)
            for axis, scale in zip(axes, factors, strict=True)
        }
    lengths = integers(node, sizes)
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    ratios = [length / x.shape[axis] for axis, length in zip(axes, lengths, strict=True)]
    if policy != "stretch":
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [ratio] * len(axes)
        lengths = [int(np.floor(ratio * x.shape[axis] + 0.5)) for axis in axes]
    return {axis: target for axis, *target in zip(axes, lengths, ratios, strict=True)}  # type: ignore[misc]


def _source_positions(node: ir.Node, old: int, new: int, scale: float) -> Array:
    """Where each new element lies on the old axis."""
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    position = np.arange(new, dtype=np.float64)
    match mode:
        case "half_pixel":
            return (position + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            centre = old / 2 * (1 - new / (scale * old))
            return centre + (position + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (position + 0.5) / scale - 0.5 if new > 1 else np.zeros(new)
        case "align_corners":
            return position * (old - 1) / (new - 1) if new > 1 else np.zeros(new)
        case "asymmetric":
            return position / scale
        case _:
            raise unsupported(node, f"coordinate_transformation_mode {mode}")


def _nearest(node: ir.Node, source: Array, length: int) -> npt.NDArray[np.int64]:
    mode = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    rounding: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda s: np.ceil(s - 0.5),
        "round_prefer_ceil": lambda s: np.floor(s + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return np.clip(rounding[mode](source), 0, length - 1).astype(np.int64)[:, None]


def _taps(
    node: ir.Node, mode: str, source: Array, length: int
) -> tuple[npt.NDArray[np.int64], Array]:
    """Neighbours of every new element and their weights, both [new length, taps]."""
    floor = np.floor(source)
    if mode == "linear":
        # Outside the axis both neighbours are the border, whatever the weight.
        offsets = np.array([0, 1])
        fraction = (source - floor)[:, None]
        weights = np.concatenate([1 - fraction, fraction], axis=1)
    elif mode == "cubic":
        offsets = np.array([-1, 0, 1, 2])
        a = node.attributes.get_float("cubic_coeff_a", -0.75)
        weights = _cubic(np.abs((source - floor)[:, None] - offsets), a)
    else:
        raise unsupported(node, f"mode {mode}")
    positions = floor[:, None] + offsets
    if node.attributes.get_int("exclude_outside", 0):
        weights = np.where((positions >= 0) & (positions < length), weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(positions, 0, length - 1).astype(np.int64), weights


def _cubic(distance: Array, a: float) -> Array:
    """Keys' convolution kernel (Keys, 1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _interpolate(
    x: Tensor, axis: int, indices: npt.NDArray[np.int64], weights: Array | None
) -> Tensor:
    taps = [
        x.index_select(axis, torch.from_numpy(column.copy()).to(x.device)) for column in indices.T
    ]
    if weights is None:
        return taps[0]
    shape = [-1 if dim == axis else 1 for dim in range(x.ndim)]
    columns = torch.from_numpy(weights.T.copy()).to(x.device, x.dtype)
    total = taps[0] * columns[0].reshape(shape)
    for tap, column in zip(taps[1:], columns[1:], strict=True):
        total = total + tap * column.reshape(shape)
    return total


RESIZE: dict[str, Callable[..., Tensor]] = {"Resize": resize}

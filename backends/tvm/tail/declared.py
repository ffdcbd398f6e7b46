"""Operands that decide a shape, read off the shape that the model declares.

A compiled network has static shapes, so an operand such as the target of Reshape can only ever
have the one value that gives the declared output. Where that value follows from the input's and
output's shapes it takes the place of an operand that is not a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.scope import Attributes
from offramp.backends.tvm.tail.types import TensorType

Types = Sequence[TensorType | None]
Recovery = Callable[[TensorType | None, Types, Attributes], npt.NDArray[Any] | None]
"""The operand's value from the first input's type and the outputs' types, None if not unique."""


def recover(
    operator: str, operands: list[Any], first: TensorType | None, outputs: Types, given: Attributes
) -> list[Any]:
    """The operands, with those replaced that the declared types determine."""
    position, recovery = _RECOVERIES.get(operator, (len(operands), None))
    if recovery is None or position >= len(operands) or outputs[0] is None:
        return operands
    if operands[position] is None or isinstance(operands[position], np.ndarray):
        return operands
    value = recovery(first, outputs, given)
    if value is None:
        return operands
    return [*operands[:position], value, *operands[position + 1 :]]


def _output_shape(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    return None if outputs[0] is None else np.array(outputs[0].shape, np.int64)


def _repeats(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    if first is None or outputs[0] is None or 0 in first.shape:
        return None
    pairs = zip(outputs[0].shape, first.shape, strict=True)
    return np.array([after // before for after, before in pairs], np.int64)


def _along_axis(default: int) -> Recovery:
    """The output's extent along the attribute `axis`, as a vector of one."""

    def extent(
        first: TensorType | None, outputs: Types, given: Attributes
    ) -> npt.NDArray[Any] | None:
        if outputs[0] is None:
            return None
        return np.array([outputs[0].shape[given.get("axis", default)]], np.int64)

    return extent


def _split_sizes(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    axis = given.get("axis", 0)
    sizes = [None if t is None else t.shape[axis] for t in outputs]
    return None if None in sizes else np.array(sizes, np.int64)


def _cropped_shape(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    if outputs[0] is None:
        return None
    shape = outputs[0].shape
    return np.array([shape[axis] for axis in given.get("axes", range(len(shape)))], np.int64)


def _grid_size(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    """Any number of channels gives the same grid."""
    if outputs[0] is None:
        return None
    batch, *extents, _ = outputs[0].shape
    return np.array([batch, 1, *extents], np.int64)


def _reduced_axes(
    first: TensorType | None, outputs: Types, given: Attributes
) -> npt.NDArray[Any] | None:
    if first is None or outputs[0] is None:
        return None
    before, after = first.shape, outputs[0].shape
    if given.get("keepdims", 1):
        pairs = enumerate(zip(before, after, strict=True))
        return np.array([i for i, (b, a) in pairs if b != a], np.int64)
    candidates = [
        axes
        for axes in combinations(range(len(before)), len(before) - len(after))
        if after == tuple(extent for i, extent in enumerate(before) if i not in axes)
    ]
    return np.array(candidates[0], np.int64) if len(candidates) == 1 else None


def _length(first: TensorType | None, outputs: Types, given: Attributes) -> npt.NDArray[Any] | None:
    return None if outputs[0] is None else np.array(outputs[0].shape[0], np.int64)


_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
_RECOVERIES: dict[str, tuple[int, Recovery]] = {
    "Reshape": (1, _output_shape),
    "Expand": (1, _output_shape),
    "ConstantOfShape": (0, _output_shape),
    "Tile": (1, _repeats),
    "TopK": (1, _along_axis(-1)),
    "OneHot": (1, _along_axis(-1)),
    "Split": (1, _split_sizes),
    "Resize": (3, _output_shape),
    "CenterCropPad": (1, _cropped_shape),
    "AffineGrid": (1, _grid_size),
    "BlackmanWindow": (0, _length),
    "HammingWindow": (0, _length),
    "HannWindow": (0, _length),
} | dict.fromkeys(_REDUCTIONS.split(), (1, _reduced_axes))
"""By operator: the position of the operand, and what determines it."""

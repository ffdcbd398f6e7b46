from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from offramp.compiler.errors import UnsupportedError

Agree = Callable[..., None]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


def values(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@given(shape=SHAPES, data=st.data())
@settings(max_examples=20, deadline=None)
def test_transpose_and_flatten(agree: Agree, shape: tuple[int, ...], data: st.DataObject) -> None:
    agree("Transpose", values(*shape), perm=data.draw(st.permutations(range(len(shape)))))
    agree("Transpose", values(*shape))
    agree("Flatten", values(*shape), axis=data.draw(st.integers(-len(shape), len(shape))))


def test_reshape(agree: Agree) -> None:
    agree("Reshape", values(2, 3, 4), constants=[ints(0, -1)])
    agree("Reshape", values(2, 3, 4), constants=[ints(4, 0, 2)])
    agree("Reshape", values(0, 3), constants=[ints(3, 0)], allowzero=1)


def test_squeeze_and_unsqueeze(agree: Agree) -> None:
    agree("Squeeze", values(1, 3, 1, 2))
    agree("Squeeze", values(1, 3, 1, 2), constants=[ints(-2)])
    agree("Unsqueeze", values(3, 2), constants=[ints(0, -1)])


@given(shape=SHAPES, data=st.data())
@settings(max_examples=20, deadline=None)
def test_concat_and_split(agree: Agree, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = values(*shape)
    agree("Concat", x, x + 1, x + 2, axis=axis)
    first = data.draw(st.integers(0, shape[axis]))
    agree("Split", x, constants=[ints(first, shape[axis] - first)], outputs=2, axis=axis)
    double = np.concatenate([x, x], axis)
    agree("Split", double, outputs=2, axis=axis, num_outputs=2)


def test_the_last_part_of_a_split_may_be_smaller(agree: Agree) -> None:
    agree("Split", values(7, 2), outputs=3, num_outputs=3)


@given(shape=SHAPES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_slice(agree: Agree, shape: tuple[int, ...], data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    position = st.one_of(st.integers(-7, 7), st.sampled_from([-(2**62), 2**62]))
    starts = [data.draw(position) for _ in axes]
    ends = [data.draw(position) for _ in axes]
    steps = [data.draw(st.sampled_from([1, 2, -1, -2])) for _ in axes]
    agree(
        "Slice",
        values(*shape),
        constants=[ints(*starts), ints(*ends), ints(*axes), ints(*steps)],
    )


@given(shape=SHAPES, indices=SHAPES, data=st.data())
@settings(max_examples=30, deadline=None)
def test_gather(
    agree: Agree, shape: tuple[int, ...], indices: tuple[int, ...], data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    low, high = -shape[axis], shape[axis] - 1
    picked = data.draw(hnp.arrays(np.int64, indices[:2], elements=st.integers(low, high)))
    agree("Gather", values(*shape), picked, axis=axis)


def test_gather_elements(agree: Agree) -> None:
    agree("GatherElements", values(3, 3), np.array([[0, -1], [2, 1]]), axis=1)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_gather_and_scatter_at_positions(agree: Agree, reduction: str) -> None:
    rows = np.array([[0], [2]])
    agree("GatherND", values(3, 4), rows)
    agree("GatherND", values(3, 4), np.array([[[0, 1]], [[-1, 2]]]))
    agree("ScatterND", values(3, 4), rows, values(2, 4) + 9, reduction=reduction)
    picked = np.array([[0, -1], [2, 1]])
    agree("ScatterElements", values(3, 4), picked, values(2, 2), axis=1, reduction=reduction)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(agree: Agree, mode: str) -> None:
    agree("Pad", values(1, 4, 5), constants=[ints(0, 1, 2, 0, 3, 0)], mode=mode)
    agree("Pad", values(4, 5), constants=[ints(2, 1), None, ints(-1)], mode=mode)


def test_pad_with_a_value_and_crop(agree: Agree) -> None:
    agree("Pad", values(4, 5), constants=[ints(-1, 2, 1, -2), np.array(7, np.float32)])


def test_expand_and_tile(agree: Agree) -> None:
    agree("Expand", values(3, 1), constants=[ints(2, 1, 4)])
    agree("Tile", values(2, 3), constants=[ints(2, 1)])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(agree: Agree, mode: str) -> None:
    agree("DepthToSpace", values(1, 8, 2, 3), blocksize=2, mode=mode)
    agree("SpaceToDepth", values(1, 2, 4, 6), blocksize=2)


@pytest.mark.parametrize("upper", [0, 1])
def test_triangle(agree: Agree, upper: int) -> None:
    agree("Trilu", values(2, 4, 5), upper=upper)
    agree("Trilu", values(4, 5), constants=[np.array(-1, np.int64)], upper=upper)


def test_shapes_and_constants(agree: Agree) -> None:
    agree("Shape", values(2, 3, 4))
    agree("Shape", values(2, 3, 4), start=-2, end=-1)
    agree("Size", values(2, 3, 4))
    agree("ConstantOfShape", constants=[ints(2, 3)])
    agree("Range", constants=[ints(2)[0], ints(11)[0], ints(3)[0]])
    agree("EyeLike", values(3, 4), k=1)


def test_one_hot(agree: Agree) -> None:
    off_on = np.array([0.5, 2.0], np.float32)
    agree("OneHot", np.array([[0, 2], [-1, 1]]), constants=[np.array(3), off_on], axis=1)


@pytest.mark.parametrize("attributes", [{"value_ints": [1, 2]}, {"value_float": 0.5}])
def test_constant(agree: Agree, attributes: dict[str, Any]) -> None:
    agree("Constant", **attributes)


def test_a_constant_that_is_no_number_is_refused(agree: Agree) -> None:
    with pytest.raises(UnsupportedError, match="value_string"):
        agree("Constant", value_string="no number")


RESIZES: list[dict[str, Any]] = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest"},
    {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic", "cubic_coeff_a": -0.5},
    {"mode": "cubic", "exclude_outside": 1},
]


@pytest.mark.parametrize("attributes", RESIZES)
def test_resize(agree: Agree, attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 4)).astype(np.float32)
    scales = np.array([1, 1, 2, 1.5], np.float32)
    agree("Resize", x, constants=[None, scales], tolerance=1e-4, **attributes)
    agree("Resize", x, constants=[None, None, ints(1, 2, 3, 7)], tolerance=1e-4, **attributes)

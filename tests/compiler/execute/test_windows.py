"""Convolution and pooling: every geometry that onnxruntime accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

Agree = Callable[..., None]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def geometry(draw: st.DrawFn, *, ceil: bool = False) -> tuple[list[int], dict[str, Any]]:
    """A spatial size and the attributes of windows that fit into it."""
    rank = draw(st.integers(1, 3))

    def per_axis(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    size, kernel, strides, dilations = (
        per_axis(3, 8 if rank < 3 else 5),
        per_axis(1, 3),
        per_axis(1, 3),
        per_axis(1, 2),
    )
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
    }
    auto_pad = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto_pad == "NOTSET":
        attributes["pads"] = [min(p, k - 1) for p, k in zip(per_axis(0, 2), kernel, strict=True)]
        attributes["pads"] += [min(p, k - 1) for p, k in zip(per_axis(0, 2), kernel, strict=True)]
        if ceil:
            attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = auto_pad
        if auto_pad.startswith("SAME"):
            attributes["dilations"] = [1] * rank
            # Windows further apart than they are long would need negative pads.
            assume(all(s <= k for s, k in zip(strides, kernel, strict=True)))
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, attributes["dilations"], strict=True)]
    assume(all(extent <= length for extent, length in zip(extents, size, strict=True)))
    return size, attributes


@given(geometry=geometry(), group=st.integers(1, 2), bias=st.booleans())
@settings(max_examples=80, deadline=None)
def test_conv(
    agree: Agree, geometry: tuple[list[int], dict[str, Any]], group: int, bias: bool
) -> None:
    size, attributes = geometry
    weight = values(6, 4 // group, *attributes["kernel_shape"])
    constants = [weight, values(6)] if bias else [weight]
    agree("Conv", values(1, 4, *size), constants=constants, group=group, **attributes)


@given(data=st.data(), geometry=geometry(), group=st.integers(1, 2), bias=st.booleans())
@settings(max_examples=60, deadline=None)
def test_conv_transpose(
    agree: Agree,
    data: st.DataObject,
    geometry: tuple[list[int], dict[str, Any]],
    group: int,
    bias: bool,
) -> None:
    size, attributes = geometry
    attributes.pop("auto_pad", None)
    strides = attributes["strides"]
    attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in strides]
    weight = values(4, 6 // group, *attributes["kernel_shape"])
    constants = [weight, values(6)] if bias else [weight]
    agree("ConvTranspose", values(1, 4, *size), constants=constants, group=group, **attributes)


@pytest.mark.parametrize("attributes", [{"output_shape": [9, 8]}, {"auto_pad": "SAME_UPPER"}])
def test_conv_transpose_towards_a_given_size(agree: Agree, attributes: dict[str, Any]) -> None:
    x, weight = values(1, 2, 4, 4), values(2, 3, 3, 3)
    agree("ConvTranspose", x, constants=[weight], strides=[2, 2], **attributes)


@given(geometry=geometry(ceil=True))
@settings(max_examples=80, deadline=None)
def test_max_pool(agree: Agree, geometry: tuple[list[int], dict[str, Any]]) -> None:
    size, attributes = geometry
    agree("MaxPool", values(2, 3, *size), **attributes)


@given(geometry=geometry(ceil=True), include=st.integers(0, 1))
@settings(max_examples=80, deadline=None)
def test_average_pool(
    agree: Agree, geometry: tuple[list[int], dict[str, Any]], include: int
) -> None:
    size, attributes = geometry
    agree("AveragePool", values(2, 3, *size), count_include_pad=include, **attributes)


def test_lp_pool(agree: Agree) -> None:
    agree("LpPool", values(1, 2, 6, 6), kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], p=3)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 4)])
def test_global_pooling(agree: Agree, op_type: str, size: tuple[int, ...]) -> None:
    agree(op_type, values(2, 3, *size))

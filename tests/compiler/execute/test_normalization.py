from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offramp.compiler.errors import UnsupportedError

Agree = Callable[..., None]
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)
OF_TWO_VALUES = 2e-4
"""Two values that are nearly equal differ by their last bits, and are divided by as little as the
root of epsilon, 0.003."""


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@given(size=SIZES)
@settings(max_examples=15, deadline=None)
def test_batch_normalization(agree: Agree, size: list[int]) -> None:
    constants = [values(3), values(3), values(3), np.abs(values(3)) + np.float32(0.1)]
    agree("BatchNormalization", values(2, 3, *size), constants=constants, epsilon=1e-3)


def test_batch_statistics_are_refused(agree: Agree) -> None:
    constants = [values(3), values(3), values(3), np.ones(3, np.float32)]
    with pytest.raises(UnsupportedError, match="training_mode"):
        agree(
            "BatchNormalization",
            values(2, 3, 4),
            constants=constants,
            outputs=3,
            training_mode=1,
        )


@given(size=SIZES)
@settings(max_examples=15, deadline=None)
def test_instance_normalization(agree: Agree, size: list[int]) -> None:
    constants = [values(3), values(3)]
    x = values(2, 3, 2, *size)
    agree("InstanceNormalization", x, constants=constants, tolerance=OF_TWO_VALUES)


@example(size=[1, 1], groups=6)
@given(size=SIZES, groups=st.sampled_from([1, 2, 3, 6]))
@settings(max_examples=15, deadline=None)
def test_group_normalization(agree: Agree, size: list[int], groups: int) -> None:
    constants = [values(6), values(6)]
    x = values(2, 6, 2, *size)
    agree(
        "GroupNormalization",
        x,
        constants=constants,
        num_groups=groups,
        tolerance=OF_TWO_VALUES,
    )


@given(size=SIZES, axis=st.integers(-3, -1), bias=st.booleans())
@settings(max_examples=15, deadline=None)
def test_layer_normalization(agree: Agree, size: list[int], axis: int, bias: bool) -> None:
    x = values(2, 3, *size, 5)
    parameters = [values(*x.shape[axis:])] * (2 if bias else 1)
    agree("LayerNormalization", x, constants=parameters, axis=axis, epsilon=1e-6)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@given(size=SIZES, data=st.data())
@settings(max_examples=15, deadline=None)
def test_softmax(agree: Agree, op_type: str, size: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(size) - 1, len(size)))
    agree(op_type, values(2, *size), axis=axis)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LRN", {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5}),
        ("LRN", {"size": 5}),
        ("LpNormalization", {"axis": 1, "p": 1}),
        ("LpNormalization", {"axis": 2, "p": 2}),
        ("MeanVarianceNormalization", {}),
    ],
)
def test_other_normalizations(agree: Agree, op_type: str, attributes: dict[str, Any]) -> None:
    agree(op_type, values(2, 5, 4, 3), **attributes)

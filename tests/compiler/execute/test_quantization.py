from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from offramp.compiler.errors import UnsupportedError

Agree = Callable[..., None]
X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_one_scale_for_the_tensor(agree: Agree, dtype: type[np.integer[Any]]) -> None:
    scale, zero = np.array(0.02, np.float32), np.array(7, dtype)
    agree("QuantizeLinear", X, constants=[scale, zero])
    levels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    agree("DequantizeLinear", levels, constants=[scale, zero])


def test_a_scale_for_each_channel(agree: Agree) -> None:
    scale = np.array([0.1, 0.01, 0.3], np.float32)
    zero = np.array([0, -3, 5], np.int8)
    agree("QuantizeLinear", X, constants=[scale, zero], axis=1)
    levels = np.arange(24).reshape(2, 3, 4).astype(np.int8)
    agree("DequantizeLinear", levels, constants=[scale, zero], axis=1)


def test_without_a_zero_point(agree: Agree) -> None:
    agree("QuantizeLinear", X, constants=[np.array(0.02, np.float32)])
    agree("QuantizeLinear", X, constants=[np.array(0.02, np.float32)], output_dtype=3)
    biases = np.array([-5, 1000, 70000], np.int32)
    agree("DequantizeLinear", biases, constants=[np.array(0.5, np.float32)])


def test_blocks_are_refused(agree: Agree) -> None:
    scale = np.full((2, 3, 2), 0.1, np.float32)
    zero = np.zeros((2, 3, 2), np.int8)
    with pytest.raises(UnsupportedError, match="block_size"):
        agree("QuantizeLinear", X, constants=[scale, zero], axis=2, block_size=2)

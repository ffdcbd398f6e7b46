"""Scales and zero points: what they cover, and what rounding costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offramp.passes.quantize.ranges import METHODS, activation, affine, weight_scales

REAL = st.floats(-1e4, 1e4, width=32)


@given(REAL, REAL)
def test_a_range_is_covered_to_half_a_step(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = affine(low, high)
    ends = np.array([min(low, 0.0), max(high, 0.0)])
    assert np.abs(found.rounded(ends) - ends).max() <= 1.01 * found.scale


@given(REAL, REAL)
def test_zero_is_exact(one: float, other: float) -> None:
    found = affine(*sorted((one, other)))
    assert found.rounded(np.zeros(1))[0] == 0.0
    assert -128 <= found.zero <= 127


def test_squared_error_cuts_an_outlier_off() -> None:
    values = np.append(np.random.default_rng(0).normal(size=20_000), 12.0).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    scales = {m: activation(low, high, values, m).scale for m in METHODS}
    assert scales["mse"] < scales["minmax"]
    assert scales["percentile"] < scales["minmax"]


@pytest.mark.parametrize("method", METHODS)
def test_each_filter_has_a_scale_of_its_own(method: str) -> None:
    filters = np.random.default_rng(1).normal(size=(3, 4, 3, 3)).astype(np.float32)
    filters *= np.array([1.0, 10.0, 0.0], np.float32).reshape(3, 1, 1, 1)
    scales = weight_scales(filters, method)
    assert scales[1] > 5 * scales[0]
    assert scales[2] > 0


def test_squared_error_of_weights_is_no_larger_than_with_all_in_range() -> None:
    filters = np.random.default_rng(2).standard_t(3, size=(8, 100)).astype(np.float32)

    def error(scales: np.ndarray) -> np.ndarray:
        steps = np.clip(np.rint(filters / scales[:, None]), -127, 127)
        return np.asarray(((steps * scales[:, None] - filters) ** 2).sum(axis=1))

    best, full = weight_scales(filters, "mse"), weight_scales(filters, "minmax")
    assert (error(best) <= error(full) * (1 + 1e-6)).all()

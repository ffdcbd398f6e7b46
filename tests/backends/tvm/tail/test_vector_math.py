"""Written-out functions agree with float64 to a few units in the last place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special

from tests.backends.tvm.tail.conftest import Runner, lower

Floats = npt.NDArray[Any]

REFERENCES: dict[str, Callable[[Floats], Floats]] = {
    "Exp": np.exp,
    "Sigmoid": scipy.special.expit,
    "Tanh": np.tanh,
    "Erf": scipy.special.erf,
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1e-30, 88.5, 88.8, -87.5, -103.9]


def text(operator: str, count: int) -> str:
    return f"g (float[{count}] x) => (float[{count}] y) {{ y = {operator}(x) }}"


@pytest.mark.parametrize("operator", REFERENCES)
def test_error_is_a_few_units_in_the_last_place(run: Runner, operator: str) -> None:
    x = np.concatenate([np.linspace(-85, 88, 30000), np.linspace(-5, 5, 10001), SPECIAL])
    x = x.astype(np.float32)
    (y,) = run(text(operator, len(x)), {"x": x})
    with np.errstate(over="ignore"):
        exact = REFERENCES[operator](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    units = np.abs(y[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))
    assert units.max() < 6
    np.testing.assert_array_equal(y[~finite], rounded[~finite])


@pytest.mark.parametrize("operator", REFERENCES)
def test_no_call_of_libm_is_left(operator: str) -> None:
    (call,) = lower(text(operator, 8))
    assert not any(f"T.{name.lower()}(" in str(call.func) for name in REFERENCES)

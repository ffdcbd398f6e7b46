"""Quantised networks that read integers answer as before."""

from __future__ import annotations

import numpy as np
import pytest

from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle
from offramp.passes import IntegerInputs, Quantize
from offramp.passes.quantize.inputs import input_scales
from tests.passes.conftest import operators, straight

LAYER = """
  weight %w: float[3,2] = [1.0, -2.0, 0.5, 3.0, 1.0, 1.0]
  %y: float[1,2] = Gemm(%x, %w)
"""
X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


@pytest.fixture
def quantised() -> Program:
    return straight(LAYER, "float[1,3]", "float[1,2]") | Quantize("int8", {"x": X})


def test_answers_stay_the_same(quantised: Program) -> None:
    integers = IntegerInputs()(quantised)
    assert operators(integers, "entry")[0] == "DequantizeLinear"
    scale = input_scales(quantised)["x"]
    expected = Oracle(quantised).run({"x": X}).outputs["y"]
    found = Oracle(integers).run({"x": scale.quantised(X)}).outputs["y"]
    np.testing.assert_array_equal(found, expected)


def test_an_input_that_nothing_quantises_stays_real() -> None:
    program = straight(LAYER, "float[1,3]", "float[1,2]")
    assert input_scales(program) == {}
    assert IntegerInputs()(program) is program

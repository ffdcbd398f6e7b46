"""Quantisation of real numbers, element by element, as onnxruntime does it."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import pytest

from offramp.backends.tvm.integer.linear import RANGES
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from tests.backends.tvm.conftest import Check

SCALE = np.float32(0.0310864933)
"""Needs all nine digits: with seven, quotients near a half round to the other side."""

COUNT = 4096


def network(integer: str, zero: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["": 17]>
        quantising (float[1,{COUNT}] x) => ({integer}[1,{COUNT}] y)
        <float s = {{{SCALE:.9g}}}, {integer} z = {{{zero}}}> {{ y = QuantizeLinear(x, s, z) }}""")


@pytest.mark.parametrize("target", ["x86-64", "cortex-m4"])
@pytest.mark.parametrize(("integer", "zero"), [("int8", -3), ("uint8", 128), ("int8", 0)])
def test_quotients_are_rounded_to_even(check: Check, integer: str, zero: int, target: str) -> None:
    """Halves, their neighbours, and numbers far outside the range."""
    low, high = RANGES[integer]
    halves = np.linspace(low - zero - 3.5, high - zero + 3.5, 4000).round(1).astype(np.float32)
    nearby = np.nextafter(halves[:80] * SCALE, np.float32(np.inf))
    extremes = np.array([1e9, -1e9, 1e30, -1e30, np.inf, -np.inf, 0.0, -0.0], np.float32)
    x = np.concatenate([halves * SCALE, nearby, extremes, extremes])[:COUNT]
    check(network(integer, zero), target, [x.reshape(1, -1)])


def test_constants_are_written_with_all_their_digits() -> None:
    lowered = lower(from_onnx(network("int8", 0), batched=False), targets.get("cortex-m7"))
    literals = re.findall(r"[0-9.]+e[-+][0-9]+(?=f)", lowered.kernels.to_c())
    assert SCALE in {np.float32(literal) for literal in literals}

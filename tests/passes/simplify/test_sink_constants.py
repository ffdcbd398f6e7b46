from __future__ import annotations

from collections.abc import Callable

from offramp.passes.simplify import SinkDequantised

Rewritten = Callable[..., list[str]]

WEIGHTS = """weight %q: int8[4,4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    weight %s: float[] = [0.5]
    weight %z: int8[] = [0]
    %w: float[4,4] = DequantizeLinear(%q, %s, %z)
"""


def test_dequantised_weights_go_to_their_reader(rewritten: Rewritten) -> None:
    body = """%a: float[1,4] = Relu(%x)
    %y: float[1,4] = MatMul(%a, %w)"""
    left = rewritten(SinkDequantised(), WEIGHTS + body, "float[1,4]", "float[1,4]")
    assert left == ["Relu", "DequantizeLinear", "MatMul"]


def test_the_first_reader_counts(rewritten: Rewritten) -> None:
    body = """%a: float[1,4] = MatMul(%x, %w)
    %y: float[1,4] = MatMul(%a, %w)"""
    left = rewritten(SinkDequantised(), WEIGHTS + body, "float[1,4]", "float[1,4]")
    assert left == ["DequantizeLinear", "MatMul", "MatMul"]

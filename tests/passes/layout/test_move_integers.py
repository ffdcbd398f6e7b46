from __future__ import annotations

from collections.abc import Callable

from offramp.passes.layout.move_integers import MoveIntegers

Rewritten = Callable[..., list[str]]

SCALES = """weight %s: float[] = [0.5]
    weight %t: float[] = [0.25]
    weight %z: int8[] = [3]
    weight %each: float[3] = [1, 2, 4]
    weight %zeros: int8[3] = [0, 0, 0]
"""
QUANTISED = SCALES + "    %q: int8[1,3,4] = QuantizeLinear(%x, %s, %z)\n"


def test_data_moves_as_integers(rewritten: Rewritten) -> None:
    body = """%d: float[1,3,4] = DequantizeLinear(%q, %s, %z)
    %m: float[1,4,3] = Transpose(%d) {perm = [0, 2, 1]}
    %f: float[1,12] = Flatten(%m)
    %y: float[1,12] = Relu(%f)"""
    left = rewritten(MoveIntegers(), QUANTISED + body, "float[1,3,4]", "float[1,12]")
    assert left == ["QuantizeLinear", "Transpose", "Flatten", "DequantizeLinear", "Relu"]


def test_quantising_again_by_the_same_scale_vanishes(rewritten: Rewritten) -> None:
    body = """%d: float[1,3,4] = DequantizeLinear(%q, %s, %z)
    %f: float[1,12] = Flatten(%d)
    %r: int8[1,12] = QuantizeLinear(%f, %s, %z)
    %y: float[1,12] = DequantizeLinear(%r, %s, %z)"""
    left = rewritten(MoveIntegers(), QUANTISED + body, "float[1,3,4]", "float[1,12]")
    assert left == ["QuantizeLinear", "Flatten", "DequantizeLinear"]


def test_another_scale_stays(rewritten: Rewritten) -> None:
    body = """%d: float[1,3,4] = DequantizeLinear(%q, %s, %z)
    %r: int8[1,3,4] = QuantizeLinear(%d, %t, %z)
    %y: float[1,3,4] = DequantizeLinear(%r, %t, %z)"""
    left = rewritten(MoveIntegers(), QUANTISED + body, "float[1,3,4]", "float[1,3,4]")
    kept = ["QuantizeLinear", "DequantizeLinear", "QuantizeLinear", "DequantizeLinear"]
    assert left == kept


def test_scales_of_an_axis_stay_with_it(rewritten: Rewritten) -> None:
    body = """%q: int8[1,3,4] = QuantizeLinear(%x, %each, %zeros) {axis = 1}
    %d: float[1,3,4] = DequantizeLinear(%q, %each, %zeros) {axis = 1}
    %y: float[1,4,3] = Transpose(%d) {perm = [0, 2, 1]}"""
    left = rewritten(MoveIntegers(), SCALES + body, "float[1,3,4]", "float[1,4,3]")
    assert left == ["QuantizeLinear", "DequantizeLinear", "Transpose"]


def test_the_layout_of_an_operator_stays_with_it(rewritten: Rewritten) -> None:
    body = """%q: int8[1,3,4,2] = QuantizeLinear(%x, %s, %z)
    %d: float[1,3,4,2] = DequantizeLinear(%q, %s, %z)
    %m: float[1,2,3,4] = Transpose(%d) {perm = [0, 3, 1, 2]}
    %y: float[1,2,1,1] = GlobalAveragePool(%m)"""
    left = rewritten(MoveIntegers(), SCALES + body, "float[1,3,4,2]", "float[1,2,1,1]")
    assert left == ["QuantizeLinear", "DequantizeLinear", "Transpose", "GlobalAveragePool"]

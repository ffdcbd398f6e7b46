from __future__ import annotations

from collections.abc import Callable

from offramp.passes.simplify import FoldConstants

Rewritten = Callable[..., list[str]]
ROW = "float[1,4]"


def test_folds_chains_of_constants(rewritten: Rewritten) -> None:
    body = """weight %a: float[4] = [1.0, 2.0, 3.0, 4.0]
    weight %b: float[4] = [0.5, 0.5, 0.5, 0.5]
    %ab: float[4] = Mul(%a, %b)
    %c: float[4] = Sqrt(%ab)
    %y: float[1,4] = Add(%x, %c)"""
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["Add"]


def test_folds_the_shape_of_a_computed_tensor(rewritten: Rewritten) -> None:
    body = """weight %two: int64[1] = [2]
    %h: float[1,4] = Relu(%x)
    %s: int64[2] = Shape(%h)
    %n: int64[] = Size(%h)
    %f: float[] = Cast(%n) {to = 1}
    %r: float[1,4] = Reshape(%x, %s)
    %y: float[1,4] = Mul(%r, %f)"""
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["Relu", "Reshape", "Mul"]


def test_shape_respects_start_and_end(rewritten: Rewritten) -> None:
    body = """%s: int64[2] = Shape(%x) {start = -2, end = 3}
    %f: float[2] = Cast(%s) {to = 1}
    %m: float[] = ReduceSum(%f) {keepdims = 0}
    %y: float[1,4,3] = Mul(%x, %m)"""
    assert rewritten(FoldConstants(), body, "float[1,4,3]", "float[1,4,3]") == ["Mul"]


def test_keeps_what_depends_on_the_input(rewritten: Rewritten) -> None:
    body = """weight %a: float[4] = [1.0, 2.0, 3.0, 4.0]
    %y: float[1,4] = Mul(%x, %a)"""
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["Mul"]


def test_keeps_quantised_storage(rewritten: Rewritten) -> None:
    body = """weight %q: int8[4] = [1, 2, 3, 4]
    weight %s: float[] = [0.5]
    weight %z: int8[] = [0]
    %w: float[4] = DequantizeLinear(%q, %s, %z)
    %y: float[1,4] = Mul(%x, %w)"""
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["DequantizeLinear", "Mul"]


def test_keeps_results_that_outgrow_the_bound(rewritten: Rewritten) -> None:
    body = """weight %a: float[4] = [1.0, 2.0, 3.0, 4.0]
    weight %shape: int64[2] = [8, 4]
    %big: float[8,4] = Expand(%a, %shape)
    %sum: float[4] = ReduceSum(%big, %axes) {keepdims = 0}
    %y: float[1,4] = Mul(%x, %sum)"""
    body = "weight %axes: int64[1] = [0]\n" + body
    small = FoldConstants(max_bytes=64)
    assert rewritten(small, body, ROW, ROW) == ["Expand", "ReduceSum", "Mul"]
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["Mul"]


def test_operands_keep_their_node(rewritten: Rewritten) -> None:
    body = """weight %a: float[1,4] = [1.0, 2.0, 3.0, 4.0]
    %y: float[1,4] = Neg(%a)"""
    assert rewritten(FoldConstants(), body, ROW, ROW) == ["Neg"]

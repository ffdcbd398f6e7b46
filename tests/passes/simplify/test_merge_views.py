from __future__ import annotations

from collections.abc import Callable

from offramp.passes.simplify import MergeReshapes, MergeTransposes

Rewritten = Callable[..., list[str]]


def test_merges_reshapes_and_their_relatives(rewritten: Rewritten) -> None:
    body = """weight %a: int64[2] = [1, 12]
    weight %axis: int64[1] = [1]
    %f: float[1,12] = Reshape(%x, %a)
    %u: float[1,1,12] = Unsqueeze(%f, %axis)
    %y: float[1,12] = Flatten(%u)"""
    assert rewritten(MergeReshapes(), body, "float[1,3,4]", "float[1,12]") == ["Reshape"]


def test_keeps_an_inner_reshape_that_others_read(rewritten: Rewritten) -> None:
    body = """weight %a: int64[2] = [1, 12]
    weight %b: int64[3] = [1, 4, 3]
    %f: float[1,12] = Reshape(%x, %a)
    %g: float[1,4,3] = Reshape(%f, %b)
    %s: float[1,1] = ReduceSum(%f, %axis)
    %y: float[1,4,3] = Mul(%g, %s)"""
    body = "weight %axis: int64[1] = [1]\n" + body
    left = rewritten(MergeReshapes(), body, "float[1,3,4]", "float[1,4,3]")
    assert left == ["Reshape", "Reshape", "ReduceSum", "Mul"]


def test_merges_transposes(rewritten: Rewritten) -> None:
    body = """%a: float[1,4,2,3] = Transpose(%x) {perm = [0, 3, 1, 2]}
    %y: float[3,1,2,4] = Transpose(%a) {perm = [3, 0, 2, 1]}"""
    assert rewritten(MergeTransposes(), body, "float[1,2,3,4]", "float[3,1,2,4]") == ["Transpose"]


def test_default_permutation_reverses(rewritten: Rewritten) -> None:
    body = """%a: float[4,3,1] = Transpose(%x)
    %y: float[1,3,4] = Transpose(%a)"""
    assert rewritten(MergeTransposes(), body, "float[1,3,4]", "float[1,3,4]") == ["Transpose"]


def test_keeps_what_is_no_pair(rewritten: Rewritten) -> None:
    body = """%a: float[1,4,3] = Transpose(%x) {perm = [0, 2, 1]}
    %r: float[1,4,3] = Relu(%a)
    %y: float[1,3,4] = Transpose(%r) {perm = [0, 2, 1]}"""
    left = rewritten(MergeTransposes(), body, "float[1,3,4]", "float[1,3,4]")
    assert left == ["Transpose", "Relu", "Transpose"]

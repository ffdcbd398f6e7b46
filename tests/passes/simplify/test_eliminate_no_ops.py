from __future__ import annotations

from collections.abc import Callable

import pytest

from offramp.passes.simplify import EliminateNoOps

Rewritten = Callable[..., list[str]]
IMAGE = "float[1,4,1,3]"


@pytest.mark.parametrize(
    "node",
    [
        "Identity(%h)",
        "Dropout(%h)",
        "Cast(%h) {to = 1}",
        "Reshape(%h, %same)",
        "Expand(%h, %same)",
        "Concat(%h) {axis = 1}",
        "Sum(%h)",
        "Pad(%h, %none)",
        "Transpose(%h) {perm = [0, 1, 2, 3]}",
        "Transpose(%h) {perm = [2, 1, 0, 3]}",
    ],
)
def test_removes(rewritten: Rewritten, node: str) -> None:
    body = f"""weight %same: int64[4] = [1, 4, 1, 3]
    weight %none: int64[8] = [0, 0, 0, 0, 0, 0, 0, 0]
    %h: {IMAGE} = Relu(%x)
    %g: {IMAGE} = {node}
    %y: {IMAGE} = Neg(%g)"""
    assert rewritten(EliminateNoOps(), body, IMAGE, IMAGE) == ["Relu", "Neg"]


def test_removes_before_an_operand(rewritten: Rewritten) -> None:
    body = f"%h: {IMAGE} = Relu(%x)\n%y: {IMAGE} = Identity(%h)"
    assert rewritten(EliminateNoOps(), body, IMAGE, IMAGE) == ["Relu"]


def test_keeps_a_transpose_that_moves_data(rewritten: Rewritten) -> None:
    body = "%y: float[1,3,3] = Transpose(%x) {perm = [0, 2, 1]}"
    assert rewritten(EliminateNoOps(), body, "float[1,3,3]", "float[1,3,3]") == ["Transpose"]


def test_keeps_a_reshape_to_another_shape(rewritten: Rewritten) -> None:
    body = "weight %s: int64[2] = [1, 12]\n%y: float[1,12] = Reshape(%x, %s)"
    assert rewritten(EliminateNoOps(), body, IMAGE, "float[1,12]") == ["Reshape"]


def test_keeps_a_dropout_whose_mask_is_read(rewritten: Rewritten) -> None:
    body = f"""%h: {IMAGE}, %mask: bool[1,4,1,3] = Dropout(%x)
    %m: {IMAGE} = Cast(%mask) {{to = 1}}
    %y: {IMAGE} = Mul(%h, %m)"""
    assert rewritten(EliminateNoOps(), body, IMAGE, IMAGE) == ["Dropout", "Cast", "Mul"]


def test_keeps_a_pad_that_pads(rewritten: Rewritten) -> None:
    body = "weight %p: int64[4] = [0, 1, 0, 0]\n%y: float[1,5] = Pad(%x, %p)"
    assert rewritten(EliminateNoOps(), body, "float[1,4]", "float[1,5]") == ["Pad"]


def test_keeps_an_identity_that_makes_a_constant_an_operand(rewritten: Rewritten) -> None:
    body = "weight %w: float[1,2] = [1.0, 2.0]\n%y: float[1,2] = Identity(%w)"
    assert rewritten(EliminateNoOps(), body, "float[1,2]", "float[1,2]") == ["Identity"]

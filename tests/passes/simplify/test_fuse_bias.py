from __future__ import annotations

from collections.abc import Callable

import pytest

from offramp.passes.simplify import FuseConvBias, MatMulToGemm

Rewritten = Callable[..., list[str]]
IMAGE = "float[1,2,3,3]"
KERNEL = "weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]"
DENSE = "weight %w: float[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]"


@pytest.mark.parametrize("conv", ["Conv(%x, %w)", "Conv(%x, %w, %old)"])
@pytest.mark.parametrize(
    "bias", ["float[1,2,1,1] = [0.5, -0.5]", "float[2,1,1] = [1.0, 2.0]", "float[] = [3.0]"]
)
def test_fuses_a_constant_per_channel(rewritten: Rewritten, conv: str, bias: str) -> None:
    body = f"""{KERNEL}
    weight %old: float[2] = [0.1, 0.2]
    weight %b: {bias}
    %c: {IMAGE} = {conv}
    %y: {IMAGE} = Add(%b, %c)"""
    assert rewritten(FuseConvBias(), body, IMAGE, IMAGE) == ["Conv"]


@pytest.mark.parametrize("bias", ["float[3] = [1.0, 2.0, 3.0]", "float[1,1,3,1] = [1.0, 2.0, 3.0]"])
def test_keeps_constants_along_other_axes(rewritten: Rewritten, bias: str) -> None:
    body = f"{KERNEL}\nweight %b: {bias}\n%c: {IMAGE} = Conv(%x, %w)\n%y: {IMAGE} = Add(%c, %b)"
    assert rewritten(FuseConvBias(), body, IMAGE, IMAGE) == ["Conv", "Add"]


def test_keeps_residual_additions(rewritten: Rewritten) -> None:
    body = f"{KERNEL}\n%c: {IMAGE} = Conv(%x, %w)\n%y: {IMAGE} = Add(%c, %x)"
    assert rewritten(FuseConvBias(), body, IMAGE, IMAGE) == ["Conv", "Add"]


@pytest.mark.parametrize(
    "bias", ["float[2] = [0.5, -0.5]", "float[1,2] = [1.0, 2.0]", "float[] = [3.0]"]
)
@pytest.mark.parametrize("add", ["Add(%p, %b)", "Add(%b, %p)"])
def test_dense_layers_become_gemm(rewritten: Rewritten, bias: str, add: str) -> None:
    body = f"{DENSE}\nweight %b: {bias}\n%p: float[1,2] = MatMul(%x, %w)\n%y: float[1,2] = {add}"
    assert rewritten(MatMulToGemm(), body, "float[1,3]", "float[1,2]") == ["Gemm"]


def test_products_of_higher_rank_stay(rewritten: Rewritten) -> None:
    body = f"""{DENSE}
    weight %b: float[2] = [1.0, 2.0]
    %p: float[1,5,2] = MatMul(%x, %w)
    %y: float[1,5,2] = Add(%p, %b)"""
    assert rewritten(MatMulToGemm(), body, "float[1,5,3]", "float[1,5,2]") == ["MatMul", "Add"]


def test_sums_that_grow_the_product_stay(rewritten: Rewritten) -> None:
    body = f"""{DENSE}
    weight %b: float[2,2] = [1.0, 2.0, 3.0, 4.0]
    %p: float[1,2] = MatMul(%x, %w)
    %y: float[2,2] = Add(%p, %b)"""
    assert rewritten(MatMulToGemm(), body, "float[1,3]", "float[2,2]") == ["MatMul", "Add"]


def test_products_that_others_read_stay(rewritten: Rewritten) -> None:
    body = f"""{DENSE}
    weight %b: float[2] = [1.0, 2.0]
    %p: float[1,2] = MatMul(%x, %w)
    %s: float[1,2] = Add(%p, %b)
    %y: float[1,2] = Mul(%s, %p)"""
    assert rewritten(MatMulToGemm(), body, "float[1,3]", "float[1,2]") == ["MatMul", "Add", "Mul"]

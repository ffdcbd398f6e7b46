from __future__ import annotations

from collections.abc import Callable

import pytest

from offramp.passes.simplify import FuseBatchNorm

Rewritten = Callable[..., list[str]]
IMAGE = "float[1,2,3,3]"
NORM = """weight %gamma: float[2] = [1.5, -0.5]
    weight %beta: float[2] = [0.25, 1.0]
    weight %mean: float[2] = [0.1, -0.2]
    weight %var: float[2] = [2.0, 0.5]
    weight %b: float[2] = [0.3, 0.7]
    weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]"""


@pytest.mark.parametrize("conv", ["Conv(%x, %w)", "Conv(%x, %w, %b)", "ConvTranspose(%x, %w, %b)"])
def test_fuses_into_the_convolution(rewritten: Rewritten, conv: str) -> None:
    body = f"""{NORM}
    %c: {IMAGE} = {conv}
    %y: {IMAGE} = BatchNormalization(%c, %gamma, %beta, %mean, %var) {{epsilon = 0.01}}"""
    assert rewritten(FuseBatchNorm(), body, IMAGE, IMAGE) == [conv.split("(", maxsplit=1)[0]]


def test_fuses_per_output_channel_of_groups(rewritten: Rewritten) -> None:
    body = f"""{NORM.replace("[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]", "[2,1,1,1] = [3.0, -2.0]")}
    %c: {IMAGE} = Conv(%x, %w) {{group = 2}}
    %y: {IMAGE} = BatchNormalization(%c, %gamma, %beta, %mean, %var)"""
    assert rewritten(FuseBatchNorm(), body, IMAGE, IMAGE) == ["Conv"]


@pytest.mark.parametrize(
    "gemm", ["Gemm(%x, %v)", "Gemm(%x, %v, %b)", "Gemm(%x, %u, %b) {transB = 1}"]
)
def test_fuses_into_a_dense_layer(rewritten: Rewritten, gemm: str) -> None:
    body = f"""{NORM}
    weight %v: float[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    weight %u: float[2,3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    %c: float[1,2] = {gemm}
    %y: float[1,2] = BatchNormalization(%c, %gamma, %beta, %mean, %var)"""
    assert rewritten(FuseBatchNorm(), body, "float[1,3]", "float[1,2]") == ["Gemm"]


def test_keeps_a_norm_after_a_scaled_dense_layer(rewritten: Rewritten) -> None:
    body = f"""{NORM}
    weight %v: float[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    %c: float[1,2] = Gemm(%x, %v, %b) {{alpha = 0.5}}
    %y: float[1,2] = BatchNormalization(%c, %gamma, %beta, %mean, %var)"""
    left = rewritten(FuseBatchNorm(), body, "float[1,3]", "float[1,2]")
    assert left == ["Gemm", "BatchNormalization"]


def test_keeps_a_norm_whose_convolution_others_read(rewritten: Rewritten) -> None:
    body = f"""{NORM}
    %c: {IMAGE} = Conv(%x, %w)
    %n: {IMAGE} = BatchNormalization(%c, %gamma, %beta, %mean, %var)
    %y: {IMAGE} = Add(%n, %c)"""
    left = rewritten(FuseBatchNorm(), body, IMAGE, IMAGE)
    assert left == ["Conv", "BatchNormalization", "Add"]


def test_keeps_a_norm_with_computed_statistics(rewritten: Rewritten) -> None:
    body = f"""{NORM}
    %c: {IMAGE} = Conv(%x, %w)
    %k: float[2] = Abs(%mean)
    %y: {IMAGE} = BatchNormalization(%c, %gamma, %beta, %k, %var)"""
    left = rewritten(FuseBatchNorm(), body, IMAGE, IMAGE)
    assert left == ["Conv", "Abs", "BatchNormalization"]


def test_keeps_a_norm_after_something_else(rewritten: Rewritten) -> None:
    body = f"""{NORM}
    %c: {IMAGE} = Relu(%x)
    %y: {IMAGE} = BatchNormalization(%c, %gamma, %beta, %mean, %var)"""
    assert rewritten(FuseBatchNorm(), body, IMAGE, IMAGE) == ["Relu", "BatchNormalization"]

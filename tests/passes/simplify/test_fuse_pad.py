from __future__ import annotations

from collections.abc import Callable

import pytest

from offramp.passes.simplify import FusePad

Rewritten = Callable[..., list[str]]
IMAGE = "float[1,1,4,5]"
KERNEL = "weight %w: float[2,1,2,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]"


def padded(pads: str, pad: str, result: str, conv: str = "") -> str:
    return f"""{KERNEL}
    weight %pads: int64[8] = [{pads}]
    weight %zero: float[] = [0.0]
    weight %one: float[] = [1.0]
    weight %axes: int64[2] = [2, -1]
    weight %few: int64[4] = [1, 0, 0, 1]
    %p: float[1,1,5,6] = {pad}
    %y: {result} = Conv(%p, %w){conv}"""


@pytest.mark.parametrize(
    "pad", ["Pad(%x, %pads)", "Pad(%x, %pads, %zero)", "Pad(%x, %few, _, %axes)"]
)
def test_fuses_spatial_zeros(rewritten: Rewritten, pad: str) -> None:
    body = padded("0, 0, 1, 0, 0, 0, 0, 1", pad, "float[1,2,4,5]")
    assert rewritten(FusePad(), body, IMAGE, "float[1,2,4,5]") == ["Conv"]


def test_adds_to_the_convolutions_own_pads(rewritten: Rewritten) -> None:
    conv = " {pads = [1, 1, 0, 0], strides = [2, 1]}"
    body = padded("0, 0, 1, 0, 0, 0, 0, 1", "Pad(%x, %pads)", "float[1,2,3,6]", conv)
    assert rewritten(FusePad(), body, IMAGE, "float[1,2,3,6]") == ["Conv"]


@pytest.mark.parametrize(
    ("pad", "conv"),
    [
        ("Pad(%x, %pads, %one)", ""),
        ('Pad(%x, %pads) {mode = "edge"}', ""),
        ("Pad(%x, %pads)", ' {auto_pad = "SAME_UPPER"}'),
    ],
)
def test_keeps_other_pads(rewritten: Rewritten, pad: str, conv: str) -> None:
    result = "float[1,2,5,6]" if "SAME" in conv else "float[1,2,4,5]"
    body = padded("0, 0, 1, 0, 0, 0, 0, 1", pad, result, conv)
    assert rewritten(FusePad(), body, IMAGE, result) == ["Pad", "Conv"]


def test_keeps_added_channels(rewritten: Rewritten) -> None:
    body = """weight %w: float[1,2,1,1] = [1.0, 2.0]
    weight %pads: int64[8] = [0, 1, 0, 0, 0, 0, 0, 0]
    %p: float[1,2,4,5] = Pad(%x, %pads)
    %y: float[1,1,4,5] = Conv(%p, %w)"""
    assert rewritten(FusePad(), body, IMAGE, IMAGE) == ["Pad", "Conv"]


def test_keeps_a_padded_tensor_that_others_read(rewritten: Rewritten) -> None:
    body = (
        padded("0, 0, 1, 0, 0, 0, 0, 1", "Pad(%x, %pads)", "float[1,2,4,5]").replace("%y:", "%c:")
        + """
    %m: float[] = ReduceMax(%p) {keepdims = 0}
    %y: float[1,2,4,5] = Add(%c, %m)"""
    )
    left = rewritten(FusePad(), body, IMAGE, "float[1,2,4,5]")
    assert left == ["Pad", "Conv", "ReduceMax", "Add"]

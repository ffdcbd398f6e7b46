"""Channels-last programs answer as before, and transposes survive only where data must move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.layout import rules
from offramp.passes.layout.channels_last import ChannelsLast

IMAGE = "float[1,2,3,4]"
KERNEL = "weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]"


def straight(body: str, weights: str = "") -> Program:
    """`body` computes %y from the convolution %a of the image %x."""
    return from_text(
        f"program straight opset 18 batched -> (y) entry(%x: {IMAGE}):\n"
        f"{KERNEL}\n{weights}\n%a: {IMAGE} = Conv(%x, %w)\n{body}\nreturn (%y)"
    )


def assert_agree(before: Program, after: Program) -> None:
    (value,) = before.inputs
    shape = [4, *rules.static_shape(value)[1:]]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    old, new = (Oracle(program).run({str(value.name): x}) for program in (before, after))
    np.testing.assert_array_equal(new.exit_index, old.exit_index)
    for name, expected in old.outputs.items():
        np.testing.assert_allclose(new.outputs[name], expected, rtol=1e-5, atol=1e-5)


def moves(program: Program) -> int:
    """Transposes that belong to no spatial operator's wrapping."""
    count = 0
    for block in program.blocks.values():
        for node in block.graph:
            if node.op_type != "Transpose":
                continue
            near = [user.op_type for user in node.outputs[0].consumers()]
            source = node.inputs[0]
            maker = None if source is None else source.producer()
            near += [] if maker is None else [maker.op_type]
            count += not any(operator in rules.SPATIAL for operator in near)
    return count


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        (f"%r: {IMAGE} = Relu(%a)\n%y: {IMAGE} = Conv(%r, %w)", ""),
        (f"%c: {IMAGE} = Conv(%a, %w)\n%y: {IMAGE} = Add(%a, %c)", ""),
        (f"%y: {IMAGE} = Mul(%a, %b)", "weight %b: float[2,1,1] = [1.0, 2.0]"),
        (f"%y: {IMAGE} = Sub(%b, %a)", "weight %b: float[4] = [1.0, 2.0, 3.0, 4.0]"),
        (f"%y: {IMAGE} = Div(%a, %b)", "weight %b: float[] = [2.0]"),
        ("%y: float[1,4,3,4] = Concat(%a, %a) {axis = 1}", ""),
        ("%y: float[1,2,6,4] = Concat(%a, %a) {axis = -2}", ""),
        (f"%y: {IMAGE} = Softmax(%a) {{axis = 1}}", ""),
        (f"%y: {IMAGE} = Softmax(%a)", ""),
    ],
)
def test_one_move_in_and_one_out(body: str, weights: str) -> None:
    before = straight(body, weights)
    after = ChannelsLast()(before)
    assert_agree(before, after)
    assert moves(after) == 2


SPATIAL_AXES = "weight %axes: int64[2] = [2, 3]"
CHANNELS = "weight %axes: int64[1] = [1]"


@pytest.mark.parametrize(
    ("body", "weights", "moved"),
    [
        ("%y: float[1,2,1,1] = GlobalAveragePool(%a)", "", 1),
        ("%y: float[1,2] = ReduceMean(%a, %axes) {keepdims = 0}", SPATIAL_AXES, 1),
        ("%y: float[1,1,3,4] = ReduceMax(%a, %axes)", CHANNELS, 1),
        ("%y: float[1,3,4] = ReduceMax(%a, %axes) {keepdims = 0}", CHANNELS, 1),
        ("%y: float[1,24] = Reshape(%a, %to)", "weight %to: int64[2] = [1, -1]", 2),
        ("%y: float[1,3,4,2] = Transpose(%a) {perm = [0, 2, 3, 1]}", "", 1),
    ],
)
def test_moves_that_are_left(body: str, weights: str, moved: int) -> None:
    before = straight(body, weights)
    after = ChannelsLast()(before)
    assert_agree(before, after)
    assert moves(after) == moved


def test_images_with_one_channel_need_no_move() -> None:
    before = from_text(
        """program thin opset 18 batched -> (y)
        entry(%x: float[1,1,3,4]):
          weight %w: float[1,1,1,1] = [2.0]
          %y: float[1,1,3,4] = Conv(%x, %w)
          return (%y)"""
    )
    after = ChannelsLast()(before)
    assert_agree(before, after)
    assert moves(after) == 0


EXITS = """program leaves opset 18 batched -> (y)
entry(%x: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
  weight %axes: int64[3] = [1, 2, 3]
  %a: float[1,2,3,4] = Conv(%x, %w)
  %s: float[1] = ReduceMean(%a, %axes) {keepdims = 0}
  %p: float[1,2,1,1] = GlobalMaxPool(%a)
  exit (%p) when %s >= 0.5 by mean else rest(%a)
rest(%b: float[1,2,3,4]):
  weight %w: float[2,2,1,1] = [1.0, -2.0, 3.0, -4.0]
  %c: float[1,2,3,4] = Conv(%b, %w)
  %d: float[1,2,3,4] = Add(%b, %c)
  %y: float[1,2,1,1] = GlobalMaxPool(%d)
  return (%y)
"""


def test_blocks_pass_channels_last_values() -> None:
    before = from_text(EXITS)
    after = ChannelsLast()(before)
    assert_agree(before, after)
    assert moves(after) == 1
    assert rules.static_shape(after.blocks["rest"].parameters[0]) == (1, 3, 4, 2)


def test_networks_without_images_stay() -> None:
    before = from_text(
        """program dense opset 18 batched -> (y)
        entry(%x: float[1,2]):
          weight %w: float[2,2] = [1.0, 2.0, 3.0, 4.0]
          %a: float[1,2] = MatMul(%x, %w)
          %y: float[1,2] = Relu(%a)
          return (%y)"""
    )
    assert not ChannelsLast().run(before).modified


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "moved"), [("ic_resnet8", 0), ("kws_dscnn", 0), ("vww_mbv1", 0), ("ad_fcae", 0)]
)
def test_real_networks_move_nothing(shared: Path, name: str, moved: int) -> None:
    before = from_onnx(shared / "models" / f"{name}_float.onnx")
    after = ChannelsLast()(before)
    assert_agree(before, after)
    assert moves(after) == moved

"""Depthwise convolutions channel by channel, as assembly: onnxruntime's answers within a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp import backends
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.memory import plan_memory

pytestmark = pytest.mark.arm


def network(taps: int, channels: int, size: tuple[int, int], pad: int, scale: float) -> Program:
    """One depthwise layer, its output quantised by `scale`: small ones want a shift to the left."""
    random = np.random.default_rng(taps)
    weights = random.integers(-127, 128, channels * taps * taps).tolist()
    bias = random.integers(-9999, 9999, channels).tolist()
    given = f"1,{channels},{size[0]},{size[1]}"
    out = [extent + 2 * pad - taps + 1 for extent in size]
    result = f"1,{channels},{out[0]},{out[1]}"
    return from_text(f"""program plane opset 18 batched -> (y) entry(%x: int8[{given}]):
    weight %s: float[] = [0.5]
    weight %z: int8[] = [-3]
    weight %wi: int8[{channels},1,{taps},{taps}] = {weights}
    weight %ws: float[] = [0.25]
    weight %bi: int32[{channels}] = {bias}
    weight %bs: float[] = [0.125]
    weight %t: float[] = [{scale}]
    weight %u: int8[] = [4]
    %r: float[{given}] = DequantizeLinear(%x, %s, %z)
    %w: float[{channels},1,{taps},{taps}] = DequantizeLinear(%wi, %ws)
    %b: float[{channels}] = DequantizeLinear(%bi, %bs)
    %c: float[{result}] = Conv(%r, %w, %b)
        {{group = {channels}, pads = [{pad}, {pad}, {pad}, {pad}]}}
    %y: int8[{result}] = QuantizeLinear(%c, %t, %u)
    return (%y)""")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize(
    ("channels", "size", "pad", "scale"),
    [(8, (9, 6), 1, 64.0), (3, (6, 11), 2, 50.0), (4, (7, 7), 2, 0.1), (6, (5, 5), 0, 99.0)],
)
@pytest.mark.parametrize("exact", [False, True])
def test_answers_are_those_of_onnxruntime(
    target: str,
    taps: int,
    channels: int,
    size: tuple[int, int],
    pad: int,
    scale: float,
    exact: bool,
    tmp_path: Path,
) -> None:
    program = network(taps, channels, size, pad, scale)
    lowered = lower(program, targets.get(target), exact=exact)
    backend = backends.get(target)
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    assert "_plane_" in (tmp_path / "plane_kernels.c").read_text()
    x = np.random.default_rng(1).integers(-128, 128, (4, channels, *size)).astype(np.int8)
    (found,) = backend.load(tmp_path).run({"x": x}).outputs.values()
    (expected,) = Oracle(program).run({"x": x}).outputs.values()
    difference = np.abs(found.astype(np.int32) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.02

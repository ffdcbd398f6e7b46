"""Integers of 16 bits: every operator with them at one end or both, in integers, as onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnxruntime.quantization import QuantType

from offramp import backends
from offramp.backends.tvm.integer.refusals import OVERFLOW, Refusal
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.memory import plan_memory
from offramp.passes.simplify import simplify

from .conftest import quantised_network, samples
from .test_integer_kernels import by_onnxruntime, step

TARGETS = [
    pytest.param("cortex-m4", marks=pytest.mark.arm),
    pytest.param("cortex-m7", marks=pytest.mark.arm),
    pytest.param("cortex-m55", marks=pytest.mark.arm),
    pytest.param("riscv32", marks=pytest.mark.riscv),
]
WIDTHS = [(16, 8), (8, 16), (16, 16)]
SCALE = {8: 0.03125, 16: 0.000125}
ZERO = {8: 7, 16: -300}


def listed(values: npt.NDArray[Any]) -> str:
    return str(values.reshape(-1).tolist())


def quantised(read: int, written: int, shape: str, result: str, between: str) -> Program:
    """An operator from %r to %o, and integers of `read` and `written` bits at both ends."""
    lines = between.splitlines(keepends=True)
    weights = "".join(line for line in lines if line.startswith("    weight"))
    nodes = "".join(line for line in lines if not line.startswith("    weight")).strip()
    return from_text(f"""program wide opset 21 batched -> (y) entry(%x: int{read}[{shape}]):
    weight %s: float[] = [{SCALE[read]}]
    weight %z: int{read}[] = [{ZERO[read]}]
    weight %t: float[] = [{SCALE[written]}]
    weight %u: int{written}[] = [{ZERO[written]}]
{weights}
    %r: float[{shape}] = DequantizeLinear(%x, %s, %z)
    {nodes}
    %y: int{written}[{result}] = QuantizeLinear(%o, %t, %u)
    return (%y)""")


def weighted(kind: str, shape: tuple[int, ...], filters: int, seed: int) -> str:
    """A layer on %r with random weights of bytes, one scale a filter."""
    random = np.random.default_rng(seed)
    data = random.integers(-127, 128, shape)
    scales = random.uniform(0.5, 1.0, filters) / 127 / np.sqrt(np.prod(shape[1:]))
    bias = random.uniform(-0.5, 0.5, filters)
    dims = ",".join(map(str, shape))
    return f"""
    weight %w: int8[{dims}] = {listed(data)}
    weight %ws: float[{filters}] = {listed(scales.astype(np.float32))}
    weight %wz: int8[{filters}] = {[0] * filters}
    weight %b: float[{filters}] = {listed(bias.astype(np.float32))}
    %k: float[{dims}] = DequantizeLinear(%w, %ws, %wz) {{axis = 0}}
    {kind}"""


def convolution(taps: int, channels: int, filters: int, clip: str = "") -> tuple[str, str, str]:
    """(shape, result, nodes) of a convolution of an image of 6 x 7, clamped if so wished."""
    result = f"1,{filters},6,7"
    pad = taps // 2
    conv = f"%c: float[{result}] = Conv(%r, %k, %b) {{pads = [{pad}, {pad}, {pad}, {pad}]}}"
    nodes = weighted(conv, (filters, channels, taps, taps), filters, taps)
    return f"1,{channels},6,7", result, nodes + (clip or RELU).format(result=result)


RELU = """
    %o: float[{result}] = Relu(%c)"""
CLIP = """
    weight %lo: float[] = [-1.7]
    weight %hi: float[] = [1.5]
    %o: float[{result}] = Clip(%c, %lo, %hi)"""


def depthwise(taps: int) -> tuple[str, str, str]:
    """The same of a depthwise convolution with stride."""
    result = "1,8,3,4" if taps == 3 else "1,8,4,4"
    conv = (
        f"%o: float[{result}] = Conv(%r, %k, %b) "
        f"{{group = 8, strides = [2, 2], pads = [{taps // 2}, {taps // 2}, 1, 1]}}"
    )
    return "1,8,6,7", result, weighted(conv, (8, 1, taps, taps), 8, taps)


def same_depthwise() -> tuple[str, str, str]:
    """The same of one whose outputs may lie on its inputs, if they have as many bits."""
    conv = "%o: float[1,8,6,7] = Conv(%r, %k, %b) {group = 8, pads = [1, 1, 1, 1]}"
    return "1,8,6,7", "1,8,6,7", weighted(conv, (8, 1, 3, 3), 8, 3)


def dense() -> tuple[str, str, str]:
    """The same of a dense layer."""
    gemm = "%o: float[1,10] = Gemm(%r, %k, %b) {transB = 1}"
    return "1,36", "1,10", weighted(gemm, (10, 36), 10, 0)


def mean() -> tuple[str, str, str]:
    """The same of a mean over the image."""
    return "1,5,6,7", "1,5,1,1", "\n    %o: float[1,5,1,1] = GlobalAveragePool(%r)"


OPERATORS = {
    "3 x 3": convolution(3, 8, 6),
    "3 x 3 of odd channels": convolution(3, 3, 5),
    "pointwise": convolution(1, 8, 12),
    "pointwise, clamped": convolution(1, 12, 5, CLIP),
    "dense": dense(),
    "depthwise 3 x 3": depthwise(3),
    "depthwise 2 x 2": depthwise(2),
    "depthwise in place": same_depthwise(),
    "mean": mean(),
}


def answers(program: Program, x: Any, target: str, folder: Path) -> tuple[Any, Any]:
    """What the target and onnxruntime answer; nothing but integers is in memory."""
    lowered = lower(program, targets.get(target))
    assert not lowered.refusals
    plan = plan_memory(lowered.plan)
    moved = {plan.buffers[name].dtype for name in plan.memory.offsets if name in plan.buffers}
    assert moved <= {"int8", "int16"}
    backend = backends.get(target)
    backend.emit(Lowered(plan, lowered.kernels), folder)
    (found,) = backend.load(folder).run(x).outputs.values()
    return found.astype(int), Oracle(program).run(x).outputs["y"].astype(int)


def integers(bits: int, shape: str, count: int = 5) -> npt.NDArray[Any]:
    """Random integers, the extremes among them."""
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    size = (count, *map(int, shape.split(",")[1:]))
    found = np.random.default_rng(bits).integers(low, high, size)
    found[0], found[1] = low, high - 1
    return found.astype(f"int{bits}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("read", "written"), WIDTHS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_with_16_bits_are_computed_on_integers(
    target: str, read: int, written: int, operator: str, tmp_path: Path
) -> None:
    """Within one unit: onnxruntime sums in float32, and rounds once."""
    shape, result, nodes = OPERATORS[operator]
    program = quantised(read, written, shape, result, nodes)
    found, expected = answers(program, {"x": integers(read, shape)}, target, tmp_path)
    assert np.abs(found - expected).max() <= 1
    assert np.ptp(expected) > 100


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("widths", [(16, 8, 16), (8, 16, 8), (8, 8, 16), (16, 16, 16)])
def test_sums_of_any_widths(target: str, widths: tuple[int, int, int], tmp_path: Path) -> None:
    a, b, c = widths
    program = from_text(f"""program wide opset 21 batched -> (y) entry(
      %x: int{a}[1,37], %v: int{b}[1,37]):
    weight %s: float[] = [{SCALE[a]}]
    weight %z: int{a}[] = [{ZERO[a]}]
    weight %t: float[] = [{SCALE[b]}]
    weight %u: int{b}[] = [{ZERO[b]}]
    weight %m: float[] = [{1.5 * SCALE[c]}]
    weight %n: int{c}[] = [{ZERO[c]}]
    %r: float[1,37] = DequantizeLinear(%x, %s, %z)
    %q: float[1,37] = DequantizeLinear(%v, %t, %u)
    %o: float[1,37] = Add(%r, %q)
    %y: int{c}[1,37] = QuantizeLinear(%o, %m, %n)
    return (%y)""")
    x = {"x": integers(a, "1,37"), "v": integers(b, "1,37")[::-1].copy()}
    found, expected = answers(program, x, target, tmp_path)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_maxima_of_16_bits(target: str, tmp_path: Path) -> None:
    program = from_text(f"""program wide opset 21 batched -> (y) entry(%x: int16[1,6,6,7]):
    weight %s: float[] = [{SCALE[16]}]
    weight %z: int16[] = [{ZERO[16]}]
    %r: float[1,6,6,7] = DequantizeLinear(%x, %s, %z)
    %o: float[1,6,6,7] = MaxPool(%r) {{kernel_shape = [3, 2], pads = [1, 1, 1, 0]}}
    %a: float[1,6,6,7] = Relu(%o)
    %y: int16[1,6,6,7] = QuantizeLinear(%a, %s, %z)
    return (%y)""")
    found, expected = answers(program, {"x": integers(16, "1,6,6,7")}, target, tmp_path)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("target", TARGETS)
def test_networks_that_onnxruntime_quantised_to_16_bits(target: str, tmp_path: Path) -> None:
    """Within two units; unsigned as they come, and nothing but the ends on real numbers."""
    model = quantised_network(tmp_path, QuantType.QUInt16)
    lowered = lower(simplify()(from_onnx(model)), targets.get(target))
    calls = lowered.plan.blocks[0].calls
    types = {lowered.plan.buffers[name].dtype for c in calls[1:-1] for name in c.arguments}
    assert types == {"int8", "int16", "int32"}
    backend = backends.get(target)
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    x = samples(6, 5)
    (found,) = backend.load(tmp_path).run({"x": x}).outputs.values()
    assert np.abs(found - by_onnxruntime(model, x)).max() <= 2.001 * step(model)


@pytest.mark.parametrize("target", TARGETS)
def test_sums_that_could_leave_32_bits_are_computed_on_real_numbers(
    target: str, tmp_path: Path
) -> None:
    """Every input at its largest, these would."""
    program = from_text(f"""program wide opset 21 batched -> (y) entry(%x: int16[1,520]):
    weight %s: float[] = [0.001]
    weight %z: int16[] = [0]
    weight %t: float[] = [20.0]
    weight %u: int8[] = [0]
    weight %w: int8[2,520] = {[127] * 520 + [-127] * 260 + [126] * 260}
    weight %ws: float[] = [0.001]
    weight %wz: int8[] = [0]
    %r: float[1,520] = DequantizeLinear(%x, %s, %z)
    %k: float[2,520] = DequantizeLinear(%w, %ws, %wz)
    %o: float[1,2] = Gemm(%r, %k) {{transB = 1}}
    %y: int8[1,2] = QuantizeLinear(%o, %t, %u)
    return (%y)""")
    lowered = lower(program, targets.get(target))
    assert lowered.refusals == (Refusal("y", OVERFLOW),)
    backend = backends.get(target)
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    x = {"x": integers(16, "1,520")}
    (found,) = backend.load(tmp_path).run(x).outputs.values()
    np.testing.assert_array_equal(found, Oracle(program).run(x).outputs["y"])
    assert np.abs(found).max() > 100

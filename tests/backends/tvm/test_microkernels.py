"""The assembly of the microkernels, run in the emulator on shapes that need every variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
import pytest

from offramp import backends
from offramp.backends import tools
from offramp.backends.tvm.lower import Lowered, lower
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.microkernels.assembly import CHUNK, REGISTERS
from offramp.backends.tvm.microkernels.depthwise import DepthwiseColumn
from offramp.backends.tvm.microkernels.matrix import MatrixTile, unroll
from offramp.compiler import targets
from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.memory import plan_memory

NETWORK = """
<ir_version: 9, opset_import: ["" : 17]>
odd (float[1,5,11,9] x) => (float[1,1] y) <
  float[21,5,3,3] w1, float[21] b1, float[21,1,3,4] d1, float[12,21,1,1] w2,
  float[9,12,3,3] w3, float[9] b3, float[9,12,1,1] w4,
  float[3,9,5,5] w5, float[1,3,1,1] w6, int64[2] flat = {1, -1},
  float low = {0.0}, float high = {6.0},
  float[30,10] m1, float[10] c1, float[10,33] m2, float[33,1] m3
> {
  a = Conv <pads = [1,1,1,1]> (x, w1, b1)
  b = Relu (a)
  n = Conv <group = 21, pads = [1,2,1,1]> (b, d1)
  o = Clip (n, low, high)
  c = Conv (o, w2)
  skip = Conv <strides = [2,2]> (c, w4)
  d = Conv <strides = [2,2], pads = [0,0,2,2]> (c, w3, b3)
  e = Add (d, skip)
  f = Relu (e)
  g = Conv <pads = [2,2,2,2]> (f, w5)
  h = LeakyRelu <alpha = 0.1> (g)
  i = Conv (h, w6)
  j = Reshape (i, flat)
  k = Gemm (j, m1, c1)
  l = MatMul (k, m2)
  m = Sigmoid (l)
  y = MatMul (m, m3)
}
"""


def network() -> onnx.ModelProto:
    """The text above with random weights."""
    model = onnx.parser.parse_model(NETWORK)
    random = np.random.default_rng(3)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        data = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) + 1)
        data *= 10 if value.name == "d1" else 1  # reaches both ends of the Clip that follows
        tensor = onnx.numpy_helper.from_array(data.astype(np.float32), value.name)
        model.graph.initializer.append(tensor)
    del model.graph.value_info[:]
    return model


@pytest.mark.arm
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m7", "cortex-m55"])
def test_assembly_agrees_with_onnxruntime(tmp_path: Path, name: str) -> None:
    model, target = network(), targets.get(name)
    lowered = lower(from_onnx(model), target)
    kinds = ("conv", "depthwise", "dense")
    kernels = [s for s in lowered.kernels.symbols if any(kind in s for kind in kinds)]
    assert len(kernels) == 10
    backend = backends.get(name)
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    x = np.random.default_rng(5).standard_normal((3, 5, 11, 9)).astype(np.float32)
    found = backend.load(tmp_path).run({"x": x}).outputs["y"]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = np.concatenate([np.asarray(session.run(None, {"x": s[None]})[0]) for s in x])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.arm
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_any_optimisation_level_finds_registers(tmp_path: Path, level: str) -> None:
    source = lower(from_onnx(network()), targets.get("cortex-m7")).kernels.to_c()
    (tmp_path / "kernels.c").write_text(source)
    machine = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"]
    command = ["arm-none-eabi-gcc", "-std=c99", level, *machine, "-c", "kernels.c"]
    tools.run(command, folder=tmp_path)
    assert "vldmia" in tools.run(["arm-none-eabi-objdump", "-d", "kernels.o"], folder=tmp_path)


@pytest.mark.parametrize(
    ("pixels", "filters"), [*((1, f) for f in range(1, 17)), *((2, f) for f in range(1, 11))]
)
def test_registers_suffice(pixels: int, filters: int) -> None:
    inputs = pixels * unroll(pixels, filters)
    assert pixels * filters + inputs + min(filters, CHUNK) <= REGISTERS


def test_variants_have_names_of_their_own() -> None:
    flags = [False, True]
    variants: list[Microkernel] = [
        MatrixTile(pixels, filters, rest, loops, residual, activation)
        for pixels in (1, 2)
        for filters in (1, 8, 10)
        for rest in range(4)
        for loops in flags
        for residual in flags
        for activation in Activation
    ]
    variants += [
        DepthwiseColumn(c, taps, a) for c in (5, 16) for taps in (1, 3) for a in Activation
    ]
    assert len({variant.name for variant in variants}) == len(variants)

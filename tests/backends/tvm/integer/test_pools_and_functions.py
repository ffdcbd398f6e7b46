"""Maxima and functions of one byte: exactly what onnxruntime computes, on integers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offramp import backends
from offramp.backends.tvm.lower import Lowered, lower
from offramp.backends.tvm.microkernels.integer_maximum import IntegerMaximum
from offramp.backends.tvm.microkernels.lookup import TableLookup
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.memory import plan_memory

from .test_microkernels import compiled, pointer

TARGETS = [
    pytest.param("cortex-m4", marks=pytest.mark.arm),
    pytest.param("cortex-m7", marks=pytest.mark.arm),
    pytest.param("cortex-m55", marks=pytest.mark.arm),
    pytest.param("riscv32", marks=pytest.mark.riscv),
]
SILU = """
    %g: float[1,{c},{h},{w}] = Sigmoid(%d)
    %f: float[1,{c},{h},{w}] = Mul(%d, %g)"""
HARD_SWISH = """
    %f: float[1,{c},{h},{w}] = HardSwish(%d)"""
SHIFTED = """
    %g: float[1,{c},{h},{w}] = Sub(%five, %d)
    %f: float[1,{c},{h},{w}] = LeakyRelu(%g)"""


def network(pool: str, function: str, channels: int, size: tuple[int, int]) -> Program:
    """A pool of an image of 7 x 6, a function of it, and integers at both ends."""
    given, shape = f"1,{channels},7,6", f"1,{channels},{size[0]},{size[1]}"
    inner = function.format(c=channels, h=size[0], w=size[1])
    return from_text(f"""program pooled opset 18 batched -> (y) entry(%x: int8[{given}]):
    weight %s: float[] = [0.05]
    weight %z: int8[] = [-7]
    weight %t: float[] = [0.03125]
    weight %u: int8[] = [11]
    weight %five: float[1] = [5.0]
    %r: float[{given}] = DequantizeLinear(%x, %s, %z)
    %p: float[{shape}] = {pool}
    %a: float[{shape}] = Relu(%p)
    %q: int8[{shape}] = QuantizeLinear(%a, %s, %z)
    %d: float[{shape}] = DequantizeLinear(%q, %s, %z){inner}
    %y: int8[{shape}] = QuantizeLinear(%f, %t, %u)
    return (%y)""")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("pool", "function", "channels", "size"),
    [
        ("MaxPool(%r) {kernel_shape = [2, 2], strides = [2, 2]}", SILU, 8, (3, 3)),
        ("MaxPool(%r) {kernel_shape = [3, 2], pads = [1, 1, 1, 0]}", HARD_SWISH, 5, (7, 6)),
        ("MaxPool(%r) {kernel_shape = [2, 3], dilations = [3, 2]}", SHIFTED, 4, (4, 2)),
        ("GlobalMaxPool(%r)", SHIFTED, 18, (1, 1)),
    ],
)
def test_answers_are_those_of_onnxruntime(
    target: str, pool: str, function: str, channels: int, size: tuple[int, int], tmp_path: Path
) -> None:
    program = network(pool, function, channels, size)
    lowered = lower(program, targets.get(target))
    plan = plan_memory(lowered.plan)
    moved = {plan.buffers[name].dtype for name in plan.memory.offsets if name in plan.buffers}
    assert moved == {"int8"}
    backend = backends.get(target)
    backend.emit(Lowered(plan, lowered.kernels), tmp_path)
    x = np.random.default_rng(1).integers(-128, 128, (9, channels, 7, 6)).astype(np.int8)
    (found,) = backend.load(tmp_path).run({"x": x}).outputs.values()
    (expected,) = Oracle(program).run({"x": x}).outputs.values()
    np.testing.assert_array_equal(found, expected)


def test_a_pool_that_changes_the_scale_stays_on_real_numbers() -> None:
    program = network("MaxPool(%r) {kernel_shape = [1, 1]}", SILU, 4, (7, 6))
    rounds = [node for node in program.entry.graph if node.op_type == "QuantizeLinear"]
    rounds[0].replace_input_with(1, rounds[1].inputs[1])
    plan = lower(program, targets.get("cortex-m7")).plan
    assert "float32" in {buffer.dtype for buffer in plan.buffers.values()}


def test_a_function_without_a_value_somewhere_stays_on_real_numbers() -> None:
    """The logarithm of a negative number is none."""
    logarithm = "\n    %f: float[1,{c},{h},{w}] = Log(%d)"
    program = network("MaxPool(%r) {kernel_shape = [1, 1]}", logarithm, 4, (7, 6))
    names = [
        c.kernel for b in lower(program, targets.get("cortex-m7")).plan.blocks for c in b.calls
    ]
    assert not any("lookup" in name for name in names)


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    taps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilations=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    corner=st.tuples(st.integers(-3, 5), st.integers(-3, 5)),
    channels=st.integers(1, 9),
    bounds=st.tuples(st.integers(-128, 0), st.integers(1, 127)),
    seed=st.integers(0, 2**16),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_maximum_is_over_the_taps_inside_the_image(
    tmp_path: Path,
    size: tuple[int, int],
    taps: tuple[int, int],
    dilations: tuple[int, int],
    corner: tuple[int, int],
    channels: int,
    bounds: tuple[int, int],
    seed: int,
) -> None:
    ys, xs = (
        [at for t in range(n) if 0 <= (at := start + t * d) < extent]
        for n, d, start, extent in zip(taps, dilations, corner, size, strict=True)
    )
    if not ys or not xs:
        return
    kernel = IntegerMaximum(*bounds)
    image = np.random.default_rng(seed).integers(-128, 128, (*size, channels)).astype(np.int8)
    out = np.zeros(channels, np.int8)
    function = getattr(compiled(tmp_path, kernel), kernel.name)
    function(pointer(out), pointer(image), *corner, *size, channels, *taps, *dilations)
    expected = image[np.ix_(ys, xs)].max(axis=(0, 1))
    np.testing.assert_array_equal(out, np.clip(expected, *bounds))


@pytest.mark.parametrize("count", [0, 1, 4, 7, 33])
def test_a_table_is_read_by_unsigned_byte(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(count)
    table, data = (random.integers(-128, 128, n).astype(np.int8) for n in (256, count))
    expected = table[data.view(np.uint8)]
    function = getattr(compiled(tmp_path, TableLookup()), TableLookup().name)
    function(pointer(data), pointer(data), pointer(table), count)
    np.testing.assert_array_equal(data, expected)

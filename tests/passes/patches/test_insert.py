"""Networks in bands of rows: the same answers, from onnxruntime and from generated code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp import backends
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.costs import block_cost
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes import Quantize
from offramp.passes.memory import plan_memory
from offramp.passes.patches import InsertPatches
from offramp.passes.patches.stage import stages
from offramp.passes.simplify import simplify

Array = npt.NDArray[np.float32]


def numbers(count: int, seed: int) -> str:
    return str(np.random.default_rng(seed).normal(size=count).round(3).tolist())


def network(taps: int, stride: int, pads: tuple[int, int], dilation: int, size: int) -> Program:
    """A strided layer, a residual around a depthwise one, and a pool, each with its padding."""
    rows = (size + sum(pads) - (taps - 1) * dilation - 1) // stride + 1
    image = f"1,4,{rows},{rows}"
    return from_text(f"""program banded opset 18 batched -> (y)
    entry(%x: float[1,2,{size},{size}]):
    weight %w: float[4,2,{taps},{taps}] = {numbers(8 * taps * taps, 1)}
    weight %d: float[4,1,3,3] = {numbers(36, 2)}
    weight %m: float[4,3] = {numbers(12, 3)}
    weight %axes: int64[2] = [2, 3]
    %a: float[{image}] = Conv(%x, %w) {{strides = [{stride}, {stride}],
        dilations = [{dilation}, {dilation}], pads = [{pads[0]}, {pads[0]}, {pads[1]}, {pads[1]}]}}
    %b: float[{image}] = Relu(%a)
    %c: float[{image}] = Conv(%b, %d) {{group = 4, auto_pad = "SAME_UPPER"}}
    %e: float[{image}] = Add(%b, %c)
    %p: float[{image}] = MaxPool(%e) {{kernel_shape = [3, 3], pads = [1, 1, 1, 1]}}
    %r: float[1,4] = ReduceMean(%p, %axes) {{keepdims = 0}}
    %y: float[1,3] = MatMul(%r, %m)
    return (%y)""")


def answers(program: Program, x: Array) -> Array:
    name = str(program.inputs[0].name)
    (found,) = Oracle(program).run({name: x}).outputs.values()
    return np.asarray(found)


def images(size: int, count: int = 3) -> Array:
    return np.random.default_rng(size).normal(size=(count, 2, size, size)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    taps=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.integers(1, 2),
    size=st.integers(8, 14),
    end=st.sampled_from(["b", "e", "p"]),
    data=st.data(),
)
def test_bands_give_the_same_answers(
    taps: int,
    stride: int,
    pads: tuple[int, int],
    dilation: int,
    size: int,
    end: str,
    data: st.DataObject,
) -> None:
    """Within rounding: onnxruntime's kernels add up in an order that depends on the size."""
    program = network(taps, stride, pads, dilation, size)
    rows = next(v for n in program.entry.graph for v in n.outputs if v.name == end).shape
    assert rows is not None
    if int(rows.numpy()[2]) < 2 or max(pads) > (taps - 1) * dilation:
        return
    bands = data.draw(st.integers(2, int(rows.numpy()[2])))
    x = images(size)
    found = answers(InsertPatches(end, bands)(program), x)
    np.testing.assert_allclose(found, answers(program, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "target",
    [
        "x86-64",
        pytest.param("cortex-m7", marks=pytest.mark.arm),
        pytest.param("cortex-m55", marks=pytest.mark.arm),
        pytest.param("riscv32", marks=pytest.mark.riscv),
    ],
)
def test_generated_code_gives_the_same_bytes(target: str, tmp_path: Path) -> None:
    """On integers, with the bands and without: kernels compute each output from the same sums."""
    whole = Quantize("int8", {"x": images(16, 16)})(network(3, 2, (1, 1), 1, 16))
    end = stages(whole)[-1].end
    banded = InsertPatches(str(end.name), 3)(whole)
    found: list[Array] = []
    for name, program in (("whole", whole), ("banded", banded)):
        lowered = lower(program, targets.get(target))
        (tmp_path / name).mkdir()
        backend = backends.get(target)
        backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path / name)
        found.append(backend.load(tmp_path / name).run({"x": images(16)}).outputs["y"])
    np.testing.assert_array_equal(found[0], found[1])


def test_bands_move_no_data() -> None:
    """Slices are read where they lie, and bands are written where they belong."""
    whole = Quantize("int8", {"x": images(16, 16)})(network(3, 2, (1, 1), 1, 16))
    end = stages(whole)[-1].end
    banded = InsertPatches(str(end.name), 4)(whole)
    plans = [lower(program, targets.get("cortex-m7")).plan for program in (whole, banded)]
    kinds = [
        {call.kernel.split("_")[1] for block in plan.blocks for call in block.calls}
        for plan in plans
    ]
    assert kinds[0] == kinds[1]
    parts = [b for b in plans[1].buffers.values() if b.alias_of is not None and b.offset]
    assert parts


def test_bands_of_one_shape_share_their_kernels() -> None:
    """Those at the borders differ by their padding, all others are alike."""
    whole = Quantize("int8", {"x": images(64, 16)})(network(3, 2, (1, 1), 1, 64))
    end = str(stages(whole)[-1].end.name)
    plan = lower(InsertPatches(end, 8)(whole), targets.get("cortex-m7")).plan
    calls = [call.kernel for block in plan.blocks for call in block.calls]
    layers = len([c for b in lower(whole, targets.get("cortex-m7")).plan.blocks for c in b.calls])
    assert len(calls) > 4 * layers
    assert len(set(calls)) <= 3 * layers


def test_names_that_are_taken_already_do_no_harm() -> None:
    program = network(3, 1, (1, 1), 1, 12)
    for node, name in zip(program.entry.graph, ("a_band0", "b_band1", "b_bands"), strict=False):
        node.outputs[0].name = name
    banded = InsertPatches("b_band1", 3)(program)
    x = images(12)
    np.testing.assert_allclose(answers(banded, x), answers(program, x), rtol=1e-4, atol=1e-5)


def test_recomputed_rows_are_counted() -> None:
    program = network(3, 1, (1, 1), 1, 12)
    before, after = (block_cost(p.entry).macs for p in (program, InsertPatches("e", 2)(program)))
    first = 4 * 12 * 2 * 9  # one row of the first layer; both bands need two that are not theirs
    assert after - before == 2 * first


@pytest.mark.parametrize(
    ("end", "bands", "complaint"),
    [
        ("nobody", 2, "cannot compute 'nobody' by bands of rows"),
        ("r", 2, "cannot compute 'r' by bands of rows"),
        ("e", 13, "cannot cut the 12 rows of 'e' into 13 bands"),
        ("e", 1, "cannot cut the 12 rows of 'e' into 1 bands"),
    ],
)
def test_what_cannot_be_cut_is_refused(end: str, bands: int, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        InsertPatches(end, bands)(network(3, 1, (1, 1), 1, 12))


def test_a_layer_scaled_by_a_mean_over_all_rows_stays_whole() -> None:
    """Squeeze-and-excitation: no band is done before the mean is, and the mean needs all."""
    program = from_text(f"""program gated opset 18 batched -> (y) entry(%x: float[1,2,8,8]):
    weight %w: float[2,2,3,3] = {numbers(36, 1)}
    weight %v: float[2,2,1,1] = {numbers(4, 2)}
    %a: float[1,2,8,8] = Conv(%x, %w) {{pads = [1, 1, 1, 1]}}
    %g: float[1,2,1,1] = GlobalAveragePool(%a)
    %c: float[1,2,1,1] = Conv(%g, %v)
    %s: float[1,2,1,1] = Sigmoid(%c)
    %m: float[1,2,8,8] = Mul(%a, %s)
    %y: float[1,2,8,8] = Add(%m, %a)
    return (%y)""")
    assert [stage.end.name for stage in stages(program)] == ["a"]
    for end in ("m", "y"):
        with pytest.raises(UserError, match="cannot compute"):
            InsertPatches(end, 2)(program)


@pytest.mark.shared
@pytest.mark.parametrize("model", ["vww_mbv1", "ic_resnet8", "kws_dscnn"])
def test_shared_networks_answer_alike(model: str, shared: Path) -> None:
    """By onnxruntime, but for a unit: its convolutions add up in an order that depends on size."""
    program = simplify()(from_onnx(shared / "models" / f"{model}_int8.onnx"))
    stage = stages(program)[-1]
    banded = InsertPatches(str(stage.end.name), 2)(program)
    (value,) = program.inputs
    with np.load(shared / "models" / f"{model}_int8_samples.npz") as samples:
        x = samples["x"].reshape(-1, *value.shape.numpy()[1:])[:3]  # type: ignore[union-attr]
    found, expected = (answers(p, x).astype(np.int32) for p in (banded, program))
    assert np.abs(found - expected).max() <= 2
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))

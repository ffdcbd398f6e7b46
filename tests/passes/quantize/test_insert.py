"""A float network on integers: which operators, how close, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import offramp
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes import Quantize
from offramp.passes.simplify import simplify
from tests.passes.conftest import in_a_branch, operators, straight

Array = npt.NDArray[np.float32]
IMAGE = "float[1,2,6,6]"
DENSE = """
  weight %w: float[3,4] = [1.0, -2.0, 0.5, 3.0, 1.0, 1.0, -1.0, 0.25, 0.5, 2.0, 1.0, -0.75]
  weight %b: float[4] = [0.5, -1.0, 0.0, 2.0]
  %g: float[1,4] = Gemm(%x, %w, %b)
  %y: float[1,4] = Relu(%g)
"""


def answers(program: Program, x: Array) -> npt.NDArray[np.float64]:
    name = str(program.inputs[0].name)
    (found,) = Oracle(program).run({name: x}).outputs.values()
    return np.asarray(found, np.float64)


@pytest.fixture
def samples() -> Array:
    return np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


def test_a_dense_layer_and_its_activation_share_one_quantisation(samples: Array) -> None:
    before = straight(DENSE, "float[1,3]", "float[1,4]")
    after = before | Quantize("int8", {"x": samples})
    assert operators(after, "entry") == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "Gemm",
        "Relu",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
    expected = answers(before, samples)
    assert np.abs(answers(after, samples) - expected).max() < 0.03 * np.abs(expected).max()


def test_the_same_samples_give_the_same_program(samples: Array) -> None:
    before = straight(DENSE, "float[1,3]", "float[1,4]")
    first, second = (before | Quantize("int8", {"x": samples}) for _ in range(2))
    assert np.array_equal(answers(first, samples), answers(second, samples))


def test_corrected_biases_keep_the_mean(samples: Array) -> None:
    shifted = samples + np.float32(3.0)
    before = straight(DENSE.replace("Relu", "Identity"), "float[1,3]", "float[1,4]")
    mean = answers(before, shifted).mean(axis=0)
    errors = [
        np.abs(
            answers(
                before | Quantize("int8", {"x": shifted}, "minmax", correct_bias=correct), shifted
            ).mean(axis=0)
            - mean
        ).max()
        for correct in (True, False)
    ]
    assert errors[0] < errors[1]


def test_a_network_without_layers_stays_as_it_is() -> None:
    before = straight(f"%y: {IMAGE} = Sigmoid(%x)", IMAGE, IMAGE)
    result = Quantize("int8", {"x": np.ones((2, 2, 6, 6), np.float32)}).run(before)
    assert not result.modified


def test_control_flow_is_refused() -> None:
    branched = in_a_branch(f"%y: {IMAGE} = Relu(%x)", IMAGE, IMAGE)
    with pytest.raises(UserError, match="before exits go in"):
        _ = branched | Quantize("int8", {"in": np.ones((2, 2, 6, 6), np.float32)})


def test_no_samples_are_refused() -> None:
    with pytest.raises(UserError, match=r"calibration samples.*expected arrays for x"):
        _ = straight(DENSE, "float[1,3]", "float[1,4]") | Quantize("int8")


def test_a_quantised_network_is_refused(samples: Array) -> None:
    once = straight(DENSE, "float[1,3]", "float[1,4]") | Quantize("int8", {"x": samples})
    with pytest.raises(UserError, match="quantised already"):
        _ = once | Quantize("int8", {"x": samples})


def test_an_old_operator_set_is_refused(samples: Array) -> None:
    old = from_text(
        f"program old opset 12 batched -> (y) entry(%x: float[1,3]):\n{DENSE}\nreturn (%y)"
    )
    with pytest.raises(UserError, match=r"operator set 12.*at least 13"):
        _ = old | Quantize("int8", {"x": samples})


def test_a_sample_that_is_no_number_is_refused(samples: Array) -> None:
    samples[5, 1] = np.nan
    with pytest.raises(UserError, match="tensor 'x' is NaN or infinite"):
        _ = straight(DENSE, "float[1,3]", "float[1,4]") | Quantize("int8", {"x": samples})


@pytest.mark.parametrize("options", [("int3",), ("int8", {}, "guess")])
def test_unknown_options_are_refused(options: tuple[object, ...]) -> None:
    with pytest.raises(UserError, match=r"unknown .* expected one of"):
        Quantize(*options)  # type: ignore[arg-type]  # what a user without a type checker writes


@pytest.mark.shared
@pytest.mark.parametrize("ranges", ["mse", "percentile", "minmax"])
def test_keywords_are_told_apart_as_before(shared: Path, ranges: str) -> None:
    data = np.load(shared / "data" / "kws" / "kws_dev500.npz")
    before = offramp.from_onnx(shared / "models" / "kws_dscnn_float.onnx") | simplify()
    name = str(before.inputs[0].name)
    after = before | Quantize("int8", {name: data["x"][:100]}, ranges)
    right = [
        (answers(program, data["x"][100:]).argmax(axis=1) == data["y"][100:]).mean()
        for program in (before, after)
    ]
    assert right[1] >= right[0] - 0.01


def numbers(count: int, seed: int) -> str:
    """Weights in the text form."""
    return str(np.random.default_rng(seed).normal(size=count).round(3).tolist())


POOLED = f"""
  weight %w: float[4,2,3,3] = {numbers(72, 1)}
  weight %v: float[4,4,1,1] = {numbers(16, 2)}
  weight %b: float[4,3] = {numbers(12, 3)}
  weight %axes: int64[2] = [2, 3]
  %c: float[1,4,6,6] = Conv(%x, %w) {{pads = [1, 1, 1, 1]}}
  %r: float[1,4,6,6] = Relu(%c)
  %p: float[1,4,3,3] = MaxPool(%r) {{kernel_shape = [2, 2], strides = [2, 2]}}
  %d: float[1,4,3,3] = Conv(%p, %v)
  %g: float[1,4,3,3] = Sigmoid(%d)
  %f: float[1,4,3,3] = Mul(%d, %g)
  %m: float[1,4] = ReduceMean(%f, %axes) {{keepdims = 0}}
  %h: float[1,3] = Gemm(%m, %b)
  %y: float[1,3] = Sigmoid(%h)
"""


@pytest.fixture
def pooled() -> tuple[Program, Array]:
    images = np.random.default_rng(4).normal(size=(64, 2, 6, 6)).astype(np.float32)
    before = straight(POOLED, IMAGE, "float[1,3]")
    after = before | Quantize("int8", {"x": images})
    (expected, found) = (answers(program, images) for program in (before, after))
    assert np.abs(found - expected).max() < 0.05
    return after, images


def test_a_maximum_keeps_the_scale_of_what_it_reads(pooled: tuple[Program, Array]) -> None:
    graph = pooled[0].entry.graph
    pool = next(node for node in graph if node.op_type == "MaxPool")
    source = pool.inputs[0]
    before = None if source is None else source.producer()
    (after,) = pool.outputs[0].consumers()
    assert before is not None
    assert (before.op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
    scales = [value.const_value for value in (before.inputs[1], after.inputs[1]) if value]
    assert len({float(scale.numpy()) for scale in scales if scale is not None}) == 1


def test_a_function_between_layers_is_quantised_as_one(pooled: tuple[Program, Array]) -> None:
    """Its inner values stay real; the last function, whose result is the answer, stays as well."""
    kinds = [node.op_type for node in pooled[0].entry.graph]
    first = kinds.index("Sigmoid")
    around = kinds[first - 1 : first + 4]
    assert around == [
        "DequantizeLinear",
        "Sigmoid",
        "Mul",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
    assert kinds[-2:] == ["DequantizeLinear", "Sigmoid"]


def test_pools_and_functions_run_on_integers(pooled: tuple[Program, Array]) -> None:
    """All but the ends of the network: one tensor of real numbers in, and the answer."""
    plan = lower(pooled[0], targets.get("cortex-m7")).plan
    real = [name for name, b in plan.buffers.items() if b.dtype == "float32" and b.data is None]
    assert {name.removeprefix("entry.").split("_")[0] for name in real} <= {"x", "h", "y"}

"""Which layers take weights of four bits, and that the budget is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from offramp import backends
from offramp.backends.tvm.lower import Lowered, lower
from offramp.compiler import targets
from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.layout import rules
from offramp.passes.memory import plan_memory
from offramp.passes.quantize.insert import Quantize
from offramp.passes.quantize.mixed import Judge, choose_bits
from offramp.passes.quantize.opset import WIDE_OPSET, at_least
from offramp.passes.quantize.sites import sites
from offramp.passes.simplify import simplify
from offramp.passes.simplify.rewriting import sole_reader

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def program(shared: Path) -> Program:
    return simplify()(from_onnx(shared / "models" / "kws_dscnn_float.onnx"))


@pytest.fixture(scope="module")
def keywords(shared: Path) -> tuple[dict[str, Array], npt.NDArray[np.int64]]:
    with np.load(shared / "data" / "kws" / "kws_dev500.npz") as data:
        return {"input_1": data["x"][:120].astype(np.float32)}, data["y"][:120].astype(np.int64)


def right(program: Program, samples: dict[str, Array], labels: npt.NDArray[np.int64]) -> int:
    (scores,) = Oracle(program).run(samples).outputs.values()
    return int((scores.argmax(axis=1) == labels).sum())


@pytest.mark.shared
def test_the_longest_list_of_layers_within_the_budget(
    program: Program, keywords: tuple[dict[str, Array], npt.NDArray[np.int64]]
) -> None:
    samples, labels = keywords
    samples = {str(program.inputs[0].name): next(iter(samples.values()))}
    quantise = Quantize("int8", samples)
    chosen = {
        points: choose_bits(program, quantise, Judge(samples, labels, points)).narrow
        for points in (1.0, 100.0)
    }
    dense = {
        site.name
        for site in sites(program.entry.graph)
        if site.node.op_type == "Gemm" or site.node.attributes.get_int("group", 2) == 1
    }
    assert chosen[1.0] <= chosen[100.0] == dense
    narrow = Quantize("int8", samples, narrow=chosen[1.0])(program)
    assert right(narrow, samples, labels) >= right(program, samples, labels) - 1.2


@pytest.mark.shared
def test_narrow_weights_fit_four_bits_and_others_do_not(
    program: Program, keywords: tuple[dict[str, Array], npt.NDArray[np.int64]]
) -> None:
    samples = {str(program.inputs[0].name): next(iter(keywords[0].values()))[:20]}
    first, *_ = (site.name for site in sites(program.entry.graph))
    narrow = Quantize("int8", samples, narrow=frozenset([first]))(program)
    largest = {
        name: int(np.abs(value.const_value.numpy().astype(int)).max())
        for name, value in narrow.entry.graph.initializers.items()
        if value.const_value is not None and "_weights_int" in name
    }
    assert [name for name, size in largest.items() if size <= 7] == [f"{first}_weights_int"]


def unbalanced(program: Program, most: float) -> Program:
    """The same function with channels of very different ranges.

    Where a convolution and its Relu feed one other convolution, filters are multiplied by factors
    up to `most`, and what reads them is divided: scales by tensor waste bits on small channels.
    """
    own = clone_program(program)
    random = np.random.default_rng(0)

    def multiply(value: ir.Value | None, by: Array, shape: tuple[int, ...]) -> None:
        assert value is not None
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * by.reshape(shape))

    for node in own.entry.graph:
        reader = sole_reader(node.outputs[0])
        following = None if reader is None else sole_reader(reader.outputs[0])
        if reader is None or following is None or reader.op_type != "Relu":
            continue
        if node.op_type == following.op_type == "Conv":
            channels = rules.static_shape(node.outputs[0])[1]
            by = (most ** random.uniform(0, 1, channels)).astype(np.float32)
            multiply(node.inputs[1], by, (-1, 1, 1, 1))
            multiply(node.inputs[2], by, (-1,))
            is_depthwise = following.attributes.get_int("group", 1) > 1
            shape = (-1, 1, 1, 1) if is_depthwise else (1, -1, 1, 1)
            multiply(following.inputs[1], (1 / by).astype(np.float32), shape)
    return own


@pytest.fixture(scope="module")
def hard(program: Program) -> Program:
    """Eight bits lose 4 of 100 keywords or more."""
    return unbalanced(at_least(program, WIDE_OPSET), 16)


@pytest.mark.shared
def test_few_tensors_of_16_bits_mend_a_network_that_8_bits_spoil(
    hard: Program, keywords: tuple[dict[str, Array], npt.NDArray[np.int64]]
) -> None:
    data, labels = keywords
    samples = {str(hard.inputs[0].name): next(iter(data.values()))}
    quantise = Quantize("int8", samples)
    real, bytes_ = (right(p, samples, labels) for p in (hard, quantise(hard)))
    assert bytes_ < real - 4
    mended = choose_bits(hard, quantise, Judge(samples, labels, 1.0))
    tensors = {str(v.name) for s in sites(hard.entry.graph) for v in (*s.reads, s.writes)}
    assert 0 < len(mended.wide) < len(tensors) / 2
    assert mended.wide < tensors
    assert right(mended(hard), samples, labels) >= real - 1.2


@pytest.mark.shared
def test_a_budget_that_8_bits_keep_asks_for_no_more(
    hard: Program, keywords: tuple[dict[str, Array], npt.NDArray[np.int64]]
) -> None:
    data, labels = keywords
    samples = {str(hard.inputs[0].name): next(iter(data.values()))}
    assert not choose_bits(hard, Quantize("int8", samples), Judge(samples, labels, 60.0)).wide


@pytest.mark.shared
@pytest.mark.arm
def test_generated_code_computes_16_bits_as_onnxruntime_does(
    hard: Program, keywords: tuple[dict[str, Array], npt.NDArray[np.int64]], tmp_path: Path
) -> None:
    """Layers with 16 bits are computed on real numbers on both sides; so are the answers."""
    x = next(iter(keywords[0].values()))[:4]
    name = str(hard.inputs[0].name)
    every = {str(v.name) for s in sites(hard.entry.graph) for v in (*s.reads, s.writes)}
    wide = Quantize("int8", {name: x}, wide=frozenset(sorted(every)[::2]))(hard)
    lowered = lower(wide, targets.get("cortex-m7"))
    types = {buffer.dtype for buffer in lowered.plan.buffers.values()}
    assert {"int16", "int8"} <= types
    backend = backends.get("cortex-m7")
    backend.emit(Lowered(plan_memory(lowered.plan), lowered.kernels), tmp_path)
    (found,) = backend.load(tmp_path).run({name: x}).outputs.values()
    (expected,) = Oracle(wide).run({name: x}).outputs.values()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_16_bits_need_a_newer_operator_set() -> None:
    program = from_text(
        """program plain opset 18 batched -> (y) entry(%x: float[1,3]):
        weight %w: float[3,2] = [1.0, -2.0, 0.5, 3.0, 1.0, 1.0]
        %y: float[1,2] = Gemm(%x, %w)
        return (%y)"""
    )
    samples = {"x": np.ones((3, 3), np.float32)}
    with pytest.raises(UserError, match="operator set 18, and they need at least 21"):
        Quantize("int8", samples, wide=frozenset(["x"]))(program)
    newer = at_least(program, WIDE_OPSET)
    assert newer.opset_imports[""] == WIDE_OPSET
    assert at_least(newer, WIDE_OPSET) is newer
    quantised = Quantize("int8", samples, wide=frozenset(["x"]))(newer)
    kinds = [v.dtype for n in quantised.entry.graph for v in n.outputs if v.dtype is not None]
    assert ir.DataType.INT16 in kinds


def test_a_network_without_classes_is_refused() -> None:
    program = from_text(
        """program plain opset 18 batched -> (y) entry(%x: float[1,1,4,4]):
        weight %w: float[1,1,1,1] = [0.5]
        %y: float[1,1,4,4] = Conv(%x, %w)
        return (%y)"""
    )
    samples = {"x": np.ones((3, 1, 4, 4), np.float32)}
    with pytest.raises(UserError, match=r"class scores.*quantise to int8"):
        choose_bits(program, Quantize("int8", samples), Judge(samples, None, 0.5))

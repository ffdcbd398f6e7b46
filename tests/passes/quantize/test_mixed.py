"""Which layers take weights of four bits, and that the budget is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.quantize.insert import Quantize
from offramp.passes.quantize.mixed import Judge, choose_narrow
from offramp.passes.quantize.sites import sites
from offramp.passes.simplify import simplify

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
        points: choose_narrow(program, quantise, Judge(samples, labels, points))
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


def test_a_network_without_classes_is_refused() -> None:
    program = from_text(
        """program plain opset 18 batched -> (y) entry(%x: float[1,1,4,4]):
        weight %w: float[1,1,1,1] = [0.5]
        %y: float[1,1,4,4] = Conv(%x, %w)
        return (%y)"""
    )
    samples = {"x": np.ones((3, 1, 4, 4), np.float32)}
    with pytest.raises(UserError, match=r"class scores.*quantise to int8"):
        choose_narrow(program, Quantize("int8", samples), Judge(samples, None, 0.5))

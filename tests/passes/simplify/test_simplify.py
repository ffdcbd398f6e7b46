from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir.costs import block_cost
from offramp.compiler.oracle import Oracle
from offramp.passes.simplify import simplification, simplify


def test_passes_have_names_of_their_own() -> None:
    names = [pass_.name for pass_ in simplification()]
    assert len(set(names)) == len(names)
    assert "fuse-batch-norm" in names


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ic_resnet8", "kws_dscnn", "vww_mbv1", "ad_fcae"])
@pytest.mark.parametrize("kind", ["float", "int8"])
def test_real_models_keep_their_answers_and_work(shared: Path, name: str, kind: str) -> None:
    program = from_onnx(shared / "models" / f"{name}_{kind}.onnx")
    simple = program | simplify()
    archive = np.load(shared / "models" / f"{name}_{kind}_samples.npz")
    (value,) = program.inputs
    assert value.shape is not None
    dtype = np.int8 if kind == "int8" else np.float32
    x = archive["x"].reshape(-1, *value.shape.numpy()[1:])[:4].astype(dtype)

    expected, found = (Oracle(p).run({"input": x}).outputs["output"] for p in (program, simple))

    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert block_cost(simple.entry).macs == block_cost(program.entry).macs
    if kind == "float":
        assert len(simple.entry.graph) < len(program.entry.graph)
        assert simple | simplify() is simple

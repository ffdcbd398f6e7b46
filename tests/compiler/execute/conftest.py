"""One node, run by onnxruntime and by torch, must give the same answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession
from torch import Tensor

from offramp.compiler.torch_module import GraphModule

Arrays = Sequence[npt.NDArray[Any] | None]
OPSET = 22
SAMPLES = 2


def single_node(
    op_type: str, inputs: Arrays, constants: Arrays, outputs: int, attributes: dict[str, Any]
) -> onnx.ModelProto:
    """A model of one node over `inputs` (graph inputs), then `constants` (initializers)."""
    operands = [*inputs, *constants]
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in zip(names, inputs, strict=False)
            if x is not None
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [
            numpy_helper.from_array(x, n)
            for n, x in zip(names[len(inputs) :], constants, strict=True)
            if x is not None
        ],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def check(
    op_type: str,
    *inputs: npt.NDArray[Any] | None,
    constants: Arrays = (),
    outputs: int = 1,
    tolerance: float = 1e-5,
    **attributes: Any,
) -> None:
    """Torch agrees with onnxruntime within `tolerance`, relative to the largest output.

    It does so alone and as one of several samples, without a warning.
    """
    inputs = tuple(None if x is None else np.asarray(x) for x in inputs)
    model = single_node(op_type, inputs, constants, outputs, attributes)
    given = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    session = cast("Any", InferenceSession(model.SerializeToString()))
    expected: list[npt.NDArray[Any]] = session.run(None, given)
    graph = ir.from_proto(model).graph
    arguments = [torch.from_numpy(x) for x in given.values()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(GraphModule(graph, batched=False)(*arguments), expected, tolerance)
        if arguments:
            several = GraphModule(graph)(*(batch_of(x) for x in arguments))
            for sample in range(SAMPLES):
                alone = [y[sample].reshape(r.shape) for y, r in zip(several, expected, strict=True)]
                assert_close(alone, expected, tolerance)


def batch_of(x: Tensor) -> Tensor:
    """The same sample several times, on the leading axis if that has length 1."""
    return torch.stack([x[0] if x.ndim and len(x) == 1 else x] * SAMPLES)


def assert_close(
    found: Sequence[Tensor], expected: Sequence[npt.NDArray[Any]], tolerance: float
) -> None:
    assert len(found) == len(expected)
    for y, reference in zip(found, expected, strict=True):
        assert tuple(y.shape) == reference.shape
        assert y.numpy().dtype == reference.dtype
        scale = float(np.abs(reference[np.isfinite(reference)]).max(initial=1.0))
        np.testing.assert_allclose(y.numpy(), reference, rtol=tolerance, atol=tolerance * scale)


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """`agree(op_type, *inputs, constants=(), outputs=1, **attributes)`: see `check`."""
    return check

"""Compute one node on constants, by onnxruntime, so that folding agrees with the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

UNFOLDABLE = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "Dropout",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
"""Random operators, and the pair that marks quantised tensors: folding it undoes the storage."""

IR_VERSION = 10


def foldable(node: ir.Node) -> bool:
    """Whether `node` is deterministic, straight-line and reads nothing but constants."""
    constants = all(v is None or v.const_value is not None for v in node.inputs)
    graphs = any(a.type in _GRAPHS for a in node.attributes.values())
    return constants and not graphs and node.op_type not in UNFOLDABLE


def evaluate(node: ir.Node, opset_imports: dict[str, int]) -> list[npt.NDArray[Any]] | None:
    """The outputs of a foldable node, or None where onnxruntime has no kernel for its types."""
    import onnx
    import onnxruntime as ort

    inputs = {str(v.name): v.const_value for v in node.inputs if v is not None}
    feeds = {name: t.numpy() for name, t in inputs.items() if t is not None}
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "node",
        [_typed(name, t) for name, t in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(str(v.name)) for v in node.outputs if v.name],
    )
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opset_imports.items()]
    model = onnx.helper.make_model(graph, ir_version=IR_VERSION, opset_imports=imports)
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), _options(), providers=["CPUExecutionProvider"]
        )
        results: Sequence[Any] = session.run(None, feeds)
    except Exception:
        return None
    return [np.asarray(result) for result in results]


def _typed(name: str, tensor: Any) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, int(tensor.dtype), list(tensor.shape.numpy()))


def _options() -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return options


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)

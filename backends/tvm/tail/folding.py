"""Nodes whose inputs are all constants, computed once by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from offramp.backends.tvm.tail.scope import Attributes, resolved
from offramp.backends.tvm.tail.types import TensorType

LARGEST = 1 << 20
"""Constants with more elements than this are left to compiled code: the reference is slow."""

_NOT_FOLDED = frozenset(
    {
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        *("RandomUniformLike", "If", "Loop", "Scan", "ImageDecoder"),
    }
)


def foldable(node: onnx.NodeProto, inputs: Sequence[Any]) -> bool:
    """Whether the node is deterministic and all its inputs are small constants."""
    if node.op_type in _NOT_FOLDED:
        return False
    return all(i is None or (isinstance(i, np.ndarray) and i.size <= LARGEST) for i in inputs)


def small(declared: Sequence[TensorType | None]) -> bool:
    """Whether results of these types may be kept as constants."""
    return all(kind is None or kind.elements <= LARGEST for kind in declared)


def fold(
    node: onnx.NodeProto,
    inputs: Sequence[npt.NDArray[np.generic] | None],
    attributes: Attributes,
    opsets: Mapping[str, int],
) -> list[npt.NDArray[np.generic]]:
    """The node's outputs.

    Raises:
        Exception: whatever ONNX's reference implementation raises.
    """
    from onnx.reference import ReferenceEvaluator

    node = resolved(node, attributes)
    feeds = {n: a for n, a in zip(node.input, inputs, strict=True) if a is not None}
    outputs = [name for name in node.output if name]
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.ValueInfoProto(name=name) for name in feeds],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    results = ReferenceEvaluator(model).run(None, feeds)
    return [np.asarray(r) for r in results]

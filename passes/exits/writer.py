"""Write ONNX nodes one by one, with shapes inferred as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir.inference import infer_node
from offramp.passes.quantize.sites import given_scale

UNIT = 2**20
"""One, in the fixed point of powers."""

MOST_CLASSES = 2**31 // UNIT - 1
"""Classes whose powers sum up to less than 32 bits."""


class NodeWriter:
    """Collects nodes that belong to no graph yet.

    nodes: in topological order. Constants are initializer values: they have no node.

    Args:
        opset_imports: of the Program that the nodes will join.
        prefix: starts every name, so that names stay unique in that Program.
    """

    def __init__(self, opset_imports: Mapping[str, int], prefix: str) -> None:
        self.nodes: list[ir.Node] = []
        self._opsets = dict(opset_imports)
        self._prefix = prefix
        self._count = 0
        self._softmax: dict[ir.Value, ir.Value] = {}

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Append a node with one output; that output."""
        name = self._name(op_type)
        node = ir.node(op_type, inputs, attributes=attributes, name=name)
        node.outputs[0].name = f"{name}:0"
        infer_node(node, self._opsets)
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, array: npt.ArrayLike, dtype: Any = np.float32) -> ir.Value:
        """A constant; any graph that uses it makes it an initializer."""
        name = self._name("constant")
        tensor = ir.tensor(np.ascontiguousarray(np.asarray(array, dtype)), name=name)
        return ir.Value(
            name=name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(tensor.shape.numpy()),
            const_value=tensor,
        )

    def reduce(self, op_type: str, value: ir.Value, axis: int) -> ir.Value:
        """ReduceMax, ReduceMean or ReduceSum over one axis, which stays with length 1."""
        as_input = self._opsets[""] >= 18 or op_type == "ReduceSum"
        if as_input:
            return self.op(op_type, value, self.constant([axis], np.int64), keepdims=1)
        return self.op(op_type, value, axes=[axis], keepdims=1)

    def softmax(self, logits: ir.Value) -> ir.Value:
        """Class probabilities; written once for each value that they are taken of."""
        if logits not in self._softmax:
            self._softmax[logits] = self.op("Softmax", logits, axis=-1)
        return self._softmax[logits]

    def top_probability(self, logits: ir.Value) -> ir.Value:
        """The largest class probability.

        Where logits are 8-bit integers q by one scale s, and no softmax is there, it is one over
        the sum of exp(s (q - max q)), whose terms come from a table in fixed point: the sum is the
        same integer on every machine, and so is what is decided by it.
        """
        scale = given_scale(logits)
        node = logits.producer()
        is_small = logits.shape is not None and int(logits.shape.numpy()[-1]) <= MOST_CLASSES
        if scale is None or node is None or not is_small or logits in self._softmax:
            return self.reduce("ReduceMax", self.softmax(logits), -1)
        powers = np.rint(UNIT * np.exp(-scale.scale * np.arange(256.0)))
        wide = self.op("Cast", node.inputs[0], to=int(ir.DataType.INT32))
        distance = self.op("Sub", self.reduce("ReduceMax", wide, -1), wide)
        terms = self.op("Gather", self.constant(powers, np.int32), distance, axis=0)
        total = self.op("Cast", self.reduce("ReduceSum", terms, -1), to=int(ir.DataType.FLOAT))
        return self.op("Div", self.constant([UNIT]), total)

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}/{what}_{self._count}"

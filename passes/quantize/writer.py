"""Write quantisations into a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir.names import fresh
from offramp.passes.quantize.ranges import Affine
from offramp.passes.quantize.weights import Layer


class Writer:
    """Adds QuantizeLinear and DequantizeLinear nodes to one graph; all names are unique."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        made = {str(value.name) for node in graph for value in node.outputs}
        given = {str(value.name) for value in graph.inputs}
        self._names = {*made, *given, *graph.initializers}

    def round_trip(self, value: ir.Value, scale: Affine) -> None:
        """Quantise `value` and let its readers see what is left of it."""
        readers = tuple(value.uses())
        parameters = [
            self._constant(f"{value.name}_scale", np.array(scale.scale, np.float32)),
            self._constant(f"{value.name}_zero", np.array(scale.zero, scale.dtype)),
        ]
        kind = ir.DataType.from_numpy(scale.dtype)
        integers = self._value(f"{value.name}_{scale.dtype}", kind, value.shape)
        left = self._value(f"{value.name}_rounded", ir.DataType.FLOAT, value.shape)
        nodes = [
            ir.Node("", "QuantizeLinear", [value, *parameters], outputs=[integers]),
            ir.Node("", "DequantizeLinear", [integers, *parameters], outputs=[left]),
        ]
        self._insert(value, nodes)
        for use in readers:
            use.node.replace_input_with(use.idx, left)
        for position, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[position] = left

    def constants(self, node: ir.Node, layer: Layer, input_scale: float) -> None:
        """Let a Conv or Gemm read its weights and bias from integers."""
        name = str(node.outputs[0].name)
        weights = self._dequantised(f"{name}_weights", layer.weights, layer.scales, layer.axis)
        bias = self._dequantised(
            f"{name}_bias", layer.integer_bias(input_scale), layer.bias_scales(input_scale), 0
        )
        for value in (weights, bias):
            producer = value.producer()
            if producer is not None:
                self._graph.insert_before(node, producer)
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(1, weights)
        node.replace_input_with(2, bias)

    def drop_unread(self) -> None:
        """Remove the constants that were replaced."""
        for name, value in tuple(self._graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del self._graph.initializers[name]

    def _dequantised(
        self, name: str, data: npt.NDArray[Any], scales: npt.NDArray[np.float32], axis: int
    ) -> ir.Value:
        inputs = [self._constant(f"{name}_int", data), self._constant(f"{name}_scale", scales)]
        real = self._value(name, ir.DataType.FLOAT, ir.Shape(data.shape))
        ir.Node("", "DequantizeLinear", inputs, [ir.AttrInt64("axis", axis)], outputs=[real])
        return real

    def _insert(self, value: ir.Value, nodes: list[ir.Node]) -> None:
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, nodes)
        else:
            self._graph.insert_before(self._graph[0], nodes)

    def _constant(self, name: str, data: npt.NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(data)
        value = self._value(name, tensor.dtype, ir.Shape(data.shape))
        value.const_value = tensor
        self._graph.register_initializer(value)
        return value

    def _value(self, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        unique = fresh(name, self._names)
        self._names.add(unique)
        return ir.Value(name=unique, type=ir.TensorType(dtype), shape=shape)

"""Functions of one byte: a table has all their values.

Whatever elementwise operators stand between a dequantisation and a quantisation, together they map
256 integers to integers. onnxruntime computes the table, so it rounds as the oracle does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.integer.matching import IntegerKernel, activation, quantized
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.lookup import TableLookup
from offramp.backends.tvm.segment import segment_graph
from offramp.backends.tvm.tir import FunctionBuilder, external_call
from offramp.compiler.ir.evaluate import evaluate
from offramp.compiler.ir.functions import function_of
from offramp.passes.layout import rules

SIZE = 256


@dataclass(frozen=True)
class Lookup:
    """Structure of a function of `count` bytes."""

    count: int
    macs: int = 0
    workspace: int = 0

    def microkernels(self) -> tuple[Microkernel, ...]:
        """All C functions that the kernel calls."""
        return (TableLookup(),)


def match(node: ir.Node, opset_imports: dict[str, int]) -> IntegerKernel | None:
    """The kernel that ends in the QuantizeLinear `node`, or None."""
    if node.op_type != "QuantizeLinear" or node.domain != "":
        return None
    value, output = node.inputs[0], quantized(node)
    if output is None or value is None:
        return None
    found = function_of(value, lambda v: activation(v.producer()) is not None)
    last = value if found is None else found.source
    source = activation(last.producer())
    dequantise = last.producer()
    if source is None or dequantise is None or {source[1].bits, output.bits} != {8}:
        return None
    between = () if found is None else found.nodes
    table = _table([dequantise, *between, node], source[0], opset_imports)
    if table is None:
        return None
    return IntegerKernel(
        nodes=[*between, node],
        sources=[source[0]],
        inputs=[source[1]],
        result=node.outputs[0],
        output=output,
        bounds=output.range,
        table=table,
    )


def specify(kernel: IntegerKernel) -> Lookup:
    """The specification of a function."""
    return Lookup(prod(rules.static_shape(kernel.result)))


def build(spec: Lookup) -> Any:
    """The kernel: input, table, output."""
    code = FunctionBuilder()
    source = code.pointer("input", spec.count, "int8")
    table = code.pointer("table", SIZE, "int8")
    output = code.pointer("output", spec.count, "int8")
    (kernel,) = spec.microkernels()
    addresses = (output.address(0), source.address(0), table.address(0))
    code.run(external_call(kernel.name, *addresses, spec.count))
    return code.build()


def _table(
    nodes: list[ir.Node], source: ir.Value, opset_imports: dict[str, int]
) -> npt.NDArray[np.int8] | None:
    """Results by byte, unsigned; None if onnxruntime cannot compute them, or one is no number."""
    graph = segment_graph(nodes, opset_imports)
    every = np.arange(SIZE).astype(np.uint8).view(np.int8)
    for value in graph.inputs:
        if value.name == source.name:
            value.const_value = ir.tensor(every)
            value.shape = ir.Shape(every.shape)
    for node in graph:
        results = evaluate(node, opset_imports)
        if results is None or not np.isfinite(results[0].astype(np.float64)).all():
            return None
        node.outputs[0].const_value = ir.tensor(results[0])
        found = results[0]
    return np.ascontiguousarray(found.reshape(-1), np.int8)

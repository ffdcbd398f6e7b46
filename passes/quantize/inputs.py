"""Quantised networks that read integers: a quarter of the memory, and nothing to convert."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_block
from offramp.passes.base import Pass, PassResult
from offramp.passes.quantize.ranges import Affine
from offramp.passes.simplify.rewriting import constant, sole_reader


@dataclass(frozen=True)
class IntegerInputs(Pass):
    """Let inputs that are only quantised be the signed bytes that this makes of them.

    Whoever calls the network quantises instead, once where the samples come from; `input_scales`
    says how. Inputs that somebody reads as real numbers stay what they are.
    """

    def call(self, program: Program) -> PassResult:
        """Drop the quantisations of a copy of the entry block."""
        if not input_scales(program):
            return PassResult(program, modified=False)
        entry = clone_block(program.entry)
        graph = entry.graph
        for position, value in enumerate(tuple(graph.inputs)):
            node = _quantisation(value)
            if node is not None:
                kind = ir.TensorType(ir.DataType.INT8)
                integers = ir.Value(name=value.name, type=kind, shape=value.shape)
                ir.convenience.replace_all_uses_with(
                    node.outputs[0], integers, replace_graph_outputs=True
                )
                graph.remove(node, safe=True)
                graph.inputs[position] = integers
        blocks = {**program.blocks, entry.name: entry}
        return PassResult(replace(program, blocks=blocks), modified=True)


def input_scales(program: Program) -> dict[str, Affine]:
    """What the integers of each input would stand for, by name, of those that can be integers."""
    found: dict[str, Affine] = {}
    for value in program.entry.graph.inputs:
        node = _quantisation(value)
        if node is not None:
            scale, zero = constant(node.inputs[1]), constant(node.inputs[2])
            if scale is not None and zero is not None:
                found[str(value.name)] = Affine(float(scale.reshape(())), int(zero.reshape(())))
    return found


def _quantisation(value: ir.Value) -> ir.Node | None:
    """The node that alone reads an input, if it makes signed bytes of it by one scale."""
    node = sole_reader(value)
    if node is None or node.op_type != "QuantizeLinear" or len(node.inputs) < 3:
        return None
    operands = [constant(operand) for operand in node.inputs[1:]]
    is_single = all(operand is not None and operand.size == 1 for operand in operands)
    return node if is_single and operands[1].dtype == np.int8 else None  # type: ignore[union-attr]

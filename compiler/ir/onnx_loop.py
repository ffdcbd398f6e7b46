"""Wrap the one-sample form of a Program in an ONNX `Loop` over samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir.onnx_scope import Scope
from offramp.compiler.ir.program import Program

SAMPLE_AXIS = "N"
"""Name of the free leading dimension of every input and output."""


def loop_over_samples(
    program: Program, top: Scope, per_sample: Callable[[list[ir.Value], Scope], list[ir.Value]]
) -> tuple[list[ir.Value], list[ir.Value]]:
    """Emit `Loop(N, per_sample)` into `top`.

    Args:
        program: what runs per sample; its `batched` says whether inputs keep a leading 1.
        top: the outermost scope.
        per_sample: emits the network for one sample into the scope given and returns its results.

    Returns:
        The graph inputs, [N, ...] each, and the stacked results, [N, ...] each.
    """
    inputs = [_stacked(value, program.batched) for value in program.inputs]
    number = ir.Value(name="sample", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    alive = ir.Value(name="alive", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    body = Scope(top)
    samples = [
        _gather(body, value, number, parameter, program.batched)
        for value, parameter in zip(inputs, program.inputs, strict=True)
    ]
    results = per_sample(samples, body)
    rows = [_row(body, value) if program.batched else value for value in results]
    still = body.node("Identity", [alive], {})
    graph = body.graph("sample", [number, alive], [still, *body.own(rows, {})])
    return inputs, _loop(top, inputs[0], graph)


def _stacked(value: ir.Value, batched: bool) -> ir.Value:
    shape = value.shape if value.shape is not None else ir.Shape([])
    sample = tuple(shape)[1:] if batched else tuple(shape)
    return ir.Value(name=value.name, type=value.type, shape=ir.Shape([SAMPLE_AXIS, *sample]))


def _gather(
    body: Scope, stacked: ir.Value, number: ir.Value, parameter: ir.Value, batched: bool
) -> ir.Value:
    index = number
    if batched:
        index = body.node("Reshape", [number, body.literal(np.array([1]), "one", {})], {})
    sample = body.node("Gather", [stacked, index], {}, [ir.AttrInt64("axis", 0)])
    sample.type, sample.shape = parameter.type, parameter.shape
    sample.name = f"{parameter.name}_sample"
    return sample


def _row(body: Scope, value: ir.Value) -> ir.Value:
    """Drop a leading batch axis of 1, which the Loop's stacking replaces."""
    if value.shape is None or not value.shape or value.shape[0] != 1:
        return value
    row = body.node("Squeeze", [value, body.literal(np.array([0]), "axis", {})], {})
    row.type, row.shape = value.type, ir.Shape(tuple(value.shape)[1:])
    return row


def _loop(top: Scope, first: ir.Value, body: ir.Graph) -> list[ir.Value]:
    shape = top.node("Shape", [first], {})
    zero = top.literal(np.array(0), "zero", {})
    count = top.node("Gather", [shape, zero], {}, [ir.AttrInt64("axis", 0)])
    outputs = [
        ir.Value(
            name=row.name, type=row.type, shape=ir.Shape([SAMPLE_AXIS, *tuple(row.shape or ())])
        )
        for row in tuple(body.outputs)[1:]
    ]
    top.nodes.append(
        ir.Node("", "Loop", [count, None], [ir.AttrGraph("body", body)], outputs=outputs)
    )
    return outputs

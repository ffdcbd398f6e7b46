"""Slices and concatenations that move no data: parts of one buffer.

Both work along an axis; where all axes before it have one index only, a part is a run of bytes. A
slice is then read where it lies, and what is concatenated is written there in the first place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import onnx_ir as ir

from offramp.backends.tvm.anchors import constant
from offramp.passes.layout import rules


def slice_start(node: ir.Node) -> int | None:
    """The first element of what a Slice leaves, if that is one run; None for other nodes."""
    if node.op_type != "Slice" or node.domain != "" or node.inputs[0] is None:
        return None
    shape, left = rules.static_shape(node.inputs[0]), rules.static_shape(node.outputs[0])
    operands = [constant(value) for value in node.inputs[1:]]
    if len(operands) < 3 or any(operand is None for operand in operands):
        return None
    starts, _, axes, *steps = (operand.tolist() for operand in operands if operand is not None)
    changed = [axis for axis in range(len(shape)) if shape[axis] != left[axis]]
    if any(step != 1 for step in (steps[0] if steps else [])) or len(changed) > 1:
        return None
    if not changed:
        return 0
    (axis,) = changed
    if prod(shape[:axis]) != 1:
        return None
    start = next(s for s, a in zip(starts, axes, strict=True) if a % len(shape) == axis)
    start = max(start + shape[axis], 0) if start < 0 else start
    return int(start) * prod(shape[axis + 1 :])


def joins(nodes: Iterable[ir.Node], made: set[ir.Value], alignment: int) -> Iterator[ir.Node]:
    """The Concats whose inputs can be written into their parts of the output.

    made: values that kernels of their own compute; each gets one place only. alignment: bytes that
    a part must begin at a multiple of.
    """
    left = set(made)
    for node in nodes:
        parts = [value for value in node.inputs if value is not None]
        if node.op_type != "Concat" or node.domain != "" or not left.issuperset(parts):
            continue
        begins = list(part_starts(node))
        leading = rules.static_shape(node.outputs[0])[: _axis(node)]
        is_run = prod(leading) == 1 and all(start % alignment == 0 for start in begins)
        if is_run and len(set(parts)) == len(parts) == len(node.inputs):
            left -= set(parts)
            yield node


def part_starts(node: ir.Node) -> Iterator[int]:
    """Where each input of a Concat begins in its output, in bytes, if each is one run."""
    start = 0
    for value in node.inputs:
        if value is not None:
            yield start
            start += prod(rules.static_shape(value)) * item_bytes(value)


def item_bytes(value: ir.Value) -> int:
    """Bytes of an element in memory; float32 where no type is given."""
    return 4 if value.dtype is None else int(value.dtype.numpy().itemsize)


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() % len(rules.static_shape(node.outputs[0]))

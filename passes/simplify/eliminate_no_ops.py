"""Remove nodes that answer their first input."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import bypass, constant, static_shape

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"})
_OF_MANY = frozenset({"Concat", "Sum", "Max", "Min"})


@dataclass(frozen=True)
class EliminateNoOps(BlockPass):
    """Identity(x) = x, and what comes to the same for static shapes.

    - Dropout(x) = x at inference, where nobody reads its mask;
    - Cast(x) = x to x's own type;
    - Reshape, Flatten, Squeeze, Unsqueeze, Expand to x's own shape;
    - Transpose(x) = x where the permutation only moves axes of extent 1 that meet no other axis,
      that is, where the extents above 1 keep their order and the shape stays;
    - Concat of one input; Pad by nothing; Sum, Max and Min of one input.

    A terminator's operand is never replaced by a constant.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Bypass every such node."""
        changed = False
        for node in tuple(graph):
            source = node.inputs[0] if node.inputs else None
            if source is not None and _is_no_op(node, source):
                bypass(graph, node, source)
                changed = True
        return changed


def _is_no_op(node: ir.Node, source: ir.Value) -> bool:
    output = node.outputs[0]
    shape = static_shape(source)
    same_shape = shape is not None and shape == static_shape(output)
    if output.is_graph_output() and constant(source) is not None:
        return False
    match node.op_type:
        case "Dropout":
            return _is_inference(node)
        case "Cast":
            return source.dtype == output.dtype
        case "Transpose":
            return same_shape and _keeps_order(node, shape or ())
        case "Pad":
            pads = constant(node.inputs[1])
            return pads is not None and not pads.any()
        case _:
            alone = node.op_type in _OF_MANY and len(node.inputs) == 1
            return node.op_type == "Identity" or alone or (node.op_type in _VIEWS and same_shape)


def _is_inference(dropout: ir.Node) -> bool:
    """Whether a Dropout drops nothing, and nobody reads its mask."""
    mask = dropout.outputs[1] if len(dropout.outputs) > 1 else None
    if mask is not None and (mask.uses() or mask.is_graph_output()):
        return False
    if len(dropout.inputs) < 3 or dropout.inputs[2] is None:
        return True
    training = constant(dropout.inputs[2])
    return training is not None and not training.any()


def _keeps_order(node: ir.Node, shape: tuple[int, ...]) -> bool:
    attribute = node.attributes.get("perm")
    default = tuple(reversed(range(len(shape))))
    order = default if attribute is None else tuple(attribute.as_ints())
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)

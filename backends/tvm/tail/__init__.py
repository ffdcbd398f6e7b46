"""Everything without a hand-written kernel template, lowered through TVM Relax.

ONNX nodes become Relax expressions one by one: by a lowering of our own (`operators`), by TVM's
ONNX importer, or through the function body that the ONNX standard gives for the operator. Relax
legalises and fuses them, `schedules` orders their loops, and the result is a list of calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offramp.backends.tvm.tail.call import Operand, TailCall

if TYPE_CHECKING:
    import onnx_ir as ir

    from offramp.compiler.targets import Target

__all__ = ["Operand", "TailCall", "lower_tail"]


def lower_tail(graph: ir.Graph, target: Target) -> list[TailCall]:
    """The calls that compute a straight-line graph, in order.

    graph: inputs, outputs and values in between have static shapes; initializers are baked in.

    Raises:
        UnsupportedError: an operator cannot be compiled; names it, its node and the reason.
    """
    from offramp.backends.tvm.tail.fusion import fuse
    from offramp.backends.tvm.tail.importer import import_graph
    from offramp.backends.tvm.tail.refusal import lowering_of
    from offramp.backends.tvm.tail.walk import calls_of

    with lowering_of(graph):
        return calls_of(fuse(import_graph(graph)), graph, target)

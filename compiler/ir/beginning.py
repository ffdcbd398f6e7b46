"""The beginning of a straight-line Program, up to values that somebody wants to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import onnx_ir as ir

from offramp.compiler.ir.draft import Draft, close
from offramp.compiler.ir.program import Program
from offramp.compiler.ir.terminators import Return


def beginning(
    program: Program, wanted: Sequence[ir.Value], names: Sequence[str] | None = None
) -> Program:
    """A straight-line program up to the last of the `wanted` values.

    Its outputs are `wanted`, under `names` if given; it shares the program's tensors and none of
    its values.
    """
    nodes = list(program.entry.graph)
    ends = [value.producer() for value in wanted]
    last = max(nodes.index(end) for end in ends if end is not None)
    finish: Callable[..., Return] = lambda operands, successors: Return(operands)  # noqa: E731
    inputs = tuple(program.entry.graph.inputs)
    draft = Draft("cut", nodes[: last + 1], tuple(wanted), (), finish, bound=inputs)
    outputs = tuple(names or (str(value.name) for value in wanted))
    return replace(program, blocks=close([draft], program.opset_imports), output_names=outputs)

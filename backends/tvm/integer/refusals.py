"""Quantised layers that no integer kernel computes, and why."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from offramp.backends.tvm.integer import matching, weighted

OVERFLOW = "its sums could leave 32 bits"
NO_KERNEL = "no kernel has its shape or scales"


@dataclass(frozen=True)
class Refusal:
    """A layer, by the name of its result, and why it is computed on real numbers."""

    layer: str
    reason: str


def refusals(quantise: ir.Node) -> list[Refusal]:
    """The layer whose result a QuantizeLinear quantises on its own, if it could be one kernel."""
    kernel = matching.match(quantise)
    if kernel is None:
        return []
    reason = OVERFLOW if weighted.may_overflow(kernel) else NO_KERNEL
    return [Refusal(str(kernel.result.name), reason)]

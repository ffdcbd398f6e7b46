"""Heads on integers, where the feature that they read is integers already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir import Program, Return
from offramp.compiler.ir.clone import clone_nodes, clone_value
from offramp.compiler.ir.draft import Draft, close
from offramp.compiler.oracle import Oracle
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.quantize.insert import FIRST_OPSET, Quantize
from offramp.passes.quantize.ranges import Affine
from offramp.passes.quantize.sites import given_scale
from offramp.passes.simplify import MatMulToGemm

INTEGERS = "integers"
"""What the heads are calibrated with: the integers that the feature stands for."""


@dataclass(frozen=True)
class QuantisedHeads:
    """Heads that share layers, in QDQ form.

    heads: in the order in which they were given; they read the same feature.
    scale: of the feature.
    """

    heads: tuple[HeadGraph, ...]
    scale: Affine
    oracle: Oracle

    def logits(self, features: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
        """Logits [N, classes] of each head from features [N, ...], by onnxruntime."""
        found = self.oracle.run({INTEGERS: _integers(self.scale, features)}).outputs
        return tuple(found[name] for name in _names(self.heads))


def quantise(
    heads: Sequence[HeadGraph],
    features: npt.NDArray[np.float32],
    opsets: dict[str, int],
    seed: int,
) -> QuantisedHeads | None:
    """The same heads on 8-bit integers; None if their feature is not computed from such.

    Args:
        heads: trained, with one feature.
        features: from training samples, [N, ...], to take ranges of activations from.
        opsets: of the Program.
        seed: see `Quantize`.
    """
    scale, source = given_scale(heads[0].point.value), heads[0].point.value.producer()
    if scale is None or source is None or opsets[""] < FIRST_OPSET:
        return None
    program = MatMulToGemm()(_program(heads, source, opsets))
    program = Quantize("int8", {INTEGERS: _integers(scale, features)}, seed=seed)(program)
    nodes = list(program.entry.graph)
    feature = next(v for use in program.inputs[0].uses() for v in use.node.outputs)
    found = tuple(
        replace(head, feature=feature, nodes=_needed(nodes, logits, feature), logits=logits)
        for head, logits in zip(heads, program.entry.graph.outputs, strict=True)
    )
    return QuantisedHeads(found, scale, Oracle(program))


def _program(heads: Sequence[HeadGraph], source: ir.Node, opsets: dict[str, int]) -> Program:
    """The heads as a network that reads integers."""
    integers = ir.Value(
        name=INTEGERS, type=ir.TensorType(ir.DataType.INT8), shape=heads[0].feature.shape
    )
    feature = clone_value(source.outputs[0])
    own = ir.Node(
        "", "DequantizeLinear", [integers, *source.inputs[1:]], outputs=[feature], name="feature"
    )
    mapping = {heads[0].feature: feature}
    shared = list(dict.fromkeys(node for head in heads for node in head.nodes))
    for node in shared:
        mapping |= {v: v for v in node.inputs if v is not None and v.const_value is not None}
    nodes = clone_nodes(shared, mapping)
    finish: Callable[..., Return] = lambda operands, successors: Return(operands)  # noqa: E731
    logits = tuple(mapping[head.logits] for head in heads)
    draft = Draft("heads", [own, *nodes], logits, (), finish, bound=(integers,))
    return Program("heads", close([draft], opsets), _names(heads), opsets)


def _names(heads: Sequence[HeadGraph]) -> tuple[str, ...]:
    return tuple(f"logits{position}" for position in range(len(heads)))


def _needed(nodes: Sequence[ir.Node], logits: ir.Value, feature: ir.Value) -> tuple[ir.Node, ...]:
    """The nodes between the feature and the logits, in order."""
    wanted: set[ir.Value] = {logits}
    kept: list[ir.Node] = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs) and feature not in node.outputs:
            kept.insert(0, node)
            wanted.update(value for value in node.inputs if value is not None)
    return tuple(kept)


def _integers(scale: Affine, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """The integers that stand for `features`."""
    return np.asarray(np.rint(features / np.float32(scale.scale)) + scale.zero).astype(np.int8)

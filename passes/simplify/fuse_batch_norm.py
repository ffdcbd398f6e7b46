"""Fold a batch normalisation into the convolution before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir import Program
from offramp.passes.base import BlockPass
from offramp.passes.simplify.rewriting import add_constant, floats, replace, sole_reader


@dataclass(frozen=True)
class FuseBatchNorm(BlockPass):
    """BN(Conv(x, W, b)) = Conv(x, k W, k (b - mean) + beta) with k = gamma / sqrt(var + eps).

    Per output channel, computed in double precision. For Conv, and ConvTranspose of one group,
    with constant parameters, where nobody else reads the convolution.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fuse every such pair."""
        changed = False
        for conv in tuple(graph):
            norm = sole_reader(conv.outputs[0]) if _is_convolution(conv) else None
            if norm is not None and norm.op_type == "BatchNormalization" and _is_inference(norm):
                changed = _fuse(graph, conv, norm) or changed
        return changed


def _is_convolution(node: ir.Node) -> bool:
    if node.op_type == "ConvTranspose":
        return node.attributes.get_int("group", 1) == 1
    return node.op_type == "Conv"


def _is_inference(norm: ir.Node) -> bool:
    statistics_read = any(v.uses() or v.is_graph_output() for v in norm.outputs[1:])
    return norm.attributes.get_int("training_mode", 0) == 0 and not statistics_read


def _fuse(graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> bool:
    weights, old_bias = conv.inputs[1], conv.inputs[2] if len(conv.inputs) > 2 else None
    kernel = floats(weights)
    parameters = [floats(value) for value in norm.inputs[1:5]]
    if kernel is None or weights is None or any(p is None for p in parameters):
        return False
    gamma, beta, mean, variance = (p for p in parameters if p is not None)
    bias = np.zeros_like(mean) if old_bias is None else floats(old_bias)
    if bias is None:
        return False
    scale = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    axis = 1 if conv.op_type == "ConvTranspose" else 0
    new_kernel = kernel * _along(scale, axis, kernel.ndim)
    name = weights.name or "weight"
    inputs = [
        conv.inputs[0],
        add_constant(graph, f"{name}_normalised", new_kernel, weights),
        add_constant(graph, f"{name}_bias", scale * (bias - mean) + beta, weights),
    ]
    replace(graph, norm, conv.op_type, inputs, tuple(conv.attributes.values()))
    graph.remove(conv, safe=True)
    return True


def _along(vector: npt.NDArray[np.float64], axis: int, rank: int) -> npt.NDArray[np.float64]:
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)

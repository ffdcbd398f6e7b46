"""Fold a batch normalisation into the convolution or dense layer before it."""

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
    """BN(L(x, W, b)) = L(x, k W, k (b - mean) + beta) with k = gamma / sqrt(var + eps).

    Per output channel, computed in double precision. L is a Conv, a ConvTranspose of one group, or
    a plain Gemm, with constant parameters, and nobody else reads it.
    """

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Fuse every such pair."""
        changed = False
        for layer in tuple(graph):
            axis = _output_axis(layer)
            norm = None if axis is None else sole_reader(layer.outputs[0])
            if axis is None or norm is None or norm.op_type != "BatchNormalization":
                continue
            if _is_inference(norm):
                changed = _fuse(graph, layer, norm, axis) or changed
        return changed


def _output_axis(layer: ir.Node) -> int | None:
    """The axis of output channels in the weights; None for anything but a linear layer."""
    attributes = layer.attributes
    match layer.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1 if attributes.get_int("group", 1) == 1 else None
        case "Gemm":
            scaled = (
                attributes.get_float("alpha", 1.0) != 1 or attributes.get_float("beta", 1.0) != 1
            )
            return None if scaled else 1 - attributes.get_int("transB", 0)
        case _:
            return None


def _is_inference(norm: ir.Node) -> bool:
    statistics_read = any(v.uses() or v.is_graph_output() for v in norm.outputs[1:])
    return norm.attributes.get_int("training_mode", 0) == 0 and not statistics_read


def _fuse(graph: ir.Graph, layer: ir.Node, norm: ir.Node, axis: int) -> bool:
    weights, old_bias = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
    kernel = floats(weights)
    parameters = [floats(value) for value in norm.inputs[1:5]]
    if kernel is None or weights is None or any(p is None for p in parameters):
        return False
    gamma, beta, mean, variance = (p for p in parameters if p is not None)
    bias = np.zeros(1) if old_bias is None else floats(old_bias)
    if bias is None or bias.shape not in ((), (1,), mean.shape, (1, mean.size)):
        return False
    scale = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    name = weights.name or "weight"
    inputs = [
        layer.inputs[0],
        add_constant(
            graph, f"{name}_normalised", kernel * _along(scale, axis, kernel.ndim), weights
        ),
        add_constant(graph, f"{name}_bias", scale * (bias.ravel() - mean) + beta, weights),
    ]
    replace(graph, norm, layer.op_type, inputs, tuple(layer.attributes.values()))
    graph.remove(layer, safe=True)
    return True


def _along(vector: npt.NDArray[np.float64], axis: int, rank: int) -> npt.NDArray[np.float64]:
    shape = [1] * rank
    shape[axis] = -1
    return vector.reshape(shape)

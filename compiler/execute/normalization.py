"""Normalisation layers at inference, and softmax."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.compiler.execute.constants import unsupported


def _epsilon(node: ir.Node) -> float:
    return node.attributes.get_float("epsilon", 1e-5)


def _per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    return parameter.reshape(-1, *(1,) * (x.ndim - 2))


def _standardize(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)


def batch_normalization(  # noqa: PLR0917 - the operands are ONNX's
    node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """BatchNormalization with its stored statistics (Ioffe and Szegedy, 2015)."""
    if node.attributes.get_int("training_mode", 0):
        raise unsupported(node, "training_mode=1; export the model in evaluation mode")
    factor = scale * torch.rsqrt(variance + _epsilon(node))
    return x * _per_channel(factor, x) + _per_channel(bias - mean * factor, x)


def instance_normalization(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """InstanceNormalization (Ulyanov et al., 2016)."""
    y = _standardize(x, tuple(range(2, x.ndim)), _epsilon(node))
    return y * _per_channel(scale, x) + _per_channel(bias, x)


def group_normalization(node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """GroupNormalization (Wu and He, 2018); scale and bias per channel, or per group (opset 18)."""
    groups = node.attributes.get_int("num_groups", 1)
    channels = x.shape[1]
    grouped = x.reshape(x.shape[0], groups, -1)
    y = _standardize(grouped, (2,), _epsilon(node)).reshape(x.shape)
    repeats = channels // scale.numel()
    scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return y * _per_channel(scale, x) + _per_channel(bias, x)


def layer_normalization(
    node: ir.Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """LayerNormalization (Ba et al., 2016): the result, the mean, and 1 / standard deviation."""
    axis = node.attributes.get_int("axis", -1) % x.ndim
    axes = tuple(range(axis, x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    inverse = torch.rsqrt(centred.square().mean(axes, keepdim=True) + _epsilon(node))
    y = centred * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


def rms_normalization(node: ir.Node, x: Tensor, scale: Tensor) -> Tensor:
    """RMSNormalization (Zhang and Sennrich, 2019)."""
    axes = tuple(range(node.attributes.get_int("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + _epsilon(node)) * scale


def lp_normalization(node: ir.Node, x: Tensor) -> Tensor:
    """LpNormalization along one axis; a zero vector stays zero."""
    axis = node.attributes.get_int("axis", -1)
    norm = torch.linalg.vector_norm(x, node.attributes.get_int("p", 2), axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def mean_variance_normalization(node: ir.Node, x: Tensor) -> Tensor:
    """MeanVarianceNormalization; the 1e-9 is the standard's."""
    axes = tuple(node.attributes.get_ints("axes", (0, 2, 3)))
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def local_response_normalization(node: ir.Node, x: Tensor) -> Tensor:
    """LRN over neighbouring channels (Krizhevsky et al., 2012)."""
    size = node.attributes.get_int("size", 1)
    alpha = node.attributes.get_float("alpha", 1e-4)
    beta = node.attributes.get_float("beta", 0.75)
    channels = x.shape[1]
    before = (size - 1) // 2
    flat = x.square().reshape(x.shape[0], channels, -1)
    padded = F.pad(flat, (0, 0, before, size - 1 - before))
    total = padded.unfold(1, size, 1).sum(-1).reshape(x.shape)
    return x / (node.attributes.get_float("bias", 1.0) + alpha / size * total).pow(beta)


def softmax(node: ir.Node, x: Tensor) -> Tensor:
    """Softmax along one axis."""
    return torch.softmax(x, node.attributes.get_int("axis", -1))


def log_softmax(node: ir.Node, x: Tensor) -> Tensor:
    """LogSoftmax along one axis."""
    return torch.log_softmax(x, node.attributes.get_int("axis", -1))


def hardmax(node: ir.Node, x: Tensor) -> Tensor:
    """Hardmax: one at the first maximum along one axis, zero elsewhere."""
    axis = node.attributes.get_int("axis", -1)
    first = x.argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, torch.ones_like(x))


NORMALIZATION: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "Hardmax": hardmax,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
    "Softmax": softmax,
}

"""QuantizeLinear and DequantizeLinear, per tensor or per axis; integers carry no gradient."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.execute.constants import describe, torch_dtype, unsupported


def quantize_linear(
    node: ir.Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None
) -> Tensor:
    """QuantizeLinear: rounds half to even and saturates."""
    dtype = torch.uint8 if zero_point is None else zero_point.dtype
    named = node.attributes.get_int("output_dtype", 0)
    if zero_point is None and named > 0:
        dtype = torch_dtype(ir.DataType(named), describe(node))
    offset = torch.zeros_like(scale) if zero_point is None else zero_point
    levels = torch.round(x / _along_axis(node, scale, x)) + _along_axis(node, offset, x)
    limits = torch.iinfo(dtype)
    return torch.clamp(levels, limits.min, limits.max).to(dtype)


def dequantize_linear(
    node: ir.Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None
) -> Tensor:
    """DequantizeLinear."""
    levels = x.to(scale.dtype)
    if zero_point is not None:
        levels = levels - _along_axis(node, zero_point, x).to(scale.dtype)
    return levels * _along_axis(node, scale, x)


def _along_axis(node: ir.Node, parameter: Tensor, x: Tensor) -> Tensor:
    """One parameter for all of `x`, or one for each position on the node's axis."""
    if node.attributes.get_int("block_size", 0):
        raise unsupported(node, "block_size; only one scale per tensor or per axis")
    if parameter.ndim == 0:
        return parameter
    shape = [1] * x.ndim
    shape[node.attributes.get_int("axis", 1) if parameter.numel() > 1 else 0] = -1
    return parameter.reshape(shape)


QUANTIZATION: dict[str, Callable[..., Tensor]] = {
    "DequantizeLinear": dequantize_linear,
    "QuantizeLinear": quantize_linear,
}

"""Operators whose result depends on shapes and attributes only."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.execute.constants import (
    describe,
    integers,
    numbers,
    to_torch,
    torch_dtype,
    unsupported,
)


def constant(node: ir.Node) -> Tensor:
    """Constant in any of its numeric forms."""
    attributes = node.attributes
    if "value" in attributes:
        return to_torch(attributes["value"].as_tensor())
    if "value_int" in attributes or "value_ints" in attributes:
        ints = attributes.get_ints("value_ints", None)
        return torch.tensor(
            attributes.get_int("value_int", 0) if ints is None else list(ints), dtype=torch.int64
        )
    if "value_float" in attributes or "value_floats" in attributes:
        floats = attributes.get_floats("value_floats", None)
        return torch.tensor(
            attributes.get_float("value_float", 0.0) if floats is None else list(floats)
        )
    raise unsupported(node, f"attributes {sorted(attributes)}; expected a dense numeric value")


def shape_of(node: ir.Node, x: Tensor) -> Tensor:
    """Shape, or a range of its axes."""
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", x.ndim)
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def size_of(_: ir.Node, x: Tensor) -> Tensor:
    """Size: the number of elements."""
    return torch.tensor(x.numel(), dtype=torch.int64)


def constant_of_shape(node: ir.Node, shape: Tensor) -> Tensor:
    """ConstantOfShape: float zeros by default."""
    fill = torch.zeros(1)
    if "value" in node.attributes:
        fill = to_torch(node.attributes["value"].as_tensor())
    return fill.to(shape.device).reshape(()).expand(integers(node, shape))


def value_range(node: ir.Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Range between constants."""
    bounds = [numbers(node, operand)[0] for operand in (start, limit, delta)]
    return torch.arange(*bounds, dtype=start.dtype, device=start.device)


def eye_like(node: ir.Node, x: Tensor) -> Tensor:
    """EyeLike: ones on one diagonal."""
    dtype = x.dtype
    if "dtype" in node.attributes:
        dtype = torch_dtype(ir.DataType(node.attributes.get_int("dtype", 1)), describe(node))
    rows, columns = x.shape
    row = torch.arange(rows, device=x.device).unsqueeze(1)
    column = torch.arange(columns, device=x.device)
    return (column == row + node.attributes.get_int("k", 0)).to(dtype)


def one_hot(node: ir.Node, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """OneHot with off and on values; indices outside the depth leave the row off."""
    classes = integers(node, depth)[0]
    axis = node.attributes.get_int("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    wrapped = torch.where(indices < 0, indices + classes, indices).to(torch.int64).unsqueeze(axis)
    shape = [1] * wrapped.ndim
    shape[axis] = classes
    hot = wrapped == torch.arange(classes, device=indices.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


CREATION: dict[str, Callable[..., Tensor]] = {
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "OneHot": one_hot,
    "Range": value_range,
    "Shape": shape_of,
    "Size": size_of,
}

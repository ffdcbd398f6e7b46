"""Operands that an operator needs as plain numbers: shapes, axes, pads, split sizes.

They must be known while the graph runs sample-wise under `torch.vmap`, so they may come from
initializers, constants and shapes, never from the data of a sample.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from offramp.compiler.errors import UnsupportedError

TORCH_DTYPES: dict[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def describe(node: ir.Node) -> str:
    """`Conv node "stem"`, for messages."""
    return f'{node.op_type} node "{node.name or node.outputs[0].name}"'


def unsupported(node: ir.Node, what: str) -> UnsupportedError:
    """The error for a use of an operator that has no torch counterpart here."""
    return UnsupportedError(f"{describe(node)} cannot run as a torch module: {what}")


def torch_dtype(dtype: ir.DataType, where: str) -> torch.dtype:
    """The torch dtype of an ONNX one; `where` names its place in messages.

    Raises:
        UnsupportedError: torch has no such type here (strings, float8, 4-bit integers).
    """
    if dtype not in TORCH_DTYPES:
        raise UnsupportedError(f"{where}: no torch type for {dtype.name}")
    return TORCH_DTYPES[dtype]


def to_torch(tensor: ir.TensorProtocol) -> Tensor:
    """A torch copy of an ONNX tensor.

    Raises:
        UnsupportedError: torch has no such element type here.
    """
    torch_dtype(tensor.dtype, f'tensor "{tensor.name}"')
    return torch.from_numpy(np.array(tensor.numpy(), order="C", copy=True))


def numbers(node: ir.Node, operand: Tensor) -> list[float]:
    """The values of a constant float operand.

    Raises:
        UnsupportedError: the operand depends on the data of the sample.
    """
    try:
        return cast("list[float]", operand.detach().reshape(-1).tolist())
    except RuntimeError as error:
        raise unsupported(
            node, "an operand that sets shapes or axes is computed from the data; make it constant"
        ) from error


def integers(node: ir.Node, operand: Tensor) -> list[int]:
    """The values of a constant integer operand.

    Raises:
        UnsupportedError: the operand depends on the data of the sample.
    """
    return [int(number) for number in numbers(node, operand)]


def axes_of(node: ir.Node, operand: Tensor | None) -> list[int] | None:
    """Axes given as an operand (newer operator sets) or as an attribute (older ones)."""
    if operand is not None:
        return integers(node, operand)
    attribute = node.attributes.get_ints("axes", None)
    return None if attribute is None else list(attribute)

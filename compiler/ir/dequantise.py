"""What quantised constants stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def dequantised(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """The output of a DequantizeLinear of constants, by one scale or one for each index of an axis.

    None for any other node, for what is computed, and for scales of blocks.
    """
    if node.op_type != "DequantizeLinear" or node.domain != "":
        return None
    operands = [_contents(value) for value in node.inputs]
    data, scale = operands[0], operands[1]
    if data is None or scale is None or scale.ndim > 1:
        return None
    zero = operands[2] if len(operands) > 2 else None
    real = data.astype(np.float32)
    if zero is not None:
        real = real - along_axis(node, zero, data.ndim).astype(np.float32)
    return np.asarray(real * along_axis(node, scale, data.ndim), np.float32)


def along_axis(node: ir.Node, values: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """Scales or zero points of a (de)quantisation, shaped to meet data of `rank` axes."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[node.attributes.get_int("axis", 1)] = -1
    return values.reshape(shape)


def _contents(value: ir.Value | None) -> npt.NDArray[Any] | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()

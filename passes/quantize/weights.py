"""Weights and biases as integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.quantize.ranges import weight_scales
from offramp.passes.simplify.rewriting import constant


@dataclass(frozen=True)
class Layer:
    """The quantised constants of a convolution or dense layer.

    weights: int8, as the operator has them. scales: float32, by filter. axis: of the filters.
    bias: float64, by filter, corrected.
    """

    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    axis: int
    bias: npt.NDArray[np.float64]

    def integer_bias(self, input_scale: float) -> npt.NDArray[np.int32]:
        """The bias in units of a product: input scale times weight scale."""
        steps = np.rint(self.bias / self.bias_scales(input_scale).astype(np.float64))
        limits = np.iinfo(np.int32)
        return np.clip(steps, limits.min, limits.max).astype(np.int32)

    def bias_scales(self, input_scale: float) -> npt.NDArray[np.float32]:
        """What the integers of the bias count."""
        return (np.float32(input_scale) * self.scales).astype(np.float32)


def quantised_layer(
    node: ir.Node, method: str, means: npt.NDArray[np.float64] | None, bits: int = 8
) -> Layer:
    """Quantise the constants of `node`, a Conv or Gemm.

    The bias takes up what rounding the weights shifts on average: the rounding errors times the
    mean inputs (bias correction, Nagel et al., Data-Free Quantization, 2019).

    Args:
        node: with constant weights.
        method: of the weights' ranges.
        means: of the input, by channel; None leaves the bias as it is.
        bits: that weights take, sign included.
    """
    high = 2 ** (bits - 1) - 1
    real = np.asarray(constant(node.inputs[1]), np.float32)
    axis = 0 if node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1 else 1
    filters = np.moveaxis(real, axis, 0)
    scales = weight_scales(filters, method, high)
    by_filter = scales.reshape(-1, *[1] * (filters.ndim - 1))
    rounded = np.clip(np.rint(filters / by_filter), -high, high)
    given = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    bias = np.zeros(len(filters)) if given is None else given.astype(np.float64)
    if means is not None:
        error = (rounded * by_filter - filters).astype(np.float64)
        by_channel = error.reshape(*error.shape[:2], -1).sum(axis=2)
        bias = bias - (by_channel * _by_filter(means, by_channel.shape)).sum(axis=1)
    return Layer(np.moveaxis(rounded, 0, axis).astype(np.int8), scales, axis, bias)


def _by_filter(means: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The means of the channels that each filter of a (grouped) layer reads."""
    filters, channels = shape
    groups = means.reshape(-1, channels)
    return np.repeat(groups, filters // len(groups), axis=0)

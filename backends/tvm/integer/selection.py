"""Choose the template of an integer kernel and pack its constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.anchors import Anchor
from offramp.backends.tvm.integer import channelwise, conv, linear
from offramp.backends.tvm.integer.channelwise import Depthwise, Mean, Sum
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.linear import Linear
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.scaling import fixed_point
from offramp.backends.tvm.templates.channelwise import Reduction
from offramp.passes.layout import rules

IntegerSpec = IntegerConv | Depthwise | Mean | Sum | Linear
Argument = ir.Value | npt.NDArray[np.generic]

ADDEND_BITS = 14
"""Bits of the larger factor of a sum: products with bytes and their sum stay within 32 bits."""


def build(spec: IntegerSpec) -> Any:
    """The TIR function of a specification."""
    match spec:
        case IntegerConv():
            return conv.build(spec)
        case Depthwise():
            return channelwise.build_depthwise(spec)
        case Mean():
            return channelwise.build_mean(spec)
        case Sum():
            return channelwise.build_sum(spec)
        case Linear():
            return linear.build(spec)


def specify(kernel: IntegerKernel) -> tuple[IntegerSpec, tuple[Argument, ...]] | None:
    """The specification and the arguments without the output; None if no template fits."""
    anchor = kernel.anchor
    if anchor is None:
        spec = _sum(kernel)
        return None if spec is None else (spec, tuple(kernel.sources))
    if anchor.weights is None:
        mean = _mean(kernel, anchor)
        return None if mean is None else (mean, tuple(kernel.sources))
    return _weighted(kernel, anchor)


def overwritten(spec: IntegerSpec) -> tuple[int, ...]:
    """Positions of the arguments on which the output may lie."""
    if isinstance(spec, Sum):
        return (0, 1)
    return (0,) if isinstance(spec, IntegerConv) and spec.may_overwrite else ()


def _weighted(
    kernel: IntegerKernel, anchor: Anchor
) -> tuple[IntegerSpec, tuple[Argument, ...]] | None:
    weights, source = kernel.weights, kernel.inputs[0]
    is_depthwise = anchor.reduction is Reduction.WEIGHTED_SUM
    if weights is None or (anchor.groups > 1 and not is_depthwise):
        return None
    if is_depthwise and anchor.channels % 4:
        return None
    real = source.scale * kernel.scales
    bias = np.zeros(anchor.filters) if anchor.bias is None else np.rint(anchor.bias / real)
    flat = weights.reshape(anchor.filters, -1).astype(np.int64)
    largest = np.abs(bias) + 256 * np.abs(flat).sum(axis=1)
    factors = fixed_point(real / kernel.output.scale, int(largest.max()))
    if factors is None:
        return None
    sums = (bias - source.zero * flat.sum(axis=1)).astype(np.int32)
    table = np.stack([sums, factors.multipliers], axis=1).ravel()
    zeros = {"input_zero": source.zero, "output_zero": kernel.output.zero}
    bounds = {"low": kernel.low, "high": kernel.high, "shift": factors.shift}
    if is_depthwise:
        spec = Depthwise(anchor.window, anchor.channels, **bounds, **zeros)
        return spec, (*kernel.sources, channelwise.pack_depthwise(weights), table)
    window = anchor.window.flattened()
    tiled = IntegerConv(window, anchor.channels, anchor.filters, **bounds, **zeros)
    return tiled, (*kernel.sources, conv.pack_weights(tiled, weights), table)


def _mean(kernel: IntegerKernel, anchor: Anchor) -> Mean | None:
    window, source = anchor.window, kernel.inputs[0]
    ragged = window.rows.is_ragged or window.columns.is_ragged
    dilated = max(window.rows.dilation, window.columns.dilation) > 1
    if anchor.reduction is not Reduction.AVERAGE or ragged or dilated:
        return None
    factor = np.array([source.scale / kernel.output.scale / window.taps])
    factors = fixed_point(factor, 256 * window.taps)
    if factors is None or factors.shift:
        return None
    return Mean(
        window=window,
        channels=anchor.channels,
        bias=-source.zero * window.taps,
        factor=int(factors.multipliers[0]),
        low=kernel.low,
        high=kernel.high,
        output_zero=kernel.output.zero,
    )


def _sum(kernel: IntegerKernel) -> Sum | None:
    count = 1
    for size in rules.static_shape(kernel.result):
        count *= size
    real = np.array([q.scale / kernel.output.scale for q in kernel.inputs])
    shift = ADDEND_BITS - int(np.ceil(np.log2(real.max())))
    factors = np.rint(real * 2.0**shift).astype(int)
    zeros = sum(int(f) * q.zero for f, q in zip(factors, kernel.inputs, strict=True))
    if not 1 <= shift <= 22:
        return None
    offset = (kernel.output.zero << shift) - zeros + (1 << (shift - 1))
    left, right = (int(factor) for factor in factors)
    return Sum(count, (left, right), offset, shift, kernel.low, kernel.high)

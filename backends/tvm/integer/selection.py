"""Choose the template of an integer kernel and pack its constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.anchors import Anchor
from offramp.backends.tvm.integer import (
    channelwise,
    conv,
    linear,
    packed_dense,
    paired_conv,
    plane,
    strips,
)
from offramp.backends.tvm.integer.channelwise import Depthwise, ExactSum, Mean, Sum
from offramp.backends.tvm.integer.conv import Addition, IntegerConv
from offramp.backends.tvm.integer.linear import Linear
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.packed_dense import Dense
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.plane import Plane
from offramp.backends.tvm.integer.scaling import ROOM, Quantized, Scaling, exact, fixed_point
from offramp.backends.tvm.integer.strips import Strips
from offramp.backends.tvm.templates.channelwise import Reduction
from offramp.passes.layout import rules

Sliding = IntegerConv | PairedConv | Dense | Depthwise | Plane | Strips
IntegerSpec = Sliding | Mean | Sum | ExactSum | Linear
Argument = ir.Value | npt.NDArray[np.generic]
Weights = npt.NDArray[np.int8]
Table = npt.NDArray[np.int32]
Specified = tuple[IntegerSpec, tuple[Argument, ...]]

DEEP = 96
"""Reduction steps from which on exact scaling, eight instructions more an output, costs so little
that it is always used."""

ADDEND_BITS = 14
"""Bits of the larger factor of a sum: products with bytes and their sum stay within 32 bits."""


_BUILDERS: dict[type, Callable[[Any], Any]] = {
    IntegerConv: conv.build,
    PairedConv: paired_conv.build,
    Dense: packed_dense.build,
    Depthwise: channelwise.build_depthwise,
    Plane: plane.build,
    Strips: strips.build,
    Mean: channelwise.build_mean,
    Sum: channelwise.build_sum,
    ExactSum: channelwise.build_exact_sum,
    Linear: linear.build,
}


def build(spec: IntegerSpec) -> Any:
    """The TIR function of a specification."""
    return _BUILDERS[type(spec)](spec)


def specify(kernel: IntegerKernel, family: str, *, is_exact: bool) -> Specified | None:
    """The specification and the arguments without the output; None if no template fits.

    family: of microkernels, see `Target`. is_exact: whether all rounding is that of TFLite's
    reference kernels.
    """
    anchor = kernel.anchor
    if anchor is None and is_exact:
        return _exact_sum(kernel)
    if anchor is None:
        spec = _sum(kernel)
        return None if spec is None else (spec, tuple(kernel.sources))
    if anchor.weights is None:
        mean = _mean(kernel, anchor, is_exact)
        return None if mean is None else (mean, tuple(kernel.sources))
    return _weighted(kernel, anchor, family, is_exact)


def overwritten(spec: IntegerSpec) -> tuple[int, ...]:
    """Positions of the arguments on which the output may lie."""
    if isinstance(spec, Sum | ExactSum):
        return (0, 1)
    if isinstance(spec, Depthwise | Plane | Strips):
        return (0,) if spec.may_overwrite else ()
    if not isinstance(spec, IntegerConv | PairedConv):
        return ()
    residual = 4 if isinstance(spec, PairedConv) else 3
    return (*([0] if spec.may_overwrite else []), *([residual] if spec.addition else []))


def _weighted(
    kernel: IntegerKernel, anchor: Anchor, family: str, is_exact: bool
) -> Specified | None:
    weights, source = kernel.weights, kernel.inputs[0]
    is_depthwise = anchor.reduction is Reduction.WEIGHTED_SUM
    if weights is None or (anchor.groups > 1 and not is_depthwise):
        return None
    real, product = source.scale * kernel.scales, kernel.product or kernel.output
    bias = np.zeros(anchor.filters) if anchor.bias is None else np.rint(anchor.bias / real)
    flat = weights.reshape(anchor.filters, -1).astype(np.int64)
    largest = np.abs(bias) + 256 * np.abs(flat).sum(axis=1)
    is_exact = is_exact or flat.shape[1] >= DEEP
    bound = int(largest.max())
    factors = (exact if is_exact else fixed_point)(real / product.scale, bound)
    if factors is None:
        return None
    table = factors.table((bias - source.zero * flat.sum(axis=1)).astype(np.int32))
    has_room = family == "riscv" and bound << (factors.shift + ROOM) < 2**31
    ends = (kernel.low, kernel.high, product.zero)
    scaling = Scaling(factors.shift, *ends, is_exact, has_room)
    if is_depthwise and (kernel.product is not None or anchor.filters != anchor.channels):
        return None
    template = _TEMPLATES[family, is_depthwise]
    return template(kernel, weights, anchor, scaling, table)


def _depthwise(
    kernel: IntegerKernel, weights: Weights, anchor: Anchor, scaling: Scaling, table: Table
) -> Specified | None:
    if plane.fits(anchor.window, scaling):
        by_plane = Plane(anchor.window, anchor.channels, kernel.inputs[0].zero, scaling)
        return by_plane, (*kernel.sources, plane.pack(by_plane, weights), table)
    if anchor.channels % 4:
        return None
    spec = Depthwise(anchor.window, anchor.channels, kernel.inputs[0].zero, scaling)
    return spec, (*kernel.sources, channelwise.pack_depthwise(weights), table)


def _strips(
    kernel: IntegerKernel, weights: Weights, anchor: Anchor, scaling: Scaling, table: Table
) -> Specified:
    spec = Strips(anchor.window, anchor.channels, kernel.inputs[0].zero, scaling)
    return spec, (*kernel.sources, strips.pack(weights), table)


def _conv(
    kernel: IntegerKernel, weights: Weights, anchor: Anchor, scaling: Scaling, table: Table
) -> Specified | None:
    window, added = anchor.window.flattened(), _residual(kernel)
    if kernel.product is not None and (added is None or window.columns.out == 1):
        return None
    zero = kernel.inputs[0].zero
    spec = IntegerConv(window, anchor.channels, anchor.filters, zero, scaling, added)
    constants = (conv.pack_weights(spec, weights), table)
    return spec, (kernel.sources[0], *constants, *kernel.sources[1:])


def _packed(
    kernel: IntegerKernel, weights: Weights, anchor: Anchor, scaling: Scaling, table: Table
) -> Specified | None:
    window, added = anchor.window.flattened(), _residual(kernel)
    if kernel.product is not None and added is None:
        return None
    if window.inputs == window.outputs == window.taps == 1 and added is None:
        dense = Dense(anchor.channels, anchor.filters, scaling)
        packed = packed_dense.pack(dense, weights.reshape(anchor.filters, -1), table)
        return dense, (*kernel.sources, *packed)
    zero = kernel.inputs[0].zero
    spec = PairedConv(window, anchor.channels, anchor.filters, zero, scaling, added)
    return spec, (kernel.sources[0], *paired_conv.pack(weights, table), *kernel.sources[1:])


_TEMPLATES = {
    ("arm", False): _conv,
    ("arm", True): _depthwise,
    ("riscv", False): _packed,
    ("riscv", True): _strips,
}
"""By family of microkernels, and whether a convolution is depthwise."""


def _residual(kernel: IntegerKernel) -> Addition | None:
    """How a residual is added; None if there is none, or none that fixed point could add."""
    if kernel.product is None:
        return None
    return _addition([kernel.product, kernel.inputs[-1]], kernel.output)


def _mean(kernel: IntegerKernel, anchor: Anchor, is_exact: bool) -> Mean | None:
    window, source = anchor.window, kernel.inputs[0]
    ragged = window.rows.is_ragged or window.columns.is_ragged
    dilated = max(window.rows.dilation, window.columns.dilation) > 1
    if anchor.reduction is not Reduction.AVERAGE or ragged or dilated:
        return None
    if is_exact and source == kernel.output:
        return Mean(window, anchor.channels, kernel.low, kernel.high, None)
    factor = np.array([source.scale / kernel.output.scale / window.taps])
    factors = fixed_point(factor, 256 * window.taps)
    if factors is None or factors.shift:
        return None
    scaling = (-source.zero * window.taps, int(factors.columns[0, 0]), kernel.output.zero)
    return Mean(window, anchor.channels, kernel.low, kernel.high, scaling)


def _sum(kernel: IntegerKernel) -> Sum | None:
    count = prod(rules.static_shape(kernel.result))
    added = _addition(kernel.inputs, kernel.output)
    return None if added is None else Sum(count, added, kernel.low, kernel.high)


def _exact_sum(kernel: IntegerKernel) -> Specified | None:
    """Addends are shifted by 20 bits and brought to twice the larger of their scales."""
    scales, output = [q.scale for q in kernel.inputs], kernel.output
    twice = 2.0 * max(scales)
    real = np.array([*(scale / twice for scale in scales), twice / (2.0**20 * output.scale)])
    factors = exact(real, 2**30)
    if factors is None or factors.shift:
        return None
    zeros = (kernel.inputs[0].zero, kernel.inputs[1].zero, output.zero)
    spec = ExactSum(prod(rules.static_shape(kernel.result)), zeros, kernel.low, kernel.high)
    return spec, (*kernel.sources, factors.columns.ravel())


def _addition(addends: Sequence[Quantized], output: Quantized) -> Addition | None:
    """Two addends to one sum, in fixed point; None if their scales are too far from its."""
    real = np.array([addend.scale / output.scale for addend in addends])
    shift = ADDEND_BITS - int(np.ceil(np.log2(real.max())))
    left, right = (int(factor) for factor in np.rint(real * 2.0**shift))
    if not 1 <= shift <= 22:
        return None
    zeros = left * addends[0].zero + right * addends[1].zero
    offset = (output.zero << shift) - zeros + (1 << (shift - 1))
    return Addition(left, right, offset, shift)

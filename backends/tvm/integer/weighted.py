"""Choose the template of an integer convolution or dense layer and pack its constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.anchors import Anchor
from offramp.backends.tvm.integer import (
    channelwise,
    conv,
    dual_plane,
    helium_conv,
    helium_depthwise,
    packed_dense,
    paired_conv,
    strips,
)
from offramp.backends.tvm.integer.addition import Addition, ExactAddition, addition, exact_addition
from offramp.backends.tvm.integer.channelwise import Depthwise
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.dual_plane import DualPlane
from offramp.backends.tvm.integer.helium_conv import HeliumConv
from offramp.backends.tvm.integer.helium_depthwise import HeliumDepthwise
from offramp.backends.tvm.integer.matching import IntegerKernel, Weights
from offramp.backends.tvm.integer.packed_dense import Dense
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.scaling import (
    ROOM,
    Factors,
    Quantized,
    Scaling,
    exact,
    fixed_point,
)
from offramp.backends.tvm.integer.strips import Strips
from offramp.backends.tvm.templates.channelwise import Reduction

Convolution = IntegerConv | HeliumConv | PairedConv | Dense
Spec = Convolution | Depthwise | HeliumDepthwise | DualPlane | Strips
Specified = tuple[Spec, tuple[ir.Value | npt.NDArray[np.generic], ...]]

DEEP = 96
"""Reduction steps from which on exact scaling, eight instructions more an output, costs so little
that it is always used."""


DUAL = "arm"
"""The family of dual multiplies: its templates alone know 16-bit integers, and serve all others."""


@dataclass(frozen=True)
class _Sums:
    """What the templates have in common: integer weights, and what becomes of sums.

    starts: of the sums: biases, less what the input's zero point adds. largest: bound on absolute
    sums. adds_exactly: whether a residual is added as TFLite's reference kernel does.
    """

    kernel: IntegerKernel
    anchor: Anchor
    weights: Weights
    scaling: Scaling
    factors: Factors
    starts: npt.NDArray[np.int32]
    largest: int
    adds_exactly: bool


def specify(
    kernel: IntegerKernel, anchor: Anchor, family: str, *, is_exact: bool, is_wide: bool
) -> Specified | None:
    """See `selection.specify`."""
    is_depthwise = anchor.reduction is Reduction.WEIGHTED_SUM
    sums = _sums(kernel, anchor, family, is_exact=is_exact)
    if sums is None or (anchor.groups > 1 and not is_depthwise):
        return None
    if is_depthwise and (kernel.product is not None or anchor.filters != anchor.channels):
        return None
    if kernel.has_wide:
        family = DUAL
    if kernel.product is not None and is_exact and family == "riscv":
        return None
    if family == "riscv":
        return (_strips if is_depthwise else _packed)(sums)
    helium = family == "helium"
    if is_depthwise:
        return _depthwise(sums, helium=helium)
    return _conv(sums, helium=helium, is_wide=is_wide)


def _sums(kernel: IntegerKernel, anchor: Anchor, family: str, *, is_exact: bool) -> _Sums | None:
    weights, source = kernel.weights, kernel.inputs[0]
    if weights is None:
        return None
    real, product = source.scale * kernel.scales, kernel.product or kernel.output
    bias = np.zeros(anchor.filters) if anchor.bias is None else np.rint(anchor.bias / real)
    flat = weights.reshape(anchor.filters, -1).astype(np.int64)
    largest = largest_sum(source, weights, bias)
    scales_exactly = is_exact or flat.shape[1] >= DEEP
    factors = (exact if scales_exactly else fixed_point)(real / product.scale, largest)
    if factors is None:
        return None
    starts = (bias - source.zero * flat.sum(axis=1)).astype(np.int32)
    has_room = family == "riscv" and largest << (factors.shift + ROOM) < 2**31
    adds_exactly = is_exact and kernel.product is not None
    bounds = product.range if adds_exactly else kernel.bounds
    scaling = Scaling(factors.shift, *bounds, product.zero, scales_exactly, has_room, product.bits)
    return _Sums(kernel, anchor, weights, scaling, factors, starts, largest, adds_exactly)


def largest_sum(source: Quantized, weights: Weights, bias: npt.NDArray[np.float64]) -> int:
    """A bound on the absolute sums of all filters; bias: as integers."""
    magnitudes = np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1)
    return int((np.abs(bias) + source.reach * magnitudes).max())


def may_overflow(kernel: IntegerKernel) -> bool:
    """Whether sums of products can leave 32 bits, judged by weights and biases."""
    if kernel.weights is None or kernel.anchor is None:
        return False
    bias = np.zeros(1) if kernel.anchor.bias is None else kernel.anchor.bias
    integers = np.rint(bias / (kernel.inputs[0].scale * kernel.scales))
    return largest_sum(kernel.inputs[0], kernel.weights, integers) >= 2**31


def _depthwise(sums: _Sums, *, helium: bool) -> Specified | None:
    """Vectors have channels in fours; any channels go by plane, where that fits."""
    kernel, anchor = sums.kernel, sums.anchor
    source = kernel.inputs[0]
    structure = (anchor.window, anchor.channels, source.zero, sums.scaling)
    spec: Depthwise | DualPlane
    if helium and anchor.channels % 4 == 0:
        vectors = HeliumDepthwise(*structure)
        weights = helium_depthwise.pack_weights(vectors, sums.weights)
        table = helium_depthwise.pack_scales(vectors, sums.factors, sums.starts)
        return vectors, (*kernel.sources, weights, table)
    table = sums.factors.table(sums.starts)
    if dual_plane.fits(anchor.window, sums.scaling) and not kernel.has_wide:
        spec = DualPlane(*structure)
        return spec, (*kernel.sources, dual_plane.pack(spec, sums.weights), table)
    if anchor.channels % 4:
        return None
    spec = Depthwise(*structure, source.bits)
    return spec, (*kernel.sources, channelwise.pack_depthwise(sums.weights), table)


def _conv(sums: _Sums, *, helium: bool, is_wide: bool) -> Specified | None:
    kernel, anchor = sums.kernel, sums.anchor
    window, added = anchor.window.flattened(), None if sums.adds_exactly else _residual(kernel)
    exactly = _exact_residual(kernel) if sums.adds_exactly else None
    has_residual = added is not None or exactly is not None
    if kernel.product is not None and (not has_residual or window.columns.out == 1):
        return None
    structure = (anchor.channels, anchor.filters, kernel.inputs[0].zero, sums.scaling, added)
    sum_spec, sum_scales = (None, ()) if exactly is None else (exactly[0], (exactly[1],))
    constants: tuple[npt.NDArray[np.generic], ...]
    if helium:
        vectors = HeliumConv(window, *structure, exact_addition=sum_spec)
        constants = (
            helium_conv.pack_weights(vectors, sums.weights),
            helium_conv.pack_scales(sums.factors, sums.starts),
            *sum_scales,
        )
        return vectors, (kernel.sources[0], *constants, *kernel.sources[1:])
    bits = 4 if _is_narrow(sums) else 16 if is_wide else 8
    spec = IntegerConv(window, *structure, kernel.inputs[0].bits, sum_spec, bits)
    starts = sums.starts * (16 if bits == 4 else 1)
    constants = (conv.pack_weights(spec, sums.weights), sums.factors.table(starts), *sum_scales)
    return spec, (kernel.sources[0], *constants, *kernel.sources[1:])


def _is_narrow(sums: _Sums) -> bool:
    """Whether the weights need four bits only, and sums that count 16 times stay within 32."""
    fits = sums.weights[0].size % 8 == 0 and 16 * sums.largest < 2**31
    return fits and _need_four_bits(sums.weights)


def _need_four_bits(weights: Weights) -> bool:
    return bool(weights.min() >= -8 and weights.max() <= 7)


def _strips(sums: _Sums) -> Specified:
    kernel, anchor = sums.kernel, sums.anchor
    spec = Strips(anchor.window, anchor.channels, kernel.inputs[0].zero, sums.scaling)
    table = sums.factors.table(sums.starts)
    return spec, (*kernel.sources, strips.pack(sums.weights), table)


def _packed(sums: _Sums) -> Specified | None:
    """Two pixels share a word, or filters where there is one pixel alone."""
    kernel, anchor = sums.kernel, sums.anchor
    window, added = anchor.window.flattened(), _residual(kernel)
    if kernel.product is not None and added is None:
        return None
    table = sums.factors.table(sums.starts)
    if window.inputs == window.outputs == window.taps == 1 and added is None:
        dense = Dense(anchor.channels, anchor.filters, sums.scaling)
        rows = sums.weights.reshape(anchor.filters, -1)
        return dense, (*kernel.sources, *packed_dense.pack(dense, rows, table))
    structure = (anchor.channels, anchor.filters, kernel.inputs[0].zero, sums.scaling, added)
    narrow = _need_four_bits(sums.weights) and sums.weights[0].size % 2 == 0
    spec = PairedConv(window, *structure, narrow=narrow)
    constants = paired_conv.pack(spec, sums.weights, table)
    return spec, (kernel.sources[0], *constants, *kernel.sources[1:])


def _residual(kernel: IntegerKernel) -> Addition | None:
    """How a residual is added; None if there is none, or none that fixed point could add."""
    if kernel.product is None:
        return None
    return addition([kernel.product, kernel.inputs[-1]], kernel.output)


def _exact_residual(
    kernel: IntegerKernel,
) -> tuple[ExactAddition, npt.NDArray[np.int32]] | None:
    """The same as TFLite's reference kernel adds it, with the table of its scales."""
    if kernel.product is None:
        return None
    return exact_addition([kernel.product, kernel.inputs[-1]], kernel.output, kernel.bounds)

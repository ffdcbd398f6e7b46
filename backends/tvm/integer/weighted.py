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
)
from offramp.backends.tvm.integer.channelwise import Depthwise
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.dual_plane import DualPlane
from offramp.backends.tvm.integer.helium_conv import HeliumConv
from offramp.backends.tvm.integer.helium_depthwise import HeliumDepthwise
from offramp.backends.tvm.integer.matching import IntegerKernel, Weights
from offramp.backends.tvm.integer.scaling import Factors, Scaling, exact, fixed_point
from offramp.backends.tvm.templates.channelwise import Reduction

Spec = IntegerConv | HeliumConv | Depthwise | HeliumDepthwise | DualPlane
Specified = tuple[Spec, tuple[ir.Value | npt.NDArray[np.generic], ...]]

DEEP = 96
"""Reduction steps from which on exact scaling, eight instructions more an output, costs so little
that it is always used."""


@dataclass(frozen=True)
class _Sums:
    """What the templates have in common: integer weights, and what becomes of sums.

    starts: of the sums: biases, less what the input's zero point adds.
    """

    kernel: IntegerKernel
    anchor: Anchor
    weights: Weights
    scaling: Scaling
    factors: Factors
    starts: npt.NDArray[np.int32]


def specify(
    kernel: IntegerKernel, anchor: Anchor, *, is_exact: bool, helium: bool
) -> Specified | None:
    """See `selection.specify`."""
    is_depthwise = anchor.reduction is Reduction.WEIGHTED_SUM
    sums = _sums(kernel, anchor, is_exact=is_exact)
    if sums is None or (anchor.groups > 1 and not is_depthwise):
        return None
    if is_depthwise:
        return _depthwise(sums, helium=helium)
    return _conv(sums, helium=helium)


def _sums(kernel: IntegerKernel, anchor: Anchor, *, is_exact: bool) -> _Sums | None:
    weights, source = kernel.weights, kernel.inputs[0]
    if weights is None:
        return None
    real, product = source.scale * kernel.scales, kernel.product or kernel.output
    bias = np.zeros(anchor.filters) if anchor.bias is None else np.rint(anchor.bias / real)
    flat = weights.reshape(anchor.filters, -1).astype(np.int64)
    largest = np.abs(bias) + 256 * np.abs(flat).sum(axis=1)
    is_exact = is_exact or flat.shape[1] >= DEEP
    factors = (exact if is_exact else fixed_point)(real / product.scale, int(largest.max()))
    if factors is None:
        return None
    starts = (bias - source.zero * flat.sum(axis=1)).astype(np.int32)
    scaling = Scaling(factors.shift, kernel.low, kernel.high, product.zero, is_exact)
    return _Sums(kernel, anchor, weights, scaling, factors, starts)


def _depthwise(sums: _Sums, *, helium: bool) -> Specified | None:
    """Vectors have channels in fours; any channels go by plane, where that fits."""
    kernel, anchor = sums.kernel, sums.anchor
    if kernel.product is not None or anchor.filters != anchor.channels:
        return None
    structure = (anchor.window, anchor.channels, kernel.inputs[0].zero, sums.scaling)
    spec: Depthwise | DualPlane
    if helium and anchor.channels % 4 == 0:
        vectors = HeliumDepthwise(*structure)
        weights = helium_depthwise.pack_weights(vectors, sums.weights)
        table = helium_depthwise.pack_scales(vectors, sums.factors, sums.starts)
        return vectors, (*kernel.sources, weights, table)
    table = sums.factors.table(sums.starts)
    if dual_plane.fits(anchor.window, sums.scaling):
        spec = DualPlane(*structure)
        return spec, (*kernel.sources, dual_plane.pack(spec, sums.weights), table)
    if anchor.channels % 4:
        return None
    spec = Depthwise(*structure)
    return spec, (*kernel.sources, channelwise.pack_depthwise(sums.weights), table)


def _conv(sums: _Sums, *, helium: bool) -> Specified | None:
    kernel, anchor = sums.kernel, sums.anchor
    window, added = anchor.window.flattened(), None
    if kernel.product is not None:
        added = conv.addition([kernel.product, kernel.inputs[-1]], kernel.output)
        if added is None or window.columns.out == 1:
            return None
    structure = (anchor.channels, anchor.filters, kernel.inputs[0].zero, sums.scaling, added)
    constants: tuple[npt.NDArray[np.generic], ...]
    if helium:
        vectors = HeliumConv(window, *structure)
        constants = (
            helium_conv.pack_weights(vectors, sums.weights),
            helium_conv.pack_scales(sums.factors, sums.starts),
        )
        return vectors, (kernel.sources[0], *constants, *kernel.sources[1:])
    spec = IntegerConv(window, *structure)
    constants = (conv.pack_weights(spec, sums.weights), sums.factors.table(sums.starts))
    return spec, (kernel.sources[0], *constants, *kernel.sources[1:])

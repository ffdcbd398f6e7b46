"""Choose the template of an integer kernel and pack its constants."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

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
    linear,
    lookup,
    maximum,
    packed_dense,
    paired_conv,
    strips,
    weighted,
    wide_sum,
)
from offramp.backends.tvm.integer.addition import addition, exact_addition
from offramp.backends.tvm.integer.channelwise import Depthwise, ExactSum, Mean, Sum
from offramp.backends.tvm.integer.conv import IntegerConv
from offramp.backends.tvm.integer.dual_plane import DualPlane
from offramp.backends.tvm.integer.helium_conv import HeliumConv
from offramp.backends.tvm.integer.helium_depthwise import HeliumDepthwise
from offramp.backends.tvm.integer.linear import Linear
from offramp.backends.tvm.integer.lookup import Lookup
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.maximum import Maximum
from offramp.backends.tvm.integer.packed_dense import Dense
from offramp.backends.tvm.integer.paired_conv import PairedConv
from offramp.backends.tvm.integer.scaling import fixed_point
from offramp.backends.tvm.integer.strips import Strips
from offramp.backends.tvm.integer.wide_sum import WideSum
from offramp.backends.tvm.templates.channelwise import Reduction
from offramp.passes.layout import rules

IntegerSpec = weighted.Spec | Mean | Maximum | Sum | ExactSum | WideSum | Linear | Lookup
Argument = ir.Value | npt.NDArray[np.generic]
Specified = tuple[IntegerSpec, tuple[Argument, ...]]

_BUILDERS: dict[type[IntegerSpec], Callable[[Any], Any]] = {
    IntegerConv: conv.build,
    HeliumConv: helium_conv.build,
    PairedConv: paired_conv.build,
    Dense: packed_dense.build,
    Depthwise: channelwise.build_depthwise,
    HeliumDepthwise: helium_depthwise.build,
    DualPlane: dual_plane.build,
    Strips: strips.build,
    Mean: channelwise.build_mean,
    Sum: channelwise.build_sum,
    ExactSum: channelwise.build_exact_sum,
    WideSum: wide_sum.build,
    Linear: linear.build,
    Lookup: lookup.build,
    Maximum: maximum.build,
}


def build(spec: IntegerSpec) -> Any:
    """The TIR function of a specification."""
    return _BUILDERS[type(spec)](spec)


def specify(
    kernel: IntegerKernel, family: str, *, is_exact: bool, is_wide: bool = False
) -> Specified | None:
    """The specification and the arguments without the output; None if no template fits.

    family: of microkernels, see `Target`. is_exact: whether all rounding is that of TFLite's
    reference kernels.
    """
    anchor = kernel.anchor
    if kernel.table is not None:
        return lookup.specify(kernel), (*kernel.sources, kernel.table)
    if anchor is None and kernel.has_wide:
        wide = wide_sum.specify(kernel)
        return None if wide is None else (wide, tuple(kernel.sources))
    if anchor is None and is_exact:
        return _exact_sum(kernel, helium=family == "helium")
    if anchor is None:
        spec = _sum(kernel)
        return None if spec is None else (spec, tuple(kernel.sources))
    if anchor.weights is None:
        pool = maximum.specify(kernel) or _mean(kernel, anchor, is_exact)
        return None if pool is None else (pool, tuple(kernel.sources))
    return weighted.specify(kernel, anchor, family, is_exact=is_exact, is_wide=is_wide)


def overwritten(spec: IntegerSpec) -> tuple[int, ...]:
    """Positions of the arguments on which the output may lie."""
    if isinstance(spec, Sum | ExactSum):
        return (0, 1)
    if isinstance(spec, WideSum):
        return spec.overwritten
    if isinstance(spec, Lookup):
        return (0,)
    if isinstance(spec, Maximum | Depthwise | DualPlane | Strips):
        return (0,) if spec.may_overwrite else ()
    if not isinstance(spec, IntegerConv | HeliumConv | PairedConv):
        return ()
    residual = 4 if isinstance(spec, PairedConv) or spec.exact_addition else 3
    has_residual = spec.addition is not None or spec.exact_addition is not None
    return (*([0] if spec.may_overwrite else []), *([residual] if has_residual else []))


def _mean(kernel: IntegerKernel, anchor: Anchor, is_exact: bool) -> Mean | None:
    window, source = anchor.window, kernel.inputs[0]
    ragged = window.rows.is_ragged or window.columns.is_ragged
    dilated = max(window.rows.dilation, window.columns.dilation) > 1
    if anchor.reduction is not Reduction.AVERAGE or ragged or dilated:
        return None
    bits = (source.bits, kernel.output.bits)
    if is_exact and source == kernel.output:
        return Mean(window, anchor.channels, *kernel.bounds, None, bits)
    real = np.array([source.scale / kernel.output.scale / window.taps])
    factors = fixed_point(real, source.reach * window.taps)
    if factors is None:
        return None
    factor, bias = int(factors.columns[0, 0]), -source.zero * window.taps
    scaling = (bias, factors.shift, factor, kernel.output.zero)
    return Mean(window, anchor.channels, *kernel.bounds, scaling, bits)


def _sum(kernel: IntegerKernel) -> Sum | None:
    count = prod(rules.static_shape(kernel.result))
    added = addition(kernel.inputs, kernel.output)
    return None if added is None else Sum(count, added, *kernel.bounds)


def _exact_sum(kernel: IntegerKernel, *, helium: bool) -> Specified | None:
    found = exact_addition(kernel.inputs, kernel.output, kernel.bounds)
    if found is None:
        return None
    added, table = found
    spec = ExactSum(prod(rules.static_shape(kernel.result)), added, helium)
    return spec, (*kernel.sources, table)

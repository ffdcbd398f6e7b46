"""Choose the template, its register tile and its packed constants for a kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.anchors import Anchor, RowSoftmax, Weights
from offramp.backends.tvm.epilogue import Epilogue, Operand, Step
from offramp.backends.tvm.grouping import Kernel
from offramp.backends.tvm.integer import selection as integer
from offramp.backends.tvm.integer.linear import Linear
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.selection import IntegerSpec
from offramp.backends.tvm.microkernels import Microkernel
from offramp.backends.tvm.microkernels.activation import Activation
from offramp.backends.tvm.schedules import matrix_tile, row_tile, vector_lanes
from offramp.backends.tvm.templates import channelwise, conv, softmax, tiled_conv, tiled_depthwise
from offramp.backends.tvm.templates.channelwise import Channelwise, Reduction
from offramp.backends.tvm.templates.conv import Conv
from offramp.backends.tvm.templates.softmax import Softmax
from offramp.backends.tvm.templates.tiled_conv import TiledConv
from offramp.backends.tvm.templates.tiled_depthwise import TiledDepthwise
from offramp.compiler.errors import InternalError
from offramp.compiler.targets import Target

Windowed = Conv | TiledConv | Channelwise | TiledDepthwise
Spec = Windowed | Softmax | IntegerSpec
Tiled = TiledConv | TiledDepthwise
Untiled = Conv | Channelwise | Softmax | Linear
ON_REAL_NUMBERS = ("arm", "helium")
"""Families with microkernels for real numbers."""
_ACTIVATIONS = {Step("Relu"): Activation.RELU, Step("Clip", (0.0, 6.0)): Activation.RELU6}
Argument = ir.Value | npt.NDArray[np.generic]


@dataclass(frozen=True)
class Selection:
    """A kernel ready to build.

    spec: the template and its parameters. extended: the same for the target's extension, which
    reads the same packed weights. arguments: in order, without the output, which comes last.
    residuals: positions of the arguments that the output may overwrite. dtypes: of the arguments
    and the output; empty if all are float32. workspace: bytes of scratch.
    """

    kind: str
    spec: Spec
    extended: Spec | None
    arguments: tuple[Argument, ...]
    residuals: tuple[int, ...]
    dtypes: tuple[str, ...] = ()
    workspace: int = 0

    @property
    def microkernels(self) -> tuple[Microkernel, ...]:
        """C functions that the kernel calls."""
        return () if isinstance(self.spec, Untiled) else self.spec.microkernels()


def build(spec: Spec) -> Any:
    """The TIR function of a specification."""
    match spec:
        case Conv():
            return conv.build(spec)
        case TiledConv():
            return tiled_conv.build(spec)
        case Channelwise():
            return channelwise.build(spec)
        case TiledDepthwise():
            return tiled_depthwise.build(spec)
        case Softmax():
            return softmax.build(spec)
        case _:
            return integer.build(spec)


def select_integer(
    kernel: IntegerKernel, target: Target, *, exact: bool, wide: bool = False
) -> Selection:
    """The template instance of an operator on integers. exact: see `group`. wide: see `lower`."""
    family = target.microkernels
    specified = integer.specify(kernel, family, is_exact=exact, is_wide=wide)
    if specified is None:
        raise InternalError("an integer kernel without a template was scheduled")
    spec, arguments = specified
    return Selection(
        kind=_integer_kind(kernel),
        spec=spec,
        extended=None,
        arguments=arguments,
        residuals=integer.overwritten(spec),
        dtypes=(*map(_dtype, arguments), _dtype(kernel.result)),
        workspace=spec.workspace,
    )


def _integer_kind(kernel: IntegerKernel) -> str:
    if kernel.table is not None:
        return "lookup"
    return "add" if kernel.anchor is None else _kind(kernel.anchor)


def select_conversion(source: ir.Value, spec: Linear) -> Selection:
    """The template instance of a quantisation or dequantisation."""
    types = ("float32", spec.integer) if spec.quantises else (spec.integer, "float32")
    return Selection("convert", spec, None, (source,), (), types)


def _dtype(argument: Argument) -> str:
    if isinstance(argument, ir.Value):
        return "float32" if argument.dtype is None else argument.dtype.numpy().name
    return argument.dtype.name


def select(kernel: Kernel, target: Target) -> Selection:
    """The template instance that computes `kernel` on `target`."""
    kernel = _merged_bias(kernel)
    anchor = kernel.anchor
    spec = _specify(kernel, target)
    extended = target.extended()
    constants: list[Weights] = []
    if anchor.weights is not None:
        constants.append(_packed(spec, anchor.weights))
    if anchor.bias is not None:
        constants.append(anchor.bias)
    elif isinstance(spec, Tiled):
        constants.append(np.zeros(anchor.filters, np.float32))
    arguments: list[Argument] = [anchor.source, *constants, *map(_constant, kernel.operands)]
    return Selection(
        kind=_kind(anchor),
        spec=spec,
        extended=None if extended is None else _specify(kernel, extended),
        arguments=tuple(arguments),
        residuals=_residuals(kernel, spec, len(arguments) - len(kernel.operands)),
    )


def select_softmax(anchor: RowSoftmax, target: Target) -> Selection:
    """The same for a softmax, which may overwrite its input."""
    extended = target.extended()
    return Selection(
        kind="softmax",
        spec=_softmax(anchor, target),
        extended=None if extended is None else _softmax(anchor, extended),
        arguments=(anchor.source,),
        residuals=(0,),
    )


def _softmax(anchor: RowSoftmax, target: Target) -> Softmax:
    lanes = target.vector_lanes
    while lanes > anchor.columns:
        lanes //= 2
    return Softmax(anchor.rows, anchor.columns, lanes)


def _residuals(kernel: Kernel, spec: Windowed, first: int) -> tuple[int, ...]:
    """Positions of the operands, counted from `first`, that are read just before the store.

    Steps that follow a microkernel find its sums already stored.
    """
    if isinstance(spec, Tiled):
        return (first,) if isinstance(spec, TiledConv) and spec.residual else ()
    steps = [step for step in kernel.steps if step.has_argument]
    return tuple(first + i for i, s in enumerate(steps) if s.operand is Operand.TENSOR)


def _kind(anchor: Anchor) -> str:
    """What the kernel's symbol is called after."""
    if anchor.reduction is not None:
        return anchor.reduction.value
    return "dense" if anchor.nodes[0].op_type in ("MatMul", "Gemm") else "conv"


def _specify(kernel: Kernel, target: Target) -> Windowed:
    if kernel.anchor.reduction is None:
        is_plain = kernel.anchor.groups == 1 and kernel.anchor.window.columns.dilation == 1
        is_tiled = is_plain and target.microkernels in ON_REAL_NUMBERS
        return _tiled_conv(kernel, target) if is_tiled else _conv(kernel, target)
    is_depthwise = kernel.anchor.reduction is Reduction.WEIGHTED_SUM
    if is_depthwise and target.microkernels in ON_REAL_NUMBERS:
        return _tiled_depthwise(kernel, target)
    return _channelwise(kernel, target, kernel.anchor.reduction)


def _activation(steps: list[Step], target: Target) -> tuple[Activation, Epilogue]:
    """The activation that a microkernel applies, and the steps that are left."""
    activation = _ACTIVATIONS.get(steps[0], Activation.NONE) if steps else Activation.NONE
    rest = tuple(steps if activation is Activation.NONE else steps[1:])
    return activation if target.float_maximum else activation.without_maximum(), rest


def _tiled_depthwise(kernel: Kernel, target: Target) -> TiledDepthwise:
    """The microkernel applies an activation; other steps follow it."""
    activation, rest = _activation(kernel.steps, target)
    return TiledDepthwise(
        window=kernel.anchor.window,
        channels=kernel.anchor.channels,
        activation=activation,
        epilogue=rest,
    )


def _constant(value: ir.Value) -> Argument:
    return value if value.const_value is None else value.const_value.numpy()


def _merged_bias(kernel: Kernel) -> Kernel:
    """A sum with one value per channel that comes first is the bias."""
    anchor, steps = kernel.anchor, kernel.steps
    if not steps or anchor.weights is None or steps[0] != Step("Add", (), Operand.CHANNEL):
        return kernel
    first = kernel.operands[0].const_value
    if first is None:
        return kernel
    bias = np.asarray(first.numpy(), np.float32).reshape(-1)
    bias = bias if anchor.bias is None else bias + anchor.bias
    return replace(
        kernel,
        anchor=replace(anchor, bias=bias),
        steps=steps[1:],
        operands=kernel.operands[1:],
    )


def _packed(spec: Windowed, weights: Weights) -> Weights:
    match spec:
        case Conv():
            return conv.pack_weights(spec, weights)
        case TiledConv():
            return tiled_conv.pack_weights(spec, weights)
        case Channelwise():
            return channelwise.pack_weights(weights)
        case TiledDepthwise():
            return tiled_depthwise.pack_weights(spec, weights)


def _conv(kernel: Kernel, target: Target) -> Conv:
    anchor = kernel.anchor
    window = anchor.window.flattened()
    width = anchor.filters // anchor.groups
    depth = window.taps * anchor.channels // anchor.groups
    return Conv(
        window=window,
        channels=anchor.channels,
        filters=anchor.filters,
        groups=anchor.groups,
        bias=anchor.bias is not None,
        epilogue=tuple(kernel.steps),
        lanes=vector_lanes(target, width),
        tile=matrix_tile(target, window.columns.out, width, depth),
        panel=target.panel,
    )


def _tiled_conv(kernel: Kernel, target: Target) -> TiledConv:
    """The microkernel adds a residual and applies an activation; other steps follow it."""
    anchor, steps = kernel.anchor, list(kernel.steps)
    has_residual = steps[:1] == [Step("Add", (), Operand.TENSOR)]
    steps = steps[1:] if has_residual else steps
    activation, rest = _activation(steps, target)
    return TiledConv(
        window=anchor.window.flattened(),
        channels=anchor.channels,
        filters=anchor.filters,
        residual=has_residual,
        activation=activation,
        epilogue=rest,
    )


def _channelwise(kernel: Kernel, target: Target, reduction: Reduction) -> Channelwise:
    anchor = kernel.anchor
    return Channelwise(
        window=anchor.window,
        channels=anchor.channels,
        reduction=reduction,
        bias=anchor.bias is not None,
        epilogue=tuple(kernel.steps),
        lanes=target.vector_lanes,
        pixels=row_tile(target, anchor.window.columns),
    )

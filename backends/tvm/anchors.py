"""Find the operators that our own kernels compute: what each reads, writes and slides over.

Convolutions and pools are matched between the two transposes of the channels-last layout pass;
dense layers are matrix products with a constant right operand, seen as 1x1 convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.templates.channelwise import Reduction
from offramp.backends.tvm.window import Axis, Window
from offramp.passes.layout import rules

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Anchor:
    """One operator that a kernel template computes.

    nodes: the operator and its layout transposes. source, result: what the kernel reads and
    writes, channels-last. weights: `[filters, channels / groups, rows, columns]`, None for pools.
    bias: `[filters]` or None. reduction: what a channelwise window does, None for convolutions.
    """

    nodes: tuple[ir.Node, ...]
    source: ir.Value
    result: ir.Value
    window: Window
    channels: int
    weights: Weights | None = None
    bias: Weights | None = None
    groups: int = 1
    reduction: Reduction | None = None

    @property
    def filters(self) -> int:
        """Output channels."""
        return self.channels if self.weights is None else len(self.weights)


@dataclass(frozen=True)
class RowSoftmax:
    """A softmax of `rows` rows of `columns` values; nothing is fused into it."""

    node: ir.Node
    source: ir.Value
    result: ir.Value
    rows: int
    columns: int


def match(node: ir.Node) -> Anchor | None:
    """The anchor whose operator is `node`, or None."""
    if node.domain != "" or any(v is not None and not _is_float(v) for v in node.inputs[:1]):
        return None
    if node.op_type in ("MatMul", "Gemm"):
        return _match_dense(node)
    if node.op_type in ("ReduceMean", "ReduceMax"):
        return _match_reduction(node)
    if node.op_type in rules.SPATIAL:
        return _match_spatial(node)
    return None


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The contents of an initializer, or None."""
    tensor = None if value is None else value.const_value
    return None if tensor is None else tensor.numpy()


def _match_dense(node: ir.Node) -> Anchor | None:
    source, weights = node.inputs[0], constant(node.inputs[1])
    shape = rules.static_shape(source) if source is not None else ()
    if source is None or source.const_value is not None or weights is None or weights.ndim != 2:
        return None
    bias: npt.NDArray[Any] | None = None
    if node.op_type == "Gemm":
        if _integer(node, "transA", 0):
            return None
        weights = weights.T if _integer(node, "transB", 0) else weights
        weights = weights * np.float32(_number(node, "alpha", 1.0))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = constant(node.inputs[2])
            if (
                bias is None
                or bias.size not in (1, weights.shape[1])
                or bias.shape[:-1] not in ((), (1,))
            ):
                return None
            bias = bias.reshape(-1) * np.float32(_number(node, "beta", 1.0))
            bias = np.broadcast_to(bias, weights.shape[1:])
    if len(shape) < 2:
        return None
    rows = Axis(prod(shape[:-1]), prod(shape[:-1]), 1)
    return Anchor(
        nodes=(node,),
        source=source,
        result=node.outputs[0],
        window=Window(1, Axis(1, 1, 1), rows),
        channels=shape[-1],
        weights=np.asarray(weights.T, np.float32)[:, :, None, None],
        bias=None if bias is None else np.asarray(bias, np.float32),
    )


def _match_reduction(node: ir.Node) -> Anchor | None:
    """A mean or maximum over neighbouring inner axes: a pool over one long row."""
    source = node.inputs[0]
    axes = rules.reduction_axes(node)
    if source is None or not axes:
        return None
    shape = rules.static_shape(source)
    reduced = sorted(axis % len(shape) for axis in axes)
    if reduced != list(range(reduced[0], reduced[-1] + 1)) or reduced[-1] == len(shape) - 1:
        return None
    length = prod(shape[a] for a in reduced)
    return Anchor(
        nodes=(node,),
        source=source,
        result=node.outputs[0],
        window=Window(prod(shape[: reduced[0]]), Axis(1, 1, 1), Axis(length, 1, length)),
        channels=prod(shape[reduced[-1] + 1 :]),
        reduction=Reduction.AVERAGE if node.op_type == "ReduceMean" else Reduction.MAXIMUM,
    )


def match_softmax(node: ir.Node) -> RowSoftmax | None:
    """The softmax over the innermost axis that `node` is, or None."""
    if node.domain != "" or node.op_type != "Softmax":
        return None
    source = node.inputs[0]
    shape = () if source is None else rules.static_shape(source)
    if source is None or not shape or not _is_float(source):
        return None
    if _integer(node, "axis", -1) % len(shape) != len(shape) - 1:
        return None
    return RowSoftmax(node, source, node.outputs[0], prod(shape[:-1]), shape[-1])


def _match_spatial(node: ir.Node) -> Anchor | None:
    ends = _layout_transposes(node)
    if ends is None:
        return None
    before, after = ends
    source, result = before.inputs[0], after.outputs[0]
    if source is None:
        return None
    nodes = (before, node, after)
    if node.op_type == "Conv":
        return _match_conv(node, nodes, source, result)
    return _match_pool(node, nodes, source, result)


def _layout_transposes(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The transposes around a spatial operator that exist for its layout only."""
    source, result = node.inputs[0], node.outputs[0]
    before = None if source is None else source.producer()
    users = result.consumers()
    if source is None or before is None or len(users) != 1 or result.is_graph_output():
        return None
    if len(source.uses()) != 1 or source.is_graph_output():
        return None
    rank = len(rules.static_shape(source))
    if rank not in (3, 4) or not _permutes(before, rules.to_first(rank)):
        return None
    return (before, users[0]) if _permutes(users[0], rules.to_last(rank)) else None


def _permutes(node: ir.Node, permutation: tuple[int, ...]) -> bool:
    if node.op_type != "Transpose" or "perm" not in node.attributes:
        return False
    return tuple(node.attributes["perm"].as_ints()) == permutation


def _match_conv(
    node: ir.Node, nodes: tuple[ir.Node, ...], source: ir.Value, result: ir.Value
) -> Anchor | None:
    weights = constant(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = constant(node.inputs[2]) if has_bias else None
    if weights is None or (has_bias and bias is None):
        return None
    window = _window(node, source, result, tuple(weights.shape[2:]))
    channels, groups = rules.static_shape(source)[-1], _integer(node, "group", 1)
    depthwise = groups == channels == len(weights)
    return Anchor(
        nodes=nodes,
        source=source,
        result=result,
        window=window,
        channels=channels,
        weights=np.asarray(weights, np.float32).reshape(*weights.shape[:2], window.rows.taps, -1),
        bias=None if bias is None else np.asarray(bias, np.float32),
        groups=groups,
        reduction=Reduction.WEIGHTED_SUM if depthwise and groups > 1 else None,
    )


def _match_pool(
    node: ir.Node, nodes: tuple[ir.Node, ...], source: ir.Value, result: ir.Value
) -> Anchor | None:
    shape = rules.static_shape(source)
    anchor = Anchor(nodes, source, result, Window(1, Axis(1, 1, 1), Axis(1, 1, 1)), shape[-1])
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        size = prod(shape[1:-1])
        window = Window(shape[0], Axis(1, 1, 1), Axis(size, 1, size))
        is_mean = node.op_type == "GlobalAveragePool"
        reduction = Reduction.AVERAGE if is_mean else Reduction.MAXIMUM
        return replace(anchor, window=window, reduction=reduction)
    if node.op_type not in ("MaxPool", "AveragePool"):
        return None
    kernel = tuple(node.attributes["kernel_shape"].as_ints())
    window = _window(node, source, result, kernel)
    if node.op_type == "MaxPool":
        return replace(anchor, window=window, reduction=Reduction.MAXIMUM)
    if not _integer(node, "count_include_pad", 0):
        return replace(anchor, window=window, reduction=Reduction.AVERAGE)
    if _integer(node, "ceil_mode", 0):
        return None
    return replace(anchor, window=window, reduction=Reduction.AVERAGE_PADDED)


def _window(node: ir.Node, source: ir.Value, result: ir.Value, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pool; one spatial axis becomes a single row."""
    inputs, outputs = rules.static_shape(source)[1:-1], rules.static_shape(result)[1:-1]
    rank = len(kernel)
    strides = _integers(node, "strides", [1] * rank)
    dilations = _integers(node, "dilations", [1] * rank)
    axes = [
        Axis(size, out, taps, stride, 0, dilation)
        for size, out, taps, stride, dilation in zip(
            inputs, outputs, kernel, strides, dilations, strict=True
        )
    ]
    pads = _leading_pads(node, axes)
    axes = [replace(axis, pad=pad) for axis, pad in zip(axes, pads, strict=True)]
    if rank == 1:
        axes = [Axis(1, 1, 1), *axes]
    return Window(rules.static_shape(source)[0], axes[0], axes[1])


def _leading_pads(node: ir.Node, axes: list[Axis]) -> list[int]:
    """Padding before each spatial axis; the padding after follows from the output's size."""
    mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((a.out - 1) * a.stride + (a.taps - 1) * a.dilation + 1 - a.size, 0) for a in axes
        ]
        return [(t + (mode == "SAME_LOWER")) // 2 for t in totals]
    if mode == "VALID":
        return [0] * len(axes)
    return _integers(node, "pads", [0] * (2 * len(axes)))[: len(axes)]


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _integers(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default

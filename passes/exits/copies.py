"""Heads that are cheap copies of the network's own remaining layers, warm-started from them.

The layers between a point and the logits are written again at half the resolution, so the copy
costs about a quarter; optionally their dense convolutions become depthwise-separable, each by the
best rank-r approximation of every input channel's filters (network decoupling, Guo et al. 2018).
Convolutions start with the statistics that the original layers show on training samples, as in
REPAIR (Jordan et al. 2023): without it a decoupled copy starts from noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir.clone import clone_value
from offramp.compiler.ir.dequantise import dequantised
from offramp.passes.exits.candidates import Point
from offramp.passes.exits.heads import HeadGraph, Statistics
from offramp.passes.exits.task import Task
from offramp.passes.exits.writer import NodeWriter

ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish",
     "Tanh", "Elu", "PRelu", "Identity", "Dropout"}
)  # fmt: skip
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
COPIED = ELEMENTWISE | FLATTENING | {
    "Conv", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "Gemm",
}  # fmt: skip
"""Operators that mean the same at another resolution."""

QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""A copy is trained on real numbers: it goes without, and starts from the weights as they are."""


class CannotCopyError(Exception):
    """These layers have no cheap copy; says why."""


def copied_nodes(task: Task, point: Point) -> list[ir.Node]:
    """The nodes from `point` to the logits.

    Raises:
        CannotCopyError: the point is no feature map, or an operator depends on the resolution.
    """
    if len(point.shape) != 4:
        raise CannotCopyError(f"its shape {list(point.shape)} has no resolution to halve")
    logits = task.logits.producer()
    nodes = list(task.graph)
    rest = nodes[point.position : nodes.index(logits) + 1] if logits is not None else []
    for node in rest:
        fits = node.op_type in COPIED | QUANTISING or _is_mean_over_space(node)
        if not fits or len(node.outputs) > 1:
            raise CannotCopyError(f"{node.op_type} (node {node.name!r}) depends on the resolution")
    return rest


def copy_head(
    task: Task,
    point: Point,
    opsets: Mapping[str, int],
    statistics: Mapping[ir.Value, Statistics],
    rank: int | None,
) -> HeadGraph:
    """A copy of the layers after `point` at half the resolution.

    Args:
        task: the network.
        point: a feature map.
        opsets: of the Program.
        statistics: of convolution outputs of the network.
        rank: of the depthwise-separable approximation; None keeps convolutions dense.

    Raises:
        CannotCopyError: the layers do not work at half the resolution.
    """
    copier = _Copier(point, opsets, statistics, rank)
    try:
        for node in copied_nodes(task, point):
            copier.copy(node)
    except (UserError, KeyError) as error:
        raise CannotCopyError(f"its layers do not fit at half the resolution: {error}") from error
    name = "copy-strided" if rank is None else f"copy-strided-rank{rank}"
    logits = copier.mapping[task.logits]
    if logits.shape != task.logits.shape:
        raise CannotCopyError(f"at half the resolution its answer has shape {logits.shape}")
    return HeadGraph(
        name, point, copier.feature, tuple(copier.write.nodes), logits, False, copier.statistics
    )


class _Copier:
    def __init__(
        self,
        point: Point,
        opsets: Mapping[str, int],
        statistics: Mapping[ir.Value, Statistics],
        rank: int | None,
    ) -> None:
        self.write = NodeWriter(opsets, "copy")
        self.feature = clone_value(point.value)
        self.mapping: dict[ir.Value, ir.Value] = {point.value: self.feature}
        self.statistics: dict[ir.Value, Statistics] = {}
        self._originals = statistics
        self._rank = rank
        self._halved: ir.Value | None = None

    def copy(self, node: ir.Node) -> None:
        """Write `node` again, at the resolution of what it reads."""
        if node.op_type in QUANTISING:
            if node.inputs[0] is not None and node.inputs[0].const_value is None:
                self.mapping[node.outputs[0]] = self.mapping[node.inputs[0]]
            return
        if node.op_type == "Conv":
            copied = self._convolution(node)
            self.statistics[copied] = self._originals[node.outputs[0]]
        elif node.op_type in ("AveragePool", "GlobalAveragePool") and _is_global(node):
            copied = self.write.op("GlobalAveragePool", self._read(node.inputs[0]))
        elif node.op_type in FLATTENING:
            copied = self._flatten(node)
        else:
            copied = self._same(node)
        self.mapping[node.outputs[0]] = copied

    def _convolution(self, node: ir.Node) -> ir.Value:
        weight = _constant(node, 1)
        strides = list(node.attributes.get_ints("strides", (1,) * (weight.ndim - 2)))
        source = node.inputs[0]
        if source is not None and self.mapping.get(source) is self.feature:
            strides, value = [2 * stride for stride in strides], self.feature
        else:
            value = self._read(source)
        bias = _constant(node, 2) if len(node.inputs) > 2 else np.zeros(len(weight), np.float32)
        attributes = {**_attributes(node), "strides": strides}
        if self._rank is None or not _is_dense(node, weight):
            return self._convolve(value, weight, bias, attributes)
        return self._decoupled(value, weight, bias, attributes, self._rank)

    def _convolve(
        self,
        value: ir.Value,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None,
        attributes: Mapping[str, object],
    ) -> ir.Value:
        constants = [self.write.constant(array) for array in (weight, bias) if array is not None]
        return self.write.op("Conv", value, *constants, **attributes)

    def _decoupled(
        self,
        value: ir.Value,
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        attributes: Mapping[str, object],
        rank: int,
    ) -> ir.Value:
        """Depthwise filters by input channel, `rank` each, then one pointwise convolution."""
        depthwise, pointwise = decouple(weight, rank)
        channels = weight.shape[1]
        spread = self._convolve(value, depthwise, None, {**attributes, "group": channels})
        point = {"kernel_shape": [1] * (weight.ndim - 2), "group": 1}
        return self._convolve(spread, pointwise, bias, point)

    def _flatten(self, node: ir.Node) -> ir.Value:
        output = node.outputs[0]
        if output.shape is None or len(output.shape) != 2:
            raise CannotCopyError(f"{node.op_type} (node {node.name!r}) is no flattening")
        return self.write.op("Flatten", self._read(node.inputs[0]), axis=1)

    def _same(self, node: ir.Node) -> ir.Value:
        inputs = [None if value is None else self._read(value) for value in node.inputs]
        return self.write.op(node.op_type, *inputs, **_attributes(node))

    def _read(self, value: ir.Value | None) -> ir.Value:
        """What stands for a value; the feature itself is averaged down to half its resolution."""
        if value is None:
            raise CannotCopyError("a layer lacks its input")
        if value not in self.mapping:
            return self._keep_constant(value)
        if self.mapping[value] is not self.feature:
            return self.mapping[value]
        if self._halved is None:
            self._halved = self.write.op(
                "AveragePool", self.feature, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
            )
        return self._halved

    def _keep_constant(self, value: ir.Value) -> ir.Value:
        array = _contents(value)
        if array is None:
            raise CannotCopyError(f"value {value.name!r} comes from before the point")
        if array.ndim > 2 and prod(array.shape[2:]) > 1:
            raise CannotCopyError(f"constant {value.name!r} of shape {list(array.shape)} is a map")
        return self.write.constant(array, array.dtype)


def decouple(
    weight: npt.NDArray[np.float32], rank: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The nearest sum of `rank` depthwise-separable convolutions to a dense one.

    Args:
        weight: [outputs, inputs, *window].
        rank: per input channel, at most the smaller of outputs and window elements.

    Returns:
        depthwise [inputs * rank, 1, *window] and pointwise [outputs, inputs * rank, 1, ...].
    """
    outputs, inputs, *window = weight.shape
    by_channel = np.moveaxis(weight, 1, 0).reshape(inputs, outputs, prod(window))
    left, scale, right = np.linalg.svd(by_channel, full_matrices=False)
    root = np.sqrt(scale[:, :rank])
    depthwise = (right[:, :rank] * root[:, :, None]).reshape(inputs * rank, 1, *window)
    pointwise = np.moveaxis(left[:, :, :rank] * root[:, None, :], 1, 0)
    return (
        depthwise.astype(np.float32),
        pointwise.reshape(outputs, inputs * rank, *(1 for _ in window)).astype(np.float32),
    )


def _is_dense(node: ir.Node, weight: npt.NDArray[np.float32]) -> bool:
    return node.attributes.get_int("group", 1) == 1 and prod(weight.shape[2:]) > 1


def _is_mean_over_space(node: ir.Node) -> bool:
    """Whether this is a ReduceMean over all axes but batch and channels."""
    if node.op_type != "ReduceMean" or node.inputs[0] is None or node.inputs[0].shape is None:
        return False
    axes: list[int] = list(node.attributes.get_ints("axes", ()))
    if len(node.inputs) > 1:
        axes = _constant(node, 1).astype(np.int64).tolist()
    rank = len(node.inputs[0].shape)
    return sorted(axis % rank for axis in axes) == list(range(2, rank))


def _is_global(node: ir.Node) -> bool:
    shape = node.outputs[0].shape
    return shape is not None and prod(shape.numpy()[2:]) == 1


def _constant(node: ir.Node, position: int) -> npt.NDArray[np.float32]:
    array = _contents(node.inputs[position])
    if array is None:
        raise CannotCopyError(f"{node.op_type} (node {node.name!r}) has computed weights")
    return np.asarray(array, np.float32)


def _contents(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Of a constant, or of a dequantised one; None for what is computed."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    return None if node is None else dequantised(node)


def _attributes(node: ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}

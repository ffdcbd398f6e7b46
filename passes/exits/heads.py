"""Head families: ONNX nodes from a feature to logits, over a range of costs.

A head is written as ONNX nodes from the start, so its cost is known before it is trained and what
is trained is what is inserted. Families by feature: pooled linear and pooled MLP for all,
depthwise-separable side networks for feature maps, pooled tokens with layer normalisation for
transformers (the global head of LGViT). Copies of the network's own layers are in `copies`.

Heads that hold the same node objects share these layers (see `early`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir.clone import clone_value
from offramp.cost_models.base import CostModel
from offramp.passes.exits.candidates import Point, nodes_cost
from offramp.passes.exits.result import Spent
from offramp.passes.exits.writer import NodeWriter

HIDDEN = 64
"""Width of the hidden layer of an MLP head."""

SIDE_FRACTIONS = (0.05, 0.2)
"""Side networks are as wide as fits into these fractions of the network's cost."""

SIDE_WIDTHS = (128, 96, 64, 48, 32, 24, 16, 8)

Statistics = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Mean and standard deviation by channel."""


@dataclass(frozen=True, eq=False)
class HeadGraph:
    """A head that reads `feature`, a stand-in for the point's tensor.

    nodes: in topological order. logits: [1, classes]. fresh: starts from random weights.
    statistics: of the output of convolutions, where copies should start from those of the original
        layer.
    """

    name: str
    point: Point
    feature: ir.Value
    nodes: tuple[ir.Node, ...]
    logits: ir.Value
    fresh: bool = True
    statistics: Mapping[ir.Value, Statistics] = field(default_factory=dict)

    def cost(self, model: CostModel) -> Spent:
        """Cost of running the head once."""
        return nodes_cost(list(self.nodes), model)


class HeadBuilder:
    """Writes the layers of one fresh head; weights are drawn from `rng` (He et al. 2015).

    Args:
        point: where in the network the head sits.
        opsets: of the Program.
        rng: draws the initial weights.
        trunk: layers of another head to go on from, with the value to read; default: none.
        prefix: of all names, where heads share a trunk.
    """

    def __init__(
        self,
        point: Point,
        opsets: Mapping[str, int],
        rng: np.random.Generator,
        *,
        trunk: tuple[HeadGraph, Point] | None = None,
        prefix: str = "head",
    ) -> None:
        self.point = point
        self.feature = clone_value(point.value) if trunk is None else trunk[0].feature
        self.value = self.feature if trunk is None else trunk[1].value
        self._shared = () if trunk is None else trunk[0].nodes[: trunk[1].position]
        self._writer = NodeWriter(opsets, prefix)
        self._rng = rng

    @property
    def channels(self) -> int:
        """Channels of the current value; its last axis where there are no spatial axes."""
        shape = self._shape()
        return shape[1] if len(shape) > 3 else shape[len(shape) - 1]

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial sizes of the current value."""
        return self._shape()[2:]

    def pool(self) -> None:
        """Average over space or tokens, down to [1, channels]."""
        shape = self._shape()
        if len(shape) > 3:
            self.value = self._writer.op("GlobalAveragePool", self.value)
        elif len(shape) == 3:
            self.value = self._writer.reduce("ReduceMean", self.value, 1)
        if len(shape) > 2:
            self.value = self._writer.op("Flatten", self.value, axis=1)

    def normalise(self) -> None:
        """Layer normalisation of the last axis (Ba et al. 2016), in operators of every opset."""
        write = self._writer
        centred = write.op("Sub", self.value, write.reduce("ReduceMean", self.value, -1))
        square = write.op("Mul", centred, centred)
        variance = write.reduce("ReduceMean", square, -1)
        deviation = write.op("Sqrt", write.op("Add", variance, write.constant([1e-5])))
        self.value = write.op("Div", centred, deviation)

    def dense(self, width: int) -> None:
        """A fully connected layer."""
        weight = self._normal((self.channels, width), self.channels)
        constants = [self._writer.constant(array) for array in (weight, np.zeros(width))]
        self.value = self._writer.op("Gemm", self.value, *constants)

    def relu(self) -> None:
        """The activation of all fresh heads."""
        self.value = self._writer.op("Relu", self.value)

    def separable(self, width: int, stride: int = 1) -> None:
        """A 3x3 depthwise and a pointwise convolution, with a shortcut where shapes agree."""
        before, channels = self.value, self.channels
        self._convolve(self._normal((channels, 1, 3, 3), 9), stride, channels)
        self._convolve(self._normal((width, channels, 1, 1), channels), 1, 1)
        if stride == 1 and width == channels:
            self.value = self._writer.op("Add", self.value, before)
        self.relu()

    def finish(self, name: str) -> HeadGraph:
        """The head, with the current value as its logits."""
        nodes = (*self._shared, *self._writer.nodes)
        return HeadGraph(name, self.point, self.feature, nodes, self.value)

    def _convolve(self, weight: npt.NDArray[np.float32], stride: int, group: int) -> None:
        size = weight.shape[-1]
        self.value = self._writer.op(
            "Conv",
            self.value,
            self._writer.constant(weight),
            self._writer.constant(np.zeros(len(weight))),
            strides=[stride, stride],
            pads=[size // 2] * 4,
            kernel_shape=[size, size],
            group=group,
        )

    def _normal(self, shape: tuple[int, ...], inputs: int) -> npt.NDArray[np.float32]:
        return self._rng.normal(0.0, np.sqrt(2.0 / inputs), shape).astype(np.float32)

    def _shape(self) -> tuple[int, ...]:
        shape = self.value.shape
        return (0,) if shape is None else tuple(int(dim) for dim in shape.numpy())


def fresh_heads(
    point: Point,
    classes: int,
    opsets: Mapping[str, int],
    *,
    model: CostModel,
    whole: float,
    rng: np.random.Generator,
) -> Iterator[HeadGraph]:
    """All fresh heads that fit a point.

    Args:
        point: with a feature of shape [1, D], [1, tokens, D] or [1, C, H, W].
        classes: number of logits.
        opsets: of the Program.
        model: prices side networks.
        whole: cost of the full network, in the model's unit.
        rng: draws the initial weights.
    """
    if len(point.shape) not in (2, 3, 4):
        return
    tokens = len(point.shape) == 3
    for hidden in (None, HIDDEN):
        build = HeadBuilder(point, opsets, rng)
        build.pool()
        if tokens:
            build.normalise()
        if hidden is not None:
            build.dense(hidden)
            build.relu()
        build.dense(classes)
        kind = "linear" if hidden is None else f"mlp-{hidden}"
        yield build.finish(f"tokens-{kind}" if tokens else f"pooled-{kind}")
    if len(point.shape) == 4:
        start = partial(HeadBuilder, point, opsets, rng)
        yield from _side_networks(start, classes, model, whole)


def _side_networks(
    start: Callable[[], HeadBuilder], classes: int, model: CostModel, whole: float
) -> Iterator[HeadGraph]:
    """The widest side network that fits into each fraction of the network's cost."""
    used: set[int] = set()
    for fraction in SIDE_FRACTIONS:
        for width in SIDE_WIDTHS:
            head = _side_network(start(), width, classes)
            if head.cost(model).value <= fraction * whole:
                if width not in used:
                    yield head
                used.add(width)
                break


def _side_network(build: HeadBuilder, width: int, classes: int) -> HeadGraph:
    """Separable layers that halve the resolution while it is above 8, doubling the width once."""
    size = min(build.point.shape[2:])
    first = 2 if size > 8 else 1
    build.separable(width, first)
    build.separable(width)
    build.separable(2 * width, 2 if size // first > 4 else 1)
    build.separable(2 * width)
    build.pool()
    build.dense(classes)
    return build.finish(f"side-{width}")

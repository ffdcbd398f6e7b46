"""Cut a block's graph into kernels, views and tails, in an order that can run.

A kernel is an anchor with the elementwise operators that follow it; where two anchors could take
the same residual sum, the later one does, so that the earlier one's result is the operand that is
accumulated in place. Views move no data. What is left forms tails, compiled by TVM's own path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from offramp.backends.tvm import anchors, parts
from offramp.backends.tvm.epilogue import BINARY, Operand, Step
from offramp.backends.tvm.integer import linear, lookup, matching
from offramp.backends.tvm.integer.linear import Linear
from offramp.backends.tvm.integer.matching import IntegerKernel
from offramp.backends.tvm.integer.selection import specify
from offramp.passes.layout import rules

_HIGHEST = float(np.finfo(np.float32).max)


@dataclass
class Kernel:
    """An anchor with its epilogue. operands: of the steps that have one, in order."""

    anchor: anchors.Anchor
    result: ir.Value
    nodes: list[ir.Node]
    steps: list[Step] = field(default_factory=list)
    operands: list[ir.Value] = field(default_factory=list)

    @property
    def inputs(self) -> list[ir.Value]:
        """Values that must exist before."""
        return [self.anchor.source, *self.operands]


@dataclass(frozen=True)
class View:
    """`result` has the bytes of `source`, from the element `start` on."""

    source: ir.Value
    result: ir.Value
    start: int = 0


@dataclass(frozen=True)
class Join:
    """A Concat whose inputs are written into their parts of its output."""

    node: ir.Node


@dataclass(frozen=True)
class Tail:
    """Nodes compiled together by TVM's own path."""

    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Conversion:
    """A node between real numbers and integers, alone."""

    node: ir.Node
    spec: Linear


Group = Kernel | IntegerKernel | Conversion | anchors.RowSoftmax | View | Join | Tail


def group(
    graph: ir.Graph, *, integers: str = "", exact: bool = False, alignment: int = 1
) -> list[Group]:
    """The kernels, views and tails of a graph, in execution order.

    integers: the family of microkernels with which quantised operators are computed in integers
    where a template fits; if empty, they are computed as ONNX says, on real numbers. exact: with
    the rounding of TFLite's reference kernels. alignment: bytes that buffers begin at multiples of.
    """
    matching.fold_constants(graph)
    owned = _integer_kernels(graph, integers, exact) if integers else {}
    owners = _kernels(graph, set(owned))
    unneeded = matching.drop_dequantised(list(graph), set(owned))
    joined = set(parts.joins(graph, _made(graph, owned, owners, unneeded), alignment))
    schedule = _Schedule(alignment)
    for node in graph:
        kernel = owners.get(node)
        integer = owned.get(node)
        softmax = anchors.match_softmax(node)
        conversion = linear.match(node)
        if node in unneeded:
            continue
        if integer is not None:
            if node is integer.nodes[-1]:
                schedule.kernel(integer, integer.sources)
        elif kernel is not None:
            if node is kernel.nodes[-1]:
                schedule.kernel(kernel, kernel.inputs)
        elif conversion is not None and node.inputs[0] is not None:
            schedule.kernel(Conversion(node, conversion), [node.inputs[0]])
        elif softmax is not None:
            schedule.kernel(softmax, [softmax.source])
        elif view_start(node, alignment) is not None:
            schedule.view(node)
        elif node in joined:
            schedule.join(node)
        else:
            schedule.tail(node)
    schedule.flush()
    return schedule.groups


def _made(
    graph: ir.Graph,
    owned: dict[ir.Node, IntegerKernel],
    owners: dict[ir.Node, Kernel],
    unneeded: set[ir.Node],
) -> set[ir.Value]:
    """The results of kernels, but for those that the block answers or passes on."""
    kernels: list[IntegerKernel | Kernel] = [*owned.values(), *owners.values()]
    results = {kernel.result for kernel in kernels}
    results |= {
        node.outputs[0]
        for node in graph
        if node not in owned and node not in owners and node not in unneeded
        if linear.match(node) is not None or anchors.match_softmax(node) is not None
    }
    return {value for value in results if not value.is_graph_output()}


def view_start(node: ir.Node, alignment: int) -> int | None:
    """The element of its first input from which on the output of `node` has its bytes, or None."""
    source = node.inputs[0] if node.inputs else None
    if node.domain != "" or source is None:
        return None
    if node.op_type == "Slice" and source.const_value is None:
        start = parts.slice_start(node)
        is_aligned = start is not None and start * parts.item_bytes(source) % alignment == 0
        return start if is_aligned else None
    if node.op_type == "Transpose" and "perm" in node.attributes:
        permutation = tuple(node.attributes["perm"].as_ints())
        return 0 if rules.moves_no_data(rules.static_shape(source), permutation) else None
    return 0 if node.op_type in rules.VIEWS else None


def _integer_kernels(graph: ir.Graph, family: str, exact: bool) -> dict[ir.Node, IntegerKernel]:
    """The integer kernel of every node that belongs to one."""
    owners: dict[ir.Node, IntegerKernel] = {}
    for node in graph:
        kernel = matching.match(node) if node.op_type == "QuantizeLinear" else None
        if kernel is not None and specify(kernel, family, is_exact=exact) is not None:
            kernel = _with_residual(kernel, owners, family, exact) or kernel
        else:
            kernel = lookup.match(node, graph.opset_imports)
        if kernel is not None:
            owners |= dict.fromkeys(kernel.nodes, kernel)
    return owners


def _with_residual(
    kernel: IntegerKernel, owners: dict[ir.Node, IntegerKernel], family: str, exact: bool
) -> IntegerKernel | None:
    """A sum together with the convolution behind it: the later one, whose result nobody keeps."""
    if kernel.anchor is not None:
        return None
    makers = [source.producer() for source in kernel.sources]
    weighted = [owners[maker] for maker in makers if maker is not None and maker in owners]
    for before in sorted(weighted, key=lambda k: list(owners).index(k.nodes[-1]), reverse=True):
        if before.weights is not None:
            fused = matching.with_residual(before, kernel)
            if fused is not None and specify(fused, family, is_exact=exact) is not None:
                return fused
    return None


def _kernels(graph: ir.Graph, taken: set[ir.Node]) -> dict[ir.Node, Kernel]:
    """The kernel of every node that belongs to one; `taken` nodes belong to others."""
    order = {node: position for position, node in enumerate(graph)}
    owners: dict[ir.Node, Kernel] = {}
    for node in reversed(list(graph)):
        anchor = None if node in owners or node in taken else anchors.match(node)
        if anchor is None or any(n in owners or n in taken for n in anchor.nodes):
            continue
        kernel = Kernel(anchor, anchor.result, list(anchor.nodes))
        while _absorb(kernel, owners):
            continue
        kernel.nodes.sort(key=lambda n: order[n])
        owners.update(dict.fromkeys(kernel.nodes, kernel))
    return owners


def _absorb(kernel: Kernel, owners: dict[ir.Node, Kernel]) -> bool:
    """Extend the epilogue by the only consumer of the result, if it is elementwise."""
    users = kernel.result.consumers()
    if kernel.result.is_graph_output() or any(user in owners for user in users):
        return False
    if _absorb_silu(kernel, list(users)):
        return True
    if len(users) != 1 or users[0].domain != "":
        return False
    user = users[0]
    step = _unary(user)
    if step is not None:
        _extend(kernel, [user], step)
        return True
    return user.op_type in BINARY and _absorb_binary(kernel, user)


def _extend(kernel: Kernel, nodes: Iterable[ir.Node], step: Step) -> None:
    kernel.nodes.extend(nodes)
    kernel.steps.append(step)
    kernel.result = kernel.nodes[-1].outputs[0]


def _absorb_silu(kernel: Kernel, users: list[ir.Node]) -> bool:
    """`v * sigmoid(v)`."""
    if sorted(user.op_type for user in users) != ["Mul", "Sigmoid"]:
        return False
    product, gate = sorted(users, key=lambda user: user.op_type)
    scores = gate.outputs[0]
    if set(product.inputs) != {kernel.result, scores}:
        return False
    if len(scores.uses()) != 1 or scores.is_graph_output():
        return False
    _extend(kernel, [gate, product], Step("Silu"))
    return True


def _unary(node: ir.Node) -> Step | None:
    """The step of an elementwise operator with constant parameters."""
    if node.op_type in ("Relu", "Sigmoid", "HardSwish", "Tanh"):
        return Step(node.op_type)
    if node.op_type == "LeakyRelu":
        return Step("LeakyRelu", (_attribute(node, "alpha", 0.01),))
    if node.op_type == "HardSigmoid":
        return Step("HardSigmoid", (_attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)))
    if node.op_type == "Clip":
        return _clip(node)
    return None


def _clip(node: ir.Node) -> Step | None:
    bounds = [_attribute(node, "min", -_HIGHEST), _attribute(node, "max", _HIGHEST)]
    for position, value in enumerate(node.inputs[1:]):
        if value is not None:
            data = anchors.constant(value)
            if data is None or data.size != 1:
                return None
            bounds[position] = float(data.reshape(()))
    return Step("Clip", tuple(np.clip(bounds, -_HIGHEST, _HIGHEST).tolist()))


def _attribute(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _absorb_binary(kernel: Kernel, node: ir.Node) -> bool:
    """A sum, product, ... with a constant, one value per channel, or an equal-shaped tensor."""
    left, right = node.inputs
    result = kernel.result
    other = right if left is result else left
    shape = rules.static_shape(result)
    if other is None or other is result or rules.static_shape(node.outputs[0]) != shape:
        return False
    is_reversed = left is not result and node.op_type in ("Sub", "Div")
    data = anchors.constant(other)
    if data is not None and data.size == 1:
        values = (float(data.reshape(())),)
        _extend(kernel, [node], Step(node.op_type, values, Operand.CONSTANT, is_reversed))
        return True
    if data is not None and data.shape and data.size == data.shape[-1] == kernel.anchor.filters:
        operand = Operand.CHANNEL
    elif rules.static_shape(other) == shape:
        operand = Operand.TENSOR
    else:
        return False
    _extend(kernel, [node], Step(node.op_type, (), operand, is_reversed))
    kernel.operands.append(other)
    return True


class _Schedule:
    """Orders groups; a tail stays open until somebody needs what it computes."""

    def __init__(self, alignment: int) -> None:
        self.groups: list[Group] = []
        self._open: list[ir.Node] = []
        self._alignment = alignment

    def kernel(
        self,
        kernel: Kernel | IntegerKernel | Conversion | anchors.RowSoftmax,
        inputs: list[ir.Value],
    ) -> None:
        """Run a kernel, after the open tail if it reads from it."""
        if self._reads_open(inputs):
            self.flush()
        self.groups.append(kernel)

    def tail(self, node: ir.Node) -> None:
        """Add a node to the open tail."""
        self._open.append(node)

    def view(self, node: ir.Node) -> None:
        """Add a view: inside the open tail if it reads from it."""
        source = node.inputs[0]
        if source is not None and self._reads_open([source]):
            self._open.append(node)
        elif source is not None:
            self.groups.append(self._as_view(node, source))

    def join(self, node: ir.Node) -> None:
        """Add a concatenation; its inputs are results of kernels, so no tail is waited for."""
        self.groups.append(Join(node))

    def flush(self) -> None:
        """Close the open tail; views at its end are views of its results."""
        views: list[View] = []
        while self._open and view_start(self._open[-1], self._alignment) is not None:
            node = self._open.pop()
            source = node.inputs[0]
            if source is not None:
                views.append(self._as_view(node, source))
        if self._open:
            self.groups.append(Tail(tuple(self._open)))
        self.groups.extend(reversed(views))
        self._open = []

    def _as_view(self, node: ir.Node, source: ir.Value) -> View:
        return View(source, node.outputs[0], view_start(node, self._alignment) or 0)

    def _reads_open(self, values: Iterable[ir.Value]) -> bool:
        return any(value.producer() in self._open for value in values)

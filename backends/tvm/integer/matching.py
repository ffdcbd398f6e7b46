"""Find operators whose inputs are dequantised and whose output is quantised again.

The IR keeps the ONNX form, which onnxruntime runs: DequantizeLinear, the operator on real numbers,
activations, QuantizeLinear. Here such a chain becomes one kernel on integers of 8 or 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm import anchors
from offramp.backends.tvm.anchors import Anchor, constant
from offramp.backends.tvm.integer.scaling import Quantized
from offramp.compiler.ir.dequantise import dequantised
from offramp.passes.layout import rules

Weights = npt.NDArray[np.int8]


@dataclass
class IntegerKernel:
    """One operator on integers.

    nodes: those computed here, the quantisation last. sources: what is read, `[N, ..., C]`.
    inputs: what these stand for. result, output: the same of what is written. bounds: of the
    written integers. anchor: geometry and float weights; None for a sum of two tensors.
    weights: `[filters, channels / groups, rows, columns]`. scales: of the filters. product: what
    the integers stand for to which a residual, the last source, is added; None without one.
    table: results by unsigned byte, of a function of one tensor; None for all others.
    """

    nodes: list[ir.Node]
    sources: list[ir.Value]
    inputs: list[Quantized]
    result: ir.Value
    output: Quantized
    bounds: tuple[int, int]
    anchor: Anchor | None = None
    weights: Weights | None = None
    scales: npt.NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    product: Quantized | None = None
    table: npt.NDArray[np.int8] | None = None

    @property
    def has_wide(self) -> bool:
        """Whether it reads or writes integers of 16 bits."""
        return any(meaning.bits > 8 for meaning in (*self.inputs, self.output))


def fold_constants(graph: ir.Graph) -> None:
    """Give the output of every DequantizeLinear of a constant its value; the node stays."""
    for node in graph:
        real = dequantised(node)
        if real is not None:
            node.outputs[0].const_value = ir.tensor(real)


def match(node: ir.Node) -> IntegerKernel | None:
    """The kernel that ends in the QuantizeLinear `node`, or None."""
    output = quantized(node)
    value = node.inputs[0]
    if node.op_type != "QuantizeLinear" or output is None or value is None:
        return None
    nodes, (value, low, high) = [node], _unclamped(value)
    last = value.producer()
    if last is None or not _is_private(value):
        return None
    nodes = [*_between(value, node), node]
    kernel = _weighted(last, nodes, output) or _sum(last, nodes, output)
    if kernel is not None:
        kernel.bounds = output.bounds(low, high)
    return kernel


def _weighted(last: ir.Node, nodes: list[ir.Node], output: Quantized) -> IntegerKernel | None:
    """A convolution, dense layer or mean whose last node is `last`, perhaps a sum with a bias."""
    bias_node = None
    if last.op_type == "Add" and last.domain == "":
        products = [v for v in last.inputs if v is not None and v.const_value is None]
        if len(products) != 1 or not _is_private(products[0]):
            return None
        producer = products[0].producer()
        bias_node, last = last, producer if producer is not None else last
    found = anchors.match(_operator(last))
    if found is None or found.result is not last.outputs[0] or not _holds_together(found):
        return None
    before, views = _through_views(found.source)
    source = activation(before)
    if source is None:
        return None
    kernel = IntegerKernel(
        nodes=[*views, *found.nodes, *([bias_node] if bias_node else []), *nodes],
        sources=[source[0]],
        inputs=[source[1]],
        result=nodes[-1].outputs[0],
        output=output,
        bounds=output.range,
        anchor=found,
    )
    if bias_node is not None:
        bias = next(constant(v) for v in bias_node.inputs if v is not None and v.const_value)
        if bias is None or found.bias is not None or bias.size not in (1, found.filters):
            return None
        flat = np.broadcast_to(bias.reshape(-1), (found.filters,)).astype(np.float32)
        kernel.anchor = replace(found, bias=flat)
    return kernel if found.weights is None else _with_weights(kernel, _operator(last))


def _with_weights(kernel: IntegerKernel, operator: ir.Node) -> IntegerKernel | None:
    """The kernel with its weights as integers; None unless they are symmetric 8-bit ones."""
    anchor = kernel.anchor
    value = operator.inputs[1]
    node = None if value is None else value.producer()
    if anchor is None or anchor.weights is None or node is None:
        return None
    data, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if node.op_type != "DequantizeLinear" or data is None or scale is None:
        return None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if data.dtype != np.int8 or (zero is not None and zero.any()):
        return None
    if scale.size > 1 and scale.size != anchor.filters:
        return None
    kernel.scales = np.broadcast_to(scale.reshape(-1), (anchor.filters,)).astype(np.float64)
    by_filter = kernel.scales.reshape(-1, 1, 1, 1)
    kernel.weights = np.rint(anchor.weights / by_filter).astype(np.int8)
    return kernel


def _sum(last: ir.Node, nodes: list[ir.Node], output: Quantized) -> IntegerKernel | None:
    """The sum of two dequantised tensors of one shape."""
    if last.op_type != "Add" or last.domain != "":
        return None
    found = [activation(None if v is None else v.producer()) for v in last.inputs]
    values = [v for v in last.inputs if v is not None]
    shapes = {rules.static_shape(v) for v in [*values, *last.outputs]}
    if len(shapes) != 1 or any(source is None for source in found):
        return None
    sources = [source for source in found if source is not None]
    return IntegerKernel(
        nodes=[last, *nodes],
        sources=[value for value, _ in sources],
        inputs=[meaning for _, meaning in sources],
        result=nodes[-1].outputs[0],
        output=output,
        bounds=output.range,
    )


def _through_views(value: ir.Value) -> tuple[ir.Node | None, list[ir.Node]]:
    """What computes `value`, reshapes left out, and these reshapes in order."""
    views: list[ir.Node] = []
    node = value.producer()
    while node is not None and node.op_type in rules.VIEWS and _is_private(node.outputs[0]):
        views.insert(0, node)
        source = node.inputs[0]
        node = None if source is None else source.producer()
    return node, views


def _operator(last: ir.Node) -> ir.Node:
    """The operator in front of a layout transpose, or the node itself."""
    source = last.inputs[0]
    producer = None if source is None else source.producer()
    if producer is None or last.op_type != "Transpose" or producer.op_type not in rules.SPATIAL:
        return last
    return producer


def _holds_together(anchor: Anchor) -> bool:
    """Whether nobody else reads what the anchor's nodes compute on the way."""
    inner = [node.outputs[0] for node in anchor.nodes[:-1]]
    return all(_is_private(value) for value in inner)


def _is_private(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def activation(node: ir.Node | None) -> tuple[ir.Value, Quantized] | None:
    """What a DequantizeLinear of signed integers with one scale reads, and what they mean."""
    if node is None or node.op_type != "DequantizeLinear" or node.domain != "":
        return None
    source, meaning = node.inputs[0], quantized(node)
    if source is None or meaning is None or source.const_value is not None:
        return None
    return source, meaning


def quantized(node: ir.Node) -> Quantized | None:
    """What the signed integers of a (de)quantisation by one scale mean, or None."""
    scale = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1 or zero is None or zero.dtype not in (np.int8, np.int16):
        return None
    return Quantized(float(scale.reshape(())), int(zero.reshape(-1)[0]), 8 * zero.itemsize)


def _unclamped(value: ir.Value) -> tuple[ir.Value, float, float]:
    """What is clamped on the way to `value`, and the real bounds."""
    low, high = -np.inf, np.inf
    while True:
        node = value.producer()
        bounds = None if node is None or not _is_private(value) else _bounds(node)
        source = None if node is None else node.inputs[0]
        if bounds is None or source is None:
            return value, low, high
        low, high, value = max(low, bounds[0]), min(high, bounds[1]), source


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    if node.op_type == "Relu" and node.domain == "":
        return 0.0, np.inf
    if node.op_type != "Clip" or node.domain != "":
        return None
    ends = [constant(v) if v is not None else None for v in (*node.inputs[1:], None, None)[:2]]
    if any(v is not None and end is None for v, end in zip(node.inputs[1:], ends, strict=False)):
        return None
    low = -np.inf if ends[0] is None else float(ends[0].reshape(()))
    return low, np.inf if ends[1] is None else float(ends[1].reshape(()))


def _between(value: ir.Value, last: ir.Node) -> list[ir.Node]:
    """The nodes from `value` to the input of `last`."""
    found: list[ir.Node] = []
    (node,) = value.consumers()
    while node is not last:
        found.append(node)
        (node,) = node.outputs[0].consumers()
    return found


def with_residual(weighted: IntegerKernel, total: IntegerKernel) -> IntegerKernel | None:
    """A convolution and the sum that alone reads it, as one; None if something is in between, or
    the sum has integers of 16 bits."""
    if weighted.result not in total.sources or total.sources[0] is total.sources[1]:
        return None
    readers = weighted.result.consumers()
    is_alone = len(readers) == 1 and _is_private(readers[0].outputs[0])
    is_clamped = weighted.bounds != weighted.output.range
    if not is_alone or weighted.result.is_graph_output() or is_clamped or weighted.product:
        return None
    if total.has_wide:
        return None
    other = 1 - total.sources.index(weighted.result)
    return replace(
        total,
        nodes=[*weighted.nodes, readers[0], *total.nodes],
        sources=[*weighted.sources, total.sources[other]],
        inputs=[*weighted.inputs, total.inputs[other]],
        anchor=weighted.anchor,
        weights=weighted.weights,
        scales=weighted.scales,
        product=weighted.output,
    )


def drop_dequantised(nodes: Sequence[ir.Node], owned: set[ir.Node]) -> set[ir.Node]:
    """Dequantisations that nobody needs as such: of constants, or read by integer kernels only."""
    return {
        node
        for node in nodes
        if node.op_type == "DequantizeLinear"
        and not node.outputs[0].is_graph_output()
        and (
            node.outputs[0].const_value is not None
            or all(user in owned for user in node.outputs[0].consumers())
        )
    }

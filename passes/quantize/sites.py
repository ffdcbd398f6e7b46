"""Where a network is quantised: the operators that integers compute, what they read and write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from offramp.compiler.ir.functions import function_of
from offramp.passes.layout import rules
from offramp.passes.quantize.ranges import Affine
from offramp.passes.simplify.rewriting import constant, sole_reader, static_shape

WEIGHTED = frozenset({"Conv", "Gemm"})
MEANS = frozenset({"AveragePool", "GlobalAveragePool"})
MAXIMA = frozenset({"MaxPool", "GlobalMaxPool"})
MOVING = rules.VIEWS | {"Transpose"}


@dataclass(frozen=True)
class Site:
    """An operator with the activations that its kernel takes along, or a function of one tensor.

    node: the operator, the last one of a function. reads: the tensors to quantise that it reads,
    moves of data left out. writes: the tensor to quantise, after the activations.
    """

    node: ir.Node
    reads: tuple[ir.Value, ...]
    writes: ir.Value

    @property
    def name(self) -> str:
        """What the layer is called: its result's name."""
        return str(self.node.outputs[0].name)

    @property
    def keeps_scale(self) -> bool:
        """Whether what it writes are numbers that it read."""
        return self.node.op_type in MAXIMA


def sites(graph: ir.Graph) -> list[Site]:
    """All operators of `graph` that integers can compute, in order; then functions between them."""
    found: list[Site] = []
    for node in graph:
        activations = _activations(node)
        if activations:
            reads = tuple(_origin(value) for value in activations)
            found.append(Site(node, reads, _after_activations(node.outputs[0])))
    return found + _functions(found)


def _functions(operators: list[Site]) -> list[Site]:
    """Functions between what operators write and what others read."""
    written = {site.writes for site in operators}
    found: list[Site] = []
    for value in dict.fromkeys(read for site in operators for read in site.reads):
        if value not in written and value.producer() is not None:
            function = function_of(value, lambda v: v in written)
            if function is not None and _origin(function.source) in written:
                found.append(Site(function.nodes[-1], (_origin(function.source),), value))
    return found


def given_scale(value: ir.Value) -> Affine | None:
    """What the signed bytes are that `value` is computed from by one scale; None without such."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain != "":
        return None
    integers, scale = node.inputs[0], constant(node.inputs[1])
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.int8)
    if integers is None or integers.dtype != ir.DataType.INT8 or constant(integers) is not None:
        return None
    if scale is None or scale.size != 1 or zero is None:
        return None
    return Affine(float(scale.reshape(())), int(zero.reshape(())))


def _activations(node: ir.Node) -> list[ir.Value]:
    """The inputs that are computed; none if the operator stays on real numbers."""
    if node.domain != "" or node.outputs[0].dtype != ir.DataType.FLOAT:
        return []
    values = [value for value in node.inputs if value is not None]
    if node.op_type in WEIGHTED:
        constants = all(constant(value) is not None for value in values[1:])
        is_plain = node.op_type == "Conv" or _is_plain_gemm(node)
        return values[:1] if constants and is_plain and constant(values[0]) is None else []
    if node.op_type in MEANS | MAXIMA and len(node.outputs) == 1:
        return values[:1]
    if node.op_type == "ReduceMean" and _is_over_an_image(node):
        return values[:1]
    if node.op_type == "Add" and all(constant(value) is None for value in values):
        shapes = {static_shape(value) for value in values}
        return values if len(shapes) == 1 and values[0] is not values[1] else []
    return []


def _is_over_an_image(node: ir.Node) -> bool:
    """Whether the mean is over all axes behind the second, the channels."""
    source, axes = static_shape(node.inputs[0]), rules.reduction_axes(node)
    if source is None or axes is None or len(source) < 3:
        return False
    return {axis % len(source) for axis in axes} == set(range(2, len(source)))


def _is_plain_gemm(node: ir.Node) -> bool:
    """Whether it is a dense layer with a bias for each filter, if any."""
    attributes = node.attributes
    plain = attributes.get_float("alpha", 1.0) == attributes.get_float("beta", 1.0) == 1.0
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    filters = static_shape(node.outputs[0])
    fits = bias is None or (filters is not None and bias.shape == filters[1:])
    return plain and fits and not attributes.get_int("transA", 0)


def _origin(value: ir.Value) -> ir.Value:
    """The tensor that `value` is, before data was moved."""
    node = value.producer()
    while node is not None and node.op_type in MOVING and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _after_activations(value: ir.Value) -> ir.Value:
    """`value` after the clamps that alone read it."""
    reader = sole_reader(value)
    while reader is not None and _is_clamp(reader):
        value = reader.outputs[0]
        reader = sole_reader(value)
    return value


def _is_clamp(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type not in ("Relu", "Clip"):
        return False
    bounds = [constant(value) for value in node.inputs[1:] if value is not None]
    return all(bound is not None and np.size(bound) == 1 for bound in bounds)

"""How operators read and write channels-last activations.

Spatial operators keep their ONNX form between two transposes; elementwise operators do not mind;
operators with axes have them renumbered. Everything else gets its inputs channels-first.
"""

from __future__ import annotations

import onnx_ir as ir

SPATIAL = frozenset(
    {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"}
)
"""Operators on `[batch, channels, *spatial]` that kernels compute channels-last."""

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators whose output has the bytes of the first input."""

ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "DequantizeLinear",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "QuantizeLinear",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    ]
)
"""Operators that treat all elements alike, with broadcasting."""

REDUCTIONS = frozenset(
    [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
"""Operators that remove or shrink the axes they are given."""

ALONG_AXIS = frozenset({"Concat", "Softmax", "LogSoftmax", "Hardmax", "Split"})
"""Operators that work along one axis, named by the attribute `axis`."""


def to_last(rank: int) -> tuple[int, ...]:
    """The permutation that moves axis 1 (channels) to the end."""
    return (0, *range(2, rank), 1)


def to_first(rank: int) -> tuple[int, ...]:
    """The permutation that moves the last axis (channels) to position 1."""
    return (0, rank - 1, *range(1, rank - 1))


def renumber(axis: int, rank: int) -> int:
    """Where a channels-first axis is found channels-last."""
    return to_last(rank).index(axis % rank)


def moves_no_data(shape: tuple[int, ...], permutation: tuple[int, ...]) -> bool:
    """Whether transposing by `permutation` keeps all elements in place."""
    moved = [axis for axis in permutation if shape[axis] != 1]
    return moved == sorted(moved)


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a value; every value of a Program has a static one."""
    shape = value.shape
    return () if shape is None else tuple(int(dim) for dim in shape.numpy())


def reduction_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes a reduction removes, or None if they are not constant or not given."""
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"].as_ints())
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        tensor = node.inputs[1].const_value
        return None if tensor is None else tuple(int(a) for a in tensor.numpy())
    return None


def keeps_order(removed: tuple[int, ...], rank: int) -> bool:
    """Whether the axes left after a reduction stand in the same order in both layouts."""
    axes = {axis % rank for axis in removed}
    return 1 in axes or axes >= set(range(2, rank))


def is_spatial(node: ir.Node) -> bool:
    """Whether `node` is a convolution or pool with one output."""
    used = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    return node.domain == "" and node.op_type in SPATIAL and len(used) <= 1

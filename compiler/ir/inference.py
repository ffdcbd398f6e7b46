"""Types and static shapes of one node's outputs, from those of its inputs."""

from __future__ import annotations

from math import prod
from typing import Any

import onnx_ir as ir

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.ir.program import Block

MAX_BYTES = 1 << 36
"""No tensor may have more than 64 GiB."""
ELEMENTWISE_WITHOUT_INFERENCE = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators that ONNX infers nothing for; their output has their first input's shape."""
DATA_DEPENDENT = frozenset({"NonZero", "Unique", "NonMaxSuppression", "Compress", "ImageDecoder"})
"""Operators whose output shape depends on values, whatever a model declares."""
DATA_ELEMENTS = 1024
"""Constants up to this size are shown to shape inference (targets of Reshape, axes, pads, ...)."""


def describe(node: ir.Node) -> str:
    """`operator 'Conv' (node 'conv1')`, for messages."""
    domain = f"{node.domain}." if node.domain else ""
    name = node.name or ", ".join(str(value.name) for value in node.outputs)
    return f"operator {domain + node.op_type!r} (node {name!r})"


_INFERRED_SINCE = {"GreaterOrEqual": 16, "LessOrEqual": 16}
"""Versions of operators from which on ONNX infers their output; older ones have the same."""


def infer_node(node: ir.Node, opset_imports: dict[str, int]) -> None:
    """Set type and shape of every output of `node` by ONNX's own inference.

    Raises:
        UserError: the inputs do not fit the operator.
        UnsupportedError: an output is no tensor, or its shape depends on data.
    """
    import onnx

    version = max(opset_imports[node.domain], _INFERRED_SINCE.get(node.op_type, 1))
    schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opset_imports.items()]
    inputs = [value for value in node.inputs if value is not None]
    try:
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            ir.to_proto(node),
            {str(value.name): _type_proto(value) for value in inputs},
            {str(v.name): ir.to_proto(t) for v in inputs if (t := _small_constant(v))},
            opset_imports=imports,
        )
    except _failures() as error:
        shapes = ", ".join(f"{v.name}: {v.dtype} {list(v.shape or ())}" for v in inputs)
        raise UserError(
            f"{describe(node)} does not accept its inputs ({shapes}): {error}"
        ) from error
    for output in node.outputs:
        if output.name and output.name in inferred:
            _adopt(node, output, inferred[output.name])
        require_static(node, output)


def infer_block(block: Block, opset_imports: dict[str, int]) -> None:
    """Set types and shapes of all values of `block` from its parameters and initializers.

    Raises:
        UserError: a node does not accept its inputs.
        UnsupportedError: an output is no tensor, or its shape depends on data.
    """
    for node in block.graph:
        infer_node(node, opset_imports)


def require_static(node: ir.Node, output: ir.Value) -> None:
    """Refuse an output that is no tensor of static shape.

    Raises:
        UnsupportedError: names the node and what is known about the output.
    """
    if not output.name:
        return
    require_numeric(f"{describe(node)} has output {output.name!r}, which", output)
    if output.shape is None or not output.shape.is_static():
        raise UnsupportedError(
            f"{describe(node)} has output {output.name!r} of shape {output.shape}, which depends "
            "on data: offramp compiles static shapes only"
        )
    require_size(f"{describe(node)} has output {output.name!r}, which", output)


def require_size(label: str, value: ir.Value) -> None:
    """Refuse a value of static shape that no machine could hold.

    Raises:
        UserError: begins with `label`.
    """
    if value.shape is None or value.dtype is None:
        return
    size = prod(value.shape.numpy()) * value.dtype.bitwidth // 8
    if size > MAX_BYTES:
        raise UserError(
            f"{label} has shape {list(value.shape)} and would take {size / 2**30:.0f} GiB: at most "
            f"{MAX_BYTES >> 30} GiB are accepted"
        )


def require_numeric(label: str, value: ir.Value) -> None:
    """Refuse sequences, optionals, maps and strings.

    Raises:
        UnsupportedError: begins with `label`.
    """
    if not isinstance(value.type, ir.TensorType) or value.dtype == ir.DataType.STRING:
        found = "unknown type" if value.type is None else f"type {value.type}"
        raise UnsupportedError(f"{label} is of {found}: only tensors of numbers are supported")


def _adopt(node: ir.Node, output: ir.Value, proto: Any) -> None:
    """Take what inference found; where that is vague, what the operator or the model says."""
    declared = output.shape
    output.type = ir.serde.deserialize_type_proto_for_type(proto)
    found = ir.serde.deserialize_type_proto_for_shape(proto)
    source = node.inputs[0] if node.inputs else None
    if found is None and node.op_type in ELEMENTWISE_WITHOUT_INFERENCE and source is not None:
        found = source.shape
    if found is None or not found.is_static():
        found = _promised(node, output, found, declared)
    output.shape = None if found is None else ir.Shape(found)


def _promised(
    node: ir.Node, output: ir.Value, found: ir.Shape | None, declared: ir.Shape | None
) -> ir.Shape | None:
    """The shape that the model declares, where it is static and fits what is known."""
    if declared is None or not declared.is_static() or node.op_type in DATA_DEPENDENT:
        return found
    if found is None:
        return declared
    fits = len(found) == len(declared) and all(
        not isinstance(dim, int) or dim == promise
        for dim, promise in zip(found, declared, strict=True)
    )
    if not fits:
        raise UserError(
            f"{describe(node)} has output {output.name!r} of shape {found}, the model declares "
            f"{declared}: export it again with inferred shapes"
        )
    return declared


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX's inference raises, depending on where it fails."""
    import onnx

    inference, checker = onnx.shape_inference.InferenceError, onnx.checker.ValidationError
    return (inference, checker, RuntimeError, ValueError)


def _small_constant(value: ir.Value) -> ir.TensorProtocol | None:
    tensor = value.const_value
    return tensor if tensor is not None and tensor.size <= DATA_ELEMENTS else None


def _type_proto(value: ir.Value) -> Any:
    if value.type is None:
        raise UserError(
            f"value {value.name!r} has no type: the model declares none and none follows"
        )
    proto = ir.serde.serialize_type(value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto

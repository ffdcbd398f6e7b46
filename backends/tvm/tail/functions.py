"""Function bodies that the ONNX standard gives for its operators.

Many operators are defined by ONNX in terms of simpler ones. An operator without a kernel of its
own is lowered through that body; its Shape and Constant nodes fold away, because every shape is
static.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import defs

from offramp.backends.tvm.tail.scope import Attributes, attribute_value
from offramp.backends.tvm.tail.types import TensorType


def function_body(
    node: onnx.NodeProto, version: int, inputs: Sequence[TensorType | None]
) -> onnx.FunctionProto | None:
    """The body of `node`'s operator for these input types, or None where ONNX gives none.

    node: without attribute references. version: the operator set version of the node's domain.
    """
    if not defs.has(node.op_type, version, node.domain):
        return None
    schema: Any = defs.get_schema(node.op_type, version, node.domain)
    if schema.has_function:
        body: onnx.FunctionProto = schema.function_body
        return body
    if not schema.has_context_dependent_function:
        return None
    types = [t.to_onnx().SerializeToString() if t else b"" for t in inputs]
    serialized = _context_dependent(schema, node, version, types)
    return onnx.FunctionProto.FromString(serialized) if serialized else None


def parse(text: str) -> onnx.FunctionProto:
    """A function written in ONNX's textual form, of the newest operator set."""
    header = f'<domain: "offramp", opset_import: ["" : {defs.onnx_opset_version()}]>'
    return onnx.parser.parse_function(header + text)


def default_attributes(node: onnx.NodeProto, version: int, body: onnx.FunctionProto) -> Attributes:
    """What the operator's attributes are where the node does not set them, by name."""
    schema = defs.get_schema(node.op_type, version, node.domain)
    declared = [a.default_value for a in schema.attributes.values()]
    given = [a for a in declared if a.type != onnx.AttributeProto.UNDEFINED]
    return {a.name: attribute_value(a) for a in [*given, *body.attribute_proto]}


def _context_dependent(
    schema: Any, node: onnx.NodeProto, version: int, types: list[bytes]
) -> bytes:
    usable = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if not usable:
        return b""
    serialized = node.SerializeToString()
    instantiate = schema.get_context_dependent_function_with_opset_version
    return bytes(instantiate(max(usable), serialized, types))

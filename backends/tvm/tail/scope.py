"""Names in scope while ONNX nodes are lowered, and the attributes they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

Attributes = dict[str, Any]
"""Attribute values: int, float, bytes, tuples of these, TensorProto, GraphProto."""


@dataclass
class Scope:
    """Where the names of a graph, a function body or a branch are looked up.

    values: Relax expressions by ONNX name. opsets: operator set version by domain.
    attributes: what a function body's references to attributes stand for.
    """

    values: dict[str, Any]
    opsets: Mapping[str, int]
    attributes: Attributes = field(default_factory=lambda: {})

    def inner(self) -> Scope:
        """A scope that sees this one, for a branch of it."""
        return Scope(dict(self.values), self.opsets, self.attributes)

    def version(self, domain: str) -> int:
        """The operator set version of `domain`."""
        return self.opsets.get(domain or "", self.opsets.get("ai.onnx" if not domain else "", 1))

    def operands(self, node: onnx.NodeProto) -> list[Any]:
        """The node's inputs; None where an optional one is left out."""
        return [self.values[name] if name else None for name in node.input]

    def attributes_of(self, node: onnx.NodeProto) -> Attributes:
        """The node's attributes; references are resolved, unresolved ones left out."""
        found: Attributes = {}
        for attribute in node.attribute:
            if not attribute.ref_attr_name:
                found[attribute.name] = attribute_value(attribute)
            elif attribute.ref_attr_name in self.attributes:
                found[attribute.name] = self.attributes[attribute.ref_attr_name]
        return found


def resolved(node: onnx.NodeProto, attributes: Attributes) -> onnx.NodeProto:
    """The node with its attribute references replaced by values."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    copy.attribute.extend(onnx.helper.make_attribute(k, v) for k, v in attributes.items())
    return copy


def attribute_value(attribute: onnx.AttributeProto) -> Any:
    """An attribute's value as Python holds it; lists become tuples."""
    value = onnx.helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, list) or hasattr(value, "append") else value

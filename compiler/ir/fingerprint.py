"""Hashes of Programs: equal for equal structure, names and weights, whoever built the objects."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator

import onnx_ir as ir

from offramp.compiler.ir.program import Program

_TENSOR_HASHES: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()


def fingerprint(program: Program) -> str:
    """SHA-256 of everything a Program consists of, annotations included; hexadecimal."""
    digest = hashlib.sha256()
    header = (program.name, program.output_names, program.opset_imports, program.batched)
    digest.update(repr(header).encode())
    for block in program.blocks.values():
        digest.update(repr((block.name, block.terminator, block.annotations)).encode())
        digest.update(graph_fingerprint(block.graph).encode())
    return digest.hexdigest()


def graph_fingerprint(graph: ir.Graph) -> str:
    """SHA-256 of a straight-line graph: values with types, nodes, attributes and weights."""
    digest = hashlib.sha256()
    for line in _graph_lines(graph):
        digest.update(line.encode())
    return digest.hexdigest()


def tensor_fingerprint(tensor: ir.TensorProtocol) -> str:
    """SHA-256 of a tensor's type, shape and bytes; computed once per tensor object."""
    try:
        return _TENSOR_HASHES[tensor]
    except (KeyError, TypeError):
        pass
    header = f"{tensor.dtype}{list(tensor.shape.numpy())}".encode()
    digest = hashlib.sha256(header + tensor.tobytes()).hexdigest()
    _TENSOR_HASHES[tensor] = digest
    return digest


def _graph_lines(graph: ir.Graph) -> Iterator[str]:
    yield f"in {[_value(v) for v in graph.inputs]}"
    for name, value in sorted(graph.initializers.items()):
        data = value.const_value
        yield f"weight {name} {'' if data is None else tensor_fingerprint(data)}"
    for node in graph:
        attributes = sorted(_attribute(a) for a in node.attributes.values())
        inputs = [None if v is None else v.name for v in node.inputs]
        outputs = [_value(v) for v in node.outputs]
        yield f"{node.name} {node.domain}.{node.op_type} {inputs} {outputs} {attributes}"
    yield f"out {[v.name for v in graph.outputs]}"


def _value(value: ir.Value) -> str:
    return f"{value.name}:{value.dtype}{value.shape}"


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        return f"{attribute.name}={tensor_fingerprint(attribute.as_tensor())}"
    return f"{attribute.name}={attribute.value!r}"

"""Rules for one block: a closed, typed, straight-line graph in topological order."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from offramp.compiler.ir.inference import describe
from offramp.compiler.ir.program import Block

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def block_violations(block: Block, opset_imports: dict[str, int]) -> Iterator[str]:
    """What is wrong inside `block`, one sentence each."""
    yield from _parameters(block)
    yield from _initializers(block)
    yield from _nodes(block, opset_imports)
    local = _local_values(block)
    for position, value in enumerate(block.graph.outputs):
        if value not in local:
            yield f"operand {position} is {value.name!r}, a value of another block"


def type_violation(value: ir.Value) -> str | None:
    """Why `value` is no tensor of static shape, or None."""
    if not isinstance(value.type, ir.TensorType):
        return f"value {value.name!r} has type {value.type}: expected a tensor type"
    if value.shape is None or not value.shape.is_static():
        return f"value {value.name!r} has shape {value.shape}: expected a static shape"
    return None


def _local_values(block: Block) -> set[ir.Value]:
    graph = block.graph
    made = {value for node in graph for value in node.outputs}
    return made.union(graph.inputs, graph.initializers.values())


def _parameters(block: Block) -> Iterator[str]:
    names = [value.name for value in block.parameters]
    if len(set(block.parameters)) != len(names) or len(set(names)) != len(names):
        yield f"parameters {names} are not distinct"
    for value in block.parameters:
        if value.const_value is not None:
            yield f"parameter {value.name!r} has a constant value: it must be an initializer"
        if problem := type_violation(value):
            yield f"parameter: {problem}"


def _initializers(block: Block) -> Iterator[str]:
    for name, value in block.graph.initializers.items():
        if value.name != name:
            yield f"initializer {value.name!r} is registered as {name!r}"
        if value.const_value is None:
            yield f"initializer {name!r} has no data"
        elif value.shape != value.const_value.shape or value.dtype != value.const_value.dtype:
            yield (
                f"initializer {name!r} is {value.dtype} {value.shape}, its data "
                f"{value.const_value.dtype} {value.const_value.shape}"
            )


def _nodes(block: Block, opset_imports: dict[str, int]) -> Iterator[str]:
    known = {*block.graph.inputs, *block.graph.initializers.values()}
    names = {value.name for value in known}
    local = _local_values(block)
    for node in block.graph:
        if node.domain not in opset_imports:
            yield f"{describe(node)} is of a domain that the program does not import"
        if any(attribute.type in _GRAPHS for attribute in node.attributes.values()):
            yield f"{describe(node)} contains a graph: control flow belongs in terminators"
        for value in node.inputs:
            if value is None or value in known:
                continue
            where = "a later node" if value in local else "another block"
            yield f"{describe(node)} reads {value.name!r}, a value of {where}"
        for value in node.outputs:
            if value.name and value.name in names:
                yield f"{describe(node)} redefines the name {value.name!r}"
            if value.name and (problem := type_violation(value)):
                yield f"{describe(node)}: {problem}"
            known.add(value)
            names.add(value.name)

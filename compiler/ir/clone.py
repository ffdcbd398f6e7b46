"""Copies of programs, blocks and nodes: Tensors are shared, Values never."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx_ir as ir

from offramp.compiler.ir.program import Block, Program


def clone_program(program: Program) -> Program:
    """A copy of `program` that shares its tensors and nothing else that can change."""
    blocks = {name: clone_block(block) for name, block in program.blocks.items()}
    return replace(program, blocks=blocks, opset_imports=dict(program.opset_imports))


def clone_block(block: Block, name: str | None = None) -> Block:
    """A copy of `block`, renamed if `name` is given; the terminator keeps its positions."""
    return replace(block, name=name or block.name, graph=block.graph.clone())


def clone_value(value: ir.Value) -> ir.Value:
    """A new value of the same name, type, shape and constant, without producer or uses."""
    return ir.Value(
        name=value.name,
        type=value.type,
        shape=None if value.shape is None else value.shape.copy(),
        const_value=value.const_value,
    )


def clone_nodes(
    nodes: Iterable[ir.Node],
    mapping: dict[ir.Value, ir.Value],
    metadata: dict[str, str] | None = None,
) -> list[ir.Node]:
    """Copies of straight-line `nodes` whose inputs are looked up in `mapping`.

    Args:
        nodes: in topological order; without graph attributes.
        mapping: for every value that the nodes read from elsewhere, what stands for it; extended
            with the nodes' own outputs.
        metadata: entries added to the metadata of every copy.

    Raises:
        KeyError: a node reads a value that is neither in `mapping` nor made by an earlier node.
    """
    copies: list[ir.Node] = []
    for node in nodes:
        outputs = [clone_value(value) for value in node.outputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else mapping[value] for value in node.inputs],
            node.attributes.values(),
            outputs=outputs,
            name=node.name,
            doc_string=node.doc_string,
            metadata_props={**node.metadata_props, **(metadata or {})},
        )
        mapping.update(zip(node.outputs, outputs, strict=True))
        copies.append(copy)
    return copies

"""Read the textual form of a Program, which `text.to_text` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir.parse_literals import parse_attribute, parse_tensor, parse_type
from offramp.compiler.ir.program import Annotations, Block, Program
from offramp.compiler.ir.reader import Reader
from offramp.compiler.ir.terminators import (
    Branch,
    Exit,
    Jump,
    Return,
    Successor,
    Switch,
    Terminator,
)
from offramp.compiler.ir.verifier import violations

Tensors = Mapping[str, ir.TensorProtocol]
T = TypeVar("T")


def from_text(text: str, *, weights: Tensors | None = None) -> Program:
    """The Program that `text` describes.

    Args:
        text: as `to_text` writes it; `#` begins a comment.
        weights: tensors by SHA-256, for those that the text gives as hashes; see `weights_of`.

    Raises:
        UserError: the text is malformed (with its line), a tensor is missing, or the Program
            breaks a rule of the IR.
    """
    program = _Parser(Reader(text), weights or {}).program()
    if found := violations(program):
        raise UserError(f"the text describes a malformed program: {'; '.join(found)}")
    return program


def weights_of(program: Program) -> dict[str, ir.TensorProtocol]:
    """All tensors of a Program by SHA-256, to read its text back with."""
    from offramp.compiler.ir.fingerprint import tensor_fingerprint

    tensors: dict[str, ir.TensorProtocol] = {}
    for block in program.blocks.values():
        constants = [value.const_value for value in block.graph.initializers.values()]
        for node in block.graph:
            attributes = node.attributes.values()
            constants += [a.as_tensor() for a in attributes if a.type == ir.AttributeType.TENSOR]
        tensors.update({tensor_fingerprint(t): t for t in constants if t is not None})
    return tensors


class _Parser:
    def __init__(self, reader: Reader, weights: Tensors) -> None:
        self._reader = reader
        self._weights = weights

    def program(self) -> Program:
        reader = self._reader
        reader.expect("program")
        name = reader.name()
        opsets: dict[str, int] = {}
        while reader.accept("opset"):
            domain = reader.name() if reader.peek().kind in ("name", "string") else ""
            opsets[domain] = reader.integer()
        batched = reader.accept("batched")
        reader.expect("->")
        outputs = tuple(self._listed(reader.name))
        blocks: dict[str, Block] = {}
        while reader.peek().kind != "end":
            block = _BlockParser(reader, self._weights, opsets).block()
            if block.name in blocks:
                raise reader.error(f"block {block.name!r} is defined twice")
            blocks[block.name] = block
        return Program(name, blocks, outputs, opsets, batched)

    def _listed(self, item: Callable[[], T]) -> list[T]:
        return self._reader.listed("(", item, ")")


class _BlockParser:
    """One block: its values by name, and the operands that its terminator mentions."""

    def __init__(self, reader: Reader, weights: Tensors, opsets: dict[str, int]) -> None:
        self._reader = reader
        self._weights = weights
        self._opsets = opsets
        self._values: dict[str, ir.Value] = {}
        self._operands: list[ir.Value] = []

    def block(self) -> Block:
        reader = self._reader
        name = reader.name()
        parameters = reader.listed("(", self._typed_value, ")")
        annotations = self._annotations()
        reader.expect(":")
        weights: list[ir.Value] = []
        while reader.accept("weight"):
            weights.append(self._weight())
        nodes: list[ir.Node] = []
        while reader.peek().kind == "value" or reader.peek().text == "_":
            nodes.append(self._node())
        terminator = self._terminator()
        graph = ir.Graph(
            parameters,
            self._operands,
            nodes=nodes,
            initializers=weights,
            name=name,
            opset_imports=dict(self._opsets),
        )
        return Block(name, graph, terminator, annotations)

    def _annotations(self) -> Annotations:
        facts: dict[str, float] = {}
        if self._reader.peek().text == "{":
            facts.update(self._reader.listed("{", self._fact, "}"))
        unknown = set(facts) - {"reach", "rate", "accuracy"}
        if unknown:
            raise self._reader.error(f"unknown annotations {sorted(unknown)}")
        return Annotations(**facts)

    def _fact(self) -> tuple[str, float]:
        name = self._reader.name()
        self._reader.expect("=")
        return name, float(self._reader.number())

    def _typed_value(self) -> ir.Value:
        """A definition: `%name: type`, or `_` for an output that nobody reads."""
        reader = self._reader
        if reader.accept("_"):
            return ir.Value(name="")
        name = reader.value_name()
        reader.expect(":")
        dtype, shape = parse_type(reader)
        if name in self._values:
            raise reader.error(f"value %{name} is defined twice")
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
        self._values[name] = value
        return value

    def _weight(self) -> ir.Value:
        value = self._typed_value()
        self._reader.expect("=")
        if value.dtype is None or value.shape is None:
            raise self._reader.error("a weight needs a name and a type")
        value.const_value = parse_tensor(self._reader, value.dtype, value.shape, self._weights)
        return value

    def _node(self) -> ir.Node:
        reader = self._reader
        outputs = [self._typed_value()]
        while reader.accept(","):
            outputs.append(self._typed_value())
        reader.expect("=")
        domain, op_type = "", reader.name()
        if reader.accept("."):
            domain, op_type = op_type, reader.name()
        inputs = reader.listed("(", self._optional_use, ")")
        attributes: list[ir.Attr] = []
        if reader.peek().text == "{":
            attributes = reader.listed("{", lambda: parse_attribute(reader, self._weights), "}")
        name = reader.name() if reader.accept("as") else ""
        return ir.Node(domain, op_type, inputs, attributes, outputs=outputs, name=name)

    def _optional_use(self) -> ir.Value | None:
        return None if self._reader.accept("_") else self._use()

    def _use(self) -> ir.Value:
        name = self._reader.value_name()
        if name not in self._values:
            raise self._reader.error(f"value %{name} is used before it is defined in its block")
        return self._values[name]

    def _terminator(self) -> Terminator:
        reader = self._reader
        kind = reader.peek()
        if reader.accept("return"):
            values = self._operand_list()
            return Return(values, self._operand() if reader.accept("confidence") else None)
        if reader.accept("exit"):
            return self._exit()
        if reader.accept("branch"):
            when = self._operand()
            reader.expect("then")
            then = self._successor()
            reader.expect("else")
            return Branch(when, then, self._successor())
        if reader.accept("switch"):
            index = self._operand()
            reader.expect("of")
            cases = [self._successor()]
            while reader.accept(","):
                cases.append(self._successor())
            return Switch(index, tuple(cases))
        if reader.accept("jump"):
            return Jump(self._successor())
        raise reader.error(f"expected a node or a terminator, found {kind}")

    def _exit(self) -> Exit:
        reader = self._reader
        values = self._operand_list()
        reader.expect("when")
        score = self._operand()
        reader.expect(">=")
        threshold = float(reader.number())
        reader.expect("by")
        criterion = reader.name()
        reader.expect("else")
        return Exit(values, score, threshold, criterion, self._successor())

    def _successor(self) -> Successor:
        return Successor(self._reader.name(), self._operand_list())

    def _operand_list(self) -> tuple[int, ...]:
        return tuple(self._reader.listed("(", self._operand, ")"))

    def _operand(self) -> int:
        self._operands.append(self._use())
        return len(self._operands) - 1

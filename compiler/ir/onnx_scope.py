"""One ONNX graph under construction: the top graph, a branch of an `If` or the body of a `Loop`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir.clone import clone_value
from offramp.compiler.ir.names import fresh
from offramp.compiler.ir.program import Program


class Scope:
    """Nodes and initializers of one graph; inner scopes may read the values of outer ones.

    depth: how many `If`s or `Loop`s surround this graph.
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self.nodes: list[ir.Node] = []
        self.depth: int = 0 if outer is None else outer.depth + 1
        self._constants: dict[int, ir.Value] = {}
        self._names: set[str] = set()

    def constant(self, initializer: ir.Value) -> ir.Value:
        """This scope's own initializer for the tensor of `initializer`, made on first use."""
        key = id(initializer.const_value)
        if key not in self._constants:
            self._constants[key] = self._register(clone_value(initializer))
        return self._constants[key]

    def scalar(self, number: float, dtype: ir.DataType, name: str) -> ir.Value:
        """A rank-0 initializer."""
        tensor = ir.tensor(np.array(number, dtype.numpy()), dtype)
        value = ir.Value(
            name=name, type=ir.TensorType(dtype), shape=ir.Shape([]), const_value=tensor
        )
        self._constants[id(tensor)] = self._register(value)
        return value

    def literal(self, array: npt.NDArray[np.generic], name: str, marks: dict[str, str]) -> ir.Value:
        """The output of a `Constant` node."""
        tensor = ir.tensor(array)
        value = self.node("Constant", [], marks, [ir.AttrTensor("value", tensor)])
        value.name, value.shape, value.dtype = name, ir.Shape(array.shape), tensor.dtype
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        marks: dict[str, str],
        attributes: Sequence[ir.Attr] = (),
    ) -> ir.Value:
        """Append a node with one output, which takes the first input's name and type."""
        output = ir.Value(name=op_type)
        if inputs and op_type == "Identity":
            output = clone_value(inputs[0])
            output.const_value = None
        self.nodes.append(
            ir.Node("", op_type, inputs, attributes, outputs=[output], metadata_props=dict(marks))
        )
        return output

    def fork(
        self, condition: ir.Value, then: ir.Graph, else_: ir.Graph, marks: dict[str, str]
    ) -> list[ir.Value]:
        """Append an `If`; its outputs take the names and types of the then-branch's."""
        outputs = [clone_value(value) for value in then.outputs]
        branches = [ir.AttrGraph("then_branch", then), ir.AttrGraph("else_branch", else_)]
        self.nodes.append(
            ir.Node("", "If", [condition], branches, outputs=outputs, metadata_props=dict(marks))
        )
        return outputs

    def own(self, results: Sequence[ir.Value], marks: dict[str, str]) -> list[ir.Value]:
        """`results` as distinct values made in this scope: others go through an Identity."""
        made = {value for node in self.nodes for value in node.outputs}
        owned: list[ir.Value] = []
        for value in results:
            fresh = value in made and value not in owned
            owned.append(value if fresh else self.node("Identity", [value], marks))
        return owned

    def graph(self, name: str, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
        """Close the scope."""
        constants = tuple(self._constants.values())
        return ir.Graph(inputs, outputs, nodes=self.nodes, initializers=constants, name=name)

    def _register(self, value: ir.Value) -> ir.Value:
        value.name = fresh(value.name or "constant", self._names)
        self._names.add(value.name)
        return value


def tensors_of_several_blocks(program: Program, above: int) -> set[int]:
    """Identities of the tensors of more than `above` bytes that more than one block uses."""
    users: Counter[int] = Counter()
    for block in program.blocks.values():
        tensors = [value.const_value for value in block.graph.initializers.values()]
        users.update({id(t) for t in tensors if t is not None and t.nbytes > above})
    return {tensor for tensor, count in users.items() if count > 1}

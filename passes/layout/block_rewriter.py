"""Rewrite the graph of one block to channels-last values."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Block
from offramp.passes.layout import rules


class BlockRewriter:
    """Builds the new graph of one block, keeping each value in one or both layouts."""

    def __init__(self, block: Block, layouts: tuple[bool, ...]) -> None:
        self.block = block
        self.layouts = layouts
        self._first: dict[ir.Value, ir.Value] = {}
        self._last: dict[ir.Value, ir.Value] = {}
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []
        self._constants: list[ir.Value] = []
        self._names: set[str] = set()

    def has_last(self, value: ir.Value) -> bool:
        """Whether the channels-last form of a value of the old block exists."""
        return value in self._last

    def rewrite(self) -> None:
        """Rewrite parameters, constants and nodes."""
        for value, is_last in zip(self.block.graph.inputs, self.layouts, strict=True):
            table = self._last if is_last else self._first
            table[value] = self._value(value, is_last)
            self._inputs.append(table[value])
        for value in self.block.graph.initializers.values():
            self._first[value] = self._value(value, False)
            self._first[value].const_value = value.const_value
            self._constants.append(self._first[value])
        for node in self.block.graph:
            self._rewrite_node(node)

    def finish(self, outputs: list[ir.Value]) -> ir.Graph:
        """The new graph, with `outputs` made by `in_first` and `in_last`."""
        old = self.block.graph
        used = {value for node in self._nodes for value in node.inputs} | set(outputs)
        return ir.Graph(
            self._inputs,
            outputs,
            nodes=self._nodes,
            initializers=[value for value in self._constants if value in used],
            name=old.name,
            opset_imports=dict(old.opset_imports),
        )

    def _rewrite_node(self, node: ir.Node) -> None:
        if rules.is_spatial(node) and len(rules.static_shape(_input(node))) in (3, 4):
            self._wrap(node)
        elif node.op_type == "Transpose" and self._cancel(node):
            return
        elif node.domain == "" and any(v in self._last for v in node.inputs if v is not None):
            self._spread(node)
        else:
            self._keep(node)

    def _wrap(self, node: ir.Node) -> None:
        """`Transpose ∘ operator ∘ Transpose` on channels-last values."""
        source, result = _input(node), node.outputs[0]
        rank = len(rules.static_shape(source))
        inner = self._transpose(self.in_last(source), rules.to_first(rank))
        others = [None if v is None else self.in_first(v) for v in node.inputs[1:]]
        inside = self._copy(node, [inner, *others], [self._value(result, False)])
        self._last[result] = self._value(result, True)
        self._transpose(inside.outputs[0], rules.to_last(rank), self._last[result])

    def _cancel(self, node: ir.Node) -> bool:
        """Let a transpose between the two layouts vanish."""
        source, result = _input(node), node.outputs[0]
        permutation = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else ()
        rank = len(permutation)
        if rank < 3:
            return False
        if permutation == rules.to_first(rank):
            self._last[result] = self.in_first(source)
            return True
        if permutation == rules.to_last(rank) and source in self._last:
            self._first[result] = self._last[source]
            return True
        return False

    def _spread(self, node: ir.Node) -> None:
        """Compute `node` channels-last if its operator allows."""
        rank = max(len(rules.static_shape(v)) for v in node.inputs if v in self._last)
        same = [v for v in node.outputs if len(rules.static_shape(v)) == rank]
        if node.op_type in rules.ELEMENTWISE and len(same) == len(node.outputs):
            inputs = [None if v is None else self._broadcast_last(v, rank) for v in node.inputs]
            self._emit_last(node, inputs)
        elif (
            (node.op_type in rules.ALONG_AXIS and self._along_axis(node, rank))
            or (node.op_type in rules.REDUCTIONS and self._reduce(node, rank))
            or (node.op_type == "Slice" and self._slice(node, rank))
        ):
            return
        else:
            self._keep(node)

    def _along_axis(self, node: ir.Node, rank: int) -> bool:
        if "axis" not in node.attributes and node.op_type != "Softmax":
            return False
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        data = 1 if node.op_type == "Split" else len(node.inputs)
        inputs = [None if v is None else self.in_last(v) for v in node.inputs[:data]]
        inputs += [None if v is None else self.in_first(v) for v in node.inputs[data:]]
        self._emit_last(node, inputs, {"axis": rules.renumber(axis, rank)})
        return True

    def _slice(self, node: ir.Node, rank: int) -> bool:
        """A Slice along constant axes, the fourth input."""
        axes = node.inputs[3] if len(node.inputs) > 3 else None
        if axes is None or axes.const_value is None:
            return False
        moved = [rules.renumber(int(axis), rank) for axis in axes.const_value.numpy()]
        inputs = [None if v is None else self.in_first(v) for v in node.inputs[1:]]
        inputs[2] = self._constant("axes", np.array(moved, np.int64))
        self._emit_last(node, [self.in_last(_input(node)), *inputs])
        return True

    def _reduce(self, node: ir.Node, rank: int) -> bool:
        axes = rules.reduction_axes(node)
        keep = "keepdims" not in node.attributes or node.attributes["keepdims"].as_int() == 1
        if axes is None or (not keep and not rules.keeps_order(axes, rank)):
            return False
        new_axes = sorted(rules.renumber(axis, rank) for axis in axes)
        source = self.in_last(_input(node))
        table = self._last if keep else self._first
        result = self._value(node.outputs[0], keep)
        table[node.outputs[0]] = result
        if "axes" in node.attributes:
            self._copy(node, [source], [result], {"axes": new_axes})
        else:
            constant = self._constant("axes", np.array(new_axes, np.int64))
            self._copy(node, [source, constant], [result])
        return True

    def _emit_last(
        self, node: ir.Node, inputs: list[ir.Value | None], changed: dict[str, int] | None = None
    ) -> None:
        for value in node.outputs:
            self._last[value] = self._value(value, True)
        self._copy(node, inputs, [self._last[v] for v in node.outputs], changed)

    def _keep(self, node: ir.Node) -> None:
        """Compute `node` as it stands."""
        inputs = [None if v is None else self.in_first(v) for v in node.inputs]
        for value in node.outputs:
            self._first[value] = self._value(value, False)
        self._copy(node, inputs, [self._first[v] for v in node.outputs])

    def _copy(
        self,
        node: ir.Node,
        inputs: list[ir.Value | None],
        outputs: list[ir.Value],
        changed: dict[str, int] | dict[str, list[int]] | None = None,
    ) -> ir.Node:
        attributes = dict(node.attributes)
        for name, value in (changed or {}).items():
            attributes[name] = ir.convenience.convert_attribute(name, value)
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            attributes.values(),
            outputs=outputs,
            name=node.name,
            metadata_props=dict(node.metadata_props),
        )
        self._nodes.append(copy)
        return copy

    def in_first(self, value: ir.Value) -> ir.Value:
        """The channels-first form of a value of the old block."""
        if value not in self._first:
            rank = len(rules.static_shape(value))
            self._first[value] = self._move(
                self._last[value], rules.to_first(rank), self._value(value, False)
            )
        return self._first[value]

    def in_last(self, value: ir.Value) -> ir.Value:
        """The channels-last form of a value of the old block."""
        if value not in self._last:
            permutation = rules.to_last(len(rules.static_shape(value)))
            if value.const_value is not None:
                moved = value.const_value.numpy().transpose(permutation)
                self._last[value] = self._constant(f"{value.name}_last", moved)
            else:
                self._last[value] = self._move(
                    self._first[value], permutation, self._value(value, True)
                )
        return self._last[value]

    def _broadcast_last(self, value: ir.Value, rank: int) -> ir.Value:
        """An elementwise operand in the layout of its channels-last partners."""
        shape = rules.static_shape(value)
        if len(shape) == rank:
            return self.in_last(value)
        full = (1,) * (rank - len(shape)) + shape
        if all(dim == 1 for dim in shape):
            return self.in_first(value)
        if value.const_value is not None:
            moved = value.const_value.numpy().reshape(full).transpose(rules.to_last(rank))
            return self._constant(f"{value.name}_last", moved)
        wide = self._reshape(self.in_first(value), full, self._fresh(value, full, "wide"))
        result = self._fresh(value, _permuted(full, rules.to_last(rank)), "last")
        return self._move(wide, rules.to_last(rank), result)

    def _move(self, source: ir.Value, permutation: tuple[int, ...], result: ir.Value) -> ir.Value:
        """A transpose, or a reshape if no element moves."""
        if rules.moves_no_data(rules.static_shape(source), permutation):
            return self._reshape(source, rules.static_shape(result), result)
        return self._transpose(source, permutation, result)

    def _transpose(
        self, source: ir.Value, permutation: tuple[int, ...], result: ir.Value | None = None
    ) -> ir.Value:
        if result is None:
            shape = _permuted(rules.static_shape(source), permutation)
            result = self._fresh(source, shape, "first")
        node = ir.node("Transpose", [source], {"perm": list(permutation)}, outputs=[result])
        self._nodes.append(node)
        return result

    def _reshape(self, source: ir.Value, shape: tuple[int, ...], result: ir.Value) -> ir.Value:
        target = self._constant("shape", np.array(shape, np.int64))
        self._nodes.append(ir.node("Reshape", [source, target], outputs=[result]))
        return result

    def _value(self, old: ir.Value, is_last: bool) -> ir.Value:
        if not old.name:  # an output that the node leaves out
            return ir.Value(name="")
        shape = rules.static_shape(old)
        if is_last:
            shape = _permuted(shape, rules.to_last(len(shape)))
        return self._fresh(old, shape, "last" if is_last else "first")

    def _fresh(self, old: ir.Value, shape: tuple[int, ...], suffix: str) -> ir.Value:
        return ir.Value(
            name=self._unique(old.name or "value", suffix), type=old.type, shape=ir.Shape(shape)
        )

    def _constant(self, name: str, data: npt.NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(data), name=self._unique(name, "constant"))
        value = ir.Value(
            name=tensor.name,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(data.shape),
            const_value=tensor,
        )
        self._constants.append(value)
        return value

    def _unique(self, name: str, suffix: str) -> str:
        for candidate in _candidates(name, suffix):
            if candidate not in self._names:
                self._names.add(candidate)
                return candidate
        raise InternalError(f"no free name for {name!r}")


def _candidates(name: str, suffix: str) -> Iterator[str]:
    yield name
    yield f"{name}_{suffix}"
    yield from (f"{name}_{suffix}_{number}" for number in count(2))


def _input(node: ir.Node) -> ir.Value:
    """The first input, which the operators handled here require."""
    value = node.inputs[0]
    if value is None:
        raise InternalError(f"node {node.name!r} ({node.op_type}) has no first input")
    return value


def _permuted(shape: tuple[int, ...], permutation: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in permutation)

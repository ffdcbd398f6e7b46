"""Compute a stage band by band."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_block
from offramp.compiler.ir.names import fresh
from offramp.passes.base import Pass, PassResult
from offramp.passes.layout import rules
from offramp.passes.patches.rows import ROW_AXIS, WINDOWED, Rows, activations, rows_of, sliding
from offramp.passes.patches.stage import Stage, stage_of


@dataclass(frozen=True)
class InsertPatches(Pass):
    """Compute the layers of the entry block up to the tensor `end` in `bands` bands of rows.

    Every band slices the rows that it needs from what the stage reads, computes its rows of `end`
    with the padding that is left at its borders, and a Concat puts the bands together; back ends
    that keep images channels-last move no data for either. Results are the same numbers.

    end: name of a tensor `[1, channels, rows, columns]` that only row-wise operators (convolutions,
        pools, elementwise ones) lead to. bands: at least 2, at most its rows.

    Raises:
        UserError: there is no such tensor, it cannot be computed by rows, or it has fewer rows.
    """

    end: str
    bands: int

    def call(self, program: Program) -> PassResult:
        """Rewrite a copy of the entry block."""
        entry = clone_block(program.entry)
        blocks = {**program.blocks, entry.name: entry}
        stage = self._stage(entry.graph)
        _Bands(entry.graph, stage).write(stage.bands(self.bands))
        return PassResult(replace(program, blocks=blocks), modified=True)

    def _stage(self, graph: ir.Graph) -> Stage:
        values = (value for node in graph for value in node.outputs)
        end = next((value for value in values if value.name == self.end), None)
        stage = None if end is None else stage_of(end)
        if stage is None:
            raise UserError(
                f"cannot compute {self.end!r} by bands of rows: expected a tensor [1, channels, "
                "rows, columns] of the first block that convolutions, pools and elementwise "
                "operators lead to"
            )
        if not 2 <= self.bands <= rows_of(stage.end):
            raise UserError(
                f"cannot cut the {rows_of(stage.end)} rows of {self.end!r} into {self.bands} bands"
            )
        return stage


class _Bands:
    """Writes the bands of one stage into its graph, in front of the stage's last node."""

    def __init__(self, graph: ir.Graph, stage: Stage) -> None:
        self._graph = graph
        self._stage = stage
        self._last = stage.nodes[-1]
        self._sliced: dict[tuple[ir.Value, Rows], ir.Value] = {}
        made = {str(value.name) for node in graph for value in node.outputs}
        self._names = made | {str(value.name) for value in graph.inputs} | set(graph.initializers)

    def write(self, bands: tuple[Rows, ...]) -> None:
        """Write all bands, put them together, and drop what computed the whole."""
        end = self._stage.end
        results = [self._band(number, band) for number, band in enumerate(bands)]
        whole = self._value(end, f"{end.name}_bands", Rows(0, rows_of(end)))
        axis = [ir.AttrInt64("axis", ROW_AXIS)]
        self._add(ir.Node("", "Concat", results, axis, outputs=[whole], name=whole.name))
        for use in tuple(end.uses()):
            use.node.replace_input_with(use.idx, whole)
        for position, output in enumerate(self._graph.outputs):
            if output is end:
                self._graph.outputs[position] = whole
        self._graph.remove(self._stage.nodes[::-1], safe=True)

    def _band(self, number: int, band: Rows) -> ir.Value:
        needed = self._stage.needed(band)
        here = {v: (v, Rows(0, rows_of(v))) for v in self._stage.sources}
        for node in self._stage.nodes:
            rows = needed[node.outputs[0]]
            here[node.outputs[0]] = (self._copy(node, number, rows, here), rows)
        return here[self._stage.end][0]

    def _copy(
        self, node: ir.Node, number: int, rows: Rows, here: dict[ir.Value, tuple[ir.Value, Rows]]
    ) -> ir.Value:
        """A node for some rows of its output."""
        window, computed = sliding(node), set(activations(node))
        if window is None:
            raise ValueError(f"{node.name!r} mixes rows")
        wanted = window.needed(rows)
        inputs = [
            self._slice(*here[v], wanted.within(rows_of(v)))
            if v is not None and v in computed
            else v
            for v in node.inputs
        ]
        attributes = dict(node.attributes)
        if node.op_type in WINDOWED:
            size = rows_of(next(iter(computed)))
            attributes["pads"] = ir.AttrInt64s("pads", _pads(node, wanted, size))
            attributes.pop("auto_pad", None)
        output = self._value(node.outputs[0], f"{node.outputs[0].name}_band{number}", rows)
        name = f"{node.name or output.name}_band{number}"
        copy = ir.Node("", node.op_type, inputs, attributes.values(), outputs=[output], name=name)
        copy.metadata_props.update(node.metadata_props)
        self._add(copy)
        return output

    def _slice(self, value: ir.Value, have: Rows, want: Rows) -> ir.Value:
        """Some of the rows that there are of a value."""
        if have == want:
            return value
        if (value, want) not in self._sliced:
            name = f"{value.name}_rows{want.first}to{want.end}"
            limits = [
                self._number(f"{name}_starts", want.first - have.first),
                self._number(f"{name}_ends", want.end - have.first),
                self._number(f"{name}_axes", ROW_AXIS),
            ]
            output = self._value(value, name, want)
            self._add(ir.Node("", "Slice", [value, *limits], outputs=[output], name=name))
            self._sliced[value, want] = output
        return self._sliced[value, want]

    def _number(self, name: str, number: int) -> ir.Value:
        tensor = ir.tensor(np.array([number], np.int64))
        kind = ir.TensorType(ir.DataType.INT64)
        shape = ir.Shape([1])
        value = ir.Value(name=self._fresh(name), type=kind, shape=shape, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _value(self, like: ir.Value, name: str, rows: Rows) -> ir.Value:
        shape = list(rules.static_shape(like))
        shape[ROW_AXIS] = rows.count
        return ir.Value(name=self._fresh(name), type=like.type, shape=ir.Shape(shape))

    def _fresh(self, name: str) -> str:
        unique = fresh(name, self._names)
        self._names.add(unique)
        return unique

    def _add(self, node: ir.Node) -> None:
        self._graph.insert_before(self._last, node)


def _pads(node: ir.Node, wanted: Rows, size: int) -> list[int]:
    """Explicit padding: what is left of it above and below, and all of it left and right."""
    source, result = (rules.static_shape(v) for v in (node.inputs[0], node.outputs[0]) if v)
    auto_pad = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else ""
    left = right = 0
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        total = max((result[3] - 1) * _last(node, "strides", 1) + _reach(node) - source[3], 0)
        left = (total + (auto_pad == "SAME_LOWER")) // 2
        right = total - left
    elif auto_pad != "VALID" and "pads" in node.attributes:
        _, left, _, right = node.attributes["pads"].as_ints()
    return [max(-wanted.first, 0), left, max(wanted.end - size, 0), right]


def _reach(node: ir.Node) -> int:
    """Columns that a window spans."""
    weights = node.inputs[1] if node.op_type == "Conv" else None
    taps = _last(node, "kernel_shape", 1) if weights is None else rules.static_shape(weights)[3]
    return (taps - 1) * _last(node, "dilations", 1) + 1


def _last(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_ints()[-1] if name in node.attributes else default

"""Geometry of the network drawing: the backbone from top to bottom, heads and exits beside it.

A row is one kernel-sized step (a convolution with its activation, say). The line from row to row
is as wide as the fraction of samples still inside the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from offramp.compiler.ir import Block, Branch, Exit, Program, Return, Switch
from offramp.compiler.manifest import ExitEntry, Manifest
from offramp.cost_models.features import features

ROW_HEIGHT, ROW_GAP = 30.0, 14.0
STEP = ROW_HEIGHT + ROW_GAP
MAIN_X, HEAD_X, ROW_WIDTH = 130.0, 520.0, 300.0
WIDTH = HEAD_X + ROW_WIDTH + 10.0


@dataclass
class Row:
    """One box. `bar` is its share of the largest row's MACs; `kind` names its style."""

    label: str
    detail: str
    kind: str
    x: float
    y: float = 0.0
    macs: int = 0
    bar: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Link:
    """One curve: an SVG path; `width` in pixels; `kind` names its style."""

    path: str
    width: float
    kind: str


@dataclass
class Drawing:
    """All rows and links, and the size of the picture in pixels."""

    rows: list[Row] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    width: float = WIDTH
    height: float = 0.0


@dataclass(eq=False)
class _Step:
    """Nodes drawn as one row, with the values they read from outside."""

    nodes: list[ir.Node]
    in_head: bool

    @property
    def label(self) -> str:
        return " · ".join(dict.fromkeys(node.op_type for node in self.nodes))

    @property
    def macs(self) -> int:
        return sum(features(node).macs for node in self.nodes)

    def reads(self) -> Iterable[ir.Value]:
        return (v for node in self.nodes for v in node.inputs if v is not None)


class _Layout:
    """Places the rows of one block after another; `main_y` and `head_y` are the next free y."""

    def __init__(self, program: Program, manifest: Manifest) -> None:
        self.program = program
        self.exits = {entry.block: (i, entry) for i, entry in enumerate(manifest.exits)}
        self.drawing = Drawing()
        self.main_y = 10.0
        self.head_y = 10.0
        self.reach = 1.0
        self.last_row: dict[str, Row] = {}
        self.first_row: dict[str, Row] = {}
        self.rows_of: dict[ir.Value, Row] = {}

    def run(self) -> Drawing:
        """Place everything."""
        inputs = ", ".join(_value_text(value) for value in self.program.inputs)
        start = self._add_row(Row("input", inputs, "input", MAIN_X))
        for value in self.program.inputs:
            self.rows_of[value] = start
        for block in self.program.blocks.values():
            self._block(block, start)
        self._edges_between_blocks()
        self._finish_bars()
        self.drawing.height = max(self.main_y, self.head_y)
        return self.drawing

    def _block(self, block: Block, start: Row) -> None:
        if self.last_row:
            header = self._add_row(Row(block.name, "", "block", MAIN_X))
            for value in block.parameters:
                self.rows_of[value] = header
        else:
            header = start
        self.first_row[block.name] = header
        self.last_row[block.name] = header
        for step in _steps(block):
            self._step(block, step)
        self._terminator(block)

    def _step(self, block: Block, step: _Step) -> None:
        row = Row(
            step.label,
            _value_text(step.nodes[-1].outputs[0]),
            "head" if step.in_head else "op",
            HEAD_X if step.in_head else MAIN_X,
            macs=step.macs,
            note=", ".join(node.name or node.op_type for node in step.nodes),
        )
        sources = {id(r): r for v in step.reads() if (r := self.rows_of.get(v))}.values()
        if step.in_head:
            self.head_y = max([self.head_y, *(s.y for s in sources if s.x == MAIN_X)])
        self._add_row(row)
        for source in sources:
            self._link(source, row)
        for node in step.nodes:
            self.rows_of.update(dict.fromkeys(node.outputs, row))
        if not step.in_head:
            self.last_row[block.name] = row

    def _terminator(self, block: Block) -> None:
        terminator = block.terminator
        if isinstance(terminator, Exit | Return):
            index, entry = self.exits.get(block.name, (len(self.exits) - 1, None))
            leaves = isinstance(terminator, Exit)
            row = Row(
                f"exit {index}" if leaves else "answer",
                _exit_text(entry, leaves=leaves),
                "exit" if leaves else "answer",
                HEAD_X if leaves else MAIN_X,
            )
            self._add_row(row)
            source = self.rows_of.get(block.operand(terminator.operands[0]))
            if source is not None:
                self._link(source, row, entry.rate if entry else None)
            if entry and leaves:
                self.reach -= entry.rate
                self.head_y += ROW_GAP
        elif isinstance(terminator, Branch | Switch):
            ways = " | ".join(s.block for s in terminator.successors)
            row = self._add_row(Row(type(terminator).__name__.lower(), ways, "branch", MAIN_X))
            self._link(self.last_row[block.name], row)
            self.last_row[block.name] = row

    def _edges_between_blocks(self) -> None:
        for source, successor in self.program.edges():
            self._link(self.last_row[source.name], self.first_row[successor.block])

    def _add_row(self, row: Row) -> Row:
        if row.x == MAIN_X:
            row.y, self.main_y = self.main_y, self.main_y + STEP
        else:
            row.y, self.head_y = self.head_y, self.head_y + STEP
        self.drawing.rows.append(row)
        return row

    def _link(self, source: Row, target: Row, share: float | None = None) -> None:
        width = 1.5 + 8.0 * max(0.0, min(1.0, self.reach if share is None else share))
        kind = "flow" if target.x == MAIN_X else "leave"
        if source.x != target.x:
            path, width, kind = _sideways(source, target), 1.5, "side"
        elif target.y - source.y > STEP + 1 and source.x == MAIN_X:
            path, width, kind = _around(source, target), 1.5, "skip"
        else:
            path = _down(source, target)
        self.drawing.links.append(Link(path, width, kind))

    def _finish_bars(self) -> None:
        largest = max((row.macs for row in self.drawing.rows), default=0)
        for row in self.drawing.rows:
            row.bar = row.macs / largest if largest else 0.0


def draw(program: Program, manifest: Manifest) -> Drawing:
    """The drawing of a Program, with the rates of its manifest."""
    return _Layout(program, manifest).run()


def _steps(block: Block) -> list[_Step]:
    """The block's nodes in order, each cheap single-input node joined to the one it follows."""
    backbone = _backbone(block)
    steps: list[_Step] = []
    step_of: dict[ir.Node, _Step] = {}
    for node in block.graph:
        if node.op_type == "Constant":
            continue
        in_head = node not in backbone
        sources = {v for v in node.inputs if v is not None and not _is_constant(v)}
        producer = next(iter(sources)).producer() if len(sources) == 1 else None
        follows = step_of.get(producer) if producer is not None else None
        joins = (
            follows is not None
            and follows.in_head == in_head
            and not features(node).macs
            and all(len(list(v.uses())) == 1 for v in sources)
        )
        if joins and follows is not None:
            follows.nodes.append(node)
            step_of[node] = follows
        else:
            step_of[node] = _Step([node], in_head)
            steps.append(step_of[node])
    return steps


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return value.const_value is not None or (
        producer is not None and producer.op_type == "Constant"
    )


def _backbone(block: Block) -> set[ir.Node]:
    """The nodes that what follows depends on; the rest of a block with an exit is its head.

    Scores that are passed on, for later answers to build upon, belong to the head all the same.
    """
    terminator = block.terminator
    if not isinstance(terminator, Exit):
        return set(block.graph)
    passed = block.arguments(terminator.else_)
    answer = block.operand(terminator.values[0]).shape
    features = [value for value in passed if value.shape != answer]
    wanted = [value.producer() for value in features or passed]
    found: set[ir.Node] = set()
    while wanted:
        node = wanted.pop()
        if node is not None and node not in found:
            found.add(node)
            wanted.extend(v.producer() for v in node.inputs if v is not None)
    return found


def _value_text(value: ir.Value) -> str:
    if value.shape is None:
        return value.name or ""
    return "x".join(str(dim) for dim in value.shape)


def _exit_text(entry: ExitEntry | None, *, leaves: bool) -> str:
    if entry is None:
        return ""
    share = f"{100 * entry.rate:.1f} % {'leave' if leaves else 'end'} here"
    if entry.threshold is None:
        return share
    return f"{share}, score ≥ {entry.threshold:.4g}"


def _down(source: Row, target: Row) -> str:
    x = source.x + ROW_WIDTH / 2
    return f"M{x:.1f} {source.y + ROW_HEIGHT:.1f}V{target.y:.1f}"


def _sideways(source: Row, target: Row) -> str:
    """From the right edge of the backbone to the left edge of a head, or back."""
    x0, x1 = source.x + (ROW_WIDTH if source.x < target.x else 0.0), target.x
    x1 += 0.0 if source.x < target.x else ROW_WIDTH
    y0, y1 = source.y + ROW_HEIGHT / 2, target.y + ROW_HEIGHT / 2
    middle = (x0 + x1) / 2
    return f"M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"


def _around(source: Row, target: Row) -> str:
    """A bow at the left of the backbone, wider the more rows it passes."""
    y0, y1 = source.y + ROW_HEIGHT / 2, target.y + ROW_HEIGHT / 2
    x = MAIN_X - min(MAIN_X - 10.0, 25.0 + 0.18 * (y1 - y0))
    return f"M{MAIN_X:.1f} {y0:.1f}C{x:.1f} {y0:.1f} {x:.1f} {y1:.1f} {MAIN_X:.1f} {y1:.1f}"

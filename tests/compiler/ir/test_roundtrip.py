"""Generated programs survive text and ONNX: same structure, same answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir import Annotations, Exit, Program, Successor
from offramp.compiler.ir.parser import from_text, weights_of
from offramp.compiler.ir.text import to_text
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.oracle import Answers, Oracle

ROW = "float[1,3]"
UNARY = ("Relu", "Neg", "Tanh", "Abs")


@dataclass
class Writer:
    """Writes one random program as text; every value is a row of three floats."""

    draw: st.DrawFn
    blocks: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def chain(self, name: str, arity: int, join: str | None, room: int) -> None:
        """Blocks from `name` on, up to `join` (of one parameter), or to the answer."""
        values, lines = self.body(arity)
        kinds = ["jump", "branch", "switch"] + (["exit"] if join is None else [])
        kind = self.draw(st.sampled_from(kinds)) if room > 0 else "end"
        position = len(self.blocks)
        self.blocks.append("")
        end = getattr(self, kind)(values, join, room - 1)
        parameters = ", ".join(f"%p{i}: {ROW}" for i in range(arity))
        reach = self.draw(st.sampled_from(["", " {reach = 0.5}", " {rate = 0.1, accuracy = 0.75}"]))
        self.blocks[position] = "\n  ".join([f"{name}({parameters}){reach}:", *lines, end])

    def body(self, arity: int) -> tuple[list[str], list[str]]:
        values = [f"%p{i}" for i in range(arity)]
        weight = ", ".join(str(self.draw(st.integers(-8, 8)) / 4) for _ in range(3))
        lines = [f"weight %w: float[3] = [{weight}]", "weight %zero: float[] = [0.0]"]
        for step in range(self.draw(st.integers(0, 3))):
            source, other = self.pick(values), self.pick([*values, "%w"])
            call = self.draw(st.sampled_from([*(f"{op}({source})" for op in UNARY), ""]))
            lines.append(f"%v{step}: {ROW} = {call or f'Add({source}, {other})'}")
            values.append(f"%v{step}")
        lines.append(f"%s: float[] = ReduceMax({self.pick(values)}) {{keepdims = 0}}")
        lines.append("%c: bool[] = Greater(%s, %zero)")
        lines.append("%i: int64[] = Cast(%s) {to = 7}")
        return values, lines

    def pick(self, values: list[str]) -> str:
        return self.draw(st.sampled_from(values))

    def arguments(self, values: list[str], count: int) -> str:
        return ", ".join(self.pick(values) for _ in range(count))

    def end(self, values: list[str], join: str | None, room: int) -> str:
        if join is not None:
            return f"jump {join}({self.pick(values)})"
        confidence = self.draw(st.sampled_from(["", " confidence %s"]))
        return f"return ({self.pick(values)}){confidence}"

    def jump(self, values: list[str], join: str | None, room: int) -> str:
        name, arity = self.fresh(), self.draw(st.integers(1, 3))
        self.chain(name, arity, join, room)
        return f"jump {name}({self.arguments(values, arity)})"

    def exit(self, values: list[str], join: str | None, room: int) -> str:
        name, arity = self.fresh(), self.draw(st.integers(1, 3))
        threshold = self.draw(st.floats(-1, 1, width=32))
        self.chain(name, arity, join, room)
        return (
            f"exit ({self.pick(values)}) when %s >= {threshold!r} by entropy "
            f"else {name}({self.arguments(values, arity)})"
        )

    def branch(self, values: list[str], join: str | None, room: int) -> str:
        then, else_ = self.fork(values, 2, join, room)
        return f"branch %c then {then} else {else_}"

    def switch(self, values: list[str], join: str | None, room: int) -> str:
        cases = self.fork(values, self.draw(st.integers(2, 4)), join, room)
        return f"switch %i of {', '.join(cases)}"

    def fork(self, values: list[str], arms: int, join: str | None, room: int) -> list[str]:
        meet = self.fresh()
        successors: list[str] = []
        for _ in range(arms):
            if self.draw(st.booleans()):
                successors.append(f"{meet}({self.pick(values)})")
                continue
            name, arity = self.fresh(), self.draw(st.integers(1, 2))
            self.chain(name, arity, meet, min(room, 1))
            successors.append(f"{name}({self.arguments(values, arity)})")
        self.chain(meet, 1, join, room)
        return successors


@st.composite
def programs(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    writer.chain("entry", 1, None, draw(st.integers(0, 4)))
    return "\n\n".join(["program random opset 18 batched -> (out)", *writer.blocks]) + "\n"


def answers(program: Program) -> Answers:
    rows = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    return Oracle(program).run({"p0": rows})


def assert_same_answers(found: Answers, expected: Answers) -> None:
    np.testing.assert_array_equal(found.outputs["out"], expected.outputs["out"])
    np.testing.assert_array_equal(found.exit_index, expected.exit_index)
    np.testing.assert_array_equal(found.confidence, expected.confidence)


def structure(program: Program) -> list[tuple[str, str, list[str], Annotations, object]]:
    return [
        (
            block.name,
            type(block.terminator).__name__,
            [successor.block for successor in block.terminator.successors],
            block.annotations,
            (block.terminator.threshold, block.terminator.criterion)
            if isinstance(block.terminator, Exit)
            else None,
        )
        for block in program.blocks.values()
    ]


@settings(max_examples=60, deadline=None)
@given(programs())
def test_text_parses_back_to_the_same_text(text: str) -> None:
    program = from_text(text)
    inline = to_text(program, weights="inline")
    assert to_text(from_text(inline), weights="inline") == inline
    assert inline.count("float[1,3] =") == text.count("float[1,3] =")
    hashed = to_text(program)
    assert to_text(from_text(hashed, weights=weights_of(program))) == hashed


@settings(max_examples=40, deadline=None)
@given(programs())
def test_onnx_reads_back_with_the_same_structure_and_answers(text: str) -> None:
    program = from_text(text)
    model = to_onnx(program)
    onnx.checker.check_model(model, full_check=True)

    again = from_onnx(model.SerializeToString())

    assert structure(again) == structure(program)
    assert [len(b.graph) for b in again.blocks.values()] == [
        len(b.graph) for b in program.blocks.values()
    ]
    assert (again.name, again.output_names, again.batched) == ("random", ("out",), True)
    assert_same_answers(answers(again), answers(program))


@settings(max_examples=20, deadline=None)
@given(programs())
def test_onnx_without_metadata_reads_back_as_branches_with_the_same_answers(text: str) -> None:
    program = from_text(text)
    model = to_onnx(program)
    plain = onnx.ModelProto.FromString(model.SerializeToString())
    strip_metadata(plain.graph)

    again = from_onnx(plain)

    assert not again.exits
    rows = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    found, expected = Oracle(again).run({"p0": rows}), answers(program)
    np.testing.assert_array_equal(found.outputs["out"], expected.outputs["out"])
    if program.exits:
        np.testing.assert_array_equal(found.outputs["exit_index"], expected.exit_index)


def strip_metadata(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip_metadata(attribute.g)


def test_values_are_passed_through_blocks_that_do_not_use_them() -> None:
    program = from_text(
        "program pass opset 18 batched -> (y) "
        "a(%x: float[1,2]): %h: float[1,2] = Neg(%x) "
        "exit (%h) when %s >= 0.5 by c else b(%x, %h) ".replace(
            "exit", "%s: float[] = ReduceMax(%x) {keepdims = 0} exit"
        )
        + "b(%p: float[1,2], %q: float[1,2]): jump c(%p, %q) "
        "c(%p: float[1,2], %q: float[1,2]): %y: float[1,2] = Add(%p, %q) return (%y)"
    )
    again = from_onnx(to_onnx(program))
    assert again.blocks["b"].terminator.successors == (Successor("c", (0, 1)),)
    assert len(again.blocks["b"].parameters) == 2

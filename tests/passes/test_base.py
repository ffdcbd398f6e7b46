from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir
import pytest
from onnx_ir.passes.common import CommonSubexpressionEliminationPass

from offramp.compiler.errors import InternalError, UnsupportedError, UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.clone import clone_program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.ir.text import to_text
from offramp.passes.base import BlockPass, Pass, PassResult, PerBlock, Pipeline, Timing

TEXT = """program p opset 18 batched -> (y)
entry(%x: float[1,2]):
  %a: float[1,2] = Neg(%x)
  %b: float[1,2] = Neg(%x)
  %s: float[] = ReduceMax(%x) {keepdims = 0}
  exit (%a) when %s >= 0.5 by max_softmax else rest(%a, %b)
rest(%p: float[1,2], %q: float[1,2]):
  %c: float[1,2] = Relu(%p)
  %d: float[1,2] = Relu(%p)
  %y: float[1,2] = Add(%c, %d)
  return (%y)"""


@pytest.fixture
def program() -> Program:
    return from_text(TEXT)


@dataclass(frozen=True)
class ReplaceOperator(BlockPass):
    """Every `old` becomes `new`."""

    old: str = "Relu"
    new: str = "Tanh"

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        found = [node for node in graph if node.op_type == self.old]
        for node in found:
            node.op_type = self.new
        return bool(found)


@dataclass(frozen=True)
class Claim(Pass):
    """Renames the Program or not, and says `modified`."""

    rename: bool
    modified: bool

    def call(self, program: Program) -> PassResult:
        changed = replace(clone_program(program), name="renamed" if self.rename else program.name)
        return PassResult(changed, self.modified)


@dataclass(frozen=True)
class ChangeInPlace(Pass):
    def call(self, program: Program) -> PassResult:
        program.entry.graph[0].op_type = "Relu"
        return PassResult(program, modified=True)


@dataclass(frozen=True)
class DropLastBlock(Pass):
    def call(self, program: Program) -> PassResult:
        blocks = dict(list(program.blocks.items())[:-1])
        return PassResult(replace(program, blocks=blocks), modified=True)


@dataclass(frozen=True)
class Fail(Pass):
    error: Exception

    def call(self, program: Program) -> PassResult:
        raise self.error


def test_fields_are_options_and_the_class_is_the_name(program: Program) -> None:
    assert ReplaceOperator().name == "replace-operator"
    assert ReplaceOperator(new="Abs") == ReplaceOperator(new="Abs") != ReplaceOperator()


def test_programs_are_piped_through_passes(program: Program) -> None:
    after = program | ReplaceOperator() | ReplaceOperator("Neg", "Abs")
    assert [node.op_type for b in after.blocks.values() for node in b.graph] == [
        "Abs", "Abs", "ReduceMax", "Tanh", "Tanh", "Add",
    ]  # fmt: skip


def test_the_program_given_stays_as_it_was(program: Program) -> None:
    before = to_text(program)
    ReplaceOperator()(program)
    assert to_text(program) == before


def test_blocks_that_stay_the_same_are_shared(program: Program) -> None:
    result = ReplaceOperator().run(program)
    assert result.modified
    assert result.program.blocks["entry"] is program.blocks["entry"]
    assert result.program.blocks["rest"] is not program.blocks["rest"]


def test_nothing_to_do_gives_the_same_program(program: Program) -> None:
    result = ReplaceOperator(old="Conv").run(program)
    assert not result.modified
    assert result.program is program


@pytest.mark.parametrize("rename", [True, False])
def test_honest_passes_pass(program: Program, rename: bool) -> None:
    assert Claim(rename=rename, modified=rename).run(program).modified == rename


@pytest.mark.parametrize(
    ("rename", "message"),
    [(False, "says 'changed', but the program is 'same'"), (True, "says 'same', but .* 'changed'")],
)
def test_a_pass_that_lies_is_caught(program: Program, rename: bool, message: str) -> None:
    with pytest.raises(InternalError, match=f"pass 'claim' {message}"):
        Claim(rename=rename, modified=not rename)(program)


def test_a_pass_that_changes_its_input_is_caught(program: Program) -> None:
    with pytest.raises(InternalError, match="'change-in-place' changed the program that it was"):
        ChangeInPlace()(program)


def test_a_pass_that_breaks_a_rule_is_caught(program: Program) -> None:
    with pytest.raises(InternalError, match=r"'drop-last-block' broke .* leads to 'rest'"):
        DropLastBlock()(program)


class TestPipeline:
    def test_runs_in_order_and_is_a_pass_itself(self, program: Program) -> None:
        inner = Pipeline((ReplaceOperator("Relu", "Abs"),))
        outer = Pipeline((inner, ReplaceOperator("Abs", "Exp")))
        result = outer.run(program)
        assert result.modified
        assert [n.op_type for n in result.program.blocks["rest"].graph] == ["Exp", "Exp", "Add"]

    def test_times_every_pass(self, program: Program) -> None:
        timings: list[Timing] = []
        passes = (ReplaceOperator(), ReplaceOperator("Conv", "Abs"))
        Pipeline(passes, on_pass=timings.append)(program)
        assert [(t.name, t.modified) for t in timings] == [
            ("replace-operator", True),
            ("replace-operator", False),
        ]
        assert all(t.seconds >= 0 for t in timings)

    def test_prints_the_program_after_a_pass(self, program: Program) -> None:
        printed: list[str] = []
        passes = (ReplaceOperator(), Claim(rename=True, modified=True))
        Pipeline(passes, print_after="replace-operator", sink=printed.append)(program)
        (text,) = printed
        assert text.startswith("# after replace-operator\nprogram p ")
        assert "Tanh" in text
        assert to_text(from_text(text)) == to_text(program | ReplaceOperator())

    @pytest.mark.parametrize("kind", [UserError, UnsupportedError])
    def test_errors_keep_their_kind_and_name_the_way(
        self, program: Program, kind: type[UserError]
    ) -> None:
        passes = (ReplaceOperator(), Claim(rename=True, modified=True), Fail(kind("no luck")))
        with pytest.raises(kind, match=r"'fail' \(after: replace-operator, claim\).*no luck"):
            Pipeline(passes)(program)

    def test_other_exceptions_are_bugs_of_ours(self, program: Program) -> None:
        with pytest.raises(InternalError, match=r"'fail' \(after: none\).*ZeroDivisionError: oops"):
            Pipeline((Fail(ZeroDivisionError("oops")),))(program)


class TestPerBlock:
    def test_runs_an_onnx_ir_pass_on_every_block(self, program: Program) -> None:
        after = program | PerBlock(CommonSubexpressionEliminationPass())
        operators = [[n.op_type for n in block.graph] for block in after.blocks.values()]
        assert operators == [["Neg", "Identity", "ReduceMax"], ["Relu", "Add"]]

    def test_says_when_nothing_changed(self, program: Program) -> None:
        eliminate = PerBlock(CommonSubexpressionEliminationPass())
        once = program | eliminate
        assert not eliminate.run(once).modified
        assert eliminate.name == "common-subexpression-elimination"

"""What a pass is: Program in, Program and an honest `modified` out; pipelines; onnx_ir passes."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from offramp.compiler.errors import InternalError, OfframpError
from offramp.compiler.ir import Block, Program
from offramp.compiler.ir.clone import clone_block
from offramp.compiler.ir.fingerprint import fingerprint, graph_fingerprint
from offramp.compiler.ir.verifier import violations


@dataclass(frozen=True)
class PassResult:
    """The Program after a pass, and whether it differs from the one before."""

    program: Program
    modified: bool


@dataclass(frozen=True)
class Pass(ABC):
    """A transformation of Programs; subclasses are frozen dataclasses whose fields are options.

    A pass never changes the Program it is given: it returns it as it is, or a new one. Calling
    the pass polices that, and checks the result against the rules of the IR.
    """

    @property
    def name(self) -> str:
        """The class name in kebab case, for messages, timings and `--print-after`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(self).__name__).lower()

    @abstractmethod
    def call(self, program: Program) -> PassResult:
        """Transform `program`. Implemented by subclasses, run through `run` or a call."""

    def run(self, program: Program) -> PassResult:
        """Transform `program` and check what the pass says about it.

        Raises:
            InternalError: the pass changed its input, lied about `modified`, or broke a rule.
        """
        before = fingerprint(program)
        result = self.call(program)
        if fingerprint(program) != before:
            raise InternalError(f"pass {self.name!r} changed the program that it was given")
        changed = result.program is not program and fingerprint(result.program) != before
        if changed != result.modified:
            claim, truth = ("changed", "same") if result.modified else ("same", "changed")
            raise InternalError(f"pass {self.name!r} says {claim!r}, but the program is {truth!r}")
        if found := violations(result.program):
            raise InternalError(f"pass {self.name!r} broke the program: {'; '.join(found)}")
        return result

    def __call__(self, program: Program) -> Program:
        """The transformed Program, so that `program | pass_` works."""
        return self.run(program).program


@dataclass(frozen=True)
class Timing:
    """How long one pass of a pipeline took, and whether it changed anything."""

    name: str
    seconds: float
    modified: bool


@dataclass(frozen=True)
class Pipeline(Pass):
    """Passes in order; itself a pass.

    passes: at least one.
    print_after: name of the pass after which the Program is printed in its textual form.
    sink: receives the text; default: standard output.
    on_pass: receives the timing of each pass as it ends.
    """

    passes: tuple[Pass, ...]
    print_after: str | None = None
    sink: Callable[[str], None] = print
    on_pass: Callable[[Timing], None] = field(default=lambda timing: None)

    def call(self, program: Program) -> PassResult:
        """Run all passes.

        Raises:
            OfframpError: of the same kind as the failing pass's, naming it and those before it.
        """
        modified = False
        for position, pass_ in enumerate(self.passes):
            start = time.perf_counter()
            result = self._run_one(pass_, position, program)
            self.on_pass(Timing(pass_.name, time.perf_counter() - start, result.modified))
            program, modified = result.program, modified or result.modified
            if pass_.name == self.print_after:
                self._print(pass_, program)
        return PassResult(program, modified)

    def _run_one(self, pass_: Pass, position: int, program: Program) -> PassResult:
        before = ", ".join(p.name for p in self.passes[:position]) or "none"
        try:
            return pass_.run(program)
        except OfframpError as error:
            raise type(error)(f"pass {pass_.name!r} (after: {before}) failed: {error}") from error
        except Exception as error:
            raise InternalError(
                f"pass {pass_.name!r} (after: {before}) failed with {type(error).__name__}: {error}"
            ) from error

    def _print(self, pass_: Pass, program: Program) -> None:
        from offramp.compiler.ir.text import to_text

        self.sink(f"# after {pass_.name}\n{to_text(program)}")


@dataclass(frozen=True)
class BlockPass(Pass):
    """A pass that rewrites the graph of one block at a time, keeping its parameters and operands.

    Subclasses implement `rewrite`, which may change the graph it is given: it is a copy.
    """

    @abstractmethod
    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Change `graph` in place; True if anything changed.

        Args:
            graph: of one block; inputs stay, outputs may be replaced by values of equal type.
            program: the whole Program, for operator set versions.
        """

    def call(self, program: Program) -> PassResult:
        """Rewrite copies of all blocks; blocks that stay the same are shared with the input."""
        blocks: dict[str, Block] = {}
        modified = False
        for name, block in program.blocks.items():
            copy = clone_block(block)
            changed = self.rewrite(copy.graph, program)
            blocks[name] = copy if changed else block
            modified = modified or changed
        return PassResult(replace(program, blocks=blocks) if modified else program, modified)


@dataclass(frozen=True)
class PerBlock(BlockPass):
    """An onnx_ir pass, run on `ir.Model(block.graph)` for each block.

    onnx_pass: an `onnx_ir.passes.PassBase` that works in place.
    """

    onnx_pass: Any

    @property
    def name(self) -> str:
        """The onnx_ir pass's class name in kebab case, without the word pass."""
        word = type(self.onnx_pass).__name__.removesuffix("Pass")
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", word).lower()

    def rewrite(self, graph: ir.Graph, program: Program) -> bool:
        """Run the wrapped pass."""
        from offramp.compiler.ir.to_onnx import IR_VERSION

        before = graph_fingerprint(graph)
        graph.opset_imports.update(program.opset_imports)
        self.onnx_pass(ir.Model(graph, ir_version=IR_VERSION))
        return graph_fingerprint(graph) != before

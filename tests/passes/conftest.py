"""Small programs around a few nodes, and the check that a rewrite keeps their answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.base import Pass


def straight(body: str, source: str, result: str) -> Program:
    """`body` computes %y from %x in the only block."""
    return from_text(
        f"program straight opset 18 batched -> (y) entry(%x: {source}):\n{body}\nreturn (%y)"
    )


def in_a_branch(body: str, source: str, result: str) -> Program:
    """`body` computes %y from %x in both arms of a Branch."""
    return from_text(
        f"""program branched opset 18 batched -> (y)
        entry(%in: {source}):
          weight %zero: float[] = [0.0]
          %sum: float[] = ReduceSum(%in) {{keepdims = 0}}
          %c: bool[] = Greater(%sum, %zero)
          branch %c then positive(%in) else negative(%in)
        positive(%x: {source}): {body} jump join(%y)
        negative(%x: {source}): {body} jump join(%y)
        join(%y: {result}): %out: {result} = Neg(%y) return (%out)"""
    )


def operators(program: Program, block: str) -> list[str]:
    return [node.op_type for node in program.blocks[block].graph]


def assert_agree(before: Program, after: Program) -> None:
    (value,) = before.inputs
    assert value.shape is not None
    shape = [4, *value.shape.numpy()[1:]]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected, found = (Oracle(p).run({str(value.name): x}).outputs["y"] for p in (before, after))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def rewritten() -> Callable[[Pass, str, str, str], list[str]]:
    """Run a pass on `body` alone and inside a Branch; operators left, the same in both."""

    def run(pass_: Pass, body: str, source: str, result: str) -> list[str]:
        left: list[list[str]] = []
        for build, block in ((straight, "entry"), (in_a_branch, "positive")):
            before = build(body, source, result)
            after = before | pass_
            assert_agree(before, after)
            left.append(operators(after, block))
        assert left[0] == left[1]
        return left[0]

    return run

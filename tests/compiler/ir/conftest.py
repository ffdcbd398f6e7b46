"""Programs for the IR's tests, written in its textual form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text

EVERY_TERMINATOR = """
program every opset 18 batched -> (out)

stem(%x: float[1,4]) {reach = 1.0, rate = 0.25, accuracy = 0.9}:
  weight %scale: float[4] = [1.0, 2.0, 3.0, 4.0]
  weight %axis: int64[1] = [1]
  %y: float[1,4] = Mul(%x, %scale)
  %s: float[1,1] = ReduceMax(%x, %axis) as "score"
  exit (%y) when %s >= 1.0 by max_softmax else gate(%y, %x)

gate(%p: float[1,4], %q: float[1,4]) {reach = 0.75}:
  weight %scale: float[4] = [1.0, 2.0, 3.0, 4.0]
  weight %zero: float[] = [0.0]
  %m: float[1,4] = Mul(%p, %scale)
  %sum: float[] = ReduceSum(%q) {keepdims = 0}
  %c: bool[] = Greater(%sum, %zero)
  branch %c then heavy(%m) else joined(%p)

heavy(%v: float[1,4]) {reach = 0.25}:
  %w: float[1,4] = Neg(%v)
  jump joined(%w)

joined(%z: float[1,4]):
  %sum: float[] = ReduceSum(%z) {keepdims = 0}
  %i: int64[] = Cast(%sum) {to = 7}
  switch %i of low(%z), middle(%z), last(%z)

low(%a: float[1,4]):
  %b: float[1,4] = Neg(%a)
  jump last(%b)

middle(%a: float[1,4]):
  %b: float[1,4] = Tanh(%a)
  jump last(%b)

last(%r: float[1,4]):
  %t: float[1,4] = Abs(%r)
  jump tail(%t)

tail(%u: float[1,4]):
  weight %axis: int64[1] = [1]
  %o: float[1,4] = Sqrt(%u)
  %k: float[1,1] = ReduceMin(%u, %axis)
  return (%o) confidence %k
"""


@pytest.fixture
def every_terminator() -> Program:
    """An Exit, a Branch, a Switch, Jumps and a Return with confidence."""
    return from_text(EVERY_TERMINATOR)


@pytest.fixture
def samples() -> npt.NDArray[np.float32]:
    """Forty samples that take every way through `every_terminator`."""
    return np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)

"""Parts of buffers under real control flow: slices that are answers, arguments and scores' source.

A part of a tensor is passed to another block, where it is sliced again and put together with
others; one more is an answer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from offramp.backends.base import Backend
from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.parser import from_text
from offramp.compiler.oracle import Oracle
from offramp.passes.memory import plan_memory


def numbers(count: int, seed: int, scale: float) -> str:
    drawn = np.random.default_rng(seed).normal(size=count, scale=scale)
    return str(drawn.round(3).tolist())


def network() -> Program:
    """Images of 16 channels, so that rows begin at multiples of what all targets align to."""
    return from_text(f"""program parts opset 21 batched -> (p)
    entry(%x: float[1,16,8,8]):
      weight %w: float[16,16,3,3] = {numbers(2304, 1, 0.1)}
      weight %h: float[16,5] = {numbers(80, 2, 0.8)}
      weight %rows: int64[1] = [2]
      weight %first: int64[1] = [1]
      weight %end: int64[1] = [7]
      weight %last: int64[1] = [1]
      %c: float[1,16,8,8] = Conv(%x, %w) {{pads = [1, 1, 1, 1]}}
      %r: float[1,16,8,8] = Relu(%c)
      %part: float[1,16,6,8] = Slice(%r, %first, %end, %rows)
      %g: float[1,16,1,1] = GlobalAveragePool(%part)
      %f: float[1,16] = Flatten(%g)
      %l: float[1,5] = MatMul(%f, %h)
      %q: float[1,5] = Softmax(%l)
      %s: float[1,1] = ReduceMax(%q, %last) {{keepdims = 1}}
      exit (%q) when %s >= 0.835 by max_softmax else rest(%part)
    rest(%t: float[1,16,6,8]):
      weight %w: float[16,16,3,3] = {numbers(2304, 3, 0.1)}
      weight %v: float[16,16,1,1] = {numbers(256, 4, 0.3)}
      weight %h: float[16,5] = {numbers(80, 5, 0.8)}
      weight %rows: int64[1] = [2]
      weight %zero: int64[1] = [0]
      weight %three: int64[1] = [3]
      weight %six: int64[1] = [6]
      %a: float[1,16,3,8] = Slice(%t, %zero, %three, %rows)
      %b: float[1,16,3,8] = Slice(%t, %three, %six, %rows)
      %d: float[1,16,3,8] = Conv(%a, %w) {{pads = [1, 1, 1, 1]}}
      %e: float[1,16,3,8] = Conv(%b, %v)
      %u: float[1,16,6,8] = Concat(%d, %e) {{axis = 2}}
      %k: float[1,16,6,8] = Add(%u, %t)
      %g: float[1,16,1,1] = GlobalAveragePool(%k)
      %f: float[1,16] = Flatten(%g)
      %l: float[1,5] = MatMul(%f, %h)
      %p: float[1,5] = Softmax(%l)
      return (%p)""")


def test_answers_and_exits_are_those_of_onnxruntime(
    target: str, backend: Backend, tmp_path: Path
) -> None:
    program = network()
    x = np.random.default_rng(0).normal(size=(24, 16, 8, 8)).astype(np.float32)
    expected = Oracle(program).run({"x": x})
    assert set(expected.exit_index.tolist()) == {0, 1}
    lowered = lower(program, targets.get(target))
    parts = [b for b in lowered.plan.buffers.values() if b.alias_of is not None and b.offset]
    assert len(parts) >= 3
    backend.emit(replace(lowered, plan=plan_memory(lowered.plan)), tmp_path)
    found = backend.load(tmp_path).run({"x": x})
    assert found.exit_index.tolist() == expected.exit_index.tolist()
    np.testing.assert_allclose(found.outputs["p"], expected.outputs["p"], atol=1e-4)

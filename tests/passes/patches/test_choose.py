"""The bands that are chosen: the least arena within the budget of recomputed rows."""

from __future__ import annotations

import pytest

from offramp.backends.tvm.lower import lower
from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.ir.costs import block_cost
from offramp.compiler.ir.parser import from_text
from offramp.passes import IntegerInputs, Quantize
from offramp.passes.memory import plan_memory
from offramp.passes.patches import Choice, choose_patches
from offramp.passes.patches.estimate import bytes_in_use

from .test_insert import images, numbers


def arena(program: Program) -> int:
    return plan_memory(lower(program, targets.get("cortex-m7")).plan).memory.peak


@pytest.fixture(scope="module")
def program() -> Program:
    """The first layer writes eight times what it reads, and a pool leaves a sixteenth of that."""
    real = from_text(f"""program wide opset 18 batched -> (y) entry(%x: float[1,2,32,32]):
    weight %w: float[16,2,3,3] = {numbers(288, 1)}
    weight %m: float[16,3] = {numbers(48, 3)}
    %a: float[1,16,32,32] = Conv(%x, %w) {{pads = [1, 1, 1, 1]}}
    %b: float[1,16,32,32] = Relu(%a)
    %p: float[1,16,8,8] = MaxPool(%b) {{kernel_shape = [4, 4], strides = [4, 4]}}
    %r: float[1,16,1,1] = GlobalAveragePool(%p)
    %f: float[1,16] = Flatten(%r)
    %y: float[1,3] = Gemm(%f, %m)
    return (%y)""")
    return IntegerInputs()(Quantize("int8", {"x": images(32, 8)})(real))


def test_the_arena_shrinks_within_the_budget(program: Program) -> None:
    chosen: list[Choice] = []
    for budget in (0.05, 0.5):
        choice = choose_patches(program, budget, arena)
        assert choice is not None
        grown = block_cost(choice.program.entry).macs / block_cost(program.entry).macs - 1
        assert choice.macs == grown <= budget
        assert choice.arena == arena(choice.program) < choice.arena_before == arena(program)
        chosen.append(choice)
    assert chosen[1].arena <= chosen[0].arena


def test_the_choice_is_the_same_every_time(program: Program) -> None:
    first, second = (choose_patches(program, 0.2, arena) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.end, first.bands, first.arena) == (second.end, second.bands, second.arena)


def test_bands_that_save_nothing_are_not_chosen(program: Program) -> None:
    assert choose_patches(program, 0.2, lambda _: 1000) is None


def test_a_budget_of_nothing_leaves_bands_that_share_no_rows(program: Program) -> None:
    """Up to the first layer, whose windows overlap in what they read but not in what they write."""
    choice = choose_patches(program, 0.0, arena)
    assert choice is None or choice.macs == 0


def test_progress_is_told(program: Program) -> None:
    seen: list[float] = []
    choose_patches(program, 0.2, arena, seen.append)
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] < 1


def test_the_estimate_is_near_the_plan(program: Program) -> None:
    """It knows nothing of scratch, and takes every kernel to work in place."""
    assert 0.5 < bytes_in_use(program.entry.graph) / arena(program) <= 1

"""Which blocks are reordered, and what an order has to respect."""

from __future__ import annotations

from dataclasses import replace

from offramp.compiler.ir import Exit, Return, Successor
from offramp.compiler.plan import KernelCall, Plan
from offramp.passes.memory import plan_memory
from offramp.passes.memory.reorder import reorder
from tests.passes.memory.test_plan import CHAIN, Sizes, block, plan_of, straight

WIDE = {"wide": 100, "broad": 100, "left": 12, "right": 12}
BOTH_WIDEN_FIRST = (
    KernelCall("widen", ("x", "wide")),
    KernelCall("broaden", ("x", "broad")),
    KernelCall("shrink", ("wide", "left")),
    KernelCall("shrink", ("broad", "right")),
    KernelCall("add", ("left", "right", "y")),
)
SIZES: Sizes = {"x": 12, **WIDE, "y": 12}


def kernels(plan: Plan, name: str = "b") -> list[str]:
    (found,) = (b for b in plan.blocks if b.name == name)
    return [call.kernel for call in found.calls]


def test_a_branch_shrinks_before_the_next_one_widens() -> None:
    plan = straight(SIZES, *BOTH_WIDEN_FIRST)
    assert kernels(reorder(plan)) == ["widen", "shrink", "broaden", "shrink", "add"]
    memory = plan_memory(plan).memory
    assert (memory.peak, memory.status) == (124, "optimal")


def test_what_cannot_be_better_stays_as_it_is() -> None:
    plan = straight({"x": 100, "a": 100, "b": 100, "y": 100}, *CHAIN)
    assert reorder(plan) is plan


def test_each_block_counts_what_is_in_use_around_it() -> None:
    """Behind an exit the other block's operators are of no use, but its answer is held."""
    first = block(
        "first", [KernelCall("score", ("in", "p"))], ["in"], ["in", "p"],
        Exit((1,), 1, 0.5, "max_softmax", Successor("b", (0,))),
    )  # fmt: skip
    second = block("b", BOTH_WIDEN_FIRST, ["x"], ["y"], Return((0,)))
    sizes = {"in": 12, "p": 30, **WIDE, "y": 12}
    plan = plan_of(sizes, first, second, views={"x": "in"})
    reordered = reorder(plan)
    assert kernels(reordered, "first") == ["score"]
    assert kernels(reordered) == ["widen", "shrink", "broaden", "shrink", "add"]
    assert plan_memory(plan).memory.lower_bound == 124 + 30


def test_a_buffer_is_not_written_again_before_it_was_read() -> None:
    """`wide` is used twice: the order may change only around both uses."""
    calls = (
        KernelCall("widen", ("x", "wide")),
        KernelCall("shrink", ("wide", "left")),
        KernelCall("broaden", ("x", "wide")),
        KernelCall("shrink", ("wide", "right")),
        KernelCall("huge", ("x", "broad")),
        KernelCall("join", ("left", "right", "broad", "y")),
    )
    plan = straight(SIZES | {"broad": 1000}, *calls)
    assert kernels(reorder(plan)) == [call.kernel for call in calls]
    early = (calls[4], *calls[:4], calls[5])
    hoisted = straight(SIZES | {"broad": 1000}, *early)
    assert kernels(reorder(hoisted)) == [call.kernel for call in calls]


def test_working_in_place_counts() -> None:
    """Whoever reads `x` last may write over it, if that is the larger of the two results."""
    large = KernelCall("large", ("x", "a"), in_place=((1, 0),))
    small = KernelCall("small", ("x", "b"))
    join = KernelCall("join", ("a", "b", "y"))
    plan = straight({"x": 100, "a": 100, "b": 10, "y": 10}, large, small, join)
    assert kernels(reorder(plan)) == ["small", "large", "join"]
    copying = replace(large, in_place=())
    plan = straight({"x": 100, "a": 100, "b": 10, "y": 10}, copying, small, join)
    assert kernels(reorder(plan)) == ["large", "small", "join"]


def test_workspaces_count() -> None:
    """A call with a large workspace runs while little else is in use."""
    calls = (
        KernelCall("widen", ("x", "wide")),
        KernelCall("greedy", ("x", "left"), workspace=200),
        KernelCall("join", ("wide", "left", "y")),
    )
    plan = straight({"x": 10, "wide": 100, "left": 10, "y": 10}, *calls)
    assert kernels(reorder(plan)) == ["greedy", "widen", "join"]

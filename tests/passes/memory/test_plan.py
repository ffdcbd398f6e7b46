"""Planned arenas, case by case: what shares bytes and what must not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Branch, Exit, Jump, Return, Successor, Terminator
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.passes.memory import plan_memory
from offramp.passes.memory.liveness import first_steps, liveness

Sizes = dict[str, int]


def block(
    name: str,
    calls: Sequence[KernelCall],
    parameters: Sequence[str],
    operands: Sequence[str],
    terminator: Terminator,
) -> BlockPlan:
    return BlockPlan(name, tuple(calls), tuple(parameters), tuple(operands), terminator)


def plan_of(
    sizes: Sizes, *blocks: BlockPlan, views: dict[str, str] | None = None, target: str = "cortex-m7"
) -> Plan:
    buffers = {n: Buffer(n, (size,), "uint8") for n, size in sizes.items()}
    for view, base in (views or {}).items():
        buffers[view] = Buffer(view, buffers[base].shape, "uint8", alias_of=base)
    return Plan("p", target, buffers, blocks, blocks[0].parameters, ("y",), False)


def straight(sizes: Sizes, *calls: KernelCall, target: str = "cortex-m7") -> Plan:
    """Calls in a row from buffer x to buffer y."""
    return plan_of(sizes, block("b", calls, ["x"], ["y"], Return((0,))), target=target)


CHAIN = (KernelCall("k", ("x", "a")), KernelCall("k", ("a", "b")), KernelCall("k", ("b", "y")))


def test_a_chain_needs_two_buffers() -> None:
    memory = plan_memory(straight({"x": 100, "a": 100, "b": 100, "y": 100}, *CHAIN)).memory
    assert (memory.peak, memory.status) == (200, "optimal")


def test_a_kernel_that_works_in_place_writes_over_its_dying_input() -> None:
    calls = [KernelCall("k", ("x", "y"), in_place=((1, 0),))]
    planned = plan_memory(straight({"x": 100, "y": 100}, *calls))
    assert planned.memory.offsets["x"] == planned.memory.offsets["y"]
    assert planned.memory.peak == 100


def test_an_input_needed_later_is_not_overwritten() -> None:
    calls = [
        KernelCall("k", ("x", "a"), in_place=((1, 0),)),
        KernelCall("add", ("x", "a", "y"), in_place=((2, 1),)),
    ]
    offsets = plan_memory(straight({"x": 100, "a": 100, "y": 100}, *calls)).memory.offsets
    assert offsets["x"] != offsets["a"]
    assert offsets["y"] == offsets["a"]


def test_an_input_read_twice_is_overwritten_only_if_both_readings_allow_it() -> None:
    """A matrix product of x with itself may not write over x though one operand alone could."""
    once = KernelCall("matmul", ("x", "x", "y"), in_place=((2, 0),))
    both = KernelCall("add", ("x", "x", "y"), in_place=((2, 0), (2, 1)))
    assert plan_memory(straight({"x": 100, "y": 100}, once)).memory.peak == 200
    assert plan_memory(straight({"x": 100, "y": 100}, both)).memory.peak == 100


def test_an_output_that_nobody_reads_does_not_overwrite_either() -> None:
    calls = [KernelCall("k", ("x", "a"), in_place=((1, 0),)), KernelCall("k", ("x", "y"))]
    offsets = plan_memory(straight({"x": 8, "a": 8, "y": 8}, *calls)).memory.offsets
    assert offsets["a"] != offsets["x"]


def test_a_sum_overwrites_one_of_its_inputs_not_both() -> None:
    calls = [
        KernelCall("k", ("x", "a")),
        KernelCall("add", ("x", "a", "y"), in_place=((2, 0), (2, 1))),
    ]
    memory = plan_memory(straight({"x": 8, "a": 8, "y": 8}, *calls)).memory
    assert memory.offsets["a"] != memory.offsets["x"]
    assert memory.peak == 16


def test_two_outputs_never_share_the_input() -> None:
    call = KernelCall("k", ("x", "a", "y"), outputs=2, in_place=((1, 0), (2, 0)))
    offsets = plan_memory(straight({"x": 8, "a": 8, "y": 8}, call)).memory.offsets
    assert offsets["a"] != offsets["y"]


def test_a_residual_sum_accumulates_into_the_skipped_value() -> None:
    """conv, then conv + add in place over the skip: two maps at a time, as in a ResNet block."""
    calls = [
        KernelCall("stem", ("x", "s")),
        KernelCall("conv", ("s", "a")),
        KernelCall("conv_add", ("a", "s", "y"), in_place=((2, 1),)),
    ]
    memory = plan_memory(straight({"x": 8, "s": 64, "a": 64, "y": 64}, *calls)).memory
    assert memory.offsets["y"] == memory.offsets["s"]
    assert memory.peak == 128


def test_a_workspace_lives_for_its_call_only() -> None:
    calls = [KernelCall("k", ("x", "a"), workspace=50), KernelCall("k", ("a", "y"))]
    memory = plan_memory(straight({"x": 20, "a": 20, "y": 50}, *calls)).memory
    assert "b.0.workspace" in memory.offsets
    assert memory.peak == 92  # 20 + 20 + 50, a gap of 2 for alignment: the workspace is last


@pytest.mark.parametrize(("target", "alignment"), [("cortex-m7", 4), ("x86-64", 64)])
def test_offsets_are_aligned_for_the_target(target: str, alignment: int) -> None:
    sizes = {"x": 7, "a": 13, "b": 21, "y": 3}
    offsets = plan_memory(straight(sizes, *CHAIN, target=target)).memory.offsets
    assert all(offset % alignment == 0 for offset in offsets.values())


def test_constants_take_no_arena() -> None:
    plan = straight({"x": 8, "y": 8}, KernelCall("k", ("x", "w", "y"), in_place=((2, 1),)))
    plan.buffers["w"] = Buffer("w", (1000,), "uint8", Storage.CONSTANT)
    memory = plan_memory(plan).memory
    assert memory.peak == 16
    assert "w" not in memory.offsets


def exit_plan(scratch: int) -> Plan:
    first = block(
        "head",
        [KernelCall("k", ("x", "early"))],
        ["x"],
        ["early", "x"],
        Exit((0,), 0, 0.5, "max_softmax", Successor("rest", (1,))),
    )
    rest = block(
        "rest",
        [KernelCall("k", ("x2", "a")), KernelCall("k", ("a", "y"))],
        ["x2"],
        ["y"],
        Return((0,)),
    )
    sizes = {"x": 16, "early": 16, "a": scratch, "y": 16}
    return plan_of(sizes, first, rest, views={"x2": "x"})


def test_an_answer_outlives_its_exit_until_the_next_answer() -> None:
    memory = plan_memory(exit_plan(64)).memory
    assert memory.peak == 16 + 16 + 64  # early is kept beside x and a, then beside a and y


def arms_plan(then: KernelCall, else_: KernelCall) -> Plan:
    sizes = {"x": 32, "c": 4, "u": 32, "v": 32, "j": 32, "y": 4}
    entry = block(
        "entry",
        [KernelCall("gate", ("x", "c"))],
        ["x"],
        ["c", "x"],
        Branch(0, Successor("then", (1,)), Successor("else", (1,))),
    )
    arms = [
        block(name, [call], [parameter], [result], Jump(Successor("join", (0,))))
        for name, call, parameter, result in (
            ("then", then, "xt", "u"),
            ("else", else_, "xe", "v"),
        )
    ]
    join = block("join", [KernelCall("k", ("j", "y"))], ["j"], ["y"], Return((0,)))
    return plan_of(sizes, entry, *arms, join, views={"xt": "x", "xe": "x"})


def test_exclusive_arms_share_space_and_hand_over_without_copies() -> None:
    plan = arms_plan(KernelCall("k", ("xt", "u")), KernelCall("k", ("xe", "v")))
    memory = plan_memory(plan).memory
    assert memory.offsets["u"] == memory.offsets["v"] == memory.offsets["j"]
    assert memory.peak == 32 + 32


def test_a_value_that_one_arm_reads_is_dead_in_the_other() -> None:
    plan = arms_plan(KernelCall("k", ("xt", "u")), KernelCall("k", ("c", "v")))
    masks, first = liveness(plan).masks, first_steps(plan)
    assert masks["x"] >> first["then"] & 1
    assert not masks["x"] >> first["else"] & 1
    assert masks["c"] >> first["else"] & 1
    assert not masks["c"] >> first["then"] & 1


def test_a_plan_that_reads_what_nothing_wrote_is_our_bug() -> None:
    with pytest.raises(InternalError, match="nothing writes a"):
        plan_memory(straight({"x": 8, "a": 8, "y": 8}, KernelCall("k", ("a", "y"))))

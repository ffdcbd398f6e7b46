"""Arenas spread over the memories of a board: what lies where, and that results stay the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offramp.compiler import boards
from offramp.compiler.boards import Board, Region, Reserve
from offramp.compiler.errors import InternalError
from offramp.compiler.ir import Exit, Return, Successor
from offramp.compiler.plan import Arena, BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.passes.memory import plan_memory
from offramp.passes.memory.banks import spread
from offramp.passes.memory.fit import check_fit
from offramp.passes.memory.validate import check_memory

from .test_random_plans import Machine, plans


def board(*ram: tuple[int, int], flash: int = 10_000) -> Board:
    """Memories of (bytes, cycles), apart from each other, and nothing reserved."""
    memories = [Region("flash", 0, flash, "flash", 9)]
    memories += [
        Region(f"ram{i}", 0x10000 * (i + 1), size, "ram", cycles)
        for i, (size, cycles) in enumerate(ram)
    ]
    return replace(
        boards.get("nucleo-f446re"), memories=tuple(memories), reserve=Reserve(0, 0), name="tiny"
    )


def chain(*traffic: tuple[int, ...], size: int = 100) -> Plan:
    """x -> a -> b -> y, each of `size` bytes, weights of 40 between; traffic by call."""
    names = ["x", *"abcdefgh"[: len(traffic) - 1], "y"]
    buffers = {name: Buffer(name, (size,), "uint8") for name in names}
    calls: list[KernelCall] = []
    for number, moved in enumerate(traffic):
        data = np.full(40, number, np.uint8)
        buffers[f"w{number}"] = Buffer(f"w{number}", (40,), "uint8", Storage.CONSTANT, data)
        arguments = (names[number], f"w{number}", names[number + 1])
        calls.append(KernelCall("k", arguments, traffic=moved))
    block = BlockPlan("b", tuple(calls), ("x",), ("y",), Return((0,)))
    return plan_memory(Plan("net", "cortex-m4", buffers, (block,), ("x",), ("y",), False))


def memory_of(plan: Plan, name: str) -> str:
    arena = plan.memory.arena_at(plan.memory.offsets[name])
    assert arena is not None
    return arena.memory


def test_what_fits_the_fastest_memory_lies_there_alone() -> None:
    plan = spread(chain((100, 40, 100), (100, 40, 100)), board((200, 1), (500, 4)), {"b": 1.0})
    assert plan.memory.arenas == (Arena("ram0", 0, 200),)
    assert plan.memory.status == "optimal"


def test_the_buffer_that_is_accessed_most_lies_in_the_fastest_memory() -> None:
    plan = chain((100, 40, 900), (900, 40, 100))
    found = spread(plan, board((100, 1), (500, 4)), {"b": 1.0})
    assert memory_of(found, "a") == "ram0"
    assert {memory_of(found, "x"), memory_of(found, "y")} == {"ram1"}
    access = found.memory.access
    assert access is not None
    assert access.status == "optimal"
    assert access.cycles == (1800 * 1 + 200 * 4 + 100 * 4 + 80 * 9) / 4


@pytest.mark.parametrize(("reach", "fast"), [(0.9, "b"), (0.05, "x")])
def test_a_block_that_few_samples_reach_gets_the_slow_memory(reach: float, fast: str) -> None:
    """The input is in use with the buffer that only the second block uses, and uses most."""
    sizes = {"x": 100, "s": 4, "b": 100, "y": 4}
    buffers = {name: Buffer(name, (size,), "uint8") for name, size in sizes.items()}
    first = KernelCall("k", ("x", "s"), traffic=(100, 4))
    rest = KernelCall("k", ("x", "b"), traffic=(100, 500)), KernelCall("k", ("b", "y"))
    leave = Exit((0,), 0, 0.5, "max_softmax", Successor("rest", (1,)))
    blocks = (
        BlockPlan("first", (first,), ("x",), ("s", "x"), leave),
        BlockPlan("rest", rest, ("x",), ("y",), Return((0,))),
    )
    plan = plan_memory(Plan("net", "cortex-m4", buffers, blocks, ("x",), ("y",), False))
    found = spread(plan, board((100, 1), (1000, 4)), {"first": 1.0, "rest": reach})
    assert [name for name in ("x", "b") if memory_of(found, name) == "ram0"] == [fast]


def test_weights_are_copied_where_they_are_read_often() -> None:
    plan = chain((100, 40, 100), (100, 4000, 100))
    tried = board((240, 1), (60, 4))
    assert spread(plan, tried, {"b": 1.0}).memory.copied == {}
    copied = spread(plan, tried, {"b": 1.0}, copy_weights=True).memory
    assert copied.copied == {"w1": "ram0", "w0": "ram1"}
    assert copied.arenas == (Arena("ram0", 0, 200),)


def test_equal_weights_share_a_copy() -> None:
    plan = chain((100, 400, 100), (100, 400, 100))
    twin = replace(plan.buffers["w1"], data=plan.buffers["w0"].data)
    plan = replace(plan, buffers={**plan.buffers, "w1": twin})
    copied = spread(plan, board((240, 1)), {"b": 1.0}, copy_weights=True).memory.copied
    assert copied == {"w0": "ram0", "w1": "ram0"}


def test_an_arena_that_no_choice_holds_stays_one_array() -> None:
    plan = chain((100, 40, 100), (100, 40, 100))
    assert spread(plan, board((199, 1)), {"b": 1.0}) is plan
    apart = spread(plan, board((100, 1), (100, 4)), {"b": 1.0})
    assert len(apart.memory.arenas) == 2


def test_the_check_of_a_board_sees_what_lies_in_each_memory() -> None:
    plan = spread(chain((100, 40, 100)), board((240, 1)), {"b": 1.0}, copy_weights=True)
    check_fit(plan, board((240, 1)))
    with pytest.raises(InternalError, match="240 bytes lie in 'ram0' of tiny, which has 239"):
        check_fit(plan, board((239, 1)))


def test_a_buffer_across_two_memories_is_found() -> None:
    plan = spread(chain((100, 40, 900), (900, 40, 100)), board((100, 1), (500, 4)), {"b": 1.0})
    wrong = tuple(replace(a, bytes=a.bytes - 4) for a in plan.memory.arenas)
    with pytest.raises(InternalError, match="not in one memory"):
        check_memory(replace(plan, memory=replace(plan.memory, arenas=wrong)))
    overlapping = (plan.memory.arenas[0], replace(plan.memory.arenas[1], start=50))
    with pytest.raises(InternalError, match="arenas of two memories overlap"):
        check_memory(replace(plan, memory=replace(plan.memory, arenas=overlapping)))


@settings(deadline=None)
@given(
    plans(),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.tuples(st.integers(0, 80), st.integers(0, 200)),
)
def test_results_do_not_depend_on_where_buffers_lie(
    plan: Plan, ways: list[bool], sizes: tuple[int, int]
) -> None:
    planned = plan_memory(plan)
    tried = board((sizes[0] + 1, 1), (sizes[1] + 1, 4))
    found = spread(planned, tried, {block.name: 0.5 for block in plan.blocks})
    assert (found is planned) == (found.memory.access is None)
    reference = Machine(plan, in_arena=False, ways=list(ways)).run()
    assert Machine(found, in_arena=True, ways=list(ways)).run() == reference
    if found is not planned:
        check_fit(found, tried)

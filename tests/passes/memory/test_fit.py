"""What fits a board, to the byte, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offramp.compiler import boards
from offramp.compiler.boards import Board, Region, Reserve
from offramp.compiler.errors import UserError
from offramp.compiler.ir import Return
from offramp.compiler.plan import BlockPlan, Buffer, KernelCall, Plan, Storage
from offramp.passes.memory import plan_memory
from offramp.passes.memory.banks import spread
from offramp.passes.memory.fit import check_fit

WEIGHTS = 300


def board(*ram: int, flash: int = 1000, reserve: int = 64) -> Board:
    """Memories of RAM that do not adjoin; `reserve` in RAM and in flash."""
    memories = [Region("flash", 0, flash, "flash", 9)]
    memories += [Region(f"ram{i}", 0x10000 * (i + 1), size, "ram", 1) for i, size in enumerate(ram)]
    return replace(
        boards.get("nucleo-f446re"),
        name="tiny",
        memories=tuple(memories),
        reserve=Reserve(reserve, reserve),
    )


def network(dtype: str = "float32") -> Plan:
    """100 bytes in, 200 between, 40 out: 300 bytes at the peak; the same weights twice."""
    data = np.arange(WEIGHTS // np.dtype(dtype).itemsize).astype(dtype)
    buffers = [Buffer(n, (size,), "uint8") for n, size in {"x": 100, "a": 200, "y": 40}.items()]
    buffers += [Buffer(n, data.shape, dtype, Storage.CONSTANT, data) for n in ("w", "again")]
    calls = (
        KernelCall("k", ("x", "w", "a"), nodes=("conv", "relu")),
        KernelCall("k", ("a", "again", "y"), nodes=("dense",)),
    )
    block = BlockPlan("b", calls, ("x",), ("y",), Return((0,)))
    named = {buffer.name: buffer for buffer in buffers}
    return plan_memory(Plan("net", "cortex-m4", named, (block,), ("x",), ("y",), False))


def refusal(plan: Plan, tried: Board) -> str:
    with pytest.raises(UserError) as refused:
        check_fit(plan, tried)
    return str(refused.value)


@pytest.mark.parametrize("tried", [board(364), board(300, 64), board(64, 300), board(364, 63)])
def test_an_arena_that_fits_to_the_byte(tried: Board) -> None:
    assert network().memory.peak == 300
    check_fit(network(), tried)


@pytest.mark.parametrize("tried", [board(363), board(299, 299), board(363, 63)])
def test_an_arena_that_misses_by_a_byte(tried: Board) -> None:
    assert "its arena needs 300 bytes and the RAM has 299" in refusal(network(), tried)


def test_equal_weights_are_counted_once_and_fit_to_the_byte() -> None:
    check_fit(network(), board(1000, flash=WEIGHTS + 64))
    message = refusal(network(), board(1000, flash=WEIGHTS + 63))
    assert "its weights need 300 bytes and the flash has 299" in message
    assert "The largest belong to relu (300 bytes)." in message


def test_what_is_live_at_the_peak_is_named_largest_first() -> None:
    message = refusal(network(), board(100))
    assert "Most is in use at relu: a (200 bytes), x (100 bytes)." in message


def test_bands_of_rows_are_advised_where_ram_is_too_small_only() -> None:
    assert "--patches" in refusal(network(), board(100))
    assert "--patches" not in refusal(network(), board(1000, flash=100))
    spread_out = spread(network(), board(264, 100), {"b": 1.0})
    assert "--patches" not in refusal(spread_out, board(264, 100, flash=100))


def test_both_memories_are_told_at_once() -> None:
    message = refusal(network(), board(100, flash=100))
    assert message.startswith("net does not fit tiny: its arena needs")
    assert " And its weights need" in message


def test_a_quantised_network_is_not_to_be_quantised_again() -> None:
    assert "--quantize int8" in refusal(network(), board(100))
    assert "int8" not in refusal(network("int8"), board(100))


def test_boards_that_would_do_are_named() -> None:
    message = refusal(network(), board(100))
    assert message.endswith(f"a board that holds it as it is: {', '.join(boards.names())}")


def test_a_node_with_many_names_is_cut_short() -> None:
    plan = network()
    (block,) = plan.blocks
    long = replace(block.calls[0], nodes=("n" * 500,))
    message = refusal(
        replace(plan, blocks=(replace(block, calls=(long, block.calls[1])),)), board(9)
    )
    assert f"{'n' * 60}...: a (200 bytes)" in message

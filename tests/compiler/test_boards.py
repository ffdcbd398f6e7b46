"""Boards as data: each is whole, and its numbers are those of its data sheet."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.compiler import boards, targets
from offramp.compiler.boards import Board, Region
from offramp.compiler.errors import InternalError, UserError

KIB = 1024
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", boards.names())
def test_every_board_is_described_in_full(name: str) -> None:
    board = boards.get(name)
    flags = targets.get(board.target).board
    assert flags is not None
    assert board.fpu[:5] in flags.flags
    assert board.sources
    assert 0 < board.reserve.ram < board.spans("ram")[0].bytes
    assert 0 < board.reserve.flash < board.spans("flash")[0].bytes


@pytest.mark.parametrize(
    ("name", "target", "flash", "ram"),
    [
        ("nucleo-f446re", "cortex-m4", 512, [128]),
        ("nano-33-ble", "cortex-m4", 1024 - 64, [256]),
        ("nucleo-f746zg", "cortex-m7", 1024, [64 + 240 + 16]),
        ("longan-nano", "riscv32", 128, [32]),
        ("nucleo-h743zi2", "cortex-m7", 2048, [512, 128 + 128 + 32, 128, 64]),
    ],
)
def test_memories_have_the_sizes_of_the_data_sheet(
    name: str, target: str, flash: int, ram: list[int]
) -> None:
    board = boards.get(name)
    assert board.target == target
    assert [span.bytes for span in board.spans("flash")] == [flash * KIB]
    assert [span.bytes for span in board.spans("ram")] == [size * KIB for size in ram]


def with_memories(*memories: Region) -> Board:
    return replace(boards.get("nucleo-f446re"), memories=memories)


def test_memories_that_adjoin_are_one_span() -> None:
    board = with_memories(
        Region("high", 0x1100, 0x80, "ram", 1),
        Region("apart", 0x2000, 0x40, "ram", 1),
        Region("low", 0x1000, 0x100, "ram", 1),
    )
    assert [(span.name, span.bytes) for span in board.spans("ram")] == [
        ("low+high", 0x180),
        ("apart", 0x40),
    ]


def test_memories_that_adjoin_are_one_bank_if_equally_fast() -> None:
    board = with_memories(
        Region("flash", 0, 0x10000, "flash", 6),
        Region("tcm", 0x1000, 0x100, "ram", 1),
        Region("sram1", 0x1100, 0x400, "ram", 4),
        Region("sram2", 0x1500, 0x80, "ram", 4),
        Region("far", 0x8000, 0x4000, "ram", 4),
    )
    assert [(bank.name, bank.bytes, bank.cycles) for bank in board.banks("ram")] == [
        ("tcm", 0x100, 1),
        ("far", 0x4000, 4),
        ("sram1+sram2", 0x480, 4),
    ]


def test_the_reserve_comes_off_the_fastest_memory_that_has_room_for_it() -> None:
    slow, fast = Region("slow", 0, 0x8000, "ram", 4), Region("fast", 0x9000, 0x8000, "ram", 1)
    reserve = with_memories(slow).reserve.ram
    assert [b.bytes for b in with_memories(slow, fast).usable()] == [0x8000 - reserve, 0x8000]
    narrow = Region("fast", 0x9000, reserve - 1, "ram", 1)
    assert [b.bytes for b in with_memories(slow, narrow).usable()] == [
        reserve - 1,
        0x8000 - reserve,
    ]


def test_an_unknown_board_is_refused_with_all_names() -> None:
    with pytest.raises(UserError, match=", ".join(boards.names())):
        boards.get("nucleo")


def document(target: str = "cortex-m4", cycles: int = 1, **memories: tuple[int, str]) -> str:
    """A board with memories of 64 bytes, by name: where, and in which role."""
    head = (
        f'description = ""\ntarget = "{target}"\nfpu = "fpv4-sp-d16"\ninstruction_cache = 0\n'
        "data_cache = 0\nsources = []\nreserve = {ram = 0, flash = 0}\n"
    )
    return head + "".join(
        f'[[memories]]\nname = "{name}"\norigin = {origin}\nbytes = 64\nrole = "{role}"\n'
        f"cycles = {cycles}\n"
        for name, (origin, role) in memories.items()
    )


FLASH, RAM = (0, "flash"), (128, "ram")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (document(flash=FLASH), "no memory with the role 'ram'"),
        (document(flash=FLASH, ram=RAM, tcm=(256, "instructions")), "role 'instructions'"),
        (document(flash=FLASH, ram=RAM, more=(160, "ram")), "'ram' and 'more' overlap"),
        (document(cycles=0, flash=FLASH, ram=RAM), "takes 0 cycles, expected at least 1"),
        (document("cortex-m3", flash=FLASH, ram=RAM), "unknown target 'cortex-m3'"),
    ],
)
def test_a_description_at_odds_with_itself_is_a_bug(text: str, complaint: str) -> None:
    assert boards.parse("sound", document(flash=FLASH, ram=RAM)).spans("ram")
    with pytest.raises(InternalError, match=complaint):
        boards.parse("odd", text)


def test_the_example_of_the_documentation_is_a_board() -> None:
    page = (ROOT / "docs" / "adding-a-board.md").read_text()
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    board = boards.parse("stm32f4discovery", example[1])
    assert [span.bytes for span in board.spans("ram")] == [128 * KIB, 64 * KIB]
    assert all(f"`{name}`" in page for name in boards.names())

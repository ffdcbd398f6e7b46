"""Microcontroller boards that one can buy, as data: one TOML file a board.

A target says how code is written for a processor; a board says how much of a network its memories
hold. The boards that targets name are another thing: those of the emulator.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import pairwise

from offramp.compiler import targets
from offramp.compiler.errors import InternalError, UserError

ROLES = ("flash", "ram", "code")
"""What a memory may hold: code and weights; the arena and other data; code alone."""


@dataclass(frozen=True)
class Region:
    """One memory of a board: `bytes` at address `origin`, with one of the `ROLES`.

    cycles: of the core, until it has a 32-bit word that is in no cache.
    """

    name: str
    origin: int
    bytes: int
    role: str
    cycles: int


@dataclass(frozen=True)
class Span:
    """Memories of one role that lie behind each other without a gap: an array may cross them.

    cycles: those of the slowest.
    """

    name: str
    bytes: int
    cycles: int


@dataclass(frozen=True)
class Reserve:
    """Bytes that a network leaves free.

    ram: for the stack and for data other than the arena. flash: for code and its tables.
    """

    ram: int
    flash: int


@dataclass(frozen=True)
class Board:
    """A microcontroller board.

    description: vendor, microcontroller and core, in words. target: what to compile for.
    fpu: Arm's name of the floating-point unit, as GCC's `-mfpu` spells it; empty without one.
    instruction_cache, data_cache: bytes of the core's own caches; 0 where it has none.
    sources: the documents that the facts are from.
    """

    name: str
    description: str
    target: str
    fpu: str
    instruction_cache: int
    data_cache: int
    sources: tuple[str, ...]
    reserve: Reserve
    memories: tuple[Region, ...]

    def spans(self, role: str) -> tuple[Span, ...]:
        """Memories of one role, adjoining ones as one; the largest first."""
        found = self._adjoining(role, lambda low, high: True)
        return tuple(sorted(found, key=lambda span: -span.bytes))

    def banks(self, role: str) -> tuple[Span, ...]:
        """The same with only those as one that are equally fast; the fastest and largest first."""
        found = self._adjoining(role, lambda low, high: low.cycles == high.cycles)
        return tuple(sorted(found, key=lambda span: (span.cycles, -span.bytes)))

    def usable(self) -> tuple[Span, ...]:
        """Banks of RAM less the reserve, which is taken from the first that has room for it."""
        found = list(self.banks("ram"))
        for index, bank in enumerate(found):
            if bank.bytes >= self.reserve.ram:
                found[index] = replace(bank, bytes=bank.bytes - self.reserve.ram)
                break
        return tuple(found)

    def _adjoining(self, role: str, may_join: Callable[[Region, Region], bool]) -> list[Span]:
        found: list[list[Region]] = []
        for memory in sorted(self.memories, key=lambda memory: memory.origin):
            if memory.role != role:
                continue
            last = found[-1][-1] if found else None
            adjoins = last is not None and last.origin + last.bytes == memory.origin
            if last is not None and adjoins and may_join(last, memory):
                found[-1].append(memory)
            else:
                found.append([memory])
        return [
            Span(
                "+".join(region.name for region in regions),
                sum(region.bytes for region in regions),
                max(region.cycles for region in regions),
            )
            for regions in found
        ]


def names() -> tuple[str, ...]:
    """All known boards."""
    files = resources.files("offramp.compiler.boards").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def get(name: str) -> Board:
    """The board called `name`.

    Raises:
        UserError: there is no such board.
        InternalError: its description is at odds with itself or with the targets.
    """
    if name not in names():
        raise UserError(f"unknown board {name!r}: expected one of {', '.join(names())}")
    text = resources.files("offramp.compiler.boards").joinpath(f"{name}.toml").read_text()
    return parse(name, text)


def parse(name: str, text: str) -> Board:
    """The board that a TOML document describes.

    Raises:
        InternalError: the description is at odds with itself or with the targets.
    """
    data = tomllib.loads(text)
    memories = tuple(Region(**memory) for memory in data.pop("memories"))
    reserve, sources = Reserve(**data.pop("reserve")), tuple(data.pop("sources"))
    board = Board(name=name, memories=memories, reserve=reserve, sources=sources, **data)
    _check(board)
    return board


def _check(board: Board) -> None:
    """The target exists, roles are known, memories lie apart, and there are flash and RAM."""
    if board.target not in targets.names():
        raise InternalError(f"board {board.name!r} has the unknown target {board.target!r}")
    for memory in board.memories:
        if memory.role not in ROLES:
            raise InternalError(
                f"board {board.name!r}: memory {memory.name!r} has the role {memory.role!r}, "
                f"expected one of {', '.join(ROLES)}"
            )
        if memory.cycles < 1:
            raise InternalError(
                f"board {board.name!r}: memory {memory.name!r} takes {memory.cycles} cycles, "
                "expected at least 1"
            )
    for role in ("flash", "ram"):
        if not board.spans(role):
            raise InternalError(f"board {board.name!r} has no memory with the role {role!r}")
    ordered = sorted(board.memories, key=lambda memory: memory.origin)
    for low, high in pairwise(ordered):
        if low.origin + low.bytes > high.origin:
            raise InternalError(
                f"board {board.name!r}: memories {low.name!r} and {high.name!r} overlap"
            )

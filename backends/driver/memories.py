"""The arrays of a driver: its arena, or one arena for each memory, and copies of weights."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.backends.driver.constants import Constants
from offramp.backends.driver.interface import Interface
from offramp.compiler.plan import Plan, equal_constants


@dataclass(frozen=True)
class ArenaArray:
    """One arena in C.

    variable: its name in the context. macro: what its macros begin with. memory: where it is meant
    to lie; empty if anywhere. start: the offset in the plan of its first byte. bytes: its size.
    """

    variable: str
    macro: str
    memory: str
    start: int
    bytes: int


@dataclass(frozen=True)
class CopiedWeights:
    """An array for copies of weights.

    copies: (offset, C expression of the stored weights, bytes) of each.
    """

    variable: str
    macro: str
    memory: str
    bytes: int
    copies: tuple[tuple[int, str, int], ...]


@dataclass(frozen=True)
class StaticArrays:
    """All of them."""

    arenas: tuple[ArenaArray, ...]
    copied: tuple[CopiedWeights, ...]


def static_arrays(plan: Plan, interface: Interface, constants: Constants) -> StaticArrays:
    """The arrays of a plan with addresses.

    The first arena is called `arena`, whatever its memory. Constants that are copied get the
    address of their copy.
    """
    copied = _copied_weights(plan, interface, constants)
    if not plan.memory.arenas:
        return StaticArrays((ArenaArray("arena", "ARENA", "", 0, interface.arena),), copied)
    found: list[ArenaArray] = []
    for arena, part in zip(plan.memory.arenas, interface.parts, strict=False):
        suffix = f"_{part.identifier}" if found else ""
        names = (f"arena{suffix}", f"ARENA{suffix.upper()}")
        found.append(ArenaArray(*names, arena.memory, arena.start, part.arena))
    return StaticArrays(tuple(found), copied)


def _copied_weights(
    plan: Plan, interface: Interface, constants: Constants
) -> tuple[CopiedWeights, ...]:
    found: list[CopiedWeights] = []
    for part in interface.parts:
        variable, macro = f"weights_{part.identifier}", f"WEIGHTS_{part.identifier.upper()}"
        copies: list[tuple[int, str, int]] = []
        end = 0
        for equal in equal_constants(plan):
            if plan.memory.copied.get(equal[0].name) != part.memory:
                continue
            copies.append((end, constants.address[equal[0].name], equal[0].nbytes))
            constants.address |= {buffer.name: f"{variable} + {end}" for buffer in equal}
            end += -(-equal[0].nbytes // interface.alignment) * interface.alignment
        if copies:
            found.append(CopiedWeights(variable, macro, part.memory, end, tuple(copies)))
    return tuple(found)

"""How far a network is computed band by band, and in how many bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from offramp.compiler.ir import Program
from offramp.compiler.ir.costs import block_cost
from offramp.passes.patches.estimate import bytes_in_use
from offramp.passes.patches.insert import InsertPatches
from offramp.passes.patches.rows import rows_of
from offramp.passes.patches.stage import stages

BANDS = (2, 3, 4, 6, 8, 12, 16)
"""Numbers of bands that are tried."""
MOST_PLANNED = 8
"""Choices whose arena is planned: those that seem to need the least."""


@dataclass(frozen=True)
class _Candidate:
    """Bands within the budget, and about how many bytes they leave in use at a time."""

    program: Program
    end: str
    bands: int
    macs: float
    bytes: int


@dataclass(frozen=True)
class Choice:
    """A network computed in bands up to a tensor, and what that costs.

    end, bands: as in `InsertPatches`. macs: multiply-accumulates of the entry block, relative to
    those before, less one. arena, arena_before: bytes.
    """

    program: Program
    end: str
    bands: int
    macs: float
    arena: int
    arena_before: int


def choose_patches(
    program: Program,
    most_macs: float,
    arena: Callable[[Program], int],
    progress: Callable[[float], None] = lambda fraction: None,
) -> Choice | None:
    """The bands with which the arena is smallest; None if none makes it smaller.

    Many choices are compared by the bytes of their tensors, in order of computation; the best of
    them are planned. Deterministic.

    Args:
        program: verified; bands go into its entry block.
        most_macs: by which part the multiply-accumulates of the entry block may grow.
        arena: plans a program's memory: bytes of its arena.
        progress: is told which part of the work is done.
    """
    before = arena(program)
    possible = sorted(_possible(program, most_macs), key=lambda c: (c.bytes, c.macs, c.bands))
    planned: list[Choice] = []
    for number, c in enumerate(possible[:MOST_PLANNED]):
        progress(number / min(len(possible), MOST_PLANNED))
        planned.append(Choice(c.program, c.end, c.bands, c.macs, arena(c.program), before))
    best = min(planned, key=lambda c: (c.arena, c.macs, c.bands), default=None)
    return best if best is not None and best.arena < before else None


def _possible(program: Program, most_macs: float) -> Iterator[_Candidate]:
    before, whole = block_cost(program.entry).macs, bytes_in_use(program.entry.graph)
    for stage in stages(program):
        for bands in BANDS:
            if bands > rows_of(stage.end):
                break
            end = str(stage.end.name)
            cut = InsertPatches(end, bands)(program)
            macs = block_cost(cut.entry).macs / before - 1 if before else 0.0
            if macs > most_macs:
                break
            needed = bytes_in_use(cut.entry.graph)
            if needed < whole:
                yield _Candidate(cut, end, bands, macs, needed)

"""Which memory each buffer lies in, so that loads and stores take the fewest cycles.

The master problem of a logic-based Benders decomposition (Hooker and Ottosson, "Logic-based Benders
decomposition", 2003), for CP-SAT: at no step are more bytes in use in a memory than it has. Offsets
are another's problem; where it needs more bytes than that, a cut tells this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from offramp.compiler.boards import Span

EFFORT = 10.0
"""Deterministic seconds of CP-SAT, after which it stops: the same on every machine."""
WORD = 4
"""Bytes that a memory's cycles are for."""


@dataclass(frozen=True)
class Resident:
    """Bytes that want a place.

    size: bytes. traffic: bytes that an inference loads and stores, on average. live: steps at which
    the bytes are in use, as a bit mask; None for weights, which are in use always and may as well
    stay where they are stored.
    """

    name: str
    size: int
    traffic: float
    live: int | None = None


@dataclass(frozen=True)
class Cut:
    """In `memory`, the residents `names` need `size` bytes together; proven, or as far as known."""

    memory: str
    names: frozenset[str]
    size: int
    is_proven: bool


@dataclass(frozen=True)
class Assignment:
    """memory: of every resident, by name; weights that stay in flash are left out.

    cycles: of all loads and stores. lower_bound: what no assignment can undercut that the cuts
    allow.
    """

    memory: dict[str, str]
    cycles: float
    lower_bound: float


def assign(
    residents: Sequence[Resident], memories: Sequence[Span], flash: Span, cuts: Sequence[Cut]
) -> Assignment | None:
    """The cheapest assignment, or the best that was found; None if there is none.

    Deterministic.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    lies = {
        (resident.name, memory.name): model.new_bool_var("")
        for resident in residents
        for memory in memories
    }
    for resident in residents:
        places = [lies[resident.name, memory.name] for memory in memories]
        (model.add_exactly_one if resident.live is not None else model.add_at_most_one)(places)
    for memory in memories:
        for together in _in_use_together(residents):
            used = sum(r.size * lies[r.name, memory.name] for r in together)
            model.add(used <= memory.bytes)
    weights = [resident for resident in residents if resident.live is None]
    by_name = {memory.name: memory for memory in memories}
    for cut in cuts:
        copied = sum(w.size * lies[w.name, cut.memory] for w in weights)
        missing = len(cut.names) - sum(lies[name, cut.memory] for name in cut.names)
        room = by_name[cut.memory].bytes - cut.size
        model.add(copied <= room + (cut.size + by_name[cut.memory].bytes) * missing)
    saved = sum(
        round(resident.traffic) * (flash.cycles - memory.cycles) * lies[resident.name, memory.name]
        for resident in residents
        for memory in memories
    )
    model.maximize(saved)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2  # capacities as linear constraints: knapsacks
    solver.parameters.max_deterministic_time = EFFORT
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    in_flash = sum(round(resident.traffic) for resident in residents) * flash.cycles
    return Assignment(
        {name: memory for (name, memory), place in lies.items() if solver.value(place)},
        (in_flash - round(solver.objective_value)) / WORD,
        (in_flash - round(solver.best_objective_bound)) / WORD,
    )


def _in_use_together(residents: Iterable[Resident]) -> list[list[Resident]]:
    """The maximal sets of residents that are in use at one step."""
    buffers = [resident for resident in residents if resident.live is not None]
    weights = [resident for resident in residents if resident.live is None]
    steps = max((r.live.bit_length() for r in buffers if r.live is not None), default=0)
    masks = {
        sum(1 << i for i, r in enumerate(buffers) if r.live is not None and r.live >> step & 1)
        for step in range(steps)
    }
    maximal = [m for m in masks if not any(m != other and m & other == m for other in masks)]
    sets = [[r for i, r in enumerate(buffers) if mask >> i & 1] for mask in sorted(maximal)]
    return [[*together, *weights] for together in sets or [[]]]

"""The arena of a plan, cut into parts for the memories of a board, and copies of weights beside it.

A microcontroller has memories of several sizes and speeds. Buffers that are accessed most should
lie in the fastest; which ones that are depends on how often samples reach the blocks that use them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

from offramp.compiler import targets
from offramp.compiler.boards import Board, Span
from offramp.compiler.plan import Access, Arena, MemoryPlan, Plan, equal_constants
from offramp.passes.memory.access import expected_traffic
from offramp.passes.memory.assign import WORD, Assignment, Cut, Resident, assign
from offramp.passes.memory.exact import exact
from offramp.passes.memory.plan import as_problem, offsets_by_name
from offramp.passes.memory.problem import Problem, check_placement, peak
from offramp.passes.memory.sharing import share
from offramp.passes.memory.validate import check_memory

MOST_ROUNDS = 20
"""Assignments that are tried before the arena stays one array."""


def spread(
    plan: Plan, board: Board, reach: Mapping[str, float], *, copy_weights: bool = False
) -> Plan:
    """`plan` with its arena spread over the memories of a board.

    Args:
        plan: its memory is planned, as one array; the order of its calls stays.
        board: of the plan's target.
        reach: probability that a sample reaches each block, by its name.
        copy_weights: whether weights may be read from a copy in RAM.

    Returns:
        The plan as it was if no choice of memories holds all buffers: its arena may still fit
        memories that adjoin.
    """
    began = perf_counter()
    memory = _Spreading(plan, board, expected_traffic(plan, reach), copy_weights).run()
    if memory is None:
        return plan
    seconds = plan.memory.seconds + perf_counter() - began
    planned = replace(plan, memory=replace(memory, seconds=seconds))
    check_memory(planned)
    return planned


@dataclass(frozen=True)
class _Packed:
    """Offsets of the items of one memory, from its own start."""

    memory: Span
    offsets: dict[str, int]
    bytes: int
    is_least: bool


class _Spreading:
    """Assigns, places, and learns from what does not fit."""

    def __init__(
        self, plan: Plan, board: Board, traffic: Mapping[str, float], copy_weights: bool
    ) -> None:
        self._plan = plan
        self._groups = share(plan)
        self._problem = as_problem(plan, self._groups)
        self._memories, self._flash = board.usable(), board.banks("flash")[0]
        self._weights = {equal[0].name: equal for equal in equal_constants(plan)}
        self._least = targets.get(plan.target).alignment
        self._alignment = math.lcm(self._least, *(i.alignment for i in self._problem.items))
        weights = self._weight_residents(traffic)
        self._residents = self._buffer_residents(traffic) + (weights if copy_weights else [])
        stored = [] if copy_weights else weights
        self._stored_cycles = sum(w.traffic for w in stored) * self._flash.cycles / WORD

    def run(self) -> MemoryPlan | None:
        """The plan for all memories; None if no assignment was found that can be placed."""
        cuts: list[Cut] = []
        bound = 0.0
        for _ in range(MOST_ROUNDS):
            found = assign(self._residents, self._memories, self._flash, cuts)
            if found is None:
                return None
            if all(cut.is_proven for cut in cuts):
                bound = found.lower_bound
            packed = [self._pack(memory, found) for memory in self._memories]
            further = [cut for p in packed if (cut := self._cut(p, found)) is not None]
            if not further:
                return self._memory_plan(packed, found, bound)
            cuts += further
        return None

    def _pack(self, memory: Span, found: Assignment) -> _Packed:
        items = tuple(i for i in self._problem.items if found.memory[i.name] == memory.name)
        problem = Problem(items)
        offsets = exact(problem) if items else {}
        check_placement(problem, offsets)
        size = peak(problem, offsets)
        return _Packed(memory, offsets, size, size == problem.lower_bound)

    def _cut(self, packed: _Packed, found: Assignment) -> Cut | None:
        """What to tell the next assignment, if this one does not fit."""
        memory = packed.memory
        copied = sum(
            resident.size
            for resident in self._residents
            if resident.live is None and found.memory.get(resident.name) == memory.name
        )
        if packed.bytes + copied <= memory.bytes:
            return None
        return Cut(memory.name, frozenset(packed.offsets), packed.bytes, packed.is_least)

    def _memory_plan(self, packed: list[_Packed], found: Assignment, bound: float) -> MemoryPlan:
        """Arenas lie one behind another; those without bytes are left out."""
        placed: dict[str, int] = {}
        arenas: list[Arena] = []
        end = 0
        for part in packed:
            start = -(-end // self._alignment) * self._alignment if part.bytes else end
            placed |= {name: start + offset for name, offset in part.offsets.items()}
            if part.bytes:
                arenas.append(Arena(part.memory.name, start, part.bytes))
                end = start + part.bytes
        cycles, lowest = (c + self._stored_cycles for c in (found.cycles, bound))
        least = self._problem.lower_bound
        return MemoryPlan(
            offsets=offsets_by_name(self._plan, self._groups, placed),
            peak=end,
            lower_bound=least,
            status="optimal" if end == least else "feasible",
            seconds=0.0,
            arenas=tuple(arenas),
            copied={
                buffer.name: memory
                for name, memory in found.memory.items()
                for buffer in self._weights.get(name, ())
            },
            access=Access(cycles, lowest, "optimal" if cycles == lowest else "feasible"),
        )

    def _buffer_residents(self, traffic: Mapping[str, float]) -> list[Resident]:
        members = self._groups.members()
        return [
            Resident(
                item.name,
                item.size,
                sum(traffic.get(name, 0.0) for name in members.get(item.name, (item.name,))),
                item.live,
            )
            for item in self._problem.items
        ]

    def _weight_residents(self, traffic: Mapping[str, float]) -> list[Resident]:
        return [
            Resident(
                name,
                -(-equal[0].nbytes // self._least) * self._least,
                sum(traffic.get(buffer.name, 0.0) for buffer in equal),
            )
            for name, equal in self._weights.items()
        ]

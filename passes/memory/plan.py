"""From a Plan without addresses to one with them, checked."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np

from offramp.compiler import targets
from offramp.compiler.plan import MemoryPlan, Plan
from offramp.passes.memory.exact import exact
from offramp.passes.memory.liveness import (
    arena_root,
    first_steps,
    place_in_root,
    workspace_name,
)
from offramp.passes.memory.problem import Item, Planner, Problem, check_placement, peak
from offramp.passes.memory.reorder import reorder
from offramp.passes.memory.sharing import Groups, share
from offramp.passes.memory.validate import check_memory


def plan_memory(plan: Plan, planner: Planner = exact) -> Plan:
    """`plan` with every arena buffer and workspace at an offset of one arena.

    The calls of each block are put into the order that needs the least memory (`reorder`), if that
    makes the arena smaller. Views lie on what they view; outputs of kernels that work in place lie
    on the input that dies there; arguments of a join lie on its parameter where nothing forbids it.
    `status` is "optimal" if the arena is no larger than the peak of live bytes in this order.

    Raises:
        InternalError: the plan reads what nothing writes, or the planner's answer is invalid.
    """
    began = perf_counter()
    reordered = reorder(plan)
    planned = _place(reordered, planner)
    if reordered is not plan:  # gaps, and sharing between blocks, are not in the peak of an order
        planned = min(_place(plan, planner), planned, key=lambda plan: plan.memory.peak)
    memory = replace(planned.memory, seconds=perf_counter() - began)
    return replace(planned, memory=memory)


def _place(plan: Plan, planner: Planner) -> Plan:
    """Addresses for the calls in the order in which they are."""
    groups = share(plan)
    problem = as_problem(plan, groups)
    placed = planner(problem)
    check_placement(problem, placed)
    size, bound = peak(problem, placed), problem.lower_bound
    memory = MemoryPlan(
        offsets=offsets_by_name(plan, groups, placed),
        peak=size,
        lower_bound=bound,
        status="optimal" if size == bound else "feasible",
        seconds=0.0,
    )
    planned = replace(plan, memory=memory)
    check_memory(planned)
    return planned


def as_problem(plan: Plan, groups: Groups) -> Problem:
    """One item per group of buffers, named after its leader, and one per workspace."""
    least = targets.get(plan.target).alignment
    items = [
        Item(
            leader,
            max(plan.buffers[name].nbytes for name in names),
            max(least, *(np.dtype(plan.buffers[name].dtype).itemsize for name in names)),
            groups.live[leader],
        )
        for leader, names in groups.members().items()
        if groups.live[leader]
    ]
    first = first_steps(plan)
    items += [
        Item(workspace_name(block, index), call.workspace, least, 1 << (first[block.name] + index))
        for block in plan.blocks
        for index, call in enumerate(block.calls)
        if call.workspace
    ]
    return Problem(tuple(items))


def offsets_by_name(plan: Plan, groups: Groups, placed: dict[str, int]) -> dict[str, int]:
    """Offsets of every arena buffer that is in use, views included, and of every workspace."""
    offsets = {name: offset for name, offset in placed.items() if name not in plan.buffers}
    for name in plan.buffers:
        base = arena_root(plan, name)
        leader = None if base is None else groups.find(base)
        if leader in placed:
            offsets[name] = placed[leader] + place_in_root(plan, name)
    return offsets

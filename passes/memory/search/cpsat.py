"""The same question for CP-SAT: rectangles of time and bytes that do not overlap.

Beside the search it proves infeasibility, and it solves narrow instances with few, large buffers.
"""

from __future__ import annotations

from typing import Any

from offramp.passes.memory.search.component import Component


def place(
    component: Component, capacity: int, seed: int, seconds: float, effort: float | None = None
) -> tuple[str, dict[str, int]]:
    """Fit a component into `capacity` units, on one thread.

    seconds: limit on wall time. effort: limit in CP-SAT's deterministic seconds, or None.

    Returns:
        "solved" with offsets in bytes by id; "failed", proven; or "stopped" at a limit.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    starts = _rectangles(model, component, capacity)
    _break_symmetry(model, component, starts, capacity)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed % 2**31
    solver.parameters.max_time_in_seconds = max(seconds, 0.01)
    if effort is not None:
        solver.parameters.max_deterministic_time = effort
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return "failed", {}
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return "stopped", {}
    units = [solver.value(start) for start in starts]
    buffers = component.buffers
    return "solved", {b.id: component.unit * u for b, u in zip(buffers, units, strict=True)}


def _rectangles(model: Any, component: Component, capacity: int) -> list[Any]:
    """One rectangle per buffer: sections by units."""
    starts: list[Any] = []
    times: list[Any] = []
    places: list[Any] = []
    sizes = component.sizes.tolist()
    for (first, last), size in zip(component.spans.tolist(), sizes, strict=True):
        start = model.new_int_var(0, capacity - size, "")
        starts.append(start)
        times.append(model.new_fixed_size_interval_var(first, last - first, ""))
        places.append(model.new_fixed_size_interval_var(start, size, ""))
    model.add_no_overlap_2d(times, places)
    return starts


def _break_symmetry(model: Any, component: Component, starts: list[Any], capacity: int) -> None:
    """Identical buffers lie in order; the largest other one in the lower half (or flip it all)."""
    sizes = component.sizes.tolist()
    alone = set(range(len(sizes)))
    for later, earlier in enumerate(component.twins):
        if earlier >= 0:
            model.add(starts[earlier] + sizes[earlier] <= starts[later])
            alone -= {earlier, later}
    if alone:
        largest = max(alone, key=lambda b: sizes[b])
        model.add(2 * starts[largest] <= capacity - sizes[largest])

"""The front of the exact search: fit an instance into a capacity, or make its peak small.

With a capacity the first placement within it is the answer. Without one, the peak is minimised from
both ends: the lower bound is tried first, since most instances reach it; a proof that a capacity
cannot be met raises the bound, a placement lowers the peak, and what neither succeeds within its
budget is tried again with twice as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from offramp.compiler.errors import UserError
from offramp.passes.memory.search.check import check_offsets
from offramp.passes.memory.search.instance import LARGEST, Clique, Instance


@dataclass(frozen=True)
class Solution:
    """A checked placement, or why there is none.

    offsets: bytes by id; empty without a placement, and then peak is None.
    lower_bound: bytes that no placement undercuts, proven.
    status: "optimal" if peak and bound are equal, else "feasible"; "infeasible", proven, or
        "unknown" when the time was over.
    seconds: CPU time of the search, start-up and compilation apart.
    clique: buffers in use at a time that prove the bound on their own; None where more than
        addition proved it, or there is nothing to place.
    """

    offsets: dict[str, int]
    peak: int | None
    lower_bound: int
    status: str
    seconds: float
    clique: Clique | None = None

    @property
    def gap(self) -> float:
        """How far the peak is above the bound, relative to the bound; 0 without a placement."""
        return self.peak / self.lower_bound - 1 if self.peak and self.lower_bound else 0.0


def solve(
    instance: Instance,
    capacity: int | None = None,
    *,
    seed: int = 0,
    timeout: float = 30.0,
    note: Callable[[str], None] = lambda _: None,
    most_states: int | None = None,
) -> Solution:
    """Place an instance; the same seed gives the same answer unless the time ends the search.

    capacity: bytes. timeout: seconds of wall time, may be infinite. note: is told now and then how
    far the search has come. most_states: the search gives up after a round of so many states, which
    unlike the time is the same on every machine.

    Raises:
        UserError: sizes so different that their sum exceeds 2**60 units.
    """
    heaviest = instance.heaviest
    if heaviest is None:
        return Solution({b.id: 0 for b in instance.buffers}, 0, 0, "optimal", 0.0)
    bound = heaviest.size
    if capacity is not None and capacity < bound:
        return Solution({}, None, bound, "infeasible", 0.0, heaviest)
    _check_range(instance)
    from offramp.passes.memory.search.arena import Arena, warm_up

    warm_up()
    began = time.process_time()
    arena = Arena(instance, seed, timeout, note, most_states)
    bound, status = arena.minimise() if capacity is None else arena.fit(capacity)
    seconds = time.process_time() - began
    clique = heaviest if bound == heaviest.size else None
    if not arena.offsets:
        return Solution({}, None, bound, status, seconds, clique)
    offsets = arena.offsets | {b.id: 0 for b in instance.buffers if not b.size}
    check_offsets(instance, offsets, capacity)
    peak = instance.peak(offsets)
    status = "optimal" if peak == bound else "feasible"
    return Solution(offsets, peak, bound, status, seconds, clique)


def _check_range(instance: Instance) -> None:
    total = sum(buffer.size for buffer in instance.buffers) // instance.unit
    if total > LARGEST >> 3:
        raise UserError(
            f"the sizes add up to {total} times their greatest common divisor of {instance.unit} "
            f"bytes; the search counts up to {LARGEST >> 3}"
        )

"""All components of an instance in one arena: rounds of growing effort, search beside CP-SAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property

from offramp.passes.memory.search import cpsat
from offramp.passes.memory.search.component import Component, components
from offramp.passes.memory.search.instance import LARGEST, Buffer, Instance
from offramp.passes.memory.search.kernel import FAILED, SOLVED, STOPPED
from offramp.passes.memory.search.merge import Merged, merge
from offramp.passes.memory.search.portfolio import Deadline, Portfolio

FIRST_EFFORT = 20_000
"""States that a component may cost in the first round; twice as many in each further one."""
EFFORT_WITH_CPSAT = 320_000
"""From this effort on, about two seconds, CP-SAT is asked as well."""
STATES_PER_SECOND = 160_000
"""How CP-SAT's share compares: as much time as the search takes, about."""
DEEP = 1000
"""Components of more buffers are placed without a limit first: the search may not get through."""


@cache
def warm_up() -> None:
    """Compile the search, or load it from the cache; the first time this takes a minute."""
    buffers = (Buffer("a", 0, 2, 1), Buffer("b", 1, 3, 1))
    (component,) = components(Instance(buffers))
    portfolio = Portfolio(component, 0, Deadline(1.0))
    portfolio.decide(2, 1)
    portfolio.rough()


class Part:
    """One component with the best placement found so far.

    offsets: bytes by id, empty before there is a placement. peak: its size in units.
    bound: units that no placement undercuts.
    """

    def __init__(self, component: Component, seed: int, deadline: Deadline) -> None:
        self.component = component
        self.offsets: dict[str, int] = {}
        self.peak = LARGEST
        self.bound = int(component.totals.max())
        self._seed, self._deadline = seed, deadline

    @cached_property
    def _search(self) -> Portfolio:
        return Portfolio(self.component, self._seed, self._deadline)

    @cached_property
    def _merged(self) -> Merged:
        return merge(self.component)

    @cached_property
    def _search_merged(self) -> Portfolio:
        return Portfolio(self._merged.component, self._seed, self._deadline)

    def place_roughly(self) -> None:
        """Some placement, quickly."""
        self._accept(self._search.rough())

    def decide(self, capacity: int, effort: int) -> int:
        """Whether the component fits into `capacity` units, with what is known already."""
        if not self.offsets and len(self.component.buffers) > DEEP:
            self.place_roughly()
        if self.peak <= capacity:
            return SOLVED
        if capacity < self.bound:
            return FAILED
        if capacity == int(self.component.totals.max()):
            result, offsets = self._decide_merged(effort)
        else:
            result, offsets = self._ask(self._search, capacity, effort)
        if result == SOLVED:
            self._accept(offsets)
        elif result == FAILED:
            self.bound = capacity + 1
        return result

    def _decide_merged(self, effort: int) -> tuple[int, dict[str, int]]:
        """Whether it fits into its heaviest section; what lies together then is merged first."""
        heaviest = int(self._merged.component.totals.max())
        result, offsets = self._ask(self._search_merged, heaviest, effort)
        return result, self._merged.expand(offsets)

    def _ask(self, portfolio: Portfolio, capacity: int, effort: int) -> tuple[int, dict[str, int]]:
        """The search, and CP-SAT once that has taken long; offsets in bytes if SOLVED."""
        result = portfolio.decide(capacity, effort)
        if result == SOLVED:
            return result, portfolio.searcher.offsets()
        if result == FAILED or effort < EFFORT_WITH_CPSAT or self._deadline.left <= 0:
            return result, {}
        answer, offsets = cpsat.place(
            portfolio.component,
            capacity,
            self._seed,
            self._deadline.left,
            effort / STATES_PER_SECOND,
        )
        return {"solved": SOLVED, "failed": FAILED, "stopped": STOPPED}[answer], offsets

    def _accept(self, offsets: dict[str, int]) -> None:
        self.peak, self.offsets = self.component.peak(offsets), offsets


class Arena:
    """All parts of an instance. `offsets`: bytes by id, empty until every part has a place."""

    def __init__(
        self,
        instance: Instance,
        seed: int,
        timeout: float,
        note: Callable[[str], None],
        most_states: int | None = None,
    ) -> None:
        self._deadline = Deadline(timeout)
        self._most_states = most_states
        self._unit = instance.unit
        self._note = note
        self.parts = [Part(c, seed, self._deadline) for c in components(instance)]
        self.offsets: dict[str, int] = {}

    @property
    def bound(self) -> int:
        """Units that no placement undercuts."""
        return max(part.bound for part in self.parts)

    @property
    def peak(self) -> int:
        """Units that the best placement so far needs."""
        return max(part.peak for part in self.parts)

    def fit(self, capacity: int) -> tuple[int, str]:
        """Search until all parts fit into `capacity` bytes; the bound in bytes, and a status."""
        units, result = capacity // self._unit, STOPPED
        for effort in self._efforts():
            self._note(f"fitting into {capacity:,} bytes, {effort:,} states at a time")
            result = self._decide(units, effort)
            if result != STOPPED:
                break
        if result == SOLVED:
            self._collect()
        status = {SOLVED: "feasible", FAILED: "infeasible", STOPPED: "unknown"}[result]
        return self.bound * self._unit, status

    def minimise(self) -> tuple[int, str]:
        """Search from both ends until bound and peak meet; the bound in bytes, and a status."""
        for part in self.parts:
            part.place_roughly()
        for effort in self._efforts():
            if self.bound == self.peak:
                break
            self._decide(self.bound, effort)
            self._descend(effort)
        self._collect()
        return self.bound * self._unit, "feasible"

    def _efforts(self) -> Iterator[int]:
        """States per component and round, until a limit is reached."""
        effort = FIRST_EFFORT
        while self._deadline.left > 0 and effort <= (self._most_states or effort):
            yield effort
            effort *= 2

    def _descend(self, effort: int) -> None:
        """Halve what lies between bound and peak as long as that works, then aim less far."""
        target = (self.bound + self.peak) // 2
        while self.bound < self.peak and self._deadline.left > 0:
            target = max(target, self.bound)
            unit = self._unit
            self._note(
                f"peak {self.peak * unit:,}, bound {self.bound * unit:,}; trying {target * unit:,}"
            )
            if self._decide(target, effort) != STOPPED:
                target = (self.bound + self.peak) // 2
            elif target == self.peak - 1:
                return
            else:
                target = (target + self.peak) // 2

    def _decide(self, capacity: int, effort: int) -> int:
        """SOLVED if all parts fit, FAILED if one cannot; every part that fits is kept."""
        results: list[int] = []
        for part in self.parts:
            results.append(part.decide(capacity, effort))
            if results[-1] == FAILED:
                return FAILED
        return STOPPED if STOPPED in results else SOLVED

    def _collect(self) -> None:
        self.offsets = {k: v for part in self.parts for k, v in part.offsets.items()}

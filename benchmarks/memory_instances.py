"""Hard public placement instances at 1 MiB, five seeds each, beside CP-SAT and greedy placement.

Every placement is checked by a sweep that shares nothing with the search. Times are CPU seconds of
one process, start-up and compilation apart. CP-SAT gets the same model that offramp falls back to
(NoOverlap2D, symmetries broken), on one thread. Writes a section of docs/results/memory.md.

    .venv/bin/python benchmarks/memory_instances.py [--limit SECONDS]
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from exits_common import RESULTS, SHARED, table, write_section

from offramp.passes.memory.greedy import greedy_by_size
from offramp.passes.memory.problem import Item, Problem, check_placement, peak
from offramp.passes.memory.search import Instance, Solution, cpsat, solve
from offramp.passes.memory.search.check import check_offsets
from offramp.passes.memory.search.component import components
from offramp.passes.memory.search.read import read_csv

CAPACITY = 1_048_576
SEEDS = range(5)
HEAD = (
    "instance", "buffers", "lower bound", "peak", "status", "median s", "max s",
    "CP-SAT alone, s", "greedy peak", "without capacity",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What was measured on one instance; `cpsat` is None where it found nothing in time."""

    name: str
    instance: Instance
    solutions: list[Solution]
    cpsat: float | None
    greedy: int
    lowest: Solution

    @property
    def seconds(self) -> list[float]:
        """By seed."""
        return [solution.seconds for solution in self.solutions]

    def cells(self) -> list[str]:
        """One row of the table."""
        peaks = [s.peak for s in self.solutions if s.peak is not None]
        failed = len(self.solutions) - len(peaks)
        lowest = self.lowest
        return [
            self.name,
            str(len(self.instance.buffers)),
            f"{self.instance.lower_bound:,}",
            f"{max(peaks):,}" + (f" ({failed} seeds without)" if failed else ""),
            ", ".join(sorted({s.status for s in self.solutions})),
            f"**{median(self.seconds):.3f}**",
            f"{max(self.seconds):.3f}",
            "-" if self.cpsat is None else f"{self.cpsat:.1f}",
            f"{self.greedy:,}",
            f"{lowest.peak:,} {lowest.status}, {lowest.seconds:.2f} s",
        ]


def measure(path: Path, limit: float) -> Row:
    """All seeds, then the peers."""
    instance = read_csv(path)
    solutions = [solve(instance, CAPACITY, seed=seed) for seed in SEEDS]
    for solution in solutions:
        check_offsets(instance, solution.offsets, CAPACITY)
    row = Row(
        path.name.split(".")[0],
        instance,
        solutions,
        cpsat_alone(instance, limit),
        greedy_peak(instance),
        solve(instance, timeout=limit),
    )
    print(*row.cells(), sep="  ", flush=True)
    return row


def cpsat_alone(instance: Instance, limit: float) -> float | None:
    """CPU seconds until CP-SAT has placed the instance, or None."""
    began = time.process_time()
    offsets: dict[str, int] = {b.id: 0 for b in instance.buffers if not b.size}
    for component in components(instance):
        answer, found = cpsat.place(component, CAPACITY // component.unit, 0, limit)
        if answer != "solved":
            return None
        offsets |= found
    seconds = time.process_time() - began
    check_offsets(instance, offsets, CAPACITY)
    return seconds


def greedy_peak(instance: Instance) -> int:
    """The peak of greedy placement by size, the compiler's first answer."""
    times = sorted({time for b in instance.buffers for time in (b.lower, b.upper)})
    rank = {time: position for position, time in enumerate(times)}
    items = [
        Item(b.id, b.size, 1, (1 << rank[b.upper]) - (1 << rank[b.lower])) for b in instance.buffers
    ]
    problem = Problem(tuple(items))
    offsets = greedy_by_size(problem)
    check_placement(problem, offsets)
    return peak(problem, offsets)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for peers (20)")
    limit = parser.parse_args().limit
    paths = sorted((SHARED / "data" / "memory").glob("*.csv"))
    solve(read_csv(paths[0]), CAPACITY)  # compiles, or loads what was compiled
    rows = [measure(path, limit) for path in paths]
    total = sum(median(row.seconds) for row in rows)
    body = f"""
`python benchmarks/memory_instances.py` ({platform.machine()}, one thread): the public instances at
{CAPACITY:,} bytes on seeds {SEEDS.start} to {SEEDS.stop - 1}; CPU seconds, start-up and compilation
apart. Together **{total:.2f} s** (sum of medians). Every placement is validated. The peers get
{limit:g} s: CP-SAT's NoOverlap2D on one thread at the same capacity, and greedy placement by size.
The last column minimises the peak instead, within {limit:g} s.

{table(HEAD, [row.cells() for row in rows])}
"""
    write_section(RESULTS / "memory.md", "Public instances", body)
    print(body)


if __name__ == "__main__":
    main()

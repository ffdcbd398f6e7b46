"""Generated placement instances of 300 to 1,000 buffers at 1 MiB, five seeds each.

They are cut from packed rectangles (memory_packings.py), so all can be placed; `dense` is the part
of maximal cliques that leave no more than 1 % of the capacity free. Every placement is checked by a
sweep that shares nothing with the search. Times are CPU seconds of one process, start-up and
compilation apart. Writes a section of docs/results/memory.md.

    .venv/bin/python benchmarks/memory_generated.py [--limit SECONDS]
"""

from __future__ import annotations

import argparse
import platform
from statistics import median

from exits_common import RESULTS, table, write_section
from memory_instances import CAPACITY, SEEDS, cpsat_alone, greedy_peak
from memory_packings import KINDS, packing

from offramp.passes.memory.search import Instance, Solution, solve
from offramp.passes.memory.search.check import check_offsets

COUNTS = (300, 500, 750, 1000)
HEAD = (
    "kind", "buffers", "cliques", "dense", "placed", "median s", "max s", "CP-SAT alone, s",
    "greedy peak",
)  # fmt: skip


def measure(kind: str, count: int, limit: float) -> tuple[list[str], list[Solution]]:
    """One row of the table, and the answers by seed."""
    instance = packing(kind, count, seed=0)
    solutions = [solve(instance, CAPACITY, seed=seed, timeout=limit) for seed in SEEDS]
    for solution in solutions:
        if solution.offsets:
            check_offsets(instance, solution.offsets, CAPACITY)
    seconds = [solution.seconds for solution in solutions]
    alone = cpsat_alone(instance, limit)
    placed = sum(solution.peak is not None for solution in solutions)
    row = [
        kind,
        str(len(instance.buffers)),
        str(len(instance.cliques)),
        f"{_dense(instance):.0%}",
        f"{placed} of {len(solutions)}",
        f"**{median(seconds):.3f}**" if 2 * placed > len(solutions) else "-",
        f"{max(seconds):.3f}" if placed == len(solutions) else "-",
        "-" if alone is None else f"{alone:.1f}",
        f"{greedy_peak(instance):,}",
    ]
    print(*row, sep="  ", flush=True)
    return row, solutions


def _dense(instance: Instance) -> float:
    tight = [clique.size >= 0.99 * CAPACITY for clique in instance.cliques]
    return sum(tight) / len(tight)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds an attempt (10)")
    limit = parser.parse_args().limit
    solve(packing("cut", 10, 0), CAPACITY)  # compiles, or loads what was compiled
    measured = [measure(kind, count, limit) for kind in KINDS for count in COUNTS]
    placed = [s for _, solutions in measured for s in solutions if s.peak is not None]
    body = f"""
`python benchmarks/memory_generated.py` ({platform.machine()}, one thread): instances cut from
packed rectangles, so that all fit into {CAPACITY:,} bytes, on seeds {SEEDS.start} to
{SEEDS.stop - 1}, with {limit:g} s of wall time each: {len(placed)} of {len(measured) * len(SEEDS)}
attempts placed them. The kinds are described in `benchmarks/memory_packings.py`; dense is the part
of the maximal cliques that leave at most 1 % free. CPU seconds, start-up and compilation apart.
Every placement is validated. CP-SAT is its NoOverlap2D on one thread with the same limit.

{table(HEAD, [row for row, _ in measured])}
"""
    write_section(RESULTS / "memory.md", "Generated instances", body)
    print(body)


if __name__ == "__main__":
    main()

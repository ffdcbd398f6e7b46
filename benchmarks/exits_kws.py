"""Certified exits on DS-CNN and 500 keyword samples, which train, choose and certify.

One whole search for each seed. Nothing is left that no part of the search has seen, so the drop
shown is that on the certification samples. Writes docs/results/exits.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from exits_common import (
    RESULTS,
    SHARED,
    Clock,
    MacCost,
    certified,
    naive,
    table,
    truncation,
    write_section,
)

from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.exits.choose import train_and_choose
from offramp.passes.exits.find import start_search
from offramp.passes.exits.result import Budget, ExitData


def measure(points: float, seed: int) -> dict[str, Any]:
    """One search: what is certified, and the baselines on the same samples."""
    clock = Clock()
    program = from_onnx(SHARED / "models" / "kws_dscnn_float.onnx")
    found = np.load(SHARED / "data" / "kws" / "kws_dev500.npz")
    data = ExitData({"input": found["x"]}, found["y"].astype(np.int64))
    search = start_search(program, data, MacCost(), seed=seed, recipe=None, progress=clock)
    trained = train_and_choose(search, Budget(points))
    selector, plan = trained.selector, trained.plan
    certification = search.evidence(search.split.certification)
    ours = certified(selector, plan, certification, certification)
    cut_short = truncation(selector, trained.finalists, certification, certification)
    pool = selector.selection + certification
    guess = naive(selector, plan, pool, certification)
    stages = () if plan is None else plan.policy.stages
    return {
        "seed": seed,
        "cut": ours.cut,
        "drop": ours.drop,
        "truncation": cut_short.cut,
        "naive": guess.cut,
        "naive_drop": guess.drop,
        "heads": [search.heads[stage.head].name for stage in stages],
        "certification_samples": len(certification.truth),
        "seconds": clock.seconds,
    }


def main() -> None:
    """Search, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(options.points, seed) for seed in range(options.seeds)]
    lines = [
        [
            row["seed"],
            f"**{100 * row['cut']:.1f} %**",
            f"{row['drop']:+.2f}",
            f"{100 * row['truncation']:.1f} %",
            f"{100 * row['naive']:.1f} % / {row['naive_drop']:+.2f}",
            ", ".join(row["heads"]) or "none",
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    mean = 100 * float(np.mean([row["cut"] for row in rows]))
    head = (
        "seed",
        "MACs saved, certified",
        "drop on certification samples",
        "static truncation",
        "naive threshold: saved / drop",
        "heads",
        "seconds",
    )
    body = "\n".join(
        [
            f"`python benchmarks/exits_kws.py`: {options.points:g} points at 90 %, backbone",
            "frozen; of the 500 samples",
            f"{rows[0]['certification_samples']} certify, the others take turns in training and",
            f"choosing. Mean over {options.seeds} seeds:",
            f"**{mean:.1f} %** of MACs saved, heads included.",
            "",
            table(head, lines),
        ]
    )
    write_section(RESULTS / "exits.md", "DS-CNN on keywords", body)
    print(json.dumps(rows, indent=1) if options.json else body)


if __name__ == "__main__":
    main()

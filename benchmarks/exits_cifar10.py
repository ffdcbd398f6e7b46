"""Certified exits on ResNet-8 and CIFAR-10: cost saved, and the drop on images never seen.

Heads are trained once; which calibration images choose and which certify is redrawn. Beside the
certified exits stand static truncation, random exits at equal cost, and the threshold that merely
looks right on the calibration images. Writes docs/results/exits.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import numpy as np
from exits_common import (
    RESULTS,
    SHARED,
    Clock,
    MacCost,
    Outcome,
    certified,
    naive,
    random_drop,
    split_selector,
    table,
    truncation,
    with_budget,
    write_section,
)

from offramp.compiler.frontends.onnx import from_onnx
from offramp.passes.exits.find import start_search
from offramp.passes.exits.result import Budget, ExitData
from offramp.passes.exits.search import Trained, train_and_choose
from offramp.passes.exits.split import SELECTION, Part
from offramp.passes.exits.training import Recipe

BUDGETS = (0.5, 1.0, 2.0)


def load(name: str) -> Part:
    """One of the shared sets of images."""
    found = np.load(SHARED / "data" / "cifar10" / f"cifar10_{name}.npz")
    return Part({"input": found["x"].astype(np.float32)}, found["y"].astype(np.int64))


def train(samples: int, seed: int, clock: Clock) -> Trained:
    """Heads for a budget of one point."""
    program = from_onnx(SHARED / "models" / "ic_resnet8_jpeg_float.onnx")
    calibration, training = load("calibration3k"), load("train15k")
    data = ExitData(calibration.samples, calibration.labels, training.samples, training.labels)
    recipe = Recipe(samples=samples)
    search = start_search(program, data, MacCost(), seed=seed, recipe=recipe, progress=clock)
    return train_and_choose(search, Budget(1.0))


def measure(trained: Trained, splits: int) -> list[dict[str, Any]]:
    """One row for each budget and split."""
    search = trained.search
    pool, fresh = search.evidence(load("calibration3k")), search.evidence(load("dev2k"))
    held = None if search.split.held_out is None else search.evidence(search.split.held_out)
    chosen = round(SELECTION * len(pool.truth))
    rows: list[dict[str, Any]] = []
    for seed in range(splits):
        redrawn, certification = split_selector(trained.selector, pool, held, chosen, seed)
        for points in BUDGETS:
            selector = with_budget(redrawn, points)
            plan = selector.best(trained.finalists)
            ours = certified(selector, plan, certification, fresh)
            found: dict[str, Outcome] = {
                "ours": ours,
                "truncation": truncation(selector, trained.finalists, certification, fresh),
                "naive": naive(selector, plan, pool, fresh),
            }
            row: dict[str, Any] = {"seed": seed, "budget": points}
            row |= {name: asdict(value) for name, value in found.items()}
            row["random_drop"] = random_drop(plan, ours.early, selector, fresh)
            row["policy"] = (
                []
                if plan is None
                else [
                    f"{trained.search.heads[s.head].head.name} at {s.head} by {s.criterion.name}"
                    for s in plan.policy.stages
                ]
            )
            rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], fresh: int) -> str:
    """The table by budget, means over splits."""
    lines: list[list[str]] = []
    for points in BUDGETS:
        here = [row for row in rows if row["budget"] == points]

        def mean(kind: str, key: str, here: list[dict[str, Any]] = here) -> float:
            return float(np.mean([row[kind][key] for row in here]))

        cuts = [row["ours"]["cut"] for row in here]
        lines.append(
            [
                f"{points:g}",
                f"**{100 * np.mean(cuts):.1f} %** (min {100 * min(cuts):.1f})",
                f"{mean('ours', 'drop'):+.2f}",
                f"{mean('ours', 'fresh_drop'):+.2f}",
                f"{np.mean([row['random_drop'] for row in here]):+.2f}",
                f"{100 * mean('truncation', 'cut'):.1f} % / {mean('truncation', 'fresh_drop'):+.2f}",
                f"{100 * mean('naive', 'cut'):.1f} % / {mean('naive', 'fresh_drop'):+.2f}",
            ]
        )
    head = (
        "budget (points)",
        "MACs saved, certified",
        "drop, certification images",
        f"drop, {fresh} images never seen",
        "drop of random exits at equal MACs",
        "truncation: saved / drop",
        "naive threshold: saved / drop",
    )
    return table(head, lines)


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--samples", type=int, default=Recipe().samples)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clock = Clock()
    trained = train(options.samples, options.seed, clock)
    seconds = clock.seconds
    rows = measure(trained, options.splits)
    heads = [
        f"`{trained.search.heads[i].head.name}` after `{trained.search.heads[i].head.point.name}` "
        f"({trained.selector.prices.heads[i].macs / 1e6:.2f} M MACs)"
        for i in trained.finalists
    ]
    fresh = load("dev2k")
    body = (
        f"`python benchmarks/exits_cifar10.py`: backbone frozen, heads trained on 15,000 images "
        f"({options.samples:,} altered ones seen, {seconds:.0f} s of training on the machine this "
        f"ran on), 90 % confidence, means over {options.splits} draws of selection and "
        f"certification images from 3,000. The drop is against the full network on the same "
        f"images; its standard error on {fresh.count:,} images is about 0.4 points.\n\n"
        f"{summary(rows, fresh.count)}\n\nHeads trained to the end: {'; '.join(heads)}."
    )
    write_section(RESULTS / "exits.md", "ResNet-8 on CIFAR-10", body)
    print(json.dumps(rows, indent=1) if options.json else body)


if __name__ == "__main__":
    main()

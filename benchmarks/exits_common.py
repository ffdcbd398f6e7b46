"""What the benchmarks of exits share: data, costs in MACs, splits, baselines, results as a page."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.ir import Block
from offramp.compiler.ir.macs import node_macs
from offramp.passes.exits.certify import guess_variance, walk
from offramp.passes.exits.policy import Observed, Policy, Stage
from offramp.passes.exits.result import Budget, Risk
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.select import Evidence, Plan, Selector

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("OFFRAMP_SHARED", ROOT.parent / "shared"))
RESULTS = ROOT / "docs" / "results"


class MacCost:
    """A cost model that counts multiply-accumulates and nothing else."""

    unit = "macs"

    def node(self, node: ir.Node) -> float:
        """MACs of one node."""
        return float(node_macs(node))

    def block(self, block: Block) -> float:
        """MACs of a block."""
        return sum(self.node(node) for node in block.graph)


@dataclass(frozen=True)
class Outcome:
    """A policy with thresholds on samples: fraction of the cost saved, drop in points there and on
    other samples, fraction of these that leave early."""

    cut: float
    drop: float
    fresh_drop: float
    early: float


def split_selector(
    selector: Selector, pool: Evidence, held_out: Evidence | None, chosen: int, seed: int
) -> tuple[Selector, Evidence]:
    """Redraw which samples of a pool choose (`chosen` of them) and which certify."""
    order = np.random.default_rng(seed).permutation(len(pool.truth))
    selection = pool.rows(order[:chosen])
    if held_out is not None:
        selection = selection + held_out
    certification = pool.rows(order[chosen:])
    size = len(certification.truth)
    return replace(selector, selection=selection, certification_size=size), certification


def with_budget(selector: Selector, points: float, risk: Risk = "drop") -> Selector:
    """The same selector under another budget at 90 % confidence."""
    test = RiskTest(risk, 0.9, labelled=True)
    return replace(selector, budget=Budget(points, 0.9, risk), test=test)


def certified(
    selector: Selector, plan: Plan | None, certification: Evidence, fresh: Evidence
) -> Outcome:
    """The cheapest certified setting of a plan; the full network where there is none."""
    if plan is None:
        return Outcome(0.0, 0.0, 0.0, 0.0)
    seen = certification.observe(plan.policy, selector.prices)
    walked = walk(selector.test, selector.budget, plan.path, seen, plan.variance)
    position = selector.cheapest(plan, walked.passed, seen)
    if position is None:
        return Outcome(0.0, 0.0, 0.0, 0.0)
    return outcome(selector, plan.policy, plan.path[position], seen, fresh)


def outcome(
    selector: Selector,
    policy: Policy,
    thresholds: npt.NDArray[np.float64],
    seen: Observed,
    fresh: Evidence,
) -> Outcome:
    """One setting: what it costs on `seen`, what it loses there and on fresh samples."""
    taken = seen.taken(thresholds[None])
    cost = seen.expected(taken)[0].macs
    return Outcome(
        1 - cost / selector.prices.whole.macs,
        _points(selector, seen, thresholds),
        _points(selector, fresh.observe(policy, selector.prices), thresholds),
        float((taken < len(policy.stages)).mean()),
    )


def truncation(
    selector: Selector, heads: Sequence[int], certification: Evidence, fresh: Evidence
) -> Outcome:
    """Always leave at one head: the cheapest whose loss alone is certified."""
    everyone = np.array([-np.inf])
    found = [Outcome(0.0, 0.0, 0.0, 0.0)]
    for head in heads:
        policy = Policy((Stage(head, _any_criterion()),))
        seen = selector.selection.observe(policy, selector.prices)
        variance = guess_variance(selector.test, seen, everyone[None])
        certifying = certification.observe(policy, selector.prices)
        walked = walk(selector.test, selector.budget, everyone[None], certifying, variance)
        if walked.passed:
            found.append(outcome(selector, policy, everyone, certifying, fresh))
    return max(found, key=lambda o: o.cut)


def naive(selector: Selector, plan: Plan | None, pool: Evidence, fresh: Evidence) -> Outcome:
    """The boldest setting that looks right on all calibration samples, without any test."""
    if plan is None:
        return Outcome(0.0, 0.0, 0.0, 0.0)
    full = replace(selector, selection=pool, guard=None).plan(plan.policy)
    seen = pool.observe(plan.policy, selector.prices)
    losses = selector.test.losses(seen.full, seen.early(seen.taken(full.path)))
    right = np.flatnonzero(losses.mean(axis=0) <= selector.budget.points / 100)
    thresholds = full.path[right[-1]]
    return outcome(selector, plan.policy, thresholds, seen, fresh)


def random_drop(plan: Plan | None, rates: float, selector: Selector, fresh: Evidence) -> float:
    """Drop in points if the same share of samples left at the first exit at random."""
    if plan is None:
        return 0.0
    seen = fresh.observe(plan.policy, selector.prices)
    return 100.0 * rates * float(seen.full.mean() - seen.right[0].mean())


def write_section(path: Path, title: str, body: str) -> None:
    """Replace the section under `## title`, or append it."""
    text = path.read_text(encoding="utf-8") if path.exists() else f"# Results: {path.stem}\n"
    section = f"## {title}\n\n{body.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


class Clock:
    """Says on stderr what goes on, with the seconds since the start."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self._last = ""

    def __call__(self, activity: str, done: float) -> None:
        """Progress of a search; a line whenever the activity changes."""
        if activity != self._last:
            print(f"{self.seconds:6.0f} s  {done:4.0%}  {activity}", file=sys.stderr, flush=True)
            self._last = activity

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.start


def _points(selector: Selector, seen: Observed, thresholds: npt.NDArray[np.float64]) -> float:
    early = seen.early(seen.taken(thresholds[None]))
    return 100 * float(RiskTest("drop", 0.9, labelled=True).losses(seen.full, early).mean())


def _any_criterion() -> Any:
    from offramp.passes.exits.criteria import MaxSoftmax

    return MaxSoftmax()

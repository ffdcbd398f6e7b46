"""Facts about a finished search, as plain data for the command line and the report."""

from __future__ import annotations

import numpy as np

from offramp.passes.exits.certify import Walk
from offramp.passes.exits.choose import Trained
from offramp.passes.exits.policy import Observed
from offramp.passes.exits.result import (
    Budget,
    Candidate,
    Certificate,
    ChosenExit,
    CurvePoint,
    Spent,
)
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.search import HeadSearch
from offramp.passes.exits.select import Plan

CURVE_POINTS = 24
"""Settings of the path that the report shows, at most."""


def exits_of(search: HeadSearch, plan: Plan, seen: Observed, chosen: int) -> tuple[ChosenExit, ...]:
    """The exits of the chosen setting, with their rates on the certification samples."""
    taken = seen.taken(plan.path[[chosen]])[:, 0]
    found: list[ChosenExit] = []
    for position, stage in enumerate(plan.policy.stages):
        left = taken == position
        head = search.heads[stage.head]
        found.append(
            ChosenExit(
                block=f"exit{position}",
                point=head.point.name,
                head=head.name,
                criterion=stage.criterion.name,
                threshold=float(plan.path[chosen, position]),
                weight=stage.weight,
                rate=float(left.mean()),
                accuracy=float(seen.right[position][left].mean()) if left.any() else None,
                spent=seen.spent[position],
            )
        )
    return tuple(found)


def certificate_of(test: RiskTest, budget: Budget, walked: Walk, chosen: int) -> Certificate:
    """The statement about the chosen setting."""
    losses, variance = walked.losses[:, [chosen]], walked.variance[[chosen]]
    return Certificate(
        risk=budget.risk,
        budget=budget.points,
        confidence=budget.confidence,
        bound=min(budget.points, 100 * float(test.upper_bounds(losses, variance)[0])),
        observed=100 * float(walked.observed[chosen]),
        samples=len(losses),
        reference="labels" if test.labelled else "agreement",
    )


def curve_of(
    plan: Plan, walked: Walk, seen: Observed, test: RiskTest, chosen: int | None
) -> tuple[CurvePoint, ...]:
    """Settings along the path, the chosen one among them."""
    evenly = np.linspace(0, len(plan.path) - 1, CURVE_POINTS)
    positions = {round(float(place)) for place in evenly}
    shown: list[int] = sorted(positions if chosen is None else positions | {chosen})
    taken = seen.taken(plan.path[shown])
    bounds = test.upper_bounds(walked.losses[:, shown], walked.variance[shown])
    return tuple(
        CurvePoint(
            thresholds=tuple(float(t) for t in plan.path[position]),
            spent=spent,
            drop=100 * float(walked.observed[position]),
            bound=100 * float(bound),
            certified=position < walked.passed,
            chosen=position == chosen,
        )
        for position, spent, bound in zip(shown, seen.expected(taken), bounds, strict=True)
    )


def candidates_of(search: HeadSearch, trained: Trained, plan: Plan | None) -> tuple[Candidate, ...]:
    """All heads and why each was or was not chosen."""
    evidence = trained.selector.selection
    used = {stage.head for stage in plan.policy.stages} if plan is not None else set[int]()
    found: list[Candidate] = []
    for index, head in enumerate(search.heads):
        right = evidence.heads[index].argmax(axis=1) == evidence.truth
        found.append(
            Candidate(
                point=head.point.name,
                head=head.name,
                spent=trained.selector.prices.heads[index],
                accuracy=float(right.mean()),
                chosen=index in used,
                why=_verdict(index, used, trained, plan),
            )
        )
    for point, family, reason in search.refused:
        found.append(Candidate(point.name, family, Spent(0.0, 0.0), None, False, reason))
    return tuple(found)


def _verdict(index: int, used: set[int], trained: Trained, plan: Plan | None) -> str:
    if index in used:
        return "its policy promised the lowest certified cost"
    if index not in trained.finalists:
        return "after a short training others promised to save more; not trained further"
    if plan is None:
        return "trained to the end, but nothing was certified with it"
    return "trained to the end, but adding it promised no further saving"

"""Which settings are tested, and which certified one is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.candidates import candidate_points, nodes_cost
from offramp.passes.exits.criteria import MaxSoftmax
from offramp.passes.exits.heads import fresh_heads
from offramp.passes.exits.policy import Policy, Prices, Stage
from offramp.passes.exits.result import Budget
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.select import Evidence, Plan, Selector

from .conftest import Digits

SURE, UNSURE = 8.0, 0.1


def answers(logit: float, count: int = 50) -> Evidence:
    """A head that is right on every sample, and as sure as `logit` makes it."""
    logits = np.zeros((count, 10), np.float32)
    logits[:, 0] = logit
    right = np.zeros(count, np.int64)
    return Evidence((logits,), logits, right, right)


@pytest.fixture(scope="module")
def selector_for(digits: Digits, model: AnalyticalModel) -> Callable[[Evidence], Selector]:
    task, opsets = digits.task, dict(digits.program.opset_imports)
    whole = nodes_cost(list(task.graph), model)
    point = candidate_points(task, model)[0]
    rng = np.random.default_rng(0)
    head = next(fresh_heads(point, 10, opsets, model=model, whole=whole.value, rng=rng))
    prices = Prices(task, opsets, model, (head,), whole, 0.0)

    def selector(selection: Evidence) -> Selector:
        test, budget = RiskTest("drop", 0.9, labelled=True), Budget(1.0)
        return Selector(selection, selection, prices, test, budget, 50, None, 0)

    return selector


@pytest.mark.parametrize(
    ("chosen_on", "certified_on", "passed", "expected"),
    [
        (SURE, SURE, 2, 1),
        (SURE, SURE, 1, None),
        (SURE, SURE, 0, None),
        (UNSURE, SURE, 2, None),
        (SURE, UNSURE, 2, None),
    ],
)
def test_a_setting_must_save_on_both_sets_of_samples(
    selector_for: Callable[[Evidence], Selector],
    chosen_on: float,
    certified_on: float,
    passed: int,
    expected: int | None,
) -> None:
    selector = selector_for(answers(chosen_on))
    policy = Policy((Stage(0, MaxSoftmax()),))
    plan = Plan(policy, np.array([[np.inf], [0.9]]), np.zeros(2, np.float32), 0.0)
    certification = answers(certified_on).observe(policy, selector.prices)
    assert selector.cheapest(plan, passed, certification) == expected


@pytest.mark.parametrize(("wrong", "kept"), [(0, True), (4, True), (6, False), (12, False)])
def test_the_guard_asks_for_the_confidence_of_the_test(
    selector_for: Callable[[Evidence], Selector], wrong: int, kept: bool
) -> None:
    """Of 1,000 samples 4 lost: 0.4 points, and 0.26 more at 90 %; 6 lost: 0.6 and 0.31."""
    guard = answers(SURE, 1_000)
    guard.heads[0][:wrong] = np.roll(guard.heads[0][0], 1)
    selector = selector_for(answers(SURE, 200))
    guarded = replace(selector, guard=guard, budget=Budget(0.8))
    policy = Policy((Stage(0, MaxSoftmax()),))
    everyone_leaves = guarded.plan(policy).path[-1] <= 0.99
    assert bool(everyone_leaves) is kept
    assert selector.plan(policy).path[-1] <= 0.99

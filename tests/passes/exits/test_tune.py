"""Finetuning as a step of the search, on digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.choose import Trained, train_and_choose
from offramp.passes.exits.find import find_exits
from offramp.passes.exits.finetune import FinetuneRecipe
from offramp.passes.exits.result import Budget, ExitData
from offramp.passes.exits.search import HeadSearch
from offramp.passes.exits.split import split
from offramp.passes.exits.training import Recipe
from offramp.passes.exits.tune import tune

from .conftest import Digits

BUDGET = Budget(3.0)
QUICK = Recipe(screening_samples=1_000, samples=2_000, views=2)


def data(digits: Digits) -> ExitData:
    return ExitData({"image": digits.images}, digits.labels)


@pytest.fixture(scope="module")
def frozen(digits: Digits, model: AnalyticalModel) -> Trained:
    backbone = digits.backbone
    search = HeadSearch(
        program=digits.program,
        task=digits.task,
        backbone=backbone,
        reference=backbone,
        split=split(data(digits), digits.task, 0),
        model=model,
        recipe=QUICK,
        seed=0,
        progress=lambda activity, done: None,
    )
    return train_and_choose(search, BUDGET)


def test_a_tuned_network_promises_more_and_is_judged_by_the_given_one(
    frozen: Trained, digits: Digits
) -> None:
    tuned = tune(frozen, BUDGET, FinetuneRecipe(samples=20_000))
    assert frozen.plan is not None
    assert tuned.plan is not None
    assert tuned.plan.promise < frozen.plan.promise
    assert tuned.search.program is not digits.program
    part = tuned.search.split.selection
    evidence = tuned.search.evidence(part)
    given = digits.backbone.logits(part.samples)
    np.testing.assert_array_equal(evidence.reference, given.argmax(axis=1))
    assert not np.array_equal(evidence.full, given)


def test_a_tuning_that_ruins_the_network_is_dropped(frozen: Trained) -> None:
    ruinous = FinetuneRecipe(samples=2_000, head_rate=10.0, backbone_rate=10.0)
    before = frozen.search.evidence(frozen.search.split.selection)
    assert tune(frozen, BUDGET, ruinous) is frozen
    after = frozen.search.evidence(frozen.search.split.selection)
    np.testing.assert_array_equal(np.stack(after.heads), np.stack(before.heads))


def test_without_finalists_there_is_nothing_to_tune(frozen: Trained) -> None:
    nothing = replace(frozen, plan=None, finalists=())
    assert tune(nothing, BUDGET) is nothing


def test_the_search_certifies_the_tuned_program(digits: Digits, model: AnalyticalModel) -> None:
    found = find_exits(digits.program, data(digits), BUDGET, model, finetune=True, recipe=QUICK)
    assert found.certificate is not None
    verify(found.program)
    answers = Oracle(found.program).run({"image": digits.images})
    given = Oracle(digits.program).run({"image": digits.images})
    (early,), (full,) = answers.outputs.values(), given.outputs.values()
    drop = (full.argmax(1) == digits.labels).mean() - (early.argmax(1) == digits.labels).mean()
    assert 100 * drop <= found.certificate.budget

"""The whole search, on digits: what it certifies, what it refuses, and that it repeats itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from offramp.compiler.errors import UserError
from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir.costs import expected_cost
from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.find import find_exits
from offramp.passes.exits.result import Budget, ExitData, ExitResult
from offramp.passes.exits.training import Recipe

from .conftest import Digits

QUICK = Recipe(screening_samples=2_000, samples=6_000, views=2)


def data(digits: Digits, count: int = 1297) -> ExitData:
    return ExitData({"image": digits.images[:count]}, digits.labels[:count])


@pytest.fixture(scope="module")
def found(digits: Digits, model: AnalyticalModel) -> ExitResult:
    return find_exits(digits.program, data(digits), Budget(3.0), model, recipe=QUICK)


def test_exits_save_cost_within_a_certified_budget(found: ExitResult) -> None:
    assert found.certificate is not None
    assert found.certificate.observed <= found.certificate.bound <= found.certificate.budget == 3.0
    assert found.certificate.reference == "labels"
    assert expected_cost(found.program).macs < 0.85 * found.static.macs
    verify(found.program)


def test_the_program_leaves_as_predicted_on_the_certification_samples(
    found: ExitResult, digits: Digits
) -> None:
    answers = Oracle(found.program).run({"image": digits.images})
    rates = [(answers.exit_index == i).mean() for i in range(len(found.exits))]
    for rate, exit_ in zip(rates, found.exits, strict=True):
        assert rate == pytest.approx(exit_.rate, abs=0.08)


def test_every_candidate_says_why(found: ExitResult) -> None:
    assert len(found.candidates) > 10
    assert all(candidate.why for candidate in found.candidates)
    assert {c.head for c in found.candidates if c.chosen} == {e.head for e in found.exits}


def test_the_curve_runs_from_cautious_to_bold_and_marks_the_choice(found: ExitResult) -> None:
    spent = [point.spent.value for point in found.curve]
    assert spent[0] > spent[-1]
    (chosen,) = (point for point in found.curve if point.chosen)
    assert chosen.certified
    assert chosen.thresholds == tuple(e.threshold for e in found.exits)
    certified = [point.certified for point in found.curve]
    assert certified == sorted(certified, reverse=True)


def test_facts_can_be_written_as_json(found: ExitResult) -> None:
    exits = [dataclasses.asdict(exit_) for exit_ in found.exits]
    curve = [dataclasses.asdict(point) for point in found.curve]
    assert json.loads(json.dumps(exits)) == exits
    assert len(json.loads(json.dumps(curve))) == len(found.curve)


def test_the_same_seed_finds_the_same(
    found: ExitResult, digits: Digits, model: AnalyticalModel
) -> None:
    again = find_exits(digits.program, data(digits), Budget(3.0), model, recipe=QUICK)
    assert again.exits == found.exits
    assert again.certificate == found.certificate


def test_without_labels_the_budget_is_on_agreement(digits: Digits, model: AnalyticalModel) -> None:
    unlabelled = ExitData({"image": digits.images})
    result = find_exits(digits.program, unlabelled, Budget(8.0), model, recipe=QUICK)
    assert result.certificate is not None
    assert result.certificate.reference == "agreement"


def test_too_few_samples_to_certify_say_how_many_would_do(
    digits: Digits, model: AnalyticalModel
) -> None:
    """At which budget 60 samples just do not do depends on how heads turn out on a processor."""
    said = 0
    for points in (0.5, 1.0, 2.0, 3.0):
        result = find_exits(digits.program, data(digits, 150), Budget(points), model, recipe=QUICK)
        if result.certificate is not None:
            continue
        assert result.program is digits.program
        assert f"60 certification samples do not certify {points:g} points at 90%" in str(
            result.reason
        )
        if result.samples_needed is not None:
            said += 1
            assert result.samples_needed > 60
            assert str(result.samples_needed) in str(result.reason)
    assert said


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (np.where(x > 0.99, np.nan, x), y), "NaN or infinite"),
        (lambda x, y: (np.ones_like(x), y), "the same in all"),
        (lambda x, y: (x, y + 5), "0 to 9"),
        (lambda x, y: (x, y - 1), "0 to 9"),
        (lambda x, y: (x, y.astype(np.float32)), "integer class"),
        (lambda x, y: (x, y[:-1]), "for each of the 1297 samples"),
        (lambda x, y: (x[:10], y[:10]), "too few"),
    ],
)
def test_bad_samples_are_refused(
    digits: Digits, model: AnalyticalModel, spoil: Callable[..., Any], message: str
) -> None:
    images, labels = spoil(digits.images, digits.labels)
    with pytest.raises(UserError, match=message):
        find_exits(digits.program, ExitData({"image": images}, labels), Budget(3.0), model)


@pytest.mark.parametrize("budget", [Budget(0.0), Budget(120.0), Budget(1.0, confidence=1.0)])
def test_senseless_budgets_are_refused(
    digits: Digits, model: AnalyticalModel, budget: Budget
) -> None:
    with pytest.raises(UserError, match="expected between"):
        find_exits(digits.program, data(digits), budget, model)


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(1, keepdim=True), x * 2


class OneNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("net", "message"), [(TwoOutputs(), "2 outputs"), (OneNumber(), "regression")]
)
def test_networks_without_classes_come_back_with_the_reason(
    net: nn.Module, message: str, model: AnalyticalModel
) -> None:
    program = from_torch(net, (torch.randn(1, 4),))
    samples = {str(program.inputs[0].name): np.random.default_rng(0).random((50, 4), np.float32)}
    result = find_exits(program, ExitData(samples), Budget(1.0), model)
    assert result.program is program
    assert result.certificate is None
    assert message in str(result.reason)


def test_a_network_without_a_place_for_exits_says_so(model: AnalyticalModel) -> None:
    program = from_torch(nn.Linear(6, 3).eval(), (torch.randn(1, 6),))
    samples = {str(program.inputs[0].name): np.random.default_rng(0).random((80, 6), np.float32)}
    result = find_exits(program, ExitData(samples), Budget(5.0), model, recipe=QUICK)
    assert result.program is program
    assert "no place for an exit" in str(result.reason)


def test_heads_that_are_no_good_leave_the_network_as_it_is(
    digits: Digits, model: AnalyticalModel
) -> None:
    hardly = Recipe(screening_samples=50, samples=50, views=1)
    result = find_exits(digits.program, data(digits, 300), Budget(0.3), model, recipe=hardly)
    assert result.program is digits.program
    assert result.certificate is None
    assert result.reason
    assert not any(candidate.chosen for candidate in result.candidates)

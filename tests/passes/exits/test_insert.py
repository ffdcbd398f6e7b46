"""Inserted exits: the Program verifies, and onnxruntime leaves where the scores predict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from offramp.compiler.ir import Exit, Return
from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.candidates import candidate_points, nodes_cost
from offramp.passes.exits.criteria import CRITERIA, Criterion, MaxSoftmax
from offramp.passes.exits.heads import HeadGraph, fresh_heads
from offramp.passes.exits.insert import ExitSpec, InsertExits
from offramp.passes.exits.policy import Policy, Prices, Stage, observe
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import head_logits

from .conftest import Digits

SAMPLES = 60


def threshold(scores: np.ndarray, share: float) -> float:
    """Midway between the last score of the `share` that leaves and the first of the rest."""
    ordered, leaving = np.sort(scores)[::-1].astype(float), round(share * len(scores))
    return float((ordered[leaving - 1] + ordered[leaving]) / 2)


class Inserted:
    """Untrained heads at the first points of the digit network."""

    def __init__(self, digits: Digits, model: AnalyticalModel) -> None:
        self.digits, self.model = digits, model
        rng = np.random.default_rng(1)
        task, opsets = digits.task, digits.program.opset_imports
        whole = nodes_cost(list(task.graph), model).value
        points = candidate_points(task, model)
        kinds = [
            list(fresh_heads(p, 10, opsets, model=model, whole=whole, rng=rng)) for p in points
        ]
        self.heads: list[HeadGraph] = [kinds[0][2], kinds[0][0], kinds[2][1]]
        self.modules = [HeadModule(head).eval() for head in self.heads]
        self.trained = [head for module in self.modules for head in module.trained()]
        self.samples = {"image": digits.images[:SAMPLES]}
        self.logits = head_logits(self.modules, digits.backbone, self.samples)
        self.full = digits.backbone.logits(self.samples)

    def check(
        self,
        criterion: Criterion,
        shares: Sequence[float],
        weights: Sequence[float] = (0.0, 0.0, 0.0),
        final_weight: float = 0.0,
    ) -> None:
        """Thresholds that let `shares` pass; compare the Program with the policy in numpy."""
        stages = tuple(Stage(i, criterion, weights[i]) for i in range(len(shares)))
        policy = Policy(stages, final_weight)
        whole = nodes_cost(list(self.digits.task.graph), self.model)
        opsets = dict(self.digits.program.opset_imports)
        prices = Prices(self.digits.task, opsets, self.model, tuple(self.heads), whole, 0.0)
        truth = self.digits.labels[:SAMPLES]
        seen = observe(
            policy,
            self.logits,
            self.full,
            reference=self.full.argmax(axis=1),
            truth=truth,
            spent=prices.costs(policy),
        )
        thresholds = [
            threshold(scores, share) for scores, share in zip(seen.scores, shares, strict=True)
        ]
        taken = seen.taken(np.array([thresholds]))[:, 0]
        program = InsertExits(
            tuple(
                ExitSpec(self.trained[s.head], s.criterion, t, s.weight)
                for s, t in zip(stages, thresholds, strict=True)
            ),
            final_weight,
        )(self.digits.program)
        verify(program)
        answers = Oracle(program).run(self.samples)
        np.testing.assert_array_equal(answers.exit_index, taken)
        named = next(iter(answers.outputs.values())).argmax(axis=1)
        np.testing.assert_array_equal(named == truth, seen.early(taken[:, None])[:, 0])


@pytest.fixture(scope="module")
def inserted(digits: Digits, model: AnalyticalModel) -> Inserted:
    return Inserted(digits, model)


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_samples_leave_where_the_scores_say(inserted: Inserted, criterion: Criterion) -> None:
    inserted.check(criterion, [0.3, 0.5, 0.6])


def test_answers_build_on_earlier_ones(inserted: Inserted) -> None:
    inserted.check(MaxSoftmax(), [0.2, 0.3, 0.4], weights=[0.0, 0.5, 1.0], final_weight=0.25)


def test_two_exits_at_one_point_share_its_feature(inserted: Inserted) -> None:
    inserted.check(MaxSoftmax(), [0.3, 0.5])


def spec(inserted: Inserted, threshold: float) -> ExitSpec:
    return ExitSpec(inserted.trained[0], MaxSoftmax(), threshold, rate=0.5, reach=1.0)


def test_a_threshold_that_everyone_reaches_cuts_the_rest_off(inserted: Inserted) -> None:
    program = InsertExits((spec(inserted, -np.inf),))(inserted.digits.program)
    verify(program)
    assert list(program.blocks) == ["exit0"]
    assert isinstance(program.entry.terminator, Return)
    answers = Oracle(program).run(inserted.samples)
    named = next(iter(answers.outputs.values())).argmax(axis=1)
    np.testing.assert_array_equal(named, inserted.logits[0].argmax(axis=1))


def test_an_exit_that_nobody_takes_changes_no_answer(inserted: Inserted) -> None:
    program = InsertExits((spec(inserted, np.inf),))(inserted.digits.program)
    answers = Oracle(program).run(inserted.samples)
    named = next(iter(answers.outputs.values())).argmax(axis=1)
    assert (answers.exit_index == 1).all()
    np.testing.assert_array_equal(named, inserted.full.argmax(axis=1))


def test_no_exits_leave_the_program_alone(digits: Digits) -> None:
    result = InsertExits(()).run(digits.program)
    assert result.program is digits.program
    assert not result.modified


def test_annotations_and_criterion_ride_along(inserted: Inserted) -> None:
    program = InsertExits((spec(inserted, 0.5),), final_reach=0.5)(inserted.digits.program)
    assert program.entry.annotations.rate == 0.5
    assert program.blocks["final"].annotations.reach == 0.5
    assert isinstance(program.entry.terminator, Exit)
    assert program.entry.terminator.criterion == "max-softmax"

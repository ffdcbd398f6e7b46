"""Every exit criterion keeps the rules of the interface."""

from __future__ import annotations

import numpy as np
import pytest

from offramp.passes.exits.criteria import (
    CRITERIA,
    Criterion,
    Entropy,
    LearnedGate,
    Margin,
    MaxSoftmax,
    Patience,
)

from .conformance import CLASSES, random_answers, scores_by_onnx


def fitted_gate() -> Criterion:
    answers = random_answers(1, 400, seed=7)
    gain = np.where(answers[0].argmax(axis=1) == 0, -1, 0).astype(np.float32)
    return LearnedGate().fit(answers, gain, seed=0)


@pytest.fixture(
    params=[MaxSoftmax(), Margin(), Entropy(), Patience(), LearnedGate(), fitted_gate()],
    ids=["max-softmax", "margin", "entropy", "patience", "gate", "fitted-gate"],
)
def criterion(request: pytest.FixtureRequest) -> Criterion:
    """To prove a new criterion, add it to the list."""
    found: Criterion = request.param
    return found


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("exits", [1, 3])
def test_numpy_and_onnx_agree(criterion: Criterion, exits: int, opset: int) -> None:
    answers = random_answers(exits, 40, seed=exits)
    expected = criterion.score(answers)
    np.testing.assert_allclose(scores_by_onnx(criterion, answers, opset), expected, atol=2e-6)


def test_scores_are_finite_even_for_extreme_logits(criterion: Criterion) -> None:
    extreme = random_answers(2, 50, seed=1, scale=300.0)
    assert np.isfinite(criterion.score(extreme)).all()
    assert np.isfinite(scores_by_onnx(criterion, extreme, 13)).all()


def test_a_score_depends_on_no_other_sample(criterion: Criterion) -> None:
    answers = random_answers(2, 20, seed=2)
    together = criterion.score(answers)
    alone = [criterion.score([a[[n]] for a in answers])[0] for n in range(20)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_shapes_and_types(criterion: Criterion) -> None:
    score = criterion.score(random_answers(1, 9, seed=3))
    assert score.shape == (9,)
    assert score.dtype == np.float32


def test_a_clear_answer_scores_above_a_tie(criterion: Criterion) -> None:
    clear, tie = np.zeros((1, CLASSES), np.float32), np.zeros((1, CLASSES), np.float32)
    clear[0, 1] = 9.0
    assert criterion.score([clear])[0] > criterion.score([tie])[0]


def test_fitting_is_reproducible(criterion: Criterion) -> None:
    answers = random_answers(1, 200, seed=4)
    gain = np.sign(answers[0][:, 0])
    one, two = (criterion.fit(answers, gain, seed=5).score(answers) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_names_are_distinct() -> None:
    names = [c.name for c in CRITERIA]
    assert len(set(names)) == len(names)


def test_patience_counts_the_answers_that_agree() -> None:
    one, two = np.eye(CLASSES, dtype=np.float32)[[0]], np.eye(CLASSES, dtype=np.float32)[[1]]
    runs = [Patience().score(a)[0] for a in ([one, one, one], [two, one, one], [one, two, one])]
    assert [int(r) for r in runs] == [3, 2, 1]


def test_the_gate_learns_which_class_to_distrust() -> None:
    gate, answers = fitted_gate(), random_answers(1, 300, seed=8)
    named = answers[0].argmax(axis=1)
    score = gate.score(answers)
    assert score[named == 0].max() < np.median(score[named != 0])

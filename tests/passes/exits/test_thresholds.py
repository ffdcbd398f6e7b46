"""Paths of thresholds, and the walk that certifies along them."""

from __future__ import annotations

import numpy as np
import pytest

from offramp.passes.exits.certify import guess_variance, walk
from offramp.passes.exits.policy import Observed
from offramp.passes.exits.result import Budget, Spent
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.thresholds import threshold_path

TEST = RiskTest("drop", 0.9, labelled=True)


def observed(samples: int, seed: int, exits: int = 2, quality: float = 2.0) -> Observed:
    """Exits whose chance to be right grows with the score, in front of a network at 90 %."""
    rng = np.random.default_rng(seed)
    scores = rng.random((exits, samples)).astype(np.float32)
    full = rng.random(samples) < 0.9
    early = rng.random((exits, samples)) < np.clip(quality * scores, 0, 0.95)
    costs = [Spent(10.0 * (i + 1), 10.0 * (i + 1)) for i in range(exits)] + [Spent(110.0, 110.0)]
    return Observed(scores, np.concatenate([early, full[None]]), full, tuple(costs))


def costs_along(seen: Observed, path: np.ndarray) -> list[float]:
    return [spent.value for spent in seen.expected(seen.taken(path))]


def test_a_path_runs_from_cautious_to_bold() -> None:
    seen = observed(800, seed=0)
    path = threshold_path(seen)
    costs = costs_along(seen, path)
    assert np.isposinf(path[0]).all()
    assert costs[0] == pytest.approx(110.0)
    assert (np.diff(costs) < 0).all()
    assert costs[-1] < 30


def test_thresholds_lie_between_observed_scores() -> None:
    seen = observed(200, seed=1)
    for exit_, thresholds in enumerate(threshold_path(seen).T):
        finite = thresholds[np.isfinite(thresholds)]
        scores = np.sort(seen.scores[exit_].astype(np.float64))
        assert len(finite) > 5
        assert not np.isin(finite, scores).any()
        right = np.searchsorted(scores, finite)
        np.testing.assert_allclose(finite, (scores[right - 1] + scores[right]) / 2)


def test_everyone_leaves_where_the_head_is_as_good_as_the_network() -> None:
    seen = observed(400, seed=2, exits=1)
    perfect = Observed(seen.scores, np.stack([seen.full, seen.full]), seen.full, seen.spent)
    assert np.isneginf(threshold_path(perfect)[-1]).all()


def test_taken_is_the_first_exit_whose_threshold_is_reached() -> None:
    scores = np.array([[0.9, 0.1, 0.1], [0.9, 0.9, 0.1]], np.float32)
    seen = Observed(scores, np.ones((3, 3), np.bool_), np.ones(3, np.bool_), (Spent(1, 1),) * 3)
    assert seen.taken(np.array([[0.5, 0.5]]))[:, 0].tolist() == [0, 1, 2]


def test_the_walk_ends_at_the_first_failure() -> None:
    seen = observed(1000, seed=3)
    path = threshold_path(seen)
    certification = observed(2000, seed=4)
    variance = guess_variance(TEST, seen, path)
    walked = walk(TEST, Budget(2.0), path, certification, variance)
    p = TEST.p_values(walked.losses, 0.02, variance)
    assert 0 < walked.passed < len(path)
    assert (p[: walked.passed] <= 0.1).all()
    assert p[walked.passed] > 0.1


def test_a_larger_budget_goes_further() -> None:
    seen, certification = observed(1000, seed=5), observed(2000, seed=6)
    path = threshold_path(seen)
    variance = guess_variance(TEST, seen, path)
    passed = [
        walk(TEST, Budget(points), path, certification, variance).passed for points in (1, 3, 9)
    ]
    assert passed == sorted(passed)
    assert passed[0] < passed[-1]


def test_certified_settings_keep_their_budget_on_the_population() -> None:
    """100 draws of 500 certification samples from a population of 20,000."""
    population = observed(20_000, seed=7)
    path = threshold_path(observed(500, seed=8))
    variance = guess_variance(TEST, observed(500, seed=8), path)
    true_drop = TEST.losses(population.full, population.early(population.taken(path))).mean(axis=0)
    exceeded = 0
    rng = np.random.default_rng(9)
    for _ in range(100):
        drawn = population.rows(rng.choice(20_000, 500, replace=False))
        passed = walk(TEST, Budget(3.0), path, drawn, variance).passed
        exceeded += passed > 0 and true_drop[:passed].max() > 0.03
    assert exceeded <= 15

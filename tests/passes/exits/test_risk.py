"""Tests of risks keep their level, and bounds agree with textbook ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from offramp.passes.exits.risk import Losses, RiskTest

DROP = RiskTest("drop", 0.9, labelled=True)
FLIP = RiskTest("flip", 0.9, labelled=True)


def drops(mean: float, disagree: float, samples: int, seed: int) -> Losses:
    """One column of losses in {-1, 0, 1} with a given mean and share of disagreements."""
    worse, better = (disagree + mean) / 2, (disagree - mean) / 2
    rng = np.random.default_rng(seed)
    found = rng.choice([1.0, -1.0, 0.0], (samples, 1), p=[worse, better, 1 - disagree])
    return found.astype(np.float32)


def variance(value: float) -> npt.NDArray[np.float32]:
    return np.array([value], np.float32)


def test_losses_of_both_risks() -> None:
    full = np.array([True, True, False, False])
    early = np.array([[True], [False], [True], [False]])
    assert DROP.losses(full, early)[:, 0].tolist() == [0, 1, -1, 0]
    assert FLIP.losses(full, early)[:, 0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("disagree", [0.02, 0.08, 0.2])
def test_betting_rejects_a_true_null_no_more_often_than_promised(disagree: float) -> None:
    rejected = [
        DROP.p_values(drops(0.01, disagree, 1000, seed), 0.01, variance(disagree))[0] <= 0.1
        for seed in range(400)
    ]
    assert np.mean(rejected) <= 0.1 + 2 * np.sqrt(0.09 / 400)


def test_betting_finds_what_is_within_the_budget() -> None:
    rejected = [
        DROP.p_values(drops(-0.005, 0.05, 2000, seed), 0.01, variance(0.05))[0] <= 0.1
        for seed in range(100)
    ]
    assert np.mean(rejected) > 0.8


def test_a_wrong_guess_of_the_variance_costs_power_but_not_validity() -> None:
    rejected = [
        DROP.p_values(drops(0.01, 0.1, 1000, seed), 0.01, variance(0.001))[0] <= 0.1
        for seed in range(400)
    ]
    assert np.mean(rejected) <= 0.1 + 2 * np.sqrt(0.09 / 400)


@pytest.mark.parametrize("flips", [0, 3, 20])
def test_flips_are_bounded_as_by_clopper_and_pearson(flips: int) -> None:
    found = np.zeros((200, 1), np.float32)
    found[:flips] = 1
    expected = stats.binomtest(flips, 200, alternative="less").proportion_ci(0.9).high
    assert FLIP.upper_bounds(found, variance(0.1))[0] == pytest.approx(expected, abs=1e-5)


def test_the_bound_of_a_drop_lies_above_its_mean_and_shrinks_with_samples() -> None:
    few, many = (drops(0.0, 0.05, n, 3) for n in (300, 30_000))
    bounds = [float(DROP.upper_bounds(x, variance(0.05))[0]) for x in (few, many)]
    assert few.mean() < bounds[0]
    assert many.mean() < bounds[1] < bounds[0]
    assert bounds[1] < 0.005


def test_without_labels_disagreements_are_counted() -> None:
    agreement = RiskTest("drop", 0.9, labelled=False)
    found = np.zeros((100, 1), np.float32)
    found[:2] = 1
    expected = stats.binom.cdf(2, 100, 0.05)
    assert agreement.p_values(found, 0.05, variance(0.1))[0] == pytest.approx(expected)


def test_samples_needed_would_do() -> None:
    found = drops(0.002, 0.04, 500, 1)
    needed = int(DROP.samples_needed(found, 0.02)[0])
    assert 100 < needed < 5000
    repeated = np.random.default_rng(0).permutation(np.resize(found, (2 * needed, 1)))
    assert DROP.p_values(repeated, 0.02, variance(0.04))[0] <= 0.1


def test_no_number_of_samples_helps_above_the_budget() -> None:
    assert np.isinf(DROP.samples_needed(drops(0.05, 0.1, 1000, 0), 0.01)[0])

"""Certify thresholds: Learn then Test (Angelopoulos et al. 2021) along a frozen path.

The path was found on selection samples. On certification samples its settings are tested in order,
from cautious to bold, and the walk ends at the first that fails. The chance that any setting
accepted breaks the budget is then at most 1 - confidence, however many are tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offramp.passes.exits.policy import Observed
from offramp.passes.exits.result import Budget
from offramp.passes.exits.risk import Losses, RiskTest
from offramp.passes.exits.thresholds import Thresholds


@dataclass(frozen=True)
class Walk:
    """How far the tests went.

    passed: number of settings accepted, from the start of the path. losses: [N, settings].
    variance: [settings], as guessed on the selection samples.
    """

    passed: int
    losses: Losses
    variance: npt.NDArray[np.float32]

    @property
    def observed(self) -> npt.NDArray[np.float64]:
        """Risk on the certification samples by setting, as a fraction."""
        return np.asarray(self.losses.mean(axis=0), np.float64)


def guess_variance(
    test: RiskTest, selection: Observed, path: Thresholds
) -> npt.NDArray[np.float32]:
    """Variance of the loss by setting, smoothed so that no setting looks free of risk."""
    found = test.losses(selection.full, selection.early(selection.taken(path)))
    return np.asarray(found.var(axis=0) + 1.0 / len(found), np.float32)


def walk(
    test: RiskTest,
    budget: Budget,
    path: Thresholds,
    certification: Observed,
    variance: npt.NDArray[np.float32],
) -> Walk:
    """Test the settings of `path` in order.

    Args:
        test: the risk.
        budget: points and confidence.
        path: frozen before the certification samples were looked at.
        certification: the policy on the certification samples, in random order.
        variance: by setting, from the selection samples.
    """
    taken = certification.taken(path)
    found = test.losses(certification.full, certification.early(taken))
    p = test.p_values(found, budget.points / 100, variance)
    failed = np.flatnonzero(p > 1 - budget.confidence)
    return Walk(int(failed[0]) if len(failed) else len(path), found, variance)

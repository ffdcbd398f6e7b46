"""Risks of an early answer, and how sure one can be that they stay within a budget.

Two risks, both against the full network's answer on the same sample:

- drop: full network right minus exited answer right, in {-1, 0, 1}; its mean is the fall in
  accuracy. Exits also mend errors, so it can be negative. Tested by betting (Waudby-Smith & Ramdas
  2024): under the null hypothesis "the mean is at least the budget" the capital
  prod(1 + bet * (budget - loss)) is a non-negative supermartingale, so it ever exceeds 1/p with
  probability at most p (Ville). A setting whose loss on the samples themselves is above the budget
  is never certified, whatever it won on the way: that only makes the test more cautious.
- flip: full network right and exited answer wrong, in {0, 1}; tested exactly (Clopper & Pearson
  1934). Without labels both risks are disagreement with the full network, and tested so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from offramp.passes.exits.result import Risk

Losses = npt.NDArray[np.float32]
"""[samples, settings], values in {-1, 0, 1}."""

BOLDNESS = 1.2
"""Bets relative to the one that grows fastest on average; more pays, since any moment may win."""

LARGEST_BET = 0.9
"""Fraction of the capital at stake in the worst case."""


@dataclass(frozen=True)
class RiskTest:
    """How one risk is measured and tested.

    confidence: that is aimed at, in (0, 1). labelled: whether the truth is labels; otherwise it is
    the full network's answer.
    """

    risk: Risk
    confidence: float
    labelled: bool

    @property
    def exact(self) -> bool:
        """Whether losses are 0 or 1, so that their number is binomial."""
        return self.risk == "flip" or not self.labelled

    def losses(self, full: npt.NDArray[np.bool_], early: npt.NDArray[np.bool_]) -> Losses:
        """Loss of each sample under each setting.

        Args:
            full: [N], the full network is right.
            early: [N, settings], the answer with exits is right.
        """
        reference = full[:, None]
        if self.risk == "flip":
            return np.asarray(reference & ~early, np.float32)
        return np.asarray(reference, np.float32) - np.asarray(early, np.float32)

    def p_values(
        self, found: Losses, budget: float, variance: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """p-value of "the risk is at least `budget`" for each setting.

        Args:
            found: losses in an order that does not depend on them.
            budget: as a fraction.
            variance: [settings], guessed from other samples; sets the size of the bets. A bad
                guess costs power, not validity.
        """
        if self.exact:
            return _binomial(found, budget)
        return _betting(found, budget, self.confidence, variance)

    def upper_bounds(
        self, found: Losses, variance: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """Upper confidence bound on the risk of each setting by itself, as a fraction."""
        columns = range(found.shape[1])
        return np.array([self._bound(found[:, [i]], variance[[i]]) for i in columns])

    def samples_needed(self, found: Losses, budget: float) -> npt.NDArray[np.float64]:
        """Samples that would certify each setting if losses stay as observed, or infinity.

        The capital grows by E[log(1 + bet * (budget - loss))] a sample, for the best bet.
        """
        bets = np.linspace(0.01, LARGEST_BET, 90)[:, None]
        growth = np.zeros((len(bets), found.shape[1]))
        for outcome in (-1.0, 0.0, 1.0):
            growth += (found == outcome).mean(axis=0) * np.log1p(bets * (budget - outcome))
        best = np.asarray(growth.max(axis=0), np.float64)
        needed = np.full(found.shape[1], np.inf)
        np.divide(-np.log(1 - self.confidence), best, out=needed, where=best > 1e-9)
        return np.asarray(np.ceil(needed), np.float64)

    def _bound(self, found: Losses, variance: npt.NDArray[np.float32]) -> float:
        """The smallest budget that would be certified, by bisection."""
        low, high = float(found.mean()), 1.0
        for _ in range(20):
            middle = (low + high) / 2
            if self.p_values(found, middle, variance)[0] <= 1 - self.confidence:
                high = middle
            else:
                low = middle
        return high


def _betting(
    found: Losses, budget: float, confidence: float, variance: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    count = len(found)
    spread = np.maximum(variance.astype(np.float64), 1.0 / count)
    bets = BOLDNESS * np.sqrt(-2 * np.log(1 - confidence) / (count * spread))
    bets = np.minimum(bets, LARGEST_BET)
    capital = np.cumsum(np.log1p(bets * (budget - found)), axis=0)
    fortune = np.exp(-np.maximum(capital.max(axis=0), 0.0))
    return np.asarray(np.where(found.mean(axis=0) <= budget, fortune, 1.0), np.float64)


def _binomial(found: Losses, budget: float) -> npt.NDArray[np.float64]:
    from scipy import stats

    count = np.rint(found.sum(axis=0))
    return np.asarray(stats.binom.cdf(count, len(found), budget), np.float64)

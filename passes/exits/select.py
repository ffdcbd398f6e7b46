"""Choose the policy whose certified cost promises to be lowest, on selection samples.

Certification will need slack: a setting with variance v passes on n samples if its risk lies about
z * sqrt(v / n) below the budget, and that risk is itself known from m selection samples only. So
the promise of a policy is the cost of the boldest setting on its path whose risk on the selection
samples lies z * sqrt(v / n + v / m) below the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from offramp.passes.exits.certify import guess_variance
from offramp.passes.exits.criteria import CRITERIA, Criterion, MaxSoftmax
from offramp.passes.exits.policy import Logits, Observed, Policy, Prices, Stage, answers, observe
from offramp.passes.exits.result import Budget
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.thresholds import Thresholds, threshold_path

SLACK = 1.5
"""Standard errors below the budget at which a setting is likely to pass."""

WEIGHTS = (0.25, 0.5)
"""Weights of an earlier answer that are tried, besides none. Heavier ones save a little more where
they were chosen and lose it on other samples."""

MOST_EXITS = 3

PAYS = 0.3
"""Fraction of the full cost that a further exit or a fancier rule must promise to save, times the
square root of the number of selection samples: less than that is noise."""


@dataclass(frozen=True)
class Evidence:
    """Answers on samples that trained nothing.

    heads: logits of all heads, [N, classes] each. full: logits of the network that the heads read.
    reference: classes [N] that the network given says; the same network, unless it was tuned.
    truth: classes [N], labels or the reference.
    """

    heads: tuple[Logits, ...]
    full: Logits
    reference: npt.NDArray[np.int64]
    truth: npt.NDArray[np.int64]

    def rows(self, index: npt.NDArray[np.int64]) -> Evidence:
        """The same for some of the samples."""
        heads = tuple(logits[index] for logits in self.heads)
        return Evidence(heads, self.full[index], self.reference[index], self.truth[index])

    def __add__(self, other: Evidence) -> Evidence:
        """Both sets of samples."""
        pairs = zip(self.heads, other.heads, strict=True)
        return Evidence(
            tuple(np.concatenate(pair) for pair in pairs),
            np.concatenate([self.full, other.full]),
            np.concatenate([self.reference, other.reference]),
            np.concatenate([self.truth, other.truth]),
        )

    def observe(self, policy: Policy, prices: Prices) -> Observed:
        """A policy on these samples."""
        return observe(
            policy,
            self.heads,
            self.full,
            reference=self.reference,
            truth=self.truth,
            spent=prices.costs(policy),
        )


def costs(seen: Observed, path: Thresholds) -> npt.NDArray[np.float64]:
    """Expected cost of every setting of a path, in the model's unit."""
    return np.array([spent.value for spent in seen.expected(seen.taken(path))])


@dataclass(frozen=True)
class Plan:
    """A policy with the path of thresholds to test.

    promise: expected cost that certification will probably allow, in the model's unit.
    """

    policy: Policy
    path: Thresholds
    variance: npt.NDArray[np.float32]
    promise: float


@dataclass(frozen=True)
class Selector:
    """Compares policies.

    selection: what they are compared on. training: what criteria are fitted on.
    certification_size: number of samples that will certify.
    slack: in standard errors.
    guard: paths end where the risk on these samples does not keep the budget at the confidence of
        the test, by the normal approximation; None: nowhere.
    """

    selection: Evidence
    training: Evidence
    prices: Prices
    test: RiskTest
    budget: Budget
    certification_size: int
    guard: Evidence | None
    seed: int
    slack: float = SLACK

    def plan(self, policy: Policy) -> Plan:
        """The path of a policy, as far as it keeps the budget on the guard."""
        seen = self.selection.observe(policy, self.prices)
        path = threshold_path(seen)
        taken = seen.taken(path)
        risk = self.test.losses(seen.full, seen.early(taken)).mean(axis=0)
        variance = guess_variance(self.test, seen, path)
        limit = self.budget.points / 100
        counts = np.array([self.certification_size, len(self.selection.truth)])
        slack = self.slack * np.sqrt(variance * (1.0 / counts).sum())
        likely = np.where(risk + slack <= limit, costs(seen, path), self.prices.whole.value)
        kept = self._guarded(policy, path)
        return Plan(policy, path[kept], variance[kept], float(likely.min()))

    def _guarded(self, policy: Policy, path: Thresholds) -> npt.NDArray[np.bool_]:
        """Settings before the first, other than the most cautious, that breaks the budget."""
        kept = np.ones(len(path), np.bool_)
        if self.guard is not None:
            seen = self.guard.observe(policy, self.prices)
            losses = self.test.losses(seen.full, seen.early(seen.taken(path)))
            quantile = max(0.0, NormalDist().inv_cdf(self.test.confidence))
            margin = quantile * losses.std(axis=0) / np.sqrt(len(losses))
            risk = np.maximum.accumulate(losses.mean(axis=0) + margin)
            kept[1:] = (risk <= self.budget.points / 100)[1:]
        return kept

    def best(self, heads: Sequence[int]) -> Plan | None:
        """The most promising plan that uses only `heads`; None if none saves anything.

        Exits are added one at a time, then rules and weights are varied.
        """
        best = self.grow(heads)
        if best is None:
            return None
        for variants in (self._weighted, self._other_criteria, self._weighted):
            varied = self._cheapest(variants(best.policy))
            if varied is not None and self._pays(varied, best):
                best = varied
        return best

    def grow(self, heads: Sequence[int]) -> Plan | None:
        """Exits under the simplest criterion, added one at a time while that promises to pay."""
        best: Plan | None = None
        for _ in range(MOST_EXITS):
            grown = self._cheapest(self._grown(best.policy if best else Policy(()), heads))
            if grown is None or not self._pays(grown, best):
                break
            best = grown
        return best

    def without_slack(self, budget: Budget) -> Selector:
        """The same for another budget, whatever certification asks for."""
        return replace(self, budget=budget, slack=0.0, guard=None)

    def cheapest(self, plan: Plan, passed: int, certification: Observed) -> int | None:
        """Of the first `passed` settings of a path the one that costs least on the selection
        samples; None if it is no cheaper than the full network there or on those that certify."""
        tested = plan.path[:passed]
        if not len(tested):
            return None
        seen = self.selection.observe(plan.policy, self.prices)
        expected = [costs(samples, tested) for samples in (seen, certification)]
        chosen = int(np.argmin(expected[0]))
        whole = self.prices.whole.value
        return chosen if all(cost[chosen] < whole for cost in expected) else None

    def _cheapest(self, policies: Iterator[Policy]) -> Plan | None:
        plans = [self.plan(policy) for policy in policies]
        return min(plans, key=lambda plan: plan.promise, default=None)

    def _pays(self, plan: Plan, before: Plan | None) -> bool:
        whole = self.prices.whole.value
        bar = whole if before is None else before.promise
        return bool(plan.promise < bar - PAYS * whole / np.sqrt(len(self.selection.truth)))

    def _grown(self, policy: Policy, heads: Sequence[int]) -> Iterator[Policy]:
        """One more exit, anywhere in the order of points and, at one point, of cost."""
        used = {stage.head for stage in policy.stages}
        for head in heads:
            if head not in used:
                stages = sorted((*policy.stages, Stage(head, MaxSoftmax())), key=self._order)
                yield Policy(tuple(stages), policy.final_weight)

    def _order(self, stage: Stage) -> tuple[int, float]:
        graph = self.prices.graphs[stage.head]
        return graph.point.position, self.prices.heads[stage.head].value

    def _weighted(self, policy: Policy) -> Iterator[Policy]:
        """Answers that build on the ones before, and those that do not."""
        for weight in (0.0, *WEIGHTS):
            yield Policy(policy.stages, weight)
            for position, stage in enumerate(policy.stages[1:], start=1):
                changed = Stage(stage.head, stage.criterion, weight)
                stages = (*policy.stages[:position], changed, *policy.stages[position + 1 :])
                yield Policy(stages, policy.final_weight)

    def _other_criteria(self, policy: Policy) -> Iterator[Policy]:
        """The same exits under every other criterion, fitted where it learns."""
        for criterion in CRITERIA:
            if criterion.looks_back and len(policy.stages) < 2:
                continue
            yield self.under(policy, criterion)

    def under(self, policy: Policy, criterion: Criterion) -> Policy:
        """`policy` with another criterion at all exits."""
        given = answers(policy, self.training.heads)
        full = self.training.reference == self.training.truth
        stages: list[Stage] = []
        for position, stage in enumerate(policy.stages):
            right = given[position].argmax(axis=1) == self.training.truth
            gain = right.astype(np.float32) - full
            fitted = criterion.fit(given[: position + 1], gain, self.seed)
            stages.append(Stage(stage.head, fitted, stage.weight))
        return Policy(tuple(stages), policy.final_weight)

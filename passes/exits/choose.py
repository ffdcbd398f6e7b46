"""From all heads to the trained few, and the policy they are chosen for.

Few samples cannot be parted into some that train and some that choose: there the parts take turns
(cross-validation, Stone 1974). Heads trained without a part answer for it, and what is chosen by
these answers is then done with heads that were trained on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from offramp.passes.exits.result import Budget
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.search import HeadSearch, Span
from offramp.passes.exits.select import Evidence, Plan, Selector
from offramp.passes.exits.task import NoExitsError
from offramp.passes.exits.training import TrainingSet

LOOSER = (2.0, 5.0, 10.0)
"""Points added to the budget when half-trained heads are compared; one policy for each."""

FITTING = 2000
"""Training samples that criteria are fitted on."""


@dataclass(frozen=True)
class Trained:
    """Outcome of the training: the best plan, if any promises a saving.

    search: with the heads as they are now. data: what they were trained on.
    finalists: indices of the heads that were trained to the end.
    """

    search: HeadSearch
    data: TrainingSet
    selector: Selector
    plan: Plan | None
    finalists: tuple[int, ...]


@dataclass(frozen=True)
class Learner:
    """A search with what its heads are trained on."""

    search: HeadSearch
    data: TrainingSet


def train_and_choose(search: HeadSearch, budget: Budget) -> Trained:
    """Train all heads a little and the most promising to the end (successive halving).

    Raises:
        NoExitsError: there is no place for a head.
    """
    search.build()
    if not search.modules:
        raise NoExitsError(_nowhere(search))
    whole = Learner(search, search.training_set())
    folds = [without(whole, rows) for rows in search.split.folds]
    judges = folds or [whole]
    spans = Span("comparing heads", 0.1, 0.3).steps(len(judges))
    for judge, span in zip(judges, spans, strict=True):
        samples = search.recipe.screening_samples
        judge.search.train(judge.search.modules, judge.data, samples, span)
    finalists = search.sharing(_finalists(_selector(search, folds, budget)))
    learners = [*folds, whole]
    spans = Span("training heads", 0.3, 0.95).steps(len(learners))
    for learner, span in zip(learners, spans, strict=True):
        learner.search.finish(finalists, learner.data, span)
    selector = _selector(search, folds, budget)
    search.progress("choosing exits", 0.96)
    plan = selector.best(finalists) or selector.without_slack(budget).best(finalists)
    return Trained(search, whole.data, selector, plan, finalists)


def without(whole: Learner, rows: npt.NDArray[np.int64]) -> Learner:
    """The same heads, to be trained without some of the samples, for which they will answer."""
    split, everyone = whole.search.split, whole.search.split.train
    others = np.setdiff1d(np.arange(everyone.count), rows)
    train, selection = everyone.rows(others), everyone.rows(rows)
    parts = replace(split, train=train, selection=selection, folds=())
    search = replace(whole.search, split=parts, modules=[], refused=[])
    search.build()
    return Learner(search, whole.data.rows(others))


def selector_of(search: HeadSearch, budget: Budget) -> Selector:
    """Compares policies over the heads as they are now."""
    split = search.split
    fitting = split.train.rows(np.arange(min(FITTING, split.train.count)))
    return _compare(search, search.evidence(split.selection), search.evidence(fitting), budget)


def _selector(search: HeadSearch, folds: Sequence[Learner], budget: Budget) -> Selector:
    if not folds:
        return selector_of(search, budget)
    answers = reduce(add, (fold.search.evidence(fold.search.split.selection) for fold in folds))
    return _compare(search, answers, answers, budget)


def _compare(search: HeadSearch, chosen: Evidence, training: Evidence, budget: Budget) -> Selector:
    split = search.split
    guard = None if split.held_out is None else search.evidence(split.held_out)
    return Selector(
        selection=chosen if guard is None else chosen + guard,
        training=training,
        prices=search.prices(),
        test=RiskTest(budget.risk, budget.confidence, split.certification.labels is not None),
        budget=budget,
        certification_size=split.certification.count,
        guard=guard,
        seed=search.seed,
    )


def _nowhere(search: HeadSearch) -> str:
    """Why no head could be built."""
    if not search.refused:
        return (
            "there is no place for an exit: no tensor between the first layer and the last is "
            "crossed by every path"
        )
    point, head, reason = search.refused[0]
    return f"no head fits anywhere; {head} after {point.name!r}, for example, {reason}"


def _finalists(selector: Selector) -> tuple[int, ...]:
    """Heads worth training on: those of the best policies at looser budgets.

    Half-trained heads would save little at the budget asked for. Where even loose ones allow
    nothing, the head that agrees most often with the full network, for its price, is trained.
    """
    found: dict[int, None] = {}
    for more in LOOSER:
        budget = replace(selector.budget, points=min(99.0, selector.budget.points + more))
        plan = selector.without_slack(budget).grow(range(len(selector.prices.graphs)))
        if plan is not None:
            found |= {stage.head: None for stage in plan.policy.stages}
    if found:
        return tuple(found)
    prices, evidence = selector.prices, selector.selection
    whole = prices.whole.value
    worth = [
        float((logits.argmax(axis=1) == evidence.reference).mean())
        - (graph.point.spent.value + head.value) / whole
        for logits, graph, head in zip(evidence.heads, prices.graphs, prices.heads, strict=True)
    ]
    return (int(np.argmax(worth)),)

"""Finetuning as a step of the search: network and heads together, then chosen again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.choose import Trained, selector_of
from offramp.passes.exits.finetune import FinetuneRecipe, Member, finetune
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.policy import Stage
from offramp.passes.exits.result import Budget
from offramp.passes.exits.search import Span
from offramp.passes.exits.trainable import HeadModule


def tune(trained: Trained, budget: Budget, recipe: FinetuneRecipe | None = None) -> Trained:
    """Train the network and the heads of the plan together, if that promises to save more.

    Without a plan the finalists are tuned: together with the network they may become good enough.

    Args:
        trained: the search with the network frozen; stays as it is.
        budget: relative to the network given, which is still the teacher.
        recipe: default: `FinetuneRecipe()`.
    """
    stages = _stages(trained)
    if not stages:
        return trained
    frozen = trained.search
    members = _members(frozen.modules, stages)
    tuned = finetune(
        frozen.program,
        members,
        trained.data,
        recipe=recipe or FinetuneRecipe(),
        seed=frozen.seed,
        progress=Span("training network and heads together", 0.95, 0.99).report(frozen.progress),
    )
    search = replace(
        frozen,
        program=tuned.program,
        task=tuned.task,
        backbone=Backbone(tuned.program, tuned.task),
        modules=list(tuned.modules),
    )
    selector = selector_of(search, budget)
    finalists = tuple(range(len(search.heads)))
    plan = selector.best(finalists)
    after = Trained(search, trained.data, selector, plan, finalists)
    before = trained.plan
    if plan is None or (before is not None and before.promise <= plan.promise):
        return trained
    return after


def _stages(trained: Trained) -> Sequence[Stage]:
    if trained.plan is not None:
        return trained.plan.policy.stages
    from offramp.passes.exits.criteria import MaxSoftmax

    prices = trained.selector.prices
    order = sorted(
        trained.finalists,
        key=lambda i: (prices.graphs[i].point.position, prices.heads[i].value),
    )
    return [Stage(index, MaxSoftmax()) for index in order]


def _members(modules: Sequence[HeadModule], stages: Sequence[Stage]) -> list[Member]:
    """Copies of the heads that the stages use; those that share layers still do."""
    heads = [head for module in modules for head in module.heads]
    used = [heads[stage.head] for stage in stages]
    kept = [(module, [head for head in module.heads if head in used]) for module in modules]
    copies = [_copy(module, heads) for module, heads in kept if heads]
    places = {head: (copy, k) for copy in copies for k, head in enumerate(copy.heads)}
    return [Member(*places[head], stage.weight) for head, stage in zip(used, stages, strict=True)]


def _copy(module: HeadModule, heads: Sequence[HeadGraph]) -> HeadModule:
    """A copy of some of a module's heads."""
    copy = HeadModule(*heads)
    weights = module.state_dict()
    copy.load_state_dict({name: weights[name] for name in copy.state_dict()})
    return copy.eval()

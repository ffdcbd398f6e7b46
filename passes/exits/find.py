"""From a network and samples to a Program with certified exits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offramp.compiler.errors import UnsupportedError, UserError
from offramp.compiler.ir import Program
from offramp.cost_models.base import CostModel
from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.candidates import nodes_cost
from offramp.passes.exits.certify import Walk, walk
from offramp.passes.exits.choose import Trained, train_and_choose
from offramp.passes.exits.insert import ExitSpec, InsertExits
from offramp.passes.exits.policy import Observed
from offramp.passes.exits.report import candidates_of, certificate_of, curve_of, exits_of
from offramp.passes.exits.result import Budget, ExitData, ExitResult, Progress, Spent
from offramp.passes.exits.search import HeadSearch
from offramp.passes.exits.select import Plan, costs
from offramp.passes.exits.split import split
from offramp.passes.exits.task import NoExitsError, task_of
from offramp.passes.exits.training import Recipe
from offramp.passes.exits.tune import tune


def find_exits(
    program: Program,
    data: ExitData,
    budget: Budget,
    model: CostModel,
    *,
    seed: int = 0,
    finetune: bool = False,
    recipe: Recipe | None = None,
    progress: Progress = lambda activity, done: None,
) -> ExitResult:
    """Add the exits that minimise expected cost within a certified budget.

    The certificate says: with the confidence asked for, taken over the draw of the certification
    samples, the risk on their population is within the budget. Equal arguments give equal results.

    Args:
        program: a straight-line classification; anything else comes back as it is, with a reason,
            and so does a network with an operator that torch cannot run.
        data: samples with inputs as the Program declares them, but for the batch axis.
        budget: risk, points and confidence.
        model: what costs are counted in.
        finetune: train the network and the chosen heads together before certifying; the budget
            stays relative to the network given.
        seed: of the split, initial weights, order of training and alterations.
        recipe: how heads are trained; default: `Recipe.suited_to` them.
        progress: called now and then.

    Raises:
        UserError: samples or labels are unusable, or the budget makes no sense.
    """
    _check(budget)
    static = nodes_cost([n for block in program.blocks.values() for n in block.graph], model)
    try:
        search = start_search(
            program, data, model, seed=seed, recipe=recipe, progress=progress, folds=not finetune
        )
        trained = train_and_choose(search, budget)
        if finetune:
            trained = tune(trained, budget)
    except (NoExitsError, UnsupportedError) as error:
        return ExitResult(program, None, str(error), (), (), (), static)
    result = conclude(trained, budget, static)
    return result if result.certificate is not None else replace(result, program=program)


def start_search(
    program: Program,
    data: ExitData,
    model: CostModel,
    *,
    seed: int,
    recipe: Recipe | None,
    progress: Progress,
    folds: bool = True,
) -> HeadSearch:
    """A search whose samples are dealt out and whose heads are still to be built.

    `folds`: whether few samples may take turns in training and choosing. A network that is trained
    as well would have to be trained once for each turn.

    Raises:
        NoExitsError: the network cannot have exits.
        UserError: samples or labels are unusable.
    """
    task = task_of(program)
    backbone = Backbone(program, task)
    parts = split(data, task, seed, folds=folds)
    return HeadSearch(
        program=program,
        task=task,
        backbone=backbone,
        reference=backbone,
        split=parts,
        model=model,
        recipe=recipe or Recipe.suited_to(parts.train.count),
        seed=seed,
        progress=progress,
    )


def conclude(trained: Trained, budget: Budget, static: Spent) -> ExitResult:
    """Certify the plan and insert its exits, or say why not."""
    search, plan = trained.search, trained.plan
    if plan is None:
        reason = (
            "no exit promises to save anything within the budget: the heads that were tried are "
            "not right often enough where they are sure"
        )
        candidates = candidates_of(search, trained, None)
        return ExitResult(search.program, None, reason, (), candidates, (), static)
    evidence = search.evidence(search.split.certification)
    seen = evidence.observe(plan.policy, trained.selector.prices)
    walked = walk(trained.selector.test, budget, plan.path, seen, plan.variance)
    chosen = trained.selector.cheapest(plan, walked.passed, seen)
    search.progress("certified", 1.0)
    curve = curve_of(plan, walked, seen, trained.selector.test, chosen)
    if chosen is None:
        reason, needed = _shortfall(plan, walked, seen, trained, budget)
        candidates = candidates_of(search, trained, None)
        return ExitResult(search.program, None, reason, (), candidates, curve, static, needed)
    exits = exits_of(search, plan, seen, chosen)
    certificate = certificate_of(trained.selector.test, budget, walked, chosen)
    inserted = insert_plan(search, plan, seen, chosen)
    candidates = candidates_of(search, trained, plan)
    return ExitResult(inserted, certificate, None, exits, candidates, curve, static)


def _shortfall(
    plan: Plan, walked: Walk, seen: Observed, trained: Trained, budget: Budget
) -> tuple[str, int | None]:
    """Why nothing was certified, and how many samples would do."""
    test, count = trained.selector.test, len(seen.full)
    saves = costs(seen, plan.path) < trained.selector.prices.whole.value
    needed = test.samples_needed(walked.losses, budget.points / 100)[saves]
    start = (
        f"{count} certification samples do not certify {budget.points:g} points at "
        f"{budget.confidence:.0%} for any exit that saves something"
    )
    if not len(needed) or not np.isfinite(needed.min()):
        return (
            f"{start}: the risk observed is too near the budget, more samples would not help",
            None,
        )
    total = max(int(needed.min()), count + 1)
    return f"{start}: about {total} would be needed at the risk observed", total


def insert_plan(search: HeadSearch, plan: Plan, seen: Observed, chosen: int) -> Program:
    """The Program with one setting of a plan; rates are those on the samples of `seen`."""
    thresholds = plan.path[chosen]
    taken = seen.taken(plan.path[[chosen]])[:, 0]
    heads = search.trained()
    specs: list[ExitSpec] = []
    for position, stage in enumerate(plan.policy.stages):
        left = taken == position
        specs.append(
            ExitSpec(
                head=heads[stage.head],
                criterion=stage.criterion,
                threshold=float(thresholds[position]),
                weight=stage.weight,
                reach=float((taken >= position).mean()),
                rate=float(left.mean()),
                accuracy=float(seen.right[position][left].mean()) if left.any() else None,
            )
        )
    stay = taken == len(specs)
    insert = InsertExits(
        tuple(specs),
        plan.policy.final_weight,
        float(stay.mean()),
        float(seen.right[-1][stay].mean()) if stay.any() else None,
    )
    return insert(search.program)


def _check(budget: Budget) -> None:
    if not 0 < budget.points < 100:
        raise UserError(f"the budget is {budget.points:g} points: expected between 0 and 100")
    if not 0 < budget.confidence < 1:
        raise UserError(f"the confidence is {budget.confidence:g}: expected between 0 and 1")

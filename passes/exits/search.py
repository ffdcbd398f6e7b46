"""Heads from the first candidate to the trained few, and the policy they are chosen for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from offramp.compiler.ir import Program
from offramp.cost_models.base import CostModel
from offramp.passes.exits.augmentation import accepted
from offramp.passes.exits.backbone import Backbone, take
from offramp.passes.exits.candidates import Point, candidate_points, nodes_cost
from offramp.passes.exits.copies import CannotCopyError, copied_nodes, copy_head
from offramp.passes.exits.heads import HeadGraph, fresh_heads
from offramp.passes.exits.policy import Prices
from offramp.passes.exits.result import Budget, Progress
from offramp.passes.exits.risk import RiskTest
from offramp.passes.exits.select import Evidence, Plan, Selector
from offramp.passes.exits.split import Part, Split
from offramp.passes.exits.task import NoExitsError, Task
from offramp.passes.exits.trainable import TrainableHead
from offramp.passes.exits.training import Recipe, TrainingSet, head_logits, train

COPY_RANKS = (None, 2)
"""Dense copies, and copies with convolutions decoupled by this rank."""

LARGEST_HEAD = 0.35
"""Heads that cost more than this fraction of the network are not considered."""

LOOSER = (2.0, 5.0, 10.0)
"""Points added to the budget when half-trained heads are compared; one policy for each."""

FITTING = 2000
"""Training samples that criteria are fitted on."""

STATISTICS = 256
"""Training samples that the statistics of warm starts are measured on."""


@dataclass
class HeadSearch:
    """Heads of one network, trained on one split.

    reference: the network given. backbone: the network that heads read; the same unless tuned.
    refused: (point, family, reason) of heads that were never built.
    """

    program: Program
    task: Task
    backbone: Backbone
    reference: Backbone
    split: Split
    model: CostModel
    recipe: Recipe
    seed: int
    progress: Progress
    heads: list[TrainableHead] = field(default_factory=list)
    refused: list[tuple[Point, str, str]] = field(default_factory=list)

    def build(self) -> None:
        """Write all heads of all families at all points."""
        random = np.random.default_rng(self.seed)
        whole = nodes_cost(list(self.task.graph), self.model).value
        opsets = self.program.opset_imports
        for point in candidate_points(self.task, self.model):
            fresh = fresh_heads(
                point, self.task.classes, opsets, model=self.model, whole=whole, rng=random
            )
            for head in [*fresh, *self._copies(point)]:
                if head.cost(self.model).value > LARGEST_HEAD * whole:
                    reason = f"costs more than {LARGEST_HEAD:.0%} of the network"
                    self.refused.append((point, head.name, reason))
                    continue
                self.heads.append(TrainableHead(head))

    def _copies(self, point: Point) -> list[HeadGraph]:
        found: list[HeadGraph] = []
        try:
            nodes = copied_nodes(self.task, point)
            outputs = [node.outputs[0] for node in nodes if node.op_type == "Conv"]
            probes = take(self.split.train.samples, slice(STATISTICS))
            statistics = self.backbone.statistics(probes, outputs) if outputs else {}
            for rank in COPY_RANKS:
                head = copy_head(self.task, point, self.program.opset_imports, statistics, rank)
                if len(head.nodes) not in {len(other.nodes) for other in found}:
                    found.append(head)
        except CannotCopyError as error:
            self.refused.append((point, "copy", str(error)))
        return found

    def training_set(self) -> TrainingSet:
        """Views of the training samples, altered as far as the network does not mind."""
        part = self.split.train
        truth = part.labels
        if truth is None:
            truth = self.backbone.all_logits(part.samples).argmax(axis=1)
        alterations = accepted(self.backbone, part.samples, truth, self.seed)
        names = ", ".join(a.name for a in alterations) or "none"
        return TrainingSet(
            self.backbone,
            part.samples,
            part.labels,
            alterations=alterations,
            views=self.recipe.views,
            seed=self.seed,
            progress=Span(f"answers of the network (altered by: {names})", 0.0, 0.1).report(
                self.progress
            ),
        )

    def evidence(self, part: Part) -> Evidence:
        """Answers of all heads on some samples."""
        full = self.backbone.all_logits(part.samples)
        given = full
        if self.reference is not self.backbone:
            given = self.reference.all_logits(part.samples)
        reference = given.argmax(axis=1)
        heads = head_logits(self.heads, self.backbone, part.samples)
        truth = reference if part.labels is None else part.labels
        return Evidence(tuple(heads), full, reference, truth)

    def prices(self) -> Prices:
        """Costs of policies over the heads."""
        graphs = tuple(head.head for head in self.heads)
        entry = self.program.entry
        whole = nodes_cost(list(entry.graph), self.model)
        step = self.model.block(entry) - whole.value
        heads = tuple(graph.cost(self.model) for graph in graphs)
        opsets = dict(self.program.opset_imports)
        return Prices(self.task, opsets, self.model, heads, graphs, whole, step)

    def train(self, indices: Sequence[int], data: TrainingSet, samples: float, span: Span) -> None:
        """Train some heads together; `samples`: altered samples that each of them sees."""
        chosen = [self.heads[i] for i in indices]
        report = span.report(self.progress)
        train(chosen, data, samples, recipe=self.recipe, seed=self.seed, progress=report)

    def finish(self, finalists: Sequence[int], data: TrainingSet, span: Span) -> None:
        """Train heads to the end, point by point.

        Features of late points are dear and need little more: such heads see fewer samples.
        """
        whole = nodes_cost(list(self.task.graph), self.model).value
        points = list(dict.fromkeys(self.heads[i].head.point for i in finalists))
        for number, point in enumerate(points):
            here = [i for i in finalists if self.heads[i].head.point == point]
            samples = self.recipe.samples * (1.0 - point.spent.value / whole) ** 2
            step = (span.end - span.start) / len(points)
            start = span.start + number * step
            activity = f"{span.activity} at {point.name!r}"
            self.train(here, data, samples, Span(activity, start, start + step))


@dataclass(frozen=True)
class Span:
    """A part of the search's progress: what it does, and from which fraction to which."""

    activity: str
    start: float
    end: float

    def report(self, progress: Progress) -> Callable[[float], None]:
        """Progress of this part as progress of the whole."""
        return lambda done: progress(self.activity, self.start + done * (self.end - self.start))


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


def train_and_choose(search: HeadSearch, budget: Budget) -> Trained:
    """Train all heads a little and the most promising to the end (successive halving).

    Raises:
        NoExitsError: there is no place for a head.
    """
    search.build()
    if not search.heads:
        raise NoExitsError(_nowhere(search))
    data = search.training_set()
    everyone = range(len(search.heads))
    recipe = search.recipe
    search.train(everyone, data, recipe.screening_samples, Span("comparing heads", 0.1, 0.3))
    finalists = _finalists(selector_of(search, budget))
    search.finish(finalists, data, Span("training heads", 0.3, 0.95))
    selector = selector_of(search, budget)
    search.progress("choosing exits", 0.96)
    plan = selector.best(finalists) or selector.without_slack(budget).best(finalists)
    return Trained(search, data, selector, plan, finalists)


def _nowhere(search: HeadSearch) -> str:
    """Why no head could be built."""
    if not search.refused:
        return (
            "there is no place for an exit: no tensor between the first layer and the last is "
            "crossed by every path"
        )
    point, head, reason = search.refused[0]
    return f"no head fits anywhere; {head} after {point.name!r}, for example, {reason}"


def selector_of(search: HeadSearch, budget: Budget) -> Selector:
    """Compares policies over the heads as they are now."""
    split = search.split
    chosen = search.evidence(split.selection)
    guard = None if split.held_out is None else search.evidence(split.held_out)
    if guard is not None:
        chosen = chosen + guard
    fitting = split.train.rows(np.arange(min(FITTING, split.train.count)))
    return Selector(
        selection=chosen,
        training=search.evidence(fitting),
        prices=search.prices(),
        test=RiskTest(budget.risk, budget.confidence, split.certification.labels is not None),
        budget=budget,
        certification_size=split.certification.count,
        guard=guard,
        seed=search.seed,
    )


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

"""All heads of one network: written, trained, and asked for their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from offramp.compiler.ir import Program
from offramp.cost_models.base import CostModel
from offramp.passes.exits.augmentation import accepted
from offramp.passes.exits.backbone import Backbone, take, tensors
from offramp.passes.exits.candidates import Point, candidate_points, nodes_cost
from offramp.passes.exits.copies import CannotCopyError, copied_nodes, copy_head
from offramp.passes.exits.early import early_heads
from offramp.passes.exits.heads import HeadGraph, fresh_heads
from offramp.passes.exits.policy import Prices
from offramp.passes.exits.result import Progress
from offramp.passes.exits.select import Evidence
from offramp.passes.exits.split import Part, Split
from offramp.passes.exits.task import Task
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import Recipe, TrainingSet, head_logits, train
from offramp.passes.quantize.sites import given_scale

COPY_RANKS = (None, 2)
"""Dense copies, and copies with convolutions decoupled by this rank."""

LARGEST_HEAD = 0.35
"""Heads that cost more than this fraction of the network are not considered."""

STATISTICS = 256
"""Training samples that the statistics of warm starts are measured on."""

RANGE_SAMPLES = 512
"""Training samples from which the ranges of integer heads are taken."""


@dataclass
class HeadSearch:
    """Heads of one network, trained on one split.

    reference: the network given. backbone: the network that heads read; the same unless tuned.
    modules: heads that share layers together, others alone.
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
    modules: list[HeadModule] = field(default_factory=list)
    refused: list[tuple[Point, str, str]] = field(default_factory=list)

    @property
    def heads(self) -> list[HeadGraph]:
        """All heads, as they were before training; what the indices in stages refer to."""
        return [head for module in self.modules for head in module.heads]

    def trained(self) -> list[HeadGraph]:
        """All heads with their current weights."""
        return [head for module in self.modules for head in module.trained()]

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
                self.modules.append(HeadModule(*self._early(head, random), head))

    def _early(self, head: HeadGraph, random: np.random.Generator) -> list[HeadGraph]:
        """Answers on the way through a copy; a fresh head is small enough to be gone through."""
        if head.fresh or not self.recipe.early:
            return []
        opsets = self.program.opset_imports
        return early_heads(head, self.task.classes, opsets, model=self.model, rng=random)

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
            truth = self.backbone.logits(part.samples).argmax(axis=1)
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
        full = self.backbone.logits(part.samples)
        given = full
        if self.reference is not self.backbone:
            given = self.reference.logits(part.samples)
        reference = given.argmax(axis=1)
        heads = head_logits(self.modules, self.backbone, part.samples)
        truth = reference if part.labels is None else part.labels
        return Evidence(tuple(heads), full, reference, truth)

    def prices(self) -> Prices:
        """Costs of policies over the heads."""
        entry = self.program.entry
        whole = nodes_cost(list(entry.graph), self.model)
        step = self.model.block(entry) - whole.value
        opsets = dict(self.program.opset_imports)
        return Prices(self.task, opsets, self.model, tuple(self.heads), whole, step)

    def sharing(self, heads: Sequence[int]) -> tuple[int, ...]:
        """Indices of `heads` and of all that share layers with them."""
        every = range(len(self.heads))
        owners = [number for number, module in enumerate(self.modules) for _ in module.heads]
        wanted = {owners[i] for i in heads}
        return tuple(i for i in every if owners[i] in wanted)

    def train(
        self, modules: Sequence[HeadModule], data: TrainingSet, samples: float, span: Span
    ) -> None:
        """Train some heads together; `samples`: altered samples that each of them sees."""
        report = span.report(self.progress)
        train(modules, data, samples, recipe=self.recipe, seed=self.seed, progress=report)

    def finish(self, finalists: Sequence[int], data: TrainingSet, span: Span) -> None:
        """Train heads to the end, with all that share layers with them, point by point.

        Features of late points are dear and need little more: such heads see fewer samples, and so
        do those that share a point and its time.
        """
        whole = nodes_cost(list(self.task.graph), self.model).value
        wanted = {self.heads[i] for i in finalists}
        chosen = [module for module in self.modules if wanted & set(module.heads)]
        points = list(dict.fromkeys(module.point for module in chosen))
        for point, step in zip(points, span.steps(len(points)), strict=True):
            here = [module for module in chosen if module.point == point]
            samples = self.recipe.samples / len(here) * (1.0 - point.spent.value / whole) ** 2
            activity = f"{span.activity} at {point.name!r}"
            self.train(here, data, samples, replace(step, activity=activity))
            self._quantise(here, point)

    def _quantise(self, modules: Sequence[HeadModule], point: Point) -> None:
        """Bring trained heads to integers, if the network is."""
        if given_scale(point.value) is None:
            return
        probes = tensors(take(self.split.train.samples, slice(RANGE_SAMPLES)))
        (features,) = self.backbone.features(probes, [point])
        for module in modules:
            module.quantise(features, self.program.opset_imports, self.seed)


@dataclass(frozen=True)
class Span:
    """A part of the search's progress: what it does, and from which fraction to which."""

    activity: str
    start: float
    end: float

    def steps(self, count: int) -> list[Span]:
        """Equal parts, in order."""
        width = (self.end - self.start) / count
        starts = [self.start + i * width for i in range(count)]
        return [Span(self.activity, start, start + width) for start in starts]

    def report(self, progress: Progress) -> Callable[[float], None]:
        """Progress of this part as progress of the whole."""
        return lambda done: progress(self.activity, self.start + done * (self.end - self.start))

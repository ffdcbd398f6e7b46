"""Train heads on features of the frozen network: labels where there are any, and distillation.

Altered training samples go through the frozen network, so features and targets belong together
(a consistent teacher, Beyer et al. 2022). A few views of the training set are drawn beforehand and
the network's answers to them kept, since they cost more than the heads. Where mirror images are
among them, the teacher is the mean over both orientations: a better answer than either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.passes.exits.augmentation import MIRROR, Alteration, alter, mirrored
from offramp.passes.exits.backbone import Backbone, chunks, count_of, tensors
from offramp.passes.exits.candidates import Point
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.result import Samples
from offramp.passes.exits.trainable import HeadModule

SHORTEST_CYCLE = 10
"""Steps of a learning-rate cycle, at least: one of five would rise within no time."""

COPY_PACE = 0.75
"""Learning rate of copies relative to that of side networks: they know most already."""

MANY = 5_000
"""Training samples from which on the default recipe is suitable."""

FEWEST_STEPS = 60
"""Short trainings take smaller batches rather than fewer steps."""

SMALLEST_BATCH = 32
"""Below, the statistics of a batch are too rough to normalise by."""


@dataclass(frozen=True)
class Recipe:
    """How heads are trained; the defaults suit thousands of training samples.

    batch: samples in a step, at most.
    rate, dense_rate: peak learning rates of side networks and of dense heads, which read
        standardised features and need few, large steps; copies take `COPY_PACE` times `rate`. For
        a full batch; for a smaller one, smaller in proportion (Goyal et al. 2017).
    decay: of AdamW.
    temperature: of the distillation. label_weight: of the cross-entropy with labels, in [0, 1]; the
        rest is distillation.
    views: altered copies of the training set, mirror images counted.
    screening_samples, samples: how many altered samples a head sees when all are compared, and
        when the best are trained on.
    most_epochs: bound on passes over the training set, for small ones.
    early: whether copies get answers part of the way through.
    """

    batch: int = 256
    rate: float = 0.024
    dense_rate: float = 0.04
    decay: float = 0.05
    temperature: float = 4.0
    label_weight: float = 0.5
    views: int = 20
    screening_samples: int = 8_000
    samples: int = 900_000
    most_epochs: int = 150
    early: bool = True

    @classmethod
    def suited_to(cls, count: int) -> Recipe:
        """For so many training samples. A few hundred make a copy forget what it knew if steps are
        large or early answers share its layers."""
        if count >= MANY:
            return cls()
        return cls(batch=128, rate=4e-3, dense_rate=0.02, temperature=2.0, early=False)

    def epochs(self, samples: float, count: int) -> int:
        """Passes over `count` training samples that show about `samples`."""
        return min(max(1, round(samples / count)), self.most_epochs)


class TrainingSet:
    """Views of the training samples with the full network's answers.

    Args:
        backbone: the frozen network.
        samples: unaltered. labels: int64 [N], or None to distil only.
        alterations: applied to every view but the first. views: see `Recipe`. seed: draws them.
        progress: called with the fraction done.
    """

    def __init__(
        self,
        backbone: Backbone,
        samples: Samples,
        labels: npt.NDArray[np.int64] | None,
        *,
        alterations: tuple[Alteration, ...],
        views: int,
        seed: int,
        progress: Callable[[float], None],
    ) -> None:
        self.backbone = backbone
        self.count = count_of(samples)
        self.labels = None if labels is None else torch.from_numpy(labels)
        # Without labels the network's own answer is the truth, in the orientation that was asked.
        self._both_ways = MIRROR in alterations and labels is not None
        self._alterations = tuple(a for a in alterations if not (self._both_ways and a == MIRROR))
        self.views = 1
        if self._alterations:
            self.views = max(1, views // 2) if self._both_ways else views
        self._samples = samples
        self._rows = torch.arange(self.count)
        self._seed = seed
        self._teacher: list[Tensor] = []
        for view in range(self.views):
            self._teacher.append(self._answers(self._view(view)))
            progress((view + 1) / self.views)

    def rows(self, index: npt.NDArray[np.int64]) -> TrainingSet:
        """Some of the samples, altered as they are here; the answers are shared."""
        part = copy(self)
        part._rows = self._rows[torch.from_numpy(index)]
        part.count = len(index)
        return part

    def batches(
        self, view: int, points: Sequence[Point], size: int, generator: torch.Generator
    ) -> Iterator[tuple[list[Tensor], Tensor, Tensor | None]]:
        """Shuffled batches of one view: features at `points`, the network's logits, labels."""
        for batch, teacher, labels in self.altered(view, size, generator):
            yield self.backbone.features(batch, points), teacher, labels

    def altered(
        self, view: int, size: int, generator: torch.Generator
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor | None]]:
        """Shuffled batches of one view: the samples themselves, the network's logits, labels."""
        view %= self.views
        altered, teacher = self._view(view), self._teacher[view]
        order = self._rows[torch.randperm(self.count, generator=generator)]
        size = min(size, self.count)
        for start in range(0, self.count - size + 1, size):
            index = order[start : start + size]
            batch = {name: x[index] for name, x in altered.items()}
            if self._both_ways:
                batch = alter(batch, (MIRROR,), generator)
            labels = None if self.labels is None else self.labels[index]
            yield batch, teacher[index], labels

    def _answers(self, altered: dict[str, Tensor]) -> Tensor:
        ways = [altered, mirrored(altered)] if self._both_ways else [altered]
        answers = [self.backbone.logits({n: x.numpy() for n, x in way.items()}) for way in ways]
        return torch.from_numpy(np.mean(answers, axis=0, dtype=np.float32))

    def _view(self, view: int) -> dict[str, Tensor]:
        samples = tensors(self._samples)
        if view == 0:
            return samples
        generator = torch.Generator().manual_seed(self._seed * 1009 + view)
        return alter(samples, self._alterations, generator)


def train(
    modules: Sequence[HeadModule],
    data: TrainingSet,
    samples: float,
    *,
    recipe: Recipe,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Train all modules side by side, in place, on about `samples` altered samples.

    Each learns as if it were alone, the heads of one module together; where less than a whole view
    is wanted, its first batches do.

    The learning rate rises and falls once (one-cycle, Smith & Topin 2018).
    """
    generator = torch.Generator().manual_seed(seed)
    points = list(dict.fromkeys(module.point for module in modules))
    epochs = recipe.epochs(samples, data.count)
    short = max(SMALLEST_BATCH, round(samples / FEWEST_STEPS))
    batch = min(recipe.batch, data.count, short)
    steps = epochs * min(data.count // batch, max(1, round(samples / batch)))
    parts = [(head, module.own_parameters(head)) for module in modules for head in module.heads]
    optimiser, schedule = _optimiser(parts, steps, batch, recipe)
    for module in modules:
        module.train()
    for epoch in range(epochs):
        batches = data.batches(epoch, points, batch, generator)
        for features, teacher, labels in islice(batches, steps // epochs):
            by_point = dict(zip(points, features, strict=True))
            answers = [answer for m in modules for answer in m(by_point[m.point])]
            losses = [head_loss(answer, teacher, labels, recipe) for answer in answers]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            for _, weights in parts:
                nn.utils.clip_grad_norm_(weights, 5.0)
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / epochs)
    for module in modules:
        module.eval()


def head_loss(answer: Tensor, teacher: Tensor, labels: Tensor | None, recipe: Recipe) -> Tensor:
    """Cross-entropy with labels plus distillation from the full network (Hinton et al. 2015)."""
    heat = recipe.temperature
    target = F.softmax(teacher / heat, dim=1)
    distilled = F.kl_div(F.log_softmax(answer / heat, dim=1), target, reduction="batchmean")
    distilled = distilled * heat * heat
    if labels is None:
        return distilled
    supervised = F.cross_entropy(answer, labels)
    return recipe.label_weight * supervised + (1.0 - recipe.label_weight) * distilled


def head_logits(
    modules: Sequence[HeadModule], backbone: Backbone, samples: Samples
) -> list[npt.NDArray[np.float32]]:
    """Logits of every head of every module for all samples, [N, classes] each."""
    points = list(dict.fromkeys(module.point for module in modules))
    rows: list[list[npt.NDArray[np.float32]]] = [[] for m in modules for _ in m.heads]
    for chunk in chunks(samples):
        by_point = dict(zip(points, backbone.features(chunk, points), strict=True))
        with torch.no_grad():
            answers = [answer for m in modules for answer in m(by_point[m.point])]
        for row, answer in zip(rows, answers, strict=True):
            row.append(answer.numpy())
    return [np.concatenate(row) for row in rows]


def _optimiser(
    parts: Sequence[tuple[HeadGraph, list[nn.Parameter]]], steps: int, batch: int, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    rates = [_rate(head, recipe) * batch / recipe.batch for head, _ in parts]
    groups = [
        {"params": weights, "lr": rate} for (_, weights), rate in zip(parts, rates, strict=True)
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=rates, total_steps=max(steps + 1, SHORTEST_CYCLE), pct_start=0.2
    )
    return optimiser, schedule


def _rate(head: HeadGraph, recipe: Recipe) -> float:
    if not head.fresh:
        return COPY_PACE * recipe.rate
    is_dense = not any(node.op_type == "Conv" for node in head.nodes)
    return recipe.dense_rate if is_dense else recipe.rate

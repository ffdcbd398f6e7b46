"""Train the network together with the heads of its exits.

Every exit and the final answer have a loss, and their sum moves all weights (joint training of
branches, Teerapittayanon et al. 2016). What comes out is still judged by the network that went in:
that network, frozen, is the teacher of every answer, and accuracy budgets stay relative to it. The
final answer is held close to its teacher, since a training set that is smaller than the one behind
the network would otherwise cost it accuracy; the layers in between are free to serve the exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import cos, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.compiler.ir import Program
from offramp.compiler.ir.beginning import beginning
from offramp.compiler.torch_module import GraphModule, store
from offramp.passes.exits.task import Task, task_of
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import TrainingSet


@dataclass(frozen=True)
class FinetuneRecipe:
    """How network and heads are trained together.

    batch: samples in a step. samples: how many altered samples are seen in all, in whole passes
        over the training set, of which there are no more than `most_epochs`.
    head_rate, backbone_rate: peak learning rates; both rise over the first `warm_up` of the steps
        and fall as a cosine (Loshchilov & Hutter 2017).
    head_decay, backbone_decay: of AdamW. temperature: of the distillation.
    label_weight, final_label_weight: of the cross-entropy with labels, for exits and for the final
        answer; the rest is distillation. Without labels all of it is.
    final_share: of each batch goes through the whole network. The final answer has to be kept
        rather than learned, and it costs most of the time.
    """

    batch: int = 128
    samples: int = 360_000
    most_epochs: int = 40
    head_rate: float = 2e-3
    backbone_rate: float = 1e-4
    warm_up: float = 0.05
    head_decay: float = 0.02
    backbone_decay: float = 1e-3
    temperature: float = 2.0
    label_weight: float = 0.5
    final_label_weight: float = 0.1
    final_share: float = 0.25


@dataclass(frozen=True)
class Member:
    """An exit that is trained with the others.

    module: trained on the frozen network. head: index of the exit's head in it.
    weight: of the exit's answer before it in its own.
    """

    module: HeadModule
    head: int = 0
    weight: float = 0.0


@dataclass(frozen=True)
class Finetuned:
    """A network and its heads after joint training.

    program, task: with the new weights. modules: those of the members, in the order in which they
    are first met, reading the new network.
    """

    program: Program
    task: Task
    modules: tuple[HeadModule, ...]


def finetune(
    program: Program,
    members: Sequence[Member],
    data: TrainingSet,
    *,
    recipe: FinetuneRecipe,
    seed: int,
    progress: Callable[[float], None],
) -> Finetuned:
    """Train `program` and the heads of `members` together; heads in place, the program as a copy.

    Args:
        program: the static network whose values the heads' points name.
        members: the exits, in the order in which a sample meets them.
        data: altered samples with the answers of the frozen network.
        recipe: rates, weights and length.
        seed: the same seed gives the same weights (on one thread).
        progress: called with the fraction done.

    Raises:
        UnsupportedError: an operator of the network has no torch function; named.
    """
    joint = _Joint(program, task_of(program), members, recipe)
    optimiser, schedule = joint.optimiser(_steps(data, recipe))
    generator = torch.Generator().manual_seed(seed)
    epochs = _epochs(data, recipe)
    joint.train()
    for epoch in range(epochs):
        for samples, teacher, labels in data.altered(epoch, recipe.batch, generator):
            loss = joint.loss(samples, teacher, labels)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(joint.parameters(), 5.0)
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / epochs)
    joint.eval()
    return joint.finished()


class _Joint(nn.Module):
    """The network up to the points of its heads, all of it with the same weights, and the heads."""

    def __init__(
        self,
        program: Program,
        task: Task,
        members: Sequence[Member],
        recipe: FinetuneRecipe,
    ) -> None:
        super().__init__()
        self.program = program
        self.recipe = recipe
        shared: dict[int, nn.Parameter] = {}
        self.members = tuple(members)
        self.modules_met = tuple(dict.fromkeys(member.module for member in members))
        self.heads = nn.ModuleList(self.modules_met)
        points = {module.point.name: module.point.value for module in self.modules_met}
        self._points = list(points)
        self._logits = str(task.logits.name)
        start = beginning(program, list(points.values()))
        self.beginning = GraphModule(start.entry.graph, shared=shared)
        self.network = GraphModule(task.graph, shared=shared)

    def loss(self, samples: dict[str, Tensor], teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Sum over all answers; a later exit is judged with what the one before it adds."""
        recipe = self.recipe
        inputs = [samples[str(value.name)] for value in self.program.inputs]
        found = map(_channels_last, self.beginning.forward(*inputs))
        features = dict(zip(self._points, found, strict=True))
        answers = {m: m.forward(features[m.point.name]) for m in self.modules_met}
        before = torch.zeros_like(teacher)
        losses = []
        for member in self.members:
            answer = answers[member.module][member.head] + member.weight * before
            losses.append(_loss(answer, teacher, labels, recipe.label_weight, recipe.temperature))
            before = answer.detach()
        return torch.stack([*losses, self._final_loss(inputs, teacher, labels)]).sum()

    def _final_loss(
        self, inputs: Sequence[Tensor], teacher: Tensor, labels: Tensor | None
    ) -> Tensor:
        recipe = self.recipe
        few = slice(max(1, round(recipe.final_share * len(teacher))))
        *_, final = self.network.forward(*(x[few] for x in inputs), taps=[self._logits])
        some_labels = None if labels is None else labels[few]
        share = recipe.final_label_weight
        return _loss(final, teacher[few], some_labels, share, recipe.temperature)

    def optimiser(
        self, steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        recipe = self.recipe
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": list(self.heads.parameters()),
                    "lr": recipe.head_rate,
                    "weight_decay": recipe.head_decay,
                },
                {
                    "params": weights,
                    "lr": recipe.backbone_rate,
                    "weight_decay": recipe.backbone_decay,
                },
            ]
        )
        rising = max(1, round(recipe.warm_up * steps))

        def rate(step: int) -> float:
            return min(1.0, (step + 1) / rising) * 0.5 * (1.0 + cos(pi * step / steps))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)

    def finished(self) -> Finetuned:
        """The Program with the trained weights, and the heads at its values."""
        entry = self.program.entry
        graph = store(self.network, entry.graph)
        program = replace(self.program, blocks={entry.name: replace(entry, graph=graph)})
        values = {value.name: value for node in graph for value in node.outputs}
        for module in self.modules_met:
            point = replace(module.point, value=values[module.point.name])
            module.heads = tuple(replace(head, point=point) for head in module.heads)
        return Finetuned(program, task_of(program), self.modules_met)


def _loss(
    answer: Tensor, teacher: Tensor, labels: Tensor | None, label_weight: float, temperature: float
) -> Tensor:
    """Cross-entropy with labels plus distillation from the frozen network (Hinton et al. 2015)."""
    target = F.softmax(teacher / temperature, dim=1)
    log_probabilities = F.log_softmax(answer / temperature, dim=1)
    distilled = F.kl_div(log_probabilities, target, reduction="batchmean") * temperature**2
    if labels is None:
        return distilled
    supervised = F.cross_entropy(answer, labels)
    return label_weight * supervised + (1.0 - label_weight) * distilled


def _channels_last(feature: Tensor) -> Tensor:
    if feature.ndim != 4:
        return feature
    return feature.contiguous(memory_format=torch.channels_last)


def _epochs(data: TrainingSet, recipe: FinetuneRecipe) -> int:
    return min(max(1, round(recipe.samples / data.count)), recipe.most_epochs)


def _steps(data: TrainingSet, recipe: FinetuneRecipe) -> int:
    return _epochs(data, recipe) * max(1, data.count // min(recipe.batch, data.count))

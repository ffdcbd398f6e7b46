"""Joint training on a small network of striped and plain noisy images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from onnxruntime import InferenceSession
from torch import Tensor, nn

from offramp.compiler.frontends.torch import from_torch
from offramp.compiler.ir import Program
from offramp.compiler.ir.to_onnx import to_onnx
from offramp.compiler.ir.verifier import verify
from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.candidates import Point
from offramp.passes.exits.finetune import Finetuned, FinetuneRecipe, Member, finetune
from offramp.passes.exits.heads import HeadBuilder
from offramp.passes.exits.result import Spent
from offramp.passes.exits.task import task_of
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import Recipe, TrainingSet, head_logits, train

RECIPE = FinetuneRecipe(samples=6_000, batch=32, head_rate=1e-2, backbone_rate=3e-3)


def stripes(count: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images [N, 1, 8, 8] with rows, columns, diagonals or nothing under noise, and their class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    row, column = np.indices((8, 8))
    patterns = np.stack([row % 2, column % 2, (row + column) % 2, np.full((8, 8), 0.5)])
    images = patterns[labels][:, None] + rng.normal(0, 0.7, (count, 1, 8, 8))
    return images.astype(np.float32), labels


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.body = nn.Conv2d(2, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.body(torch.relu(self.stem(image))))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Setting:
    """A trained network whose stem serves no early head: its features were made for the body."""

    program: Program
    data: TrainingSet


@pytest.fixture(scope="module")
def setting() -> Setting:
    torch.manual_seed(0)
    network = Network()
    images, labels = stripes(600, 0)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        loss = F.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    program = from_torch(network, torch.from_numpy(images))
    return Setting(program, training_set(program, images, labels))


def training_set(
    program: Program,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64] | None,
) -> TrainingSet:
    backbone = Backbone(program, task_of(program))
    return TrainingSet(
        backbone, {"image": images}, labels, alterations=(), views=1, seed=0, progress=ignore
    )


def ignore(_: float) -> None:
    """No progress is shown."""


def stem_head(program: Program, data: TrainingSet) -> HeadModule:
    """A pooled linear head on the stem, trained on the frozen network."""
    relu = next(node for node in program.entry.graph if node.op_type == "Relu")
    point = Point(relu.outputs[0], 2, Spent(0, 0))
    build = HeadBuilder(point, program.opset_imports, np.random.default_rng(0))
    build.pool()
    build.dense(4)
    head = HeadModule(build.finish("linear"))
    train([head], data, 20 * data.count, recipe=Recipe(), seed=0, progress=ignore)
    return head


def tuned(setting: Setting, recipe: FinetuneRecipe = RECIPE, seed: int = 0) -> Finetuned:
    head = stem_head(setting.program, setting.data)
    return finetune(
        setting.program, [Member(head)], setting.data, recipe=recipe, seed=seed, progress=ignore
    )


def accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    return float((logits.argmax(1) == labels).mean())


def exit_accuracy(program: Program, head: HeadModule) -> float:
    images, labels = stripes(1000, 1)
    backbone = Backbone(program, task_of(program))
    (logits,) = head_logits([head], backbone, {"image": images})
    return accuracy(logits, labels)


def final_logits(program: Program) -> npt.NDArray[np.float32]:
    images, _ = stripes(1000, 1)
    return Backbone(program, task_of(program)).logits({"image": images})


def test_an_exit_gains_what_the_frozen_network_denies_it(setting: Setting) -> None:
    frozen = exit_accuracy(setting.program, stem_head(setting.program, setting.data))
    result = tuned(setting)
    assert exit_accuracy(result.program, result.modules[0]) > frozen + 0.1


def test_the_final_answer_stays_with_the_frozen_network(setting: Setting) -> None:
    _, labels = stripes(1000, 1)
    before, after = final_logits(setting.program), final_logits(tuned(setting).program)
    assert accuracy(after, labels) > accuracy(before, labels) - 0.02
    assert accuracy(after, before.argmax(1)) > 0.9


def test_the_given_program_keeps_its_weights(setting: Setting) -> None:
    before = final_logits(setting.program)
    result = tuned(setting)
    np.testing.assert_array_equal(final_logits(setting.program), before)
    weights = {
        name: value.const_value for name, value in result.program.entry.graph.initializers.items()
    }
    moved = [
        name
        for name, value in setting.program.entry.graph.initializers.items()
        if value.const_value is not weights[name]
    ]
    assert len(moved) == 6


def test_the_result_is_a_program_that_onnxruntime_runs(setting: Setting) -> None:
    result = tuned(setting)
    verify(result.program)
    images, _ = stripes(5, 2)
    session = cast("Any", InferenceSession(to_onnx(result.program).SerializeToString()))
    found = [session.run(None, {"image": images[i : i + 1]})[0] for i in range(5)]
    expected = Backbone(result.program, result.task).logits({"image": images})
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-4, atol=1e-5)


def test_heads_read_the_new_network(setting: Setting) -> None:
    result = tuned(setting)
    point = result.modules[0].point
    made = {value for node in result.program.entry.graph for value in node.outputs}
    assert point.value in made


def test_the_same_seed_gives_the_same_weights(setting: Setting) -> None:
    short = FinetuneRecipe(samples=600, batch=32)
    first, second = tuned(setting, short, seed=3), tuned(setting, short, seed=3)
    np.testing.assert_array_equal(final_logits(first.program), final_logits(second.program))
    other = tuned(setting, short, seed=4)
    assert not np.array_equal(final_logits(first.program), final_logits(other.program))


def test_without_labels_the_frozen_network_teaches_alone(setting: Setting) -> None:
    images, _ = stripes(600, 0)
    unlabelled = Setting(setting.program, training_set(setting.program, images, None))
    frozen = exit_accuracy(setting.program, stem_head(setting.program, unlabelled.data))
    result = tuned(unlabelled)
    assert exit_accuracy(result.program, result.modules[0]) > frozen + 0.1


def test_progress_rises_to_one(setting: Setting) -> None:
    seen: list[float] = []
    report: Callable[[float], None] = seen.append
    head = stem_head(setting.program, setting.data)
    finetune(
        setting.program,
        [Member(head)],
        setting.data,
        recipe=FinetuneRecipe(samples=1800),
        seed=0,
        progress=report,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) == 3

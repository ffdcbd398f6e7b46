"""Head families and copies: built, priced, trained, folded, and equal in torch and onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from offramp.compiler.frontends.torch import from_torch
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.candidates import Point, candidate_points, nodes_cost
from offramp.passes.exits.copies import CannotCopyError, copied_nodes, copy_head, decouple
from offramp.passes.exits.heads import HeadGraph, fresh_heads
from offramp.passes.exits.result import Spent
from offramp.passes.exits.task import task_of
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import Recipe, TrainingSet, head_logits, train

from .conftest import Digits


def by_onnxruntime(head: HeadGraph, feature: Tensor, opset: int) -> np.ndarray:
    """Logits of a head's nodes, sample by sample."""
    constants = {
        v.name: v
        for n in head.nodes
        for v in n.inputs
        if v is not None and v.const_value is not None
    }
    graph = ir.Graph(
        [head.feature],
        [head.logits],
        nodes=list(head.nodes),
        initializers=list(constants.values()),
        name="head",
        opset_imports={"": opset},
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    name = str(head.feature.name)
    rows = [np.asarray(session.run(None, {name: x[None].numpy()})[0]) for x in feature]
    return np.concatenate(rows)


def heads_of(digits: Digits, model: AnalyticalModel) -> list[HeadGraph]:
    task, opsets = digits.task, digits.program.opset_imports
    whole = nodes_cost(list(task.graph), model).value
    found: list[HeadGraph] = []
    for point in candidate_points(task, model):
        rng = np.random.default_rng(0)
        found += fresh_heads(point, task.classes, opsets, model=model, whole=whole, rng=rng)
        outputs = [n.outputs[0] for n in copied_nodes(task, point) if n.op_type == "Conv"]
        statistics = digits.backbone.statistics({"image": digits.images[:100]}, outputs)
        found += [copy_head(task, point, opsets, statistics, rank) for rank in (None, 2)]
    return found


def test_points_are_priced_and_stop_before_the_end(digits: Digits, model: AnalyticalModel) -> None:
    points = candidate_points(digits.task, model)
    spent = [point.spent.value for point in points]
    whole = nodes_cost(list(digits.task.graph), model).value
    assert len(points) == 4
    assert spent == sorted(spent)
    assert 0 < spent[0] < 0.1 * whole < 0.9 * whole >= spent[-1]
    assert all("relu" in point.name or "Relu" in point.name for point in points)


def test_families_cover_a_range_of_costs(digits: Digits, model: AnalyticalModel) -> None:
    whole = nodes_cost(list(digits.task.graph), model)
    first = {h.name: h.cost(model) for h in heads_of(digits, model)[:6]}
    assert {"pooled-linear", "pooled-mlp-64", "copy-strided", "copy-strided-rank2"} < set(first)
    assert first["pooled-linear"].macs < 0.01 * whole.macs
    assert 0.15 * whole.macs < first["copy-strided"].macs < 0.35 * whole.macs
    assert first["copy-strided-rank2"].macs < first["copy-strided"].macs


def test_training_teaches_and_folding_keeps_the_answers(
    digits: Digits, model: AnalyticalModel
) -> None:
    samples = {"image": digits.images[:600]}
    modules = [HeadModule(head) for head in heads_of(digits, model)]
    data = TrainingSet(
        digits.backbone,
        samples,
        digits.labels[:600],
        alterations=(),
        views=1,
        seed=0,
        progress=lambda done: None,
    )
    train(modules, data, 6_000, recipe=Recipe(), seed=0, progress=lambda done: None)
    fresh = {"image": digits.images[600:]}
    accuracies: list[float] = []
    found = head_logits(modules, digits.backbone, fresh)
    for module, logits in zip(modules, found, strict=True):
        accuracy = (logits.argmax(axis=1) == digits.labels[600:]).mean()
        accuracies.append(accuracy)
        assert accuracy > 0.2, module.heads[0].name
        chunk = {"image": torch.from_numpy(digits.images[600:620])}
        (feature,) = digits.backbone.features(chunk, [module.point])
        (trained,) = module.trained()
        folded = by_onnxruntime(trained, feature, digits.program.opset_imports[""])
        np.testing.assert_allclose(folded, logits[:20], atol=2e-4)
    assert max(accuracies) > 0.8


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_few_steps_are_a_training(digits: Digits, model: AnalyticalModel, steps: int) -> None:
    module = HeadModule(heads_of(digits, model)[0])
    data = TrainingSet(
        digits.backbone,
        {"image": digits.images[:300]},
        digits.labels[:300],
        alterations=(),
        views=1,
        seed=0,
        progress=lambda done: None,
    )
    recipe = Recipe(batch=10)
    train([module], data, 10 * steps, recipe=recipe, seed=0, progress=lambda done: None)
    assert np.isfinite(head_logits([module], digits.backbone, {"image": digits.images[:5]})).all()


def test_training_is_reproducible(digits: Digits, model: AnalyticalModel) -> None:
    def once() -> np.ndarray:
        head = HeadModule(heads_of(digits, model)[1])
        data = TrainingSet(
            digits.backbone,
            {"image": digits.images[:200]},
            None,
            alterations=(),
            views=1,
            seed=3,
            progress=lambda done: None,
        )
        train([head], data, 1_000, recipe=Recipe(), seed=3, progress=lambda done: None)
        return head_logits([head], digits.backbone, {"image": digits.images[:50]})[0]

    np.testing.assert_array_equal(once(), once())


def test_decoupling_by_full_rank_is_exact() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4, 3, 3)).astype(np.float32)
    depthwise, pointwise = decouple(weight, 6)
    image = torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    spread = nn.functional.conv2d(image, torch.from_numpy(depthwise), groups=4)
    result = nn.functional.conv2d(spread, torch.from_numpy(pointwise))
    expected = nn.functional.conv2d(image, torch.from_numpy(weight))
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = torch.tanh(self.embed(tokens))
        x = x + torch.tanh(self.first(x))
        x = x + torch.tanh(self.second(x))
        logits: Tensor = self.head(x.mean(1))
        return logits


def test_tokens_are_pooled_and_normalised(model: AnalyticalModel) -> None:
    tokens = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    program = from_torch(Transformer().eval(), (tokens[:1],))
    task = task_of(program)
    points = [point for point in candidate_points(task, model) if len(point.shape) == 3]
    rng = np.random.default_rng(0)
    heads = list(fresh_heads(points[0], 3, program.opset_imports, model=model, whole=1e6, rng=rng))
    assert [head.name for head in heads] == ["tokens-linear", "tokens-mlp-64"]
    samples = {str(program.inputs[0].name): tokens}
    (feature,) = Backbone(program, task).features(samples, [points[0]])
    (logits,) = HeadModule(heads[0]).eval()(feature)
    assert logits.shape == (3, 3)
    with pytest.raises(CannotCopyError, match="no resolution to halve"):
        copied_nodes(task, points[0])


def test_a_layer_that_depends_on_the_resolution_is_not_copied(model: AnalyticalModel) -> None:
    class Flattening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 3)

        def forward(self, image: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.relu(self.stem(image)).flatten(1))
            return logits

    program = from_torch(Flattening().eval(), (torch.zeros(1, 1, 8, 8),))
    task = task_of(program)
    producer = next(node for node in task.graph if node.op_type == "Relu")
    point = Point(producer.outputs[0], list(task.graph).index(producer) + 1, Spent(0, 0))
    with pytest.raises(CannotCopyError, match="half the resolution"):
        copy_head(task, point, program.opset_imports, {}, None)

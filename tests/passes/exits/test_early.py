"""Heads on the way through another head: shared layers are written, paid and run once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from offramp.compiler.ir import Exit
from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.backbone import Backbone
from offramp.passes.exits.candidates import candidate_points, nodes_cost
from offramp.passes.exits.copies import copied_nodes, copy_head
from offramp.passes.exits.criteria import MaxSoftmax
from offramp.passes.exits.early import early_heads
from offramp.passes.exits.find import start_search
from offramp.passes.exits.finetune import FinetuneRecipe, Member, finetune
from offramp.passes.exits.heads import HeadGraph
from offramp.passes.exits.insert import ExitSpec, InsertExits
from offramp.passes.exits.policy import Policy, Prices, Stage, observe
from offramp.passes.exits.result import ExitData
from offramp.passes.exits.trainable import HeadModule
from offramp.passes.exits.training import Recipe, TrainingSet, head_logits, train

from .conftest import Digits

SAMPLES = 80


@pytest.fixture(scope="module")
def heads(digits: Digits, model: AnalyticalModel) -> list[HeadGraph]:
    """A copy at the first point of the digit network, behind its early answers."""
    copy = copy_at(0, digits, model)
    return [*early(copy, digits, model), copy]


def copy_at(position: int, digits: Digits, model: AnalyticalModel) -> HeadGraph:
    task = digits.task
    point = candidate_points(task, model)[position]
    outputs = [n.outputs[0] for n in copied_nodes(task, point) if n.op_type == "Conv"]
    statistics = digits.backbone.statistics({"image": digits.images[:100]}, outputs)
    return copy_head(task, point, digits.program.opset_imports, statistics, None)


def early(head: HeadGraph, digits: Digits, model: AnalyticalModel) -> list[HeadGraph]:
    opsets, rng = digits.program.opset_imports, np.random.default_rng(0)
    return early_heads(head, digits.task.classes, opsets, model=model, rng=rng)


def training_set(digits: Digits) -> TrainingSet:
    return TrainingSet(
        digits.backbone,
        {"image": digits.images[:600]},
        digits.labels[:600],
        alterations=(),
        views=1,
        seed=0,
        progress=lambda done: None,
    )


def prices_of(digits: Digits, model: AnalyticalModel, heads: list[HeadGraph]) -> Prices:
    whole = nodes_cost(list(digits.task.graph), model)
    opsets = dict(digits.program.opset_imports)
    return Prices(digits.task, opsets, model, tuple(heads), whole, 0.0)


def test_early_answers_are_spread_over_the_head(
    heads: list[HeadGraph], model: AnalyticalModel
) -> None:
    *before, copy = heads
    whole = copy.cost(model).value
    assert [head.name for head in before] == [f"{copy.name}/{i + 1}" for i in range(len(before))]
    assert len(before) >= 2
    costs = [head.cost(model).value for head in before]
    assert costs == sorted(costs)
    assert 0.2 * whole < costs[0] < costs[-1] < 0.9 * whole
    assert all(set(head.nodes) & set(copy.nodes) for head in before)


def test_a_head_of_one_layer_has_no_early_answers(digits: Digits, model: AnalyticalModel) -> None:
    assert early(copy_at(-1, digits, model), digits, model) == []


def test_layers_in_common_are_paid_once(
    digits: Digits, model: AnalyticalModel, heads: list[HeadGraph]
) -> None:
    prices = prices_of(digits, model, heads)
    last = len(heads) - 1
    both = prices.costs(Policy((Stage(0, MaxSoftmax()), Stage(last, MaxSoftmax()))))
    alone = [prices.costs(Policy((Stage(i, MaxSoftmax()),))) for i in (0, last)]
    assert both[0] == alone[0][0]
    shared = nodes_cost([n for n in heads[0].nodes if n in heads[last].nodes], model)
    assert shared.macs > 0
    expected = alone[0][0].macs + alone[1][0].macs - heads[0].point.spent.macs - shared.macs
    assert both[1].macs == pytest.approx(expected)


@pytest.fixture(scope="module")
def module(digits: Digits, heads: list[HeadGraph]) -> HeadModule:
    """All heads, trained together."""
    module = HeadModule(*heads)
    recipe, data = Recipe(), training_set(digits)
    train([module], data, 20_000, recipe=recipe, seed=0, progress=lambda done: None)
    return module


def test_every_head_learns(digits: Digits, module: HeadModule) -> None:
    found = head_logits([module], digits.backbone, {"image": digits.images[600:]})
    accuracy = [(logits.argmax(axis=1) == digits.labels[600:]).mean() for logits in found]
    assert min(accuracy) > 0.6
    assert accuracy[-1] == max(accuracy) > 0.85


def test_samples_leave_where_the_scores_say(
    digits: Digits, model: AnalyticalModel, module: HeadModule
) -> None:
    samples = {"image": digits.images[600 : 600 + SAMPLES]}
    truth = digits.labels[600 : 600 + SAMPLES]
    stages = tuple(Stage(i, MaxSoftmax(), 0.25 * (i > 0)) for i in range(len(module.heads)))
    policy = Policy(stages, 0.25)
    full = digits.backbone.logits(samples)
    seen = observe(
        policy,
        head_logits([module], digits.backbone, samples),
        full,
        reference=full.argmax(axis=1),
        truth=truth,
        spent=prices_of(digits, model, list(module.heads)).costs(policy),
    )
    thresholds = [float(np.median(scores)) + 1e-4 for scores in seen.scores]
    specs = [
        ExitSpec(head, stage.criterion, threshold, stage.weight)
        for head, stage, threshold in zip(module.trained(), stages, thresholds, strict=True)
    ]
    program = InsertExits(tuple(specs), 0.25)(digits.program)
    verify(program)
    answers = Oracle(program).run(samples)
    taken = seen.taken(np.array([thresholds]))
    np.testing.assert_array_equal(answers.exit_index, taken[:, 0])
    assert len(np.unique(taken)) > 2
    named = next(iter(answers.outputs.values())).argmax(axis=1)
    np.testing.assert_array_equal(named == truth, seen.early(taken)[:, 0])


def test_shared_layers_run_once(digits: Digits, module: HeadModule) -> None:
    specs = [ExitSpec(head, MaxSoftmax(), 0.9) for head in module.trained()]
    program = InsertExits(tuple(specs))(digits.program)
    blocks = list(program.blocks.values())
    assert all(isinstance(block.terminator, Exit) for block in blocks[:-1])
    written = Counter(n.op_type for block in blocks for n in block.graph)
    own = Counter(n.op_type for n in digits.task.graph)
    heads = Counter(n.op_type for n in {n for h in module.heads for n in h.nodes})
    assert written["Conv"] == own["Conv"] + heads["Conv"]


def test_a_head_alone_brings_its_part_of_the_trunk(digits: Digits, module: HeadModule) -> None:
    program = InsertExits((ExitSpec(module.trained()[0], MaxSoftmax(), -np.inf),))(digits.program)
    samples = {"image": digits.images[600 : 600 + SAMPLES]}
    named = next(iter(Oracle(program).run(samples).outputs.values())).argmax(axis=1)
    (first, *_) = head_logits([module], Backbone(digits.program, digits.task), samples)
    np.testing.assert_array_equal(named, first.argmax(axis=1))


@pytest.mark.parametrize(("count", "early"), [(5_000, True), (300, False)])
def test_copies_answer_early_where_enough_samples_train(
    digits: Digits, model: AnalyticalModel, count: int, early: bool
) -> None:
    search = start_search(
        digits.program,
        ExitData({"image": digits.images}, digits.labels),
        model,
        seed=0,
        recipe=Recipe.suited_to(count),
        progress=lambda activity, done: None,
    )
    search.build()
    assert any("/" in head.name for head in search.heads) is early
    assert search.sharing([0]) == (0,)


def test_finetuning_keeps_layers_in_common(digits: Digits, module: HeadModule) -> None:
    copy = HeadModule(*module.heads)
    copy.load_state_dict(module.state_dict())
    members = [Member(copy, k) for k in range(len(copy.heads))]
    recipe = FinetuneRecipe(samples=1_200)
    tuned = finetune(
        digits.program,
        members,
        training_set(digits),
        recipe=recipe,
        seed=0,
        progress=lambda done: None,
    )
    (found,) = tuned.modules
    backbone = Backbone(tuned.program, tuned.task)
    logits = head_logits([found], backbone, {"image": digits.images[600:]})
    accuracy = [(one.argmax(axis=1) == digits.labels[600:]).mean() for one in logits]
    assert min(accuracy) > 0.5
    assert max(accuracy) > 0.85

"""Exits on the shared networks: onnxruntime leaves exactly where the search predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp.compiler.frontends.onnx import from_onnx
from offramp.compiler.ir.verifier import verify
from offramp.compiler.oracle import Oracle
from offramp.cost_models.analytical import AnalyticalModel
from offramp.passes.exits.choose import train_and_choose
from offramp.passes.exits.find import insert_plan, start_search
from offramp.passes.exits.result import Budget, ExitData
from offramp.passes.exits.split import Part
from offramp.passes.exits.training import Recipe

QUICK = Recipe(screening_samples=1_000, samples=4_000, views=2, early=True)


def check(model: Path, data: ExitData, everyone: Part, cost: AnalyticalModel) -> None:
    """Half-trained heads, a loose budget, and the boldest setting at which as many exits as can be
    are open and some samples stay."""
    program = from_onnx(model)
    search = start_search(
        program, data, cost, seed=0, recipe=QUICK, progress=lambda activity, done: None
    )
    trained = train_and_choose(search, Budget(30.0))
    assert trained.plan is not None
    seen = search.evidence(everyone).observe(trained.plan.policy, trained.selector.prices)
    taken = seen.taken(trained.plan.path)
    stays = (taken == len(seen.scores)).mean(axis=0)
    opened = np.where(stays > 0, np.isfinite(trained.plan.path).sum(axis=1), 0)
    position = int(np.flatnonzero(opened == opened.max())[-1])
    inserted = insert_plan(search, trained.plan, seen, position)
    verify(inserted)
    answers = Oracle(inserted).run(everyone.samples)
    assert len(np.unique(taken[:, position])) > 1
    np.testing.assert_array_equal(answers.exit_index, taken[:, position])
    named = next(iter(answers.outputs.values())).argmax(axis=1)
    right = seen.early(taken)[:, position]
    np.testing.assert_array_equal(named == everyone.labels, right)


@pytest.mark.shared
@pytest.mark.slow
def test_resnet8_leaves_as_predicted_on_calibration_images(
    shared: Path, model: AnalyticalModel
) -> None:
    found = np.load(shared / "data" / "cifar10" / "cifar10_calibration3k.npz")
    images, labels = found["x"].astype(np.float32), found["y"].astype(np.int64)
    data = ExitData({"input": images}, labels)
    everyone = Part({"input": images[:1000]}, labels[:1000])
    check(shared / "models" / "ic_resnet8_jpeg_float.onnx", data, everyone, model)


@pytest.mark.shared
@pytest.mark.slow
def test_dscnn_leaves_as_predicted_on_all_keyword_samples(
    shared: Path, model: AnalyticalModel
) -> None:
    found = np.load(shared / "data" / "kws" / "kws_dev500.npz")
    labels = found["y"].astype(np.int64)
    everyone = Part({"input": found["x"]}, labels)
    data = ExitData(everyone.samples, labels)
    check(shared / "models" / "kws_dscnn_float.onnx", data, everyone, model)

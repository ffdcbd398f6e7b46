"""The example of docs/adding-a-criterion.md, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from offramp.passes.exits.criteria import Criterion

from .conformance import random_answers, scores_by_onnx

PAGE = Path(__file__).resolve().parents[4] / "docs" / "adding-a-criterion.md"


@pytest.fixture(scope="module")
def energy() -> Criterion:
    """The class that the page shows, built from its text."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(source, str(PAGE), "exec"), names)  # noqa: S102 - the page's own example
    found = names["Energy"]
    assert isinstance(found, type)
    criterion = found()
    assert isinstance(criterion, Criterion)
    return criterion


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_the_example_conforms(energy: Criterion, opset: int) -> None:
    answers = random_answers(2, 40, seed=0)
    np.testing.assert_allclose(
        scores_by_onnx(energy, answers, opset), energy.score(answers), atol=1e-5
    )


def test_the_example_is_finite_for_extreme_logits(energy: Criterion) -> None:
    assert np.isfinite(energy.score(random_answers(1, 50, seed=1, scale=300.0))).all()


def test_the_page_names_files_that_exist() -> None:
    root = PAGE.parent.parent
    for name in re.findall(r"`((?:passes|tests)/[\w/]+\.py)`", PAGE.read_text(encoding="utf-8")):
        if not name.endswith("energy.py"):
            assert (root / name).is_file(), name

"""What heads are trained on: altered samples, and the network's answers to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from offramp.passes.exits.augmentation import ALTERATIONS, MIRROR, Alteration, mirrored
from offramp.passes.exits.training import TrainingSet

from .conftest import Digits

COUNT = 60
NOISE = ALTERATIONS[-1]


def training_set(
    digits: Digits, *alterations: Alteration, labelled: bool = True, views: int = 4
) -> TrainingSet:
    return TrainingSet(
        digits.backbone,
        {"image": digits.images[:COUNT]},
        digits.labels[:COUNT] if labelled else None,
        alterations=alterations,
        views=views,
        seed=0,
        progress=lambda done: None,
    )


def everything(data: TrainingSet, view: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and teacher of one view, as one batch."""
    ((samples, teacher, _),) = data.altered(view, COUNT, torch.Generator().manual_seed(0))
    return samples["image"], teacher


def test_the_teacher_is_the_mean_over_mirror_images(digits: Digits) -> None:
    samples, teacher = everything(training_set(digits, MIRROR))
    ways = ({"image": samples}, mirrored({"image": samples}))
    both = sum(digits.backbone.logits({"image": way["image"].numpy()}) for way in ways)
    np.testing.assert_allclose(teacher, both / 2, atol=1e-5)


def test_half_of_each_batch_is_mirrored(digits: Digits) -> None:
    samples, _ = everything(training_set(digits, MIRROR))
    given = {row.tobytes() for row in digits.images[:COUNT]}
    straight = sum(row.numpy().tobytes() in given for row in samples)
    assert 0.3 * COUNT < straight < 0.7 * COUNT


def test_without_labels_the_network_answers_what_it_was_asked(digits: Digits) -> None:
    samples, teacher = everything(training_set(digits, MIRROR, labelled=False), view=1)
    np.testing.assert_allclose(
        teacher, digits.backbone.logits({"image": samples.numpy()}), atol=1e-5
    )


@pytest.mark.parametrize(
    ("alterations", "views"), [((), 1), ((MIRROR,), 1), ((NOISE,), 4), ((MIRROR, NOISE), 2)]
)
def test_mirror_images_count_as_views(
    digits: Digits, alterations: tuple[Alteration, ...], views: int
) -> None:
    assert training_set(digits, *alterations).views == views


def test_views_differ_and_repeat(digits: Digits) -> None:
    data = training_set(digits, NOISE)
    first, second, again = (everything(data, view)[0] for view in (0, 1, 4))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)

"""Who gets which samples, and which alterations training may use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from offramp.compiler.errors import UserError
from offramp.passes.exits.augmentation import (
    ALTERATIONS,
    Alteration,
    accepted,
    alter,
    mirror,
)
from offramp.passes.exits.backbone import tensors
from offramp.passes.exits.result import ExitData
from offramp.passes.exits.split import FEWEST_HELD_OUT, FOLDS, Part, split, training_rows

from .conftest import Digits


def numbered(digits: Digits, calibration: int, train: int | None = None) -> ExitData:
    """Samples that can be told apart by their first pixel."""

    def images(count: int, start: int) -> np.ndarray:
        found = np.resize(digits.images, (count, 1, 8, 8)).copy()
        found[:, 0, 0, 0] = np.arange(start, start + count)
        return found

    labels = np.resize(digits.labels, calibration)
    if train is None:
        return ExitData({"image": images(calibration, 0)}, labels)
    more = {"image": images(train, calibration)}
    return ExitData(
        {"image": images(calibration, 0)}, labels, more, np.resize(digits.labels, train)
    )


def numbers(part: Part | None) -> set[int]:
    return set() if part is None else set(part.samples["image"][:, 0, 0, 0].astype(int).tolist())


@pytest.mark.parametrize(("count", "folds"), [(1000, True), (500, False)])
def test_calibration_alone_is_split_three_ways(digits: Digits, count: int, folds: bool) -> None:
    parts = split(numbered(digits, count), digits.task, seed=0, folds=folds)
    sets = [numbers(p) for p in (parts.train, parts.selection, parts.certification)]
    assert [len(s) for s in sets] == [0.4 * count, 0.2 * count, 0.4 * count]
    assert len(set.union(*sets)) == count
    assert parts.held_out is None
    assert parts.folds == ()


@pytest.mark.parametrize("count", [120, 1000])
def test_what_sets_ranges_certifies_nothing(digits: Digits, count: int) -> None:
    parts = split(numbered(digits, count), digits.task, seed=3)
    rows = set(training_rows(count, seed=3).tolist())
    assert rows <= numbers(parts.train)
    assert not rows & numbers(parts.certification)


def test_few_samples_take_turns_in_training_and_choosing(digits: Digits) -> None:
    parts = split(numbered(digits, 500), digits.task, seed=0)
    assert numbers(parts.train) == numbers(parts.selection)
    assert len(numbers(parts.train)) == 300
    assert not numbers(parts.train) & numbers(parts.certification)
    turns = np.concatenate(parts.folds)
    assert len(parts.folds) == FOLDS
    np.testing.assert_array_equal(np.sort(turns), np.arange(300))


def test_certification_is_disjoint_from_everything_else(digits: Digits) -> None:
    parts = split(numbered(digits, 400, 10_000), digits.task, seed=0)
    certification = numbers(parts.certification)
    assert len(certification) == 300
    for other in (parts.train, parts.held_out, parts.selection):
        assert not certification & numbers(other)
    assert len(numbers(parts.held_out)) == FEWEST_HELD_OUT
    assert not numbers(parts.train) & numbers(parts.held_out)


def test_nothing_is_held_out_of_few_samples(digits: Digits) -> None:
    assert split(numbered(digits, 400, 7_000), digits.task, seed=0).held_out is None


def test_another_seed_deals_differently(digits: Digits) -> None:
    data = numbered(digits, 500)
    one, same, other = (split(data, digits.task, seed) for seed in (1, 1, 2))
    assert numbers(one.certification) == numbers(same.certification)
    assert numbers(one.certification) != numbers(other.certification)


def test_training_labels_are_not_used_where_calibration_has_none(digits: Digits) -> None:
    data = replace(numbered(digits, 400, 600), calibration_labels=None)
    assert split(data, digits.task, seed=0).train.labels is None


def test_wrong_names_and_shapes_are_refused(digits: Digits) -> None:
    with pytest.raises(UserError, match="expected inputs"):
        split(ExitData({"picture": digits.images}), digits.task, 0)
    with pytest.raises(UserError, match="expected"):
        split(ExitData({"image": digits.images[:, :, :4]}), digits.task, 0)


def test_the_network_judges_alterations(digits: Digits) -> None:
    names = [
        alteration.name
        for alteration in accepted(
            digits.backbone, {"image": digits.images[:400]}, digits.labels[:400], seed=0
        )
    ]
    assert "mirror" not in names
    assert any(name.startswith("noise") for name in names)
    assert len({name.split()[0] for name in names}) == len(names)


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda a: a.name)
def test_alterations_keep_shapes_and_repeat_themselves(
    digits: Digits, alteration: Alteration
) -> None:
    samples = tensors({"image": digits.images[:20]})
    one, two = (
        alter(samples, (alteration,), torch.Generator().manual_seed(3))["image"] for _ in range(2)
    )
    assert one.shape == (20, 1, 8, 8)
    assert torch.equal(one, two)
    assert not torch.equal(one, samples["image"])


def test_mirroring_swaps_left_and_right() -> None:
    x = torch.arange(8.0).reshape(1, 1, 1, 8).repeat(50, 1, 1, 1)
    mirrored = mirror(x, torch.Generator().manual_seed(0))
    assert {tuple(row.tolist()) for row in mirrored[:, 0, 0]} == {
        tuple(range(8)),
        tuple(reversed(range(8))),
    }

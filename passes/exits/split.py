"""Which samples train, choose and certify; bad samples are refused here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.compiler.errors import UserError
from offramp.passes.exits.backbone import count_of, take
from offramp.passes.exits.result import ExitData, Labels, Samples
from offramp.passes.exits.task import Task

SELECTION = 0.25
"""Fraction of the calibration samples that chooses, where there are training samples."""

HELD_OUT = 0.13
"""Fraction of the training samples that trains no head. They choose together with the selection
samples, and guard: a setting must keep its budget on them too. The network has mostly seen them,
and is at its best there: exits that hold against it do not rest on a lucky calibration set."""

FEWEST_HELD_OUT = 1500
"""A smaller guard would say no by chance; it is drawn if that is a fifth of the samples at most."""

THREE_WAYS = (0.4, 0.2)
"""Fractions of the calibration samples that train and that choose, without training samples."""

FOLDS = 3
"""Parts of these samples that take turns in choosing, where they are few."""

FEW = 500
"""Up to so many samples take turns; above, a third of them choose well enough."""

SMALLEST = 40
"""Fewer calibration samples than this are no basis for any choice."""


@dataclass(frozen=True)
class Part:
    """Samples with one purpose; `labels` is None where there are none."""

    samples: Samples
    labels: Labels | None

    @property
    def count(self) -> int:
        """How many samples."""
        return count_of(self.samples)

    def rows(self, index: npt.NDArray[np.int64]) -> Part:
        """Some of the samples."""
        return Part(take(self.samples, index), None if self.labels is None else self.labels[index])


@dataclass(frozen=True)
class Split:
    """Disjoint samples: `train` and `held_out` from the training samples if there are any.

    selection: chooses together with `held_out`. certification: in random order.
    folds: rows of `train` that take turns in choosing; then `selection` are the same samples.
    """

    train: Part
    held_out: Part | None
    selection: Part
    certification: Part
    folds: tuple[npt.NDArray[np.int64], ...] = ()


def split(data: ExitData, task: Task, seed: int, *, folds: bool = True) -> Split:
    """Check the samples and deal them out, at random by `seed`.

    Args:
        data: all samples.
        task: what the labels name.
        seed: of the order.
        folds: whether few samples may take turns in training and choosing.

    Raises:
        UserError: not finite, without any variation, labels that do not fit, or far too few.
    """
    calibration = _checked(data.calibration, data.calibration_labels, task, "calibration")
    if calibration.count < SMALLEST:
        raise UserError(
            f"{calibration.count} calibration samples are too few to choose and certify exits: "
            f"at least {SMALLEST} are needed, some hundreds for budgets below 5 points"
        )
    random = np.random.default_rng(seed)
    order = random.permutation(calibration.count)
    if data.train is None:
        first = len(training_rows(calibration.count, seed))
        second = first + round(THREE_WAYS[1] * len(order))
        if folds and second <= FEW:
            both = calibration.rows(order[:second])
            turns = tuple(np.array_split(np.arange(second), FOLDS))
            return Split(both, None, both, calibration.rows(order[second:]), turns)
        return Split(
            calibration.rows(order[:first]),
            None,
            calibration.rows(order[first:second]),
            calibration.rows(order[second:]),
        )
    train = _checked(data.train, data.train_labels, task, "training")
    if calibration.labels is None:
        train = Part(train.samples, None)
    chosen = round(SELECTION * len(order))
    held, kept = np.split(random.permutation(train.count), [_held_out(train, calibration)])
    return Split(
        train.rows(np.sort(kept)),
        train.rows(held) if len(held) else None,
        calibration.rows(order[:chosen]),
        calibration.rows(order[chosen:]),
    )


def training_rows(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Which of `count` calibration samples train where no training samples are given.

    They neither choose, unless they are few, nor certify.
    """
    order = np.random.default_rng(seed).permutation(count)
    return order[: round(THREE_WAYS[0] * count)]


def _held_out(train: Part, calibration: Part) -> int:
    """How many training samples guard; they need labels if the calibration samples have them."""
    few = train.count < 5 * FEWEST_HELD_OUT
    comparable = (train.labels is None) == (calibration.labels is None)
    return 0 if few or not comparable else max(FEWEST_HELD_OUT, round(HELD_OUT * train.count))


def _checked(samples: Samples, labels: npt.NDArray[Any] | None, task: Task, what: str) -> Part:
    _check_shapes(samples, task, what)
    for name, array in samples.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.count_nonzero(~np.isfinite(array)))
            raise UserError(
                f"{what} input {name!r} has {bad} values that are NaN or infinite: remove those "
                "samples or mend the preprocessing"
            )
        if len(array) and (array == array[:1]).all():
            raise UserError(
                f"{what} input {name!r} is the same in all {len(array)} samples: nothing can be "
                "chosen or certified from it"
            )
    return Part(samples, None if labels is None else _classes(labels, samples, task, what))


def _check_shapes(samples: Samples, task: Task, what: str) -> None:
    expected = {
        str(v.name): () if v.shape is None else tuple(v.shape.numpy()) for v in task.graph.inputs
    }
    if set(samples) != set(expected):
        raise UserError(f"{what} data has {sorted(samples)}: expected inputs {sorted(expected)}")
    for name, array in samples.items():
        if array.shape[1:] != expected[name][1:]:
            raise UserError(
                f"{what} input {name!r} has shape {list(array.shape)}: expected "
                f"{['N', *expected[name][1:]]}"
            )


def _classes(labels: npt.NDArray[Any], samples: Samples, task: Task, what: str) -> Labels:
    count = count_of(samples)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{what} labels are {labels.dtype} {list(labels.shape)}: expected one integer class "
            f"for each of the {count} samples"
        )
    if count and not (int(labels.min()) >= 0 and int(labels.max()) < task.classes):
        raise UserError(
            f"{what} labels lie between {labels.min()} and {labels.max()}: the network has "
            f"{task.classes} classes, 0 to {task.classes - 1}"
        )
    return labels.astype(np.int64)

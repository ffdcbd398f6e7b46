"""What the search for exits is given and what it answers, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from offramp.compiler.ir import Program

Samples = Mapping[str, npt.NDArray[Any]]
"""Arrays by input name; axis 0 counts samples."""

Labels = npt.NDArray[np.int64]
"""Class indices, [N]."""

Risk = Literal["drop", "flip"]

Progress = Callable[[str, float], None]
"""Called with the current activity and the fraction of the whole search that is done."""


@dataclass(frozen=True)
class ExitData:
    """Samples to train, choose and certify exits with.

    calibration: from the population that the certificate shall speak for. Part of it chooses, the
        rest certifies; where `train` is missing, a third part trains the heads, or those that
        choose train them in turns.
    calibration_labels, train_labels: int, [N]. Without calibration labels the answer of the full
        network is the truth, and the budget is on agreement with it.
    """

    calibration: Samples
    calibration_labels: npt.NDArray[Any] | None = None
    train: Samples | None = None
    train_labels: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Budget:
    """How much accuracy may be lost, and how sure that must be.

    points: bound on the risk, in percentage points. confidence: in (0, 1).
    risk: "drop", the fall in accuracy, or "flip", the chance that the full network is right and
        the exited answer wrong.
    """

    points: float
    confidence: float = 0.9
    risk: Risk = "drop"


@dataclass(frozen=True)
class Spent:
    """Cost of one sample: multiply-accumulates, and the cost model's own unit."""

    macs: float
    value: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.macs + other.macs, self.value + other.value)


@dataclass(frozen=True)
class ChosenExit:
    """One exit of the result.

    point: name of the tensor that the head reads. threshold: leave if the score is no less; minus
        infinity where every sample that arrives leaves.
    weight: of the answer before this one, added to this head's logits.
    rate: fraction of the certification samples that leave here. accuracy: theirs (agreement with
        the full network where there are no labels); None if nobody leaves.
    spent: by a sample that leaves here, all heads on its way included.
    """

    block: str
    point: str
    head: str
    criterion: str
    threshold: float
    weight: float
    rate: float
    accuracy: float | None
    spent: Spent


@dataclass(frozen=True)
class Certificate:
    """The risk is at most `budget` points with `confidence`.

    bound: upper confidence bound on the chosen thresholds by themselves, in points, <= budget.
    observed: the risk on the certification samples, in points.
    samples: certification samples; they chose nothing.
    reference: what answers are compared with, "labels" or "agreement" with the full network.
    """

    risk: Risk
    budget: float
    confidence: float
    bound: float
    observed: float
    samples: int
    reference: Literal["labels", "agreement"]


@dataclass(frozen=True)
class Candidate:
    """A head that was considered, and the verdict.

    accuracy: of the head on all selection samples (or agreement); None if it was not trained.
    """

    point: str
    head: str
    spent: Spent
    accuracy: float | None
    chosen: bool
    why: str


@dataclass(frozen=True)
class CurvePoint:
    """One setting of the thresholds along the path that was tested.

    spent: expected, on the certification samples. drop: the risk observed there, in points.
    bound: upper confidence bound on it, in points. certified: passed, as all before it did.
    """

    thresholds: tuple[float, ...]
    spent: Spent
    drop: float
    bound: float
    certified: bool
    chosen: bool


@dataclass(frozen=True)
class ExitResult:
    """The Program with certified exits, or the one given and the `reason` why it has none.

    samples_needed: certification samples that would certify a saving if the risk is as observed;
        None where exits were certified, or no number would do.
    static: cost of the full network.
    """

    program: Program
    certificate: Certificate | None
    reason: str | None
    exits: tuple[ChosenExit, ...]
    candidates: tuple[Candidate, ...]
    curve: tuple[CurvePoint, ...]
    static: Spent
    samples_needed: int | None = None

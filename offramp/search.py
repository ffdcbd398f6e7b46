"""The search for exits as the pipeline sees it: datasets in, entries of the manifest out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from offramp.compiler import targets
from offramp.compiler.ir import Program
from offramp.compiler.manifest import CandidateEntry, CertificateEntry, CurvePoint
from offramp.data import Dataset
from offramp.observer import Observer
from offramp.options import Options

if TYPE_CHECKING:
    from offramp.passes.exits.result import ExitResult


@dataclass(frozen=True)
class Search:
    """The Program with the exits that were certified, or as it was with the `reason` why."""

    program: Program
    certificate: CertificateEntry | None = None
    reason: str | None = None
    candidates: tuple[CandidateEntry, ...] = ()
    curve: tuple[CurvePoint, ...] = ()


def add_exits(
    program: Program,
    calibration: Dataset | None,
    train: Dataset | None,
    options: Options,
    observer: Observer,
) -> Search:
    """The cheapest exits that the calibration samples certify, or the reason why there are none."""
    refusal = _refusal(program, calibration, options)
    if refusal is not None or calibration is None:
        return Search(program, reason=refusal)
    from offramp.cost_models.analytical import AnalyticalModel
    from offramp.passes.exits.find import find_exits
    from offramp.passes.exits.result import Budget, ExitData

    samples = ExitData(
        calibration.inputs,
        calibration.labels,
        None if train is None else train.inputs,
        None if train is None else train.labels,
    )
    risk: Literal["drop", "flip"] = "flip" if options.risk == "flip" else "drop"
    result = find_exits(
        program,
        samples,
        Budget(options.accuracy_drop, options.confidence, risk),
        AnalyticalModel(targets.get(options.target)),
        seed=options.seed,
        finetune=options.finetune,
        progress=lambda activity, done: observer.note(f"{activity}, {100 * done:.0f} %"),
    )
    return Search(
        result.program,
        _certificate(result),
        result.reason,
        _candidates(result),
        _curve(result),
    )


def _refusal(program: Program, calibration: Dataset | None, options: Options) -> str | None:
    """Why exits are not even looked for; None if they are."""
    from offramp.passes.exits.split import SMALLEST

    if not options.exits:
        return "no exits were asked for"
    if calibration is None:
        return "there is no calibration data to choose and certify exits with"
    if len(calibration) < SMALLEST:
        return (
            f"{len(calibration)} calibration samples are too few to choose and certify exits: at "
            f"least {SMALLEST} are needed, some hundreds for budgets below 5 points"
        )
    if calibration.regression:
        return "the labels (y) are real numbers: a regression has no classes to be sure of"
    if calibration.labels is None and _reconstructs(program):
        return (
            "the output has the shape of the input, and there are no labels: a reconstruction has "
            "no classes to be sure of"
        )
    return None


def _reconstructs(program: Program) -> bool:
    last = list(program.blocks.values())[-1]
    outputs = last.operands(last.terminator.operands)
    shapes = {tuple(value.shape.numpy()) for value in program.inputs if value.shape is not None}
    return any(v.shape is not None and tuple(v.shape.numpy()) in shapes for v in outputs)


def _certificate(result: ExitResult) -> CertificateEntry | None:
    found = result.certificate
    if found is None:
        return None
    return CertificateEntry(
        found.risk, found.budget, found.confidence, found.bound, found.samples, found.reference
    )


def _candidates(result: ExitResult) -> tuple[CandidateEntry, ...]:
    return tuple(
        CandidateEntry(c.point, c.head, round(c.spent.macs), c.chosen, c.why)
        for c in result.candidates
    )


def _curve(result: ExitResult) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            "thresholds " + ", ".join(f"{t:.4g}" for t in point.thresholds),
            point.spent.macs,
            point.drop,
            point.bound,
            point.chosen,
        )
        for point in result.curve
    )

"""The options of a compilation, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offramp.compiler import boards, targets
from offramp.compiler.errors import UserError

RISKS = ("drop", "flip")
PRECISIONS = ("int8", "mixed")
OPTIMA = ("size", "speed")
MAX_SEED = 2**32 - 1
MOST_PATCHES = 1000.0
DEFAULT_TARGET = "x86-64"


@dataclass(frozen=True)
class Options:
    """What the user asked for; see `offramp.compile` for the meaning of each.

    Raises:
        UserError: an option is out of its range; says which and what is allowed.
    """

    target: str
    accuracy_drop: float = 1.0
    confidence: float = 0.9
    risk: str = "drop"
    seed: int = 0
    exits: bool = True
    finetune: bool = False
    print_after: str | None = None
    exact: bool = False
    quantize: str | None = None
    board: str | None = None
    quantize_drop: float = 0.5
    optimize: str = "size"
    patches: float = 0.0
    integer_inputs: bool = False

    def __post_init__(self) -> None:
        targets.get(self.target)
        if self.board is not None and boards.get(self.board).target != self.target:
            raise UserError(
                f"board {self.board!r} needs the target {boards.get(self.board).target}, found "
                f"{self.target}: leave the target out, or choose another board"
            )
        _between("accuracy drop (points)", self.accuracy_drop, 0.0, 100.0)
        _between("confidence", self.confidence, 0.0, 1.0)
        if self.risk not in RISKS:
            raise UserError(f"unknown risk {self.risk!r}: expected one of {', '.join(RISKS)}")
        if self.quantize is not None and self.quantize not in PRECISIONS:
            raise UserError(
                f"cannot quantise to {self.quantize!r}: expected one of {', '.join(PRECISIONS)}"
            )
        if self.optimize not in OPTIMA:
            raise UserError(
                f"cannot optimize for {self.optimize!r}: expected one of {', '.join(OPTIMA)}"
            )
        _between("quantize drop (points)", self.quantize_drop, 0.0, 100.0)
        if not 0.0 <= self.patches <= MOST_PATCHES:
            raise UserError(
                f"patches may cost {self.patches:g} % more multiply-accumulates: expected 0 (none) "
                f"to {MOST_PATCHES:g}"
            )
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"seed is {self.seed}: expected 0 to {MAX_SEED}")
        if self.integer_inputs and self.quantize is None:
            raise UserError(
                "integer inputs are those of a network that is quantised here: give --quantize "
                "int8; a network that comes quantised reads what it says"
            )
        if self.finetune and not self.exits:
            raise UserError("finetune trains heads and backbone together: it needs exits")

    def check_data(self, calibration: object, train: object) -> None:
        """Refuse combinations of data and options that make no sense.

        Raises:
            UserError: training data without calibration data, or data that nothing would use.
        """
        if train is not None and calibration is None:
            raise UserError(
                "training data without calibration data: heads can be trained, but nothing can be "
                "certified; give calibration data too"
            )
        if self.quantize and calibration is None:
            raise UserError(
                f"quantising to {self.quantize} takes the ranges of activations from samples: give "
                "calibration data (--calibration), some hundred samples like those met in use"
            )
        if self.finetune and train is None:
            raise UserError("finetune needs training data (x and y) of its own: give --train")


def target_of(target: str | None, board: str | None) -> str:
    """The target asked for; by default the board's, without a board this machine's.

    Raises:
        UserError: there is no such board.
    """
    if target is not None:
        return target
    return DEFAULT_TARGET if board is None else boards.get(board).target


def model_name(model: object) -> str:
    """How messages and provenance call the model."""
    return str(model) if isinstance(model, str | Path) else type(model).__name__


def _between(what: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise UserError(f"{what} is {value:g}: expected more than {low:g} and less than {high:g}")

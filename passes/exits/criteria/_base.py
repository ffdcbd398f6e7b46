"""The interface of exit criteria: how certain is an answer, in numpy and in ONNX."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.passes.exits.writer import NodeWriter

Logits = npt.NDArray[np.float32]


class Criterion(ABC):
    """Scores how certain an early answer is; a sample leaves if the score reaches a threshold.

    A score is a finite float, higher means more certain, and it depends on nothing but the
    answers given so far. `score` and `emit` compute the same number, in numpy for many samples
    and in ONNX for one. All criteria pass the conformance suite in `tests/passes/exits/criteria`.
    """

    name: ClassVar[str]
    """What the criterion is called in artifacts and reports."""

    looks_back: ClassVar[bool] = False
    """Whether `score` needs earlier answers: with a single exit such a criterion says nothing."""

    def fit(self, answers: Sequence[Logits], gain: npt.NDArray[np.float32], seed: int) -> Criterion:
        """The criterion adapted to training samples; most have nothing to learn.

        Args:
            answers: logits [N, classes] of the exits up to this one, the last is this exit's.
            gain: [N] in {-1, 0, 1}: this answer right minus the full network's answer right.
            seed: of everything random.
        """
        del answers, gain, seed
        return self

    @abstractmethod
    def score(self, answers: Sequence[Logits]) -> npt.NDArray[np.float32]:
        """Scores [N], from logits [N, classes] of the exits up to this one."""

    @abstractmethod
    def emit(self, writer: NodeWriter, answers: Sequence[ir.Value]) -> ir.Value:
        """Write the score of one sample, [1, 1] or any other shape of one element.

        Args:
            writer: where nodes go.
            answers: logits [1, classes] of the exits up to this one.
        """


def probabilities(logits: Logits) -> Logits:
    """Softmax over the classes."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

"""What a Program answers, by onnxruntime on its ONNX form: the judge of every pass and back end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.to_onnx import to_onnx


@dataclass(frozen=True)
class Answers:
    """Answers of N samples.

    outputs: by name, stacked along a leading sample axis. A batched Program's leading 1 becomes N.
    exit_index: int64 [N], the number of the exit taken; final answer = number of exits.
    confidence: float32 [N], the score of the exit taken; NaN where the final answer has none.
    """

    outputs: dict[str, npt.NDArray[Any]]
    exit_index: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]


OUTPUT_DTYPE_OPSET = 21
"""From here on QuantizeLinear names its output type, which onnxruntime forgets to change where it
makes unsigned bytes of signed ones (issue 25526): signed ones have to stay."""


class Oracle:
    """Runs a Program sample by sample on one thread; equal inputs give equal bits.

    Args:
        program: a verified Program.

    Raises:
        UserError: control flow nests too deeply for ONNX, or onnxruntime lacks a kernel.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._session = _session(program)
        self._squeeze = [
            program.batched and bool(value.shape) and value.shape[0] == 1
            for value in _answer_values(program)
        ]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Answers:
        """The Program's answers.

        Args:
            inputs: by name, [N, ...]: N replaces the leading 1 of a batched Program's shapes, and
                is a new leading axis otherwise.

        Raises:
            UserError: names, shapes or dtypes of the inputs do not fit, or their values make an
                operator fail.
        """
        samples = self._checked(inputs)
        count = len(next(iter(samples.values())))
        rows = [
            self._answer({k: np.asarray(a[i]) for k, a in samples.items()}) for i in range(count)
        ]
        names = self._program.output_names
        outputs = {name: self._stack(rows, i) for i, name in enumerate(names)}
        if not self._program.exits or not rows:
            return Answers(outputs, np.zeros(count, np.int64), np.full(count, np.nan, np.float32))
        index = np.concatenate([row[len(names)] for row in rows])
        confidence = np.concatenate([row[len(names) + 1] for row in rows])
        return Answers(outputs, index, confidence)

    def _answer(self, sample: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        try:
            return [np.asarray(result) for result in self._session.run(None, sample)]
        except Exception as error:
            raise UserError(
                f"onnxruntime fails on program {self._program.name!r} with these inputs: {error}"
            ) from error

    def _checked(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Per input, an array whose rows are complete inputs of one sample."""
        expected = {str(value.name): value for value in self._program.inputs}
        if set(inputs) != set(expected):
            raise UserError(f"expected inputs {sorted(expected)}, found {sorted(inputs)}")
        samples: dict[str, npt.NDArray[Any]] = {}
        counts: set[int] = set()
        for name, value in expected.items():
            array = np.asarray(inputs[name])
            shape = tuple(value.shape.numpy()) if value.shape is not None else ()
            sample = shape[1:] if self._program.batched else shape
            dtype = value.dtype.numpy() if value.dtype is not None else None
            if array.shape[1:] != sample or array.ndim == 0 or array.dtype != dtype:
                raise UserError(
                    f"input {name!r} is {array.dtype} {list(array.shape)}: expected {dtype} "
                    f"{['N', *sample]}"
                )
            samples[name] = array.reshape(len(array), *shape)
            counts.add(len(array))
        if len(counts) > 1:
            raise UserError(f"inputs have different numbers of samples: {sorted(counts)}")
        return samples

    def _stack(self, rows: list[list[npt.NDArray[Any]]], position: int) -> npt.NDArray[Any]:
        value = _answer_values(self._program)[position]
        shape = tuple(value.shape.numpy()) if value.shape is not None else ()
        squeeze = self._squeeze[position]
        if not rows:
            dtype = None if value.dtype is None else value.dtype.numpy()
            return np.zeros((0, *(shape[1:] if squeeze else shape)), dtype)
        results = [row[position] for row in rows]
        return np.concatenate(results) if squeeze else np.stack(results)


def _answer_values(program: Program) -> tuple[Any, ...]:
    """The values of the last block's answer: every Program ends in a Return."""
    last = list(program.blocks.values())[-1]
    return last.operands(last.terminator.operands)[: len(program.output_names)]


def _session(program: Program) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    if program.opset_imports.get("", 0) >= OUTPUT_DTYPE_OPSET:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    try:
        return ort.InferenceSession(
            to_onnx(program).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise UserError(f"onnxruntime cannot run program {program.name!r}: {error}") from error

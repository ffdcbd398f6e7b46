"""Whether the leading axis of a model's inputs counts samples: tried, not guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.oracle import Oracle

TOLERANCE = 1e-3
"""Of the mean difference, relative to the largest answer: kernels round differently by batch."""
SYMBOLIC_SAMPLES = 2
"""Samples to try where the batch is free."""


def samples_are_independent(model: Any, program: Program, batch: int | None) -> bool:
    """Whether `model` at batch N answers what `program` answers for each of N samples alone.

    Args:
        model: the original ModelProto, with its own batch dimension.
        program: the same model read at batch 1.
        batch: the model's fixed batch; None where it is free.

    Returns:
        False also where onnxruntime cannot run the model at that batch.
    """
    count = SYMBOLIC_SAMPLES if batch is None else batch
    rng = np.random.default_rng(0)
    inputs = {str(value.name): _random(value, count, rng) for value in program.inputs}
    expected = _run(model, inputs)
    if expected is None:
        return False
    try:
        answers = Oracle(program).run(inputs)
    except UserError:
        return False
    pairs = zip(expected, answers.outputs.values(), strict=True)
    return all(_agree(whole, single) for whole, single in pairs)


def _random(value: ir.Value, count: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    shape = () if value.shape is None else value.shape.numpy()[1:]
    dtype = np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
    numbers = rng.random((count, *shape))
    return (numbers if np.issubdtype(dtype, np.floating) else numbers.round()).astype(dtype)


def _run(model: Any, inputs: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]] | None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(None, inputs)
    except Exception:
        return None
    return [np.asarray(result) for result in results]


def _agree(whole: npt.NDArray[Any], single: npt.NDArray[Any]) -> bool:
    """Whether two answers are the same up to rounding, which may tip a few quantised elements."""
    if whole.size != single.size:
        return False
    expected = np.asarray(whole, np.float64).ravel()
    found = np.asarray(single, np.float64).ravel()
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return False
    scale = np.abs(expected[finite]).max(initial=1e-6)
    difference = np.abs(expected[finite] - found[finite]).sum()
    return bool(difference <= TOLERANCE * scale * finite.sum())

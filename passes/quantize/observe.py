"""What values a network's tensors take on calibration samples, by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.compiler.errors import UserError
from offramp.compiler.ir import Program
from offramp.compiler.ir.beginning import beginning
from offramp.compiler.oracle import Oracle

Samples = Mapping[str, npt.NDArray[Any]]

CHUNK = 32
"""Samples whose tensors are held at once."""

KEPT = 2**19
"""Values kept of a tensor over all samples, drawn at random."""


@dataclass(frozen=True)
class Seen:
    """A tensor over all samples.

    low, high: its range. values: some of them, one axis. means: by channel, the second axis of the
    tensor.
    """

    low: float
    high: float
    values: npt.NDArray[np.float32]
    means: npt.NDArray[np.float64]


def observe(
    program: Program, wanted: Sequence[ir.Value], samples: Samples, seed: int = 0
) -> dict[ir.Value, Seen]:
    """Run a straight-line program on `samples` ([N, ...] by input name) and watch `wanted`.

    Raises:
        UserError: a tensor is not finite on some sample, or the samples do not fit the inputs.
    """
    inputs = {value: str(value.name) for value in program.inputs}
    computed = [value for value in wanted if value not in inputs]
    names = [f"seen{position}" for position in range(len(computed))]
    oracle = Oracle(beginning(program, computed, names)) if computed else None
    random = np.random.default_rng(seed)
    count = len(next(iter(samples.values())))
    parts: dict[ir.Value, list[Seen]] = {value: [] for value in wanted}
    for start in range(0, count, CHUNK):
        chunk = {name: array[start : start + CHUNK] for name, array in samples.items()}
        outputs = {} if oracle is None else oracle.run(chunk).outputs
        found = dict(zip(computed, (outputs[name] for name in names), strict=True))
        for value in wanted:
            data = chunk[inputs[value]] if value in inputs else found[value]
            parts[value].append(_seen(value, data, KEPT * len(data) // count, random))
    return {value: _merged(seen) for value, seen in parts.items()}


def _seen(value: ir.Value, data: npt.NDArray[Any], kept: int, random: np.random.Generator) -> Seen:
    flat = np.asarray(data, np.float32).ravel()
    if not np.isfinite(flat).all():
        raise UserError(
            f"cannot quantise: tensor {value.name!r} is NaN or infinite on a calibration sample; "
            "remove that sample or mend its preprocessing"
        )
    some = flat if flat.size <= kept else flat[random.integers(0, flat.size, kept)]
    axes = tuple(axis for axis in range(data.ndim) if axis != 1)
    means = data.mean(axis=axes, dtype=np.float64) if data.ndim > 1 else np.array([flat.mean()])
    return Seen(float(flat.min()), float(flat.max()), some, means)


def _merged(parts: Sequence[Seen]) -> Seen:
    """Chunks count alike in the means; the last one may be a little smaller."""
    return Seen(
        min(part.low for part in parts),
        max(part.high for part in parts),
        np.concatenate([part.values for part in parts]),
        np.mean([part.means for part in parts], axis=0),
    )

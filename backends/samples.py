"""Samples in, answers out, thresholds: what all runners check and shape alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from offramp.backends.base import Answers, Array
from offramp.backends.driver.interface import Interface, Tensor
from offramp.compiler.errors import UserError


def check_inputs(interface: Interface, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs in order, dense, with samples along a new first axis: `[N, *shape]`.

    A network with a batch axis takes `[N, ...]` for its shape `[1, ...]`; one without takes exactly
    one sample of its shape. Types must match: nothing is cast here.

    Raises:
        UserError: a name, shape, type or number of samples is wrong; says what was expected.
    """
    expected = {tensor.name: tensor for tensor in interface.inputs}
    if set(inputs) != set(expected):
        raise UserError(
            f"{interface.name} takes the inputs {', '.join(expected)}, found {', '.join(inputs)}"
        )
    arrays = {
        name: _samples(interface, tensor, np.asarray(inputs[name]))
        for name, tensor in expected.items()
    }
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise UserError(f"inputs of {interface.name} differ in their number of samples: {found}")
    return arrays


def _samples(interface: Interface, tensor: Tensor, array: Array) -> Array:
    wanted = f"{tensor.dtype} {list(tensor.shape)}"
    sample = tensor.shape
    if interface.batched:
        wanted = f"{tensor.dtype} [N, {', '.join(map(str, sample[1:]))}]"
        fits = array.ndim == len(sample) and array.shape[1:] == sample[1:]
    else:
        fits = array.shape == sample
    if not fits or array.dtype.name != tensor.dtype:
        raise UserError(
            f"input {tensor.name!r} of {interface.name} is {wanted}, "
            f"found {array.dtype.name} {list(array.shape)}"
        )
    count = len(array) if interface.batched else 1
    return np.ascontiguousarray(array).reshape(count, *sample)


def gather(
    interface: Interface,
    outputs: list[Array],
    exit_index: Array,
    confidence: Array,
    cost: Array | None = None,
) -> Answers:
    """Answers from outputs with samples along an extra first axis, in order of the interface."""
    named = {
        tensor.name: _joined(interface, tensor, array)
        for tensor, array in zip(interface.outputs, outputs, strict=True)
    }
    return Answers(
        named,
        exit_index.astype(np.int64),
        confidence.astype(np.float32),
        None if cost is None else cost.astype(np.float64),
    )


def _joined(interface: Interface, tensor: Tensor, array: Array) -> Array:
    if interface.batched:
        return array.reshape(-1, *tensor.shape[1:])
    sample: Array = array[0]
    return sample


def check_thresholds(interface: Interface, thresholds: npt.ArrayLike | None) -> Array:
    """Thresholds as float32 `[exits]`, the compiled ones for None.

    Raises:
        UserError: there are not as many as exits.
    """
    if thresholds is None:
        return np.array([point.threshold for point in interface.exits], np.float32)
    found = np.asarray(thresholds, np.float32)
    if found.shape != (len(interface.exits),):
        raise UserError(
            f"{interface.name} has {len(interface.exits)} exits, found thresholds of shape "
            f"{list(found.shape)}"
        )
    return found


def forcing(interface: Interface, exit_index: int) -> Array:
    """Thresholds under which every sample whose scores are numbers leaves at `exit_index`."""
    thresholds = np.full(len(interface.exits), np.nan, np.float32)
    if exit_index < len(interface.exits):
        thresholds[exit_index] = -np.inf
    return thresholds

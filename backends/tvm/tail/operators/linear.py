"""Linear operators with constant coefficients or of tiny size: DFT, STFT, Det."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.operators.context import OperatorCall, replace_at
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import te

_LARGEST_DETERMINANT = 4


def dft(call: OperatorCall) -> Any:
    """DFT: one matrix product along the axis with the transform's constant coefficients.

    Summed in float64: the terms cancel.
    """
    kind = call.type_of(0)
    axis = _dft_axis(call) % len(kind.shape)
    samples, parts = kind.shape[axis], kind.shape[-1]
    length = samples if call.operand(1) is None else int(call.constant(1, "dft_length").reshape(()))
    inverse, onesided = bool(call.attribute("inverse", 0)), bool(call.attribute("onesided", 0))
    if inverse and onesided and call.operand(1) is None:
        length = 2 * (samples - 1)
    weights = _coefficients(samples, parts, length, inverse, onesided)
    shape = replace_at(replace_at(kind.shape, axis, weights.shape[1]), -1 % len(kind.shape), 0)
    shape[-1] = weights.shape[0]

    def compute(x: Any, w: Any) -> Any:
        sample = te.reduce_axis((0, samples), "sample")
        part = te.reduce_axis((0, parts), "part")

        def element(*index: Any) -> Any:
            source = x(*replace_at(index[:-1], axis, sample), part)
            product = w[index[-1], index[axis], sample, part] * source.astype("float64")
            return te.sum(product, [sample, part])

        return te.compute(tuple(shape), element, name="dft")

    coefficients = call.constant_expression(weights, "float64")
    return call.compute(compute, call.expression(0), coefficients).astype(kind.dtype)


def stft(call: OperatorCall) -> Any:
    """STFT: windowed frames times the transform's constant coefficients."""
    kind = call.type_of(0)
    step = int(call.constant(1, "frame_step").reshape(()))
    length = (
        call.type_of(2).shape[0]
        if call.operand(3) is None
        else int(call.constant(3, "frame_length").reshape(()))
    )
    window = (
        np.ones(length) if call.operand(2) is None else call.constant(2, "window").astype(float)
    )
    onesided = bool(call.attribute("onesided", 1))
    parts = kind.shape[2] if len(kind.shape) == 3 else 1
    weights = _coefficients(length, parts, length, False, onesided) * window[:, None]
    frames = (kind.shape[1] - length) // step + 1

    def compute(x: Any, w: Any) -> Any:
        sample = te.reduce_axis((0, length), "sample")
        part = te.reduce_axis((0, parts), "part")

        def element(batch: Any, frame: Any, bin_: Any, out: Any) -> Any:
            position = frame * step + sample
            value = x(batch, position, part) if len(kind.shape) == 3 else x(batch, position)
            return te.sum(w[out, bin_, sample, part] * value, [sample, part])

        shape = (kind.shape[0], frames, weights.shape[1], weights.shape[0])
        return te.compute(shape, element, name="stft")

    return call.compute(compute, call.expression(0), call.constant_expression(weights, kind.dtype))


def determinant(call: OperatorCall) -> Any:
    """Det of small matrices, expanded along the first row.

    Raises:
        RefusalError: the matrices are larger than 4x4.
    """
    kind = call.type_of(0)
    extent = kind.shape[-1]
    if extent > _LARGEST_DETERMINANT:
        raise RefusalError(f"matrices are {extent}x{extent}, the largest supported are 4x4")

    def compute(x: Any) -> Any:
        def minor(index: tuple[Any, ...], row: int, columns: tuple[int, ...]) -> Any:
            if len(columns) == 1:
                return x(*index, row, columns[0])
            terms = [
                x(*index, row, c) * minor(index, row + 1, tuple(o for o in columns if o != c))
                for c in columns
            ]
            total = terms[0]
            for position, term in enumerate(terms[1:], 1):
                total = total - term if position % 2 else total + term
            return total

        every = tuple(range(extent))
        return te.compute(kind.shape[:-2], lambda *i: minor(i, 0, every), name="determinant")

    return call.compute(compute, call.expression(0))


def _dft_axis(call: OperatorCall) -> int:
    if call.version < 20:
        return int(call.attribute("axis", 1))
    return -2 if call.operand(2) is None else int(call.constant(2, "axis").reshape(()))


def _coefficients(
    samples: int, parts: int, length: int, inverse: bool, onesided: bool
) -> npt.NDArray[np.float64]:
    """`[output part, bin, sample, input part]`: the transform of every unit input."""
    units = np.eye(samples)
    inputs = [units, 1j * units][:parts]
    if inverse and onesided:
        columns = [np.fft.irfft(unit, length, axis=1)[..., None] for unit in inputs]
    else:
        transform = np.fft.ifft if inverse else np.fft.fft
        spectra = [transform(unit, length, axis=1) for unit in inputs]
        spectra = [s[:, : length // 2 + 1] for s in spectra] if onesided else spectra
        columns = [np.stack([s.real, s.imag], -1) for s in spectra]
    return np.stack(columns, -1).transpose(2, 1, 0, 3)

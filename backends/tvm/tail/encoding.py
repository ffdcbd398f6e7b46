"""Element types that are storage, not arithmetic: half and quarter floats, integers of few bits.

Values of these types are decoded to float32 (or 8-bit integers) where an operator reads them and
encoded where its result is stored, so every operator rounds once, at its end. Integers of less
than eight bits, and floats of four, take one byte each, as ml_dtypes arrays do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.types import TensorType, constant, numpy_dtype
from offramp.backends.tvm.tail.untyped import te, tirx

_BYTE_FLOATS = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn",
)
_STORAGE = (
    {"float16": "float16", "bfloat16": "uint16"}
    | dict.fromkeys(_BYTE_FLOATS, "uint8")
    | {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}
)
_BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}


@dataclass(frozen=True)
class Encoded:
    """A tensor held in `storage`, a Relax expression of the storage type of `dtype`."""

    storage: Any
    dtype: str


@dataclass(frozen=True)
class Rounding:
    """How a cast rounds: clamp to the largest finite value, or "up"/"down"/"nearest" for E8M0."""

    saturate: bool = True
    power_of_two: str = "up"


def is_encoded(dtype: str) -> bool:
    """Whether values of this type are decoded before they are used."""
    return dtype in _STORAGE


def stored(kind: TensorType) -> TensorType:
    """The type that kernels load and store."""
    return TensorType(kind.shape, _STORAGE.get(kind.dtype, kind.dtype))


def arithmetic(kind: TensorType) -> TensorType:
    """The type that operators compute with."""
    if kind.dtype not in _STORAGE:
        return kind
    return TensorType(kind.shape, _STORAGE[kind.dtype] if kind.dtype in _BITS else "float32")


def stored_array(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A constant as kernels load it."""
    dtype = str(data.dtype)
    if dtype not in _STORAGE or dtype == "float16":
        return data
    return data.astype(_STORAGE[dtype]) if dtype in _BITS else data.view(_STORAGE[dtype])


def arithmetic_array(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A constant as operators compute with it."""
    return data.astype(arithmetic(TensorType(data.shape, str(data.dtype))).dtype, copy=False)


def decode(builder: Any, value: Encoded) -> Any:
    """The values of an encoded tensor in its arithmetic type."""
    storage = builder.emit(value.storage)
    shape = storage.ty.shape
    if value.dtype == "float16":
        return builder.emit(storage.astype("float32"))
    if value.dtype in _BITS:
        return _elementwise(builder, _low_bits(value.dtype), storage)
    if value.dtype == "bfloat16":
        widen = lambda x: tirx.reinterpret("float32", x.astype("uint32") << 16)  # noqa: E731
        return _elementwise(builder, widen, storage)
    codes = np.arange(256, dtype=np.uint8).view(numpy_dtype(value.dtype))
    with np.errstate(invalid="ignore"):
        table = constant(codes.astype(np.float32))

    def look_up(x: Any, values: Any) -> Any:
        extents = [int(extent) for extent in shape]
        return te.compute(extents, lambda *i: values[x(*i).astype("int32")], name="decode")

    return builder.emit_te(look_up, storage, table)


def encode(builder: Any, expression: Any, dtype: str, rounding: Rounding) -> Encoded:
    """Round a tensor of the arithmetic type to `dtype`."""
    if dtype == "float16":
        return Encoded(builder.emit(expression.astype("float16")), dtype)
    if dtype in _BITS:
        convert = _low_bits(dtype)
    elif dtype == "bfloat16":
        convert = _to_bfloat16
    elif dtype == "float8_e8m0fnu":
        convert = lambda x: _to_power_of_two(x, rounding.power_of_two)  # noqa: E731
    else:
        convert = lambda x: _to_minifloat(x, dtype, rounding.saturate)  # noqa: E731
    return Encoded(_elementwise(builder, convert, builder.emit(expression)), dtype)


def _elementwise(builder: Any, function: Any, operand: Any) -> Any:
    extents = [int(extent) for extent in operand.ty.shape]

    def compute(x: Any) -> Any:
        return te.compute(extents, lambda *i: function(x(*i)), name="convert")

    return builder.emit_te(compute, operand)


def _low_bits(dtype: str) -> Callable[[Any], Any]:
    """Keeps the bits of the integer type `dtype` and their sign; a byte's others are undefined."""
    spare = 8 - _BITS[dtype]
    return lambda x: (x << spare) >> spare


def _bits(x: Any) -> Any:
    return tirx.reinterpret("uint32", x)


def _word(value: int) -> Any:
    return tirx.const(value, "uint32")


def _is_nan(magnitude: Any) -> Any:
    """Whether the bits of a float32 without its sign are those of no number."""
    return magnitude > _word(0x7F800000)


def _to_bfloat16(x: Any) -> Any:
    """Round to nearest, ties to even: add just under half, and half for odd results."""
    word = _bits(x)
    odd = (word >> _word(16)) & _word(1)
    rounded = (word + _word(0x7FFF) + odd) >> _word(16)
    quiet = (word >> _word(16)) | _word(0x40)
    return tirx.Select(_is_nan(word & _word(0x7FFFFFFF)), quiet, rounded).astype("uint16")


def _to_power_of_two(x: Any, mode: str) -> Any:
    """E8M0: the exponent of |x| alone, rounded up, down or to nearest."""
    magnitude = _bits(x) & _word(0x7FFFFFFF)
    exponent, mantissa = magnitude >> _word(23), magnitude & _word(0x7FFFFF)
    threshold = {"up": 0, "nearest": 0x3FFFFF, "down": 0x7FFFFF}[mode]
    raised = exponent + tirx.Select(mantissa > _word(threshold), _word(1), _word(0))
    code = tirx.min(raised, _word(254))
    return tirx.Select(_is_nan(magnitude), _word(255), code).astype("uint8")


def _to_minifloat(x: Any, dtype: str, saturate: bool) -> Any:
    """Round to nearest, ties to even, in units of the last place of the result."""
    info: Any = ml_dtypes.finfo(numpy_dtype(dtype))  # type: ignore[no-untyped-call]  # no stubs
    mantissa, lowest = int(info.nmant), int(info.minexp)
    word = _bits(x)
    magnitude = word & _word(0x7FFFFFFF)
    exponent = tirx.max((magnitude >> _word(23)).astype("int32") - 127, lowest)
    unit = tirx.reinterpret("float32", (127 + mantissa - exponent).astype("uint32") << _word(23))
    scaled = tirx.reinterpret("float32", magnitude) * unit
    code = ((exponent - lowest) << mantissa) + tirx.nearbyint(scaled).astype("int32")
    highest, infinite, nan = _special_codes(dtype)
    overflow = tirx.any(code > highest, exponent > 127 - 1)
    beyond = highest if saturate else infinite
    code = tirx.Select(overflow, beyond, code).astype("uint32")
    sign_bit = 0x08 if dtype == "float4_e2m1fn" else 0x80
    sign = tirx.Select(word >= _word(0x80000000), _word(sign_bit), _word(0))
    if dtype.endswith("fnuz"):  # one zero, without a sign; its negative is the only NaN
        sign = tirx.Select(tirx.any(code.equal(_word(0)), code.equal(_word(nan))), _word(0), sign)
    return tirx.Select(_is_nan(magnitude), _word(nan), code | sign).astype("uint8")


def _special_codes(dtype: str) -> tuple[int, int, int]:
    """The codes of the largest finite value, of what lies beyond it, and of NaN."""
    if dtype == "float4_e2m1fn":
        return 0x7, 0x7, 0x8
    kind = numpy_dtype(dtype)
    codes = np.arange(128, dtype=np.uint8).view(kind).astype(np.float32)
    highest = int(np.flatnonzero(np.isfinite(codes))[-1])
    nan = 0x80 if dtype.endswith("fnuz") else 0x7F
    infinite = int(np.flatnonzero(np.isinf(codes))[0]) if np.isinf(codes).any() else nan
    return highest, infinite, nan

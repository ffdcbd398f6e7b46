"""Element types in C."""

from __future__ import annotations

from offramp.compiler.errors import UnsupportedError

_C_TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "uint16_t",
    "bool": "bool",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "bfloat16": "uint16_t",
    "float8_e4m3fn": "uint8_t",
    "float8_e4m3fnuz": "uint8_t",
    "float8_e5m2": "uint8_t",
    "float8_e5m2fnuz": "uint8_t",
    "float8_e8m0fnu": "uint8_t",
    "float4_e2m1fn": "uint8_t",
    "int4": "int8_t",
    "int2": "int8_t",
    "uint4": "uint8_t",
    "uint2": "uint8_t",
}


def c_type(dtype: str) -> str:
    """The C type of a NumPy element type; small floats travel as their bits.

    Types of less than eight bits take one byte an element, as in ml_dtypes arrays.

    Raises:
        UnsupportedError: C has no such type.
    """
    if dtype not in _C_TYPES:
        known = ", ".join(_C_TYPES)
        raise UnsupportedError(f"element type {dtype!r} has no C type: expected one of {known}")
    return _C_TYPES[dtype]

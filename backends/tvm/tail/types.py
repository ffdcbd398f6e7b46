"""Types on the way from ONNX to Relax: static shapes and dense element types, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.untyped import relax, runtime

ELEMENT_TYPES = frozenset(
    (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e4m3fnuz"),
        *("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn"),
        *("int4", "int2", "uint4", "uint2"),
    )
)
"""NumPy (and ml_dtypes) names of the element types that kernels can hold."""


@dataclass(frozen=True)
class TensorType:
    """A dense tensor: static shape, NumPy (or ml_dtypes) element type name."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def to_onnx(self) -> onnx.TypeProto:
        """The same type as ONNX writes it."""
        element = ir.DataType.from_numpy(numpy_dtype(self.dtype))
        return onnx.helper.make_tensor_type_proto(int(element), self.shape)


def type_of_value(value: ir.Value) -> TensorType:
    """The type that a graph declares for `value`.

    Raises:
        RefusalError: no dense tensor, no static shape, or an element type without kernels.
    """
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise RefusalError(f"{value.name!r} is of type {value.type}, which is no tensor")
    if value.dtype is None or value.shape is None:
        raise RefusalError(f"the type of {value.name!r} is not known before it runs")
    if value.dtype == ir.DataType.STRING:
        raise RefusalError(f"{value.name!r} holds strings")
    if not value.shape.is_static():
        raise RefusalError(f"the shape of {value.name!r}, {value.shape}, depends on data")
    shape = tuple(int(d) for d in value.shape.numpy())
    return TensorType(shape, _supported(str(value.dtype.numpy()), repr(value.name)))


def type_of_expression(expression: Any) -> TensorType:
    """The type that Relax infers.

    Raises:
        RefusalError: no tensor, or a shape that is known only when it runs.
    """
    kind = expression.ty
    if not hasattr(kind, "shape"):
        raise RefusalError(f"its result is a {type(kind).__name__}, not a tensor")
    extents = list(kind.shape) if kind.shape is not None else None
    if extents is None or not all(hasattr(e, "value") for e in extents):
        raise RefusalError("the shape of its result depends on data")
    return TensorType(tuple(int(e.value) for e in extents), str(kind.dtype))


def _supported(dtype: str, what: str) -> str:
    if dtype not in ELEMENT_TYPES:
        raise RefusalError(f"{what} has element type {dtype}, which no kernel can hold")
    return dtype


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The NumPy type called `name`, those of ml_dtypes included."""
    return np.dtype(getattr(ml_dtypes, name, name))


def constant(data: npt.NDArray[Any]) -> Any:
    """A Relax constant; given an array alone, Relax would narrow 64-bit types."""
    return relax.const(runtime.tensor(np.ascontiguousarray(data).reshape(data.shape)))

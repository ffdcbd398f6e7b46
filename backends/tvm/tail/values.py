"""What a name in scope stands for: a constant, a Relax expression, or an encoded tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from offramp.backends.tvm.tail.encoding import Encoded, is_encoded, stored_array
from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.scope import Attributes
from offramp.backends.tvm.tail.types import (
    TensorType,
    constant,
    numpy_dtype,
    type_of_expression,
)

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""Attributes whose value is the code of an element type."""


def type_of(value: Any) -> TensorType:
    """The type of a constant or an expression."""
    if isinstance(value, np.ndarray):
        return TensorType(value.shape, str(value.dtype))
    return type_of_expression(value)


def without_data(result: Any) -> Any:
    """A result without elements is a constant: no code computes it."""
    kind = None if result is None else type_of(result)
    if kind is None or kind.elements:
        return result
    return np.zeros(kind.shape, numpy_dtype(kind.dtype))


def expression(value: Any) -> Any:
    """A value of a scope as a Relax expression, encoded ones as they are stored."""
    if isinstance(value, Encoded):
        return value.storage
    return constant(stored_array(value)) if isinstance(value, np.ndarray) else value


def bits_of(operand: Any) -> Any:
    """An operand as its bits."""
    if isinstance(operand, Encoded):
        return operand.storage
    return stored_array(operand) if isinstance(operand, np.ndarray) else operand


def as_declared(result: Any, dtype: str | None) -> Any:
    """Bits as a tensor of the type that they stand for."""
    return Encoded(result, dtype) if dtype is not None and is_encoded(dtype) else result


def with_plain_types(
    attributes: Attributes, view: Callable[[TensorType], TensorType]
) -> Attributes:
    """Attributes that name element types name those that operators compute with."""
    plain = dict(attributes)
    for name in _TYPE_ATTRIBUTES:
        code = attributes.get(name, 0)
        if code and code != ir.DataType.STRING:
            kind = view(TensorType((), str(ir.DataType(code).numpy())))
            plain[name] = int(ir.DataType.from_numpy(numpy_dtype(kind.dtype)))
    return plain


def shape_constant(shape: Any) -> npt.NDArray[np.int64]:
    """A Relax shape as a constant.

    Raises:
        RefusalError: an extent is known only when it runs.
    """
    if not all(hasattr(extent, "value") for extent in shape.values):
        raise RefusalError("the shape of its result depends on data")
    return np.array([int(extent.value) for extent in shape.values], np.int64)

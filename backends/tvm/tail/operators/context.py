"""What a lowering of one ONNX operator is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offramp.backends.tvm.tail.refusal import RefusalError
from offramp.backends.tvm.tail.scope import Attributes
from offramp.backends.tvm.tail.types import (
    TensorType,
    constant,
    numpy_dtype,
    type_of_expression,
)


@dataclass(frozen=True)
class OperatorCall:
    """One node: operands are Relax expressions, constants NumPy arrays, absent ones None.

    builder: the Relax block builder that results are emitted into. outputs: the names of the
    node's outputs, empty where one is not wanted. version: operator set version of its domain.
    declared_types: of the outputs, as far as the model declares them. stored_dtypes: the element
    types that the outputs are rounded to afterwards.
    """

    builder: Any
    operands: tuple[Any, ...]
    attributes: Attributes
    outputs: tuple[str, ...]
    version: int
    declared_types: tuple[TensorType | None, ...] = ()
    stored_dtypes: tuple[str | None, ...] = ()

    def operand(self, position: int) -> Any | None:
        """The operand as it is, None where absent."""
        return self.operands[position] if position < len(self.operands) else None

    def expression(self, position: int) -> Any:
        """The operand as a Relax expression.

        Raises:
            RefusalError: it is absent.
        """
        value = self.operand(position)
        if value is None:
            raise RefusalError(f"input {position} is missing")
        return constant(value) if isinstance(value, np.ndarray) else value

    def type_of(self, position: int) -> TensorType:
        """The type of an operand that is present."""
        value = self.operand(position)
        if isinstance(value, np.ndarray):
            return TensorType(value.shape, str(value.dtype))
        return type_of_expression(value)

    def constant(self, position: int, name: str) -> npt.NDArray[np.generic]:
        """The contents of an operand that must be known before it runs.

        Raises:
            RefusalError: it is not a constant.
        """
        value = self.operand(position)
        if not isinstance(value, np.ndarray):
            raise RefusalError(f"{name!r} must be a constant")
        return value

    def constant_expression(self, data: npt.NDArray[Any], dtype: str) -> Any:
        """`data` as a Relax constant of element type `dtype`."""
        return constant(data.astype(numpy_dtype(dtype)))

    def emit(self, expression: Any) -> Any:
        """Bind an expression to a variable; its type is known afterwards."""
        return self.builder.emit(expression)

    def compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Emit a tensor expression: `function` takes and returns `te.Tensor`s."""
        return self.builder.emit_te(function, *arguments)

    def declared(self, position: int) -> TensorType | None:
        """The type that the model declares for an output; None inside function bodies."""
        return self.declared_types[position] if position < len(self.declared_types) else None

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value; strings come decoded."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value


Lowering = Callable[[OperatorCall], Any | Sequence[Any]]
"""Lowers one node to one expression for each of its outputs (or one alone).

A string is an ONNX function to be lowered in its place. None leaves the node to TVM's importer or
to ONNX's function body.
"""


def replace_at(values: Sequence[Any], position: int, value: Any) -> list[Any]:
    """A copy of `values` with one of them replaced."""
    return [*values[:position], value, *values[position + 1 :]]

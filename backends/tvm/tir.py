"""A small builder of TIR functions over raw pointers.

Kernel templates unroll register tiles in Python and need nothing of TIR but loops, loads, stores
and scalar arithmetic; this builder keeps that vocabulary in one place. Functions built here are
bare from the start: parameters are typed pointers, scratch lives in small local arrays whose
indices are constants, so that every C or LLVM compiler promotes them to registers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.ir import PointerType, PrimType

tirx: Any = tvm.tirx
"""Untyped: its constructors convert Python numbers, which their signatures do not say."""

Expr = Any
"""A TIR expression or a Python integer."""


def vector_type(dtype: str, lanes: int) -> str:
    """The TIR name of a vector of `lanes` elements (the scalar type for one lane)."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def constant(value: float, lanes: int = 1) -> Expr:
    """A float32 constant, repeated in all lanes."""
    return splat(tirx.FloatImm("float32", value), lanes)


def splat(value: Expr, lanes: int) -> Expr:
    """A scalar expression repeated in all lanes."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


@dataclass(frozen=True)
class Array:
    """A flat array of one element type, behind a pointer parameter or in registers."""

    buffer: Any

    def load(self, index: Expr, lanes: int = 1) -> Expr:
        """`lanes` consecutive elements from `index` on."""
        return tirx.BufferLoad(self.buffer, [_span(index, lanes)])

    def address(self, index: Expr) -> Expr:
        """A pointer to the element at `index`."""
        return tirx.address_of(tirx.BufferLoad(self.buffer, [index]))


def _span(index: Expr, lanes: int) -> Expr:
    return index if lanes == 1 else tirx.Ramp(index, 1, lanes)


class FunctionBuilder:
    """Collects statements of one function; `build` closes it."""

    def __init__(self) -> None:
        self._parameters: list[Any] = []
        self._scopes: list[list[Any]] = [[]]
        self._names = 0

    def pointer(self, name: str, size: int, dtype: str = "float32") -> Array:
        """The next parameter: a pointer to `size` elements."""
        parameter = tirx.Var(name, PointerType(PrimType(dtype)))
        buffer = tirx.decl_buffer((size,), dtype, name=f"{name}_array")
        self._parameters.append(parameter)
        self._add(tirx.DeclBuffer(buffer, data=parameter))
        return Array(buffer)

    def registers(self, name: str, size: int, dtype: str = "float32") -> Array:
        """A local array, to be indexed by constants only."""
        buffer = tirx.decl_buffer((size,), dtype, name=self._unique(name))
        self._add(tirx.AllocBuffer(buffer))
        return Array(buffer)

    def store(self, array: Array, index: Expr, value: Expr, lanes: int = 1) -> None:
        """Write `lanes` consecutive elements."""
        self._add(tirx.BufferStore(array.buffer, value, [_span(index, lanes)]))

    def run(self, call: Expr) -> None:
        """Evaluate a call for its effects."""
        self._add(tirx.Evaluate(call))

    def bind(self, name: str, value: Expr) -> Expr:
        """Name a scalar value; constants need no name."""
        if isinstance(value, int | tirx.IntImm):
            return value
        variable = tirx.Var(self._unique(name), value.ty)
        self._add(tirx.Bind(variable, value))
        return variable

    @contextmanager
    def loop(self, name: str, extent: Expr) -> Generator[Expr]:
        """A serial loop from zero; one that runs once, or does nothing, is no loop."""
        if isinstance(extent, int) and extent == 1:
            yield 0
            return
        variable = tirx.Var(self._unique(name), PrimType("int32"))
        self._scopes.append([])
        yield variable
        body = self._scopes.pop()
        if body:
            self._add(tirx.For(variable, 0, extent, tirx.ForKind.SERIAL, sequence(body)))

    def build(self) -> Any:
        """The finished PrimFunc."""
        return tirx.PrimFunc(self._parameters, sequence(self._scopes[0]))

    def _add(self, statement: Any) -> None:
        self._scopes[-1].append(statement)

    def _unique(self, name: str) -> str:
        self._names += 1
        return f"{name}{self._names}"


def sequence(statements: Sequence[Any]) -> Any:
    """Several statements as one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def fused_multiply_add(a: Expr, b: Expr, c: Expr, lanes: int) -> Expr:
    """`a * b + c`, rounded once."""
    return tirx.call_intrin(vector_type("float32", lanes), "tirx.fma", a, b, c)


def external_call(name: str, *arguments: Expr) -> Expr:
    """A call of a C function without result."""
    return tirx.call_extern("void", name, *arguments)


def clamped(value: Expr, low: int) -> Expr:
    """`max(value, low)` of integers."""
    return max(value, low) if isinstance(value, int) else tirx.max(value, low)


def ceil_div(value: Expr, divisor: int) -> Expr:
    """`ceil(value / divisor)` of a non-negative integer."""
    if divisor == 1:
        return value
    if isinstance(value, int):
        return -(-value // divisor)
    return tirx.truncdiv(value + (divisor - 1), divisor)

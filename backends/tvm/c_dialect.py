"""Rewrites that TVM's C code generator needs."""

from __future__ import annotations

from typing import Any


def for_c(function: Any) -> Any:
    """The function with maxima and minima as C expresses them best.

    The code generator would name the operands of `max` and `min` once per scope, and go on using
    the names after the memory they were loaded from has changed. `fmaxf` and `fminf` are also one
    instruction on most floating-point units.
    """
    import tvm_ffi
    from tvm import tirx

    body = tvm_ffi.structural_map(function.body, ((tirx.Max, _maximum), (tirx.Min, _minimum)))
    return function.with_body(body)


def _maximum(node: Any) -> Any:
    return _extreme(node, {"float32": "fmaxf", "float64": "fmax"}, node.a > node.b)


def _minimum(node: Any) -> Any:
    return _extreme(node, {"float32": "fminf", "float64": "fmin"}, node.a < node.b)


def _extreme(node: Any, functions: dict[str, str], a_wins: Any) -> Any:
    from tvm import tirx

    dtype = str(node.ty.dtype)
    if dtype in functions:
        return tirx.call_pure_extern(dtype, functions[dtype], node.a, node.b)
    return tirx.if_then_else(a_wins, node.a, node.b)
